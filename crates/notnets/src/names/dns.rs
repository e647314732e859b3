//! The servers behind a name in DNS: all of its addresses.
//!
//! The system's resolver is asked, as other programs of the host ask it: `/etc/hosts`, `/etc/resolv.conf` and
//! what else is configured there. It is asked again after a while, and earlier when a server can't be
//! reached, but not more often than gRPC does.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::backoff::{Backoff, jittered};
use super::resolve::{Address, BoxError, Resolve};
use crate::Error;
use crate::error::Cause;
use crate::http2::{self, Authority};
use crate::location::Location;

/// How long the addresses of a name are taken for right, if all can be reached.
const INTERVAL: Duration = Duration::from_secs(60);
/// The least time from one question to the next, unless that had no answer.
const LEAST: Duration = Duration::from_secs(30);

/// A name in DNS and a port: `dns:///HOST:PORT`, or `dns+https:///HOST:PORT` for servers that speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DnsName {
    authority: Authority,
    is_tls: bool,
}

const PLAIN: &str = "dns:";
const BY_TLS: &str = "dns+https:";

impl DnsName {
    /// Returns `true` if a target begins as such a name does.
    pub(super) fn is_meant(target: &str) -> bool {
        target.starts_with(PLAIN) || target.starts_with(BY_TLS)
    }

    /// What a server at this address of the name is reached by.
    fn at(&self, authority: Authority) -> http2::Address {
        #[cfg(feature = "tls")]
        if self.is_tls {
            return http2::Address::Tls(authority);
        }
        http2::Address::Tcp(authority)
    }
}

impl FromStr for DnsName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_tls = text.starts_with(BY_TLS);
        let scheme = if is_tls { BY_TLS } else { PLAIN };
        let bad = |why: &str| Cause::Location(format!("`{text}` {why}: write {scheme}///HOST:PORT")).into();
        if is_tls && cfg!(not(feature = "tls")) {
            return Err(bad("asks for TLS, and this program was built without the feature `tls` of notnets"));
        }
        let rest = text.strip_prefix(scheme).unwrap_or(text);
        let name = match rest.strip_prefix("//") {
            Some(rest) => match rest.split_once('/') {
                Some(("", name)) => name,
                _ => return Err(bad("says which DNS server to ask, which is the system's business")),
            },
            None => rest,
        };
        let authority: Authority = name.parse().map_err(|_| bad("has no host and port"))?;
        match authority.port_u16() {
            None | Some(0) => Err(bad("has no port")),
            Some(_) if authority.host().is_empty() => Err(bad("has no host")),
            Some(_) if authority.as_str().contains('@') => Err(bad("has a user, which servers have not")),
            Some(_) => Ok(Self { authority, is_tls }),
        }
    }
}

impl std::fmt::Display for DnsName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}///{}", if self.is_tls { BY_TLS } else { PLAIN }, self.authority)
    }
}

/// Follows the addresses of a name.
pub(super) struct Dns {
    name: DnsName,
    ask: Ask,
    state: State,
    /// When it was last asked.
    asked: Option<Instant>,
    /// Questions without an answer, since the last one with one.
    backoff: Backoff,
    /// The last question was answered.
    is_answered: bool,
    /// A server could not be reached.
    is_wanted: bool,
}

/// Asks for the addresses of a host with a port.
type Ask = Box<dyn Fn(String, u16) -> Answer + Send>;
type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

enum State {
    Asking(Answer),
    /// Until it is asked again.
    Waiting(Pin<Box<Sleep>>),
    New,
}

impl Dns {
    pub(super) fn new(name: DnsName) -> Self {
        Self::by(name, |host, port| {
            Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
        })
    }

    fn by(name: DnsName, ask: impl Fn(String, u16) -> Answer + Send + 'static) -> Self {
        let ask = Box::new(ask);
        Self {
            name,
            ask,
            state: State::New,
            asked: None,
            backoff: Backoff::default(),
            is_answered: true,
            is_wanted: false,
        }
    }

    fn ask(&mut self) -> Answer {
        self.asked = Some(Instant::now());
        self.is_wanted = false;
        let (host, port) = http2::host_and_port(&self.name.authority);
        (self.ask)(host.to_owned(), port)
    }

    /// Takes an answer, and returns how long to wait before the next question.
    fn take(&mut self, answer: io::Result<Vec<SocketAddr>>) -> (Result<Vec<Address>, BoxError>, Duration) {
        let servers = answer.and_then(|found| {
            if found.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(found) }
        });
        match servers {
            Ok(found) => {
                self.is_answered = true;
                self.backoff.reset();
                (Ok(self.addresses(found)), jittered(INTERVAL))
            }
            Err(error) => {
                self.is_answered = false;
                let host = self.name.authority.host();
                let sentence = format!(
                    "no address of `{host}` was found: {error}; check the name and the host's DNS, which \
                     `getent ahosts {host}` asks as well"
                );
                (Err(sentence.into()), self.backoff.fail())
            }
        }
    }

    /// One server for each address, in the order in which the system prefers them.
    fn addresses(&self, found: Vec<SocketAddr>) -> Vec<Address> {
        let mut addresses = Vec::with_capacity(found.len());
        for at in found {
            // An address with a scope, as `[fe80::1%2]:80`, is no authority.
            let Ok(authority) = at.to_string().parse() else { continue };
            let location = Location::Http2(self.name.at(authority));
            let address = Address { host: Some(self.name.authority.clone()), ..Address::at(location) };
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

impl Resolve for Dns {
    fn poll_servers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Address>, BoxError>> {
        loop {
            match &mut self.state {
                State::New => self.state = State::Asking(self.ask()),
                State::Waiting(timer) => {
                    if self.is_wanted
                        && self.is_answered
                        && let Some(asked) = self.asked
                        && asked + LEAST < timer.deadline()
                    {
                        timer.as_mut().reset(asked + LEAST);
                    }
                    ready!(timer.as_mut().poll(cx));
                    self.state = State::New;
                }
                State::Asking(answer) => {
                    let answer = ready!(answer.as_mut().poll(cx));
                    let (servers, pause) = self.take(answer);
                    self.state = State::Waiting(Box::pin(sleep_until(Instant::now() + pause)));
                    return Poll::Ready(servers);
                }
            }
        }
    }

    fn look_again(&mut self) {
        self.is_wanted = true;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::{poll_fn, ready};
    use std::sync::{Arc, Mutex};

    use super::super::backoff::{FIRST, LONGEST};
    use super::*;

    #[test]
    fn a_name_is_a_host_and_a_port() {
        for (text, printed) in [
            ("dns:///shop.internal:50051", "dns:///shop.internal:50051"),
            ("dns:shop:1", "dns:///shop:1"),
            ("dns:///[::1]:50051", "dns:///[::1]:50051"),
            #[cfg(feature = "tls")]
            ("dns+https:///shop:1", "dns+https:///shop:1"),
        ] {
            assert_eq!(text.parse::<DnsName>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_name_is_told_in_a_sentence() {
        for (text, words) in [
            ("dns:", "has no host and port"),
            ("dns:///", "has no host and port"),
            ("dns:///shop", "has no port"),
            ("dns:///shop:0", "has no port"),
            ("dns:///:80", "has no host"),
            ("dns:///me@shop:80", "has a user"),
            ("dns:///shop:80/cart", "has no host and port"),
            ("dns://8.8.8.8/shop:80", "says which DNS server to ask"),
            ("dns://shop:80", "says which DNS server to ask"),
        ] {
            let sentence = text.parse::<DnsName>().unwrap_err().to_string();
            assert!(sentence.contains(words), "{sentence}");
            assert!(sentence.ends_with("write dns:///HOST:PORT"), "{sentence}");
        }
    }

    /// Answers with these, and counts the questions.
    fn scripted(answers: Vec<io::Result<Vec<&'static str>>>) -> (Dns, Arc<Mutex<Vec<Instant>>>) {
        let asked = Arc::<Mutex<Vec<Instant>>>::default();
        let notes = Arc::clone(&asked);
        let answers = Mutex::new(VecDeque::from(answers));
        let dns = Dns::by("dns:///shop:80".parse().unwrap(), move |host, port| {
            assert_eq!((&*host, port), ("shop", 80));
            notes.lock().unwrap().push(Instant::now());
            let answer = answers.lock().unwrap().pop_front().expect("no further question");
            Box::pin(ready(answer.map(|found| found.iter().map(|at| at.parse().unwrap()).collect())))
        });
        (dns, asked)
    }

    async fn next(dns: &mut Dns) -> Result<Vec<String>, String> {
        let servers = poll_fn(|cx| dns.poll_servers(cx)).await;
        let servers = servers.map_err(|error| error.to_string())?;
        assert!(servers.iter().all(|server| server.host.as_ref().unwrap() == "shop:80"));
        Ok(servers.iter().map(Address::to_string).collect())
    }

    fn is_near(duration: Duration, of: Duration) -> bool {
        (of.mul_f64(0.79)..=of.mul_f64(1.21)).contains(&duration)
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_are_servers_and_are_asked_for_again() {
        let answers =
            vec![Ok(vec!["10.0.0.1:80", "[2001:db8::1]:80", "10.0.0.1:80"]), Ok(vec!["10.0.0.2:80"])];
        let (mut dns, asked) = scripted(answers);
        assert_eq!(next(&mut dns).await.unwrap(), ["http://10.0.0.1:80", "http://[2001:db8::1]:80"]);
        assert_eq!(next(&mut dns).await.unwrap(), ["http://10.0.0.2:80"]);
        let asked = asked.lock().unwrap();
        assert!(is_near(asked[1] - asked[0], INTERVAL), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_can_not_be_reached_is_a_reason_to_ask_half_a_minute_later() {
        let (mut dns, asked) = scripted(vec![Ok(vec!["10.0.0.1:80"]), Ok(vec!["10.0.0.1:80"])]);
        next(&mut dns).await.unwrap();
        dns.look_again();
        next(&mut dns).await.unwrap();
        let asked = asked.lock().unwrap();
        assert_eq!((asked[1] - asked[0]).as_secs(), LEAST.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_and_asked_about_again_ever_more_rarely() {
        let failures = (0..14).map(|n| if n % 2 == 0 { Ok(vec![]) } else { Err(io::Error::other("no DNS")) });
        let (mut dns, asked) = scripted(failures.collect());
        for n in 0..14 {
            dns.look_again();
            let error = next(&mut dns).await.unwrap_err();
            let why = if n % 2 == 0 { "it has no address" } else { "no DNS" };
            assert!(error.starts_with(&format!("no address of `shop` was found: {why}; check")), "{error}");
        }
        let asked = asked.lock().unwrap();
        for (n, pair) in asked.windows(2).enumerate() {
            let backoff = FIRST.mul_f64(1.6f64.powi(n as i32)).min(LONGEST);
            assert!(is_near(pair[1] - pair[0], backoff), "{n}: {:?}", pair[1] - pair[0]);
        }
    }
}
