//! How a channel is made, with the names of tonic's `Endpoint`.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use notnets_core::name::{Name, SCHEME, THIS_HOST, Uri, UriError};

use super::Channel;
#[cfg(feature = "http2")]
use super::reach::Reach;
use crate::Error;
use crate::error::Cause;
use crate::link::Outcomes;
use crate::observe::{AnyObserver, Observer, OfChannel};
use crate::options::{LinkOptions, client_setters, link_setters};
use crate::service_config::{Policies, ServiceConfig};
#[cfg(feature = "http2")]
use crate::tls::ClientTls;
use notnets_core::session::Keepalive;

/// How long to wait for a server's answer unless another time is set.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a channel leads to, and how it behaves.
///
/// ```no_run
/// # async fn example() -> Result<(), notnets::Error> {
/// use std::time::Duration;
///
/// let channel = notnets::Endpoint::from_static("notnets:///inventory")
///     .timeout(Duration::from_secs(2))
///     .wait(notnets::Wait::Park)
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an endpoint does nothing until it is connected"]
pub struct Endpoint {
    uri: http::Uri,
    /// What the URI means, or why it means nothing: an endpoint can be made of any `http::Uri`.
    target: Result<Uri, UriError>,
    /// Where the target is served on this host, if that is not at its name: by one of several replicas.
    pub(super) address: Option<Name>,
    /// How the server is reached, if not through memory itself.
    #[cfg(feature = "http2")]
    pub(super) reach: Option<Arc<dyn Reach>>,
    /// How servers are reached by TLS, if not by the system's roots.
    #[cfg(feature = "http2")]
    pub(crate) tls: Option<ClientTls>,
    pub(crate) link: LinkOptions,
    /// Counts how the calls end that are made on the endpoint's links.
    pub(super) outcomes: Option<Arc<Outcomes>>,
    pub(crate) user_agent: String,
    pub(crate) timeout: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) concurrency_limit: Option<usize>,
    pub(crate) policies: Option<Arc<Policies>>,
    observer: Option<AnyObserver>,
    keepalive_interval: Option<Duration>,
    keepalive_timeout: Duration,
    keepalive_while_idle: bool,
}

impl Endpoint {
    /// An endpoint for a URI like `notnets:///inventory`, or `notnets://pod0/inventory` in a pod.
    ///
    /// # Errors
    /// When it is not a `notnets:` URI.
    pub fn new<D>(uri: D) -> Result<Self, Error>
    where
        D: TryInto<Self>,
        Error: From<D::Error>,
    {
        let endpoint = uri.try_into()?;
        endpoint.target()?;
        Ok(endpoint)
    }

    /// An endpoint for a URI that is written in the program: see [`new`](Self::new).
    ///
    /// # Panics
    /// When it is not a `notnets:` URI.
    pub fn from_static(uri: &'static str) -> Self {
        match uri.parse() {
            Ok(endpoint) => endpoint,
            Err(error) => panic!("{error}"),
        }
    }

    /// An endpoint for a URI that is made while the program runs: see [`new`](Self::new).
    ///
    /// # Errors
    /// When it is not a `notnets:` URI.
    pub fn from_shared(uri: impl AsRef<str>) -> Result<Self, Error> {
        uri.as_ref().parse()
    }

    fn with(uri: http::Uri, target: Result<Uri, UriError>) -> Self {
        Self {
            uri,
            target,
            address: None,
            #[cfg(feature = "http2")]
            reach: None,
            #[cfg(feature = "http2")]
            tls: None,
            link: LinkOptions::default(),
            outcomes: None,
            user_agent: concat!("notnets/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            concurrency_limit: None,
            policies: None,
            observer: None,
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(20),
            keepalive_while_idle: false,
        }
    }

    link_setters!(link);
    client_setters!(link);

    /// Puts this before NotNets' own user agent.
    ///
    /// # Errors
    /// When it can't be a header's value.
    pub fn user_agent(mut self, user_agent: impl AsRef<str>) -> Result<Self, Error> {
        let agent = format!("{} notnets/{}", user_agent.as_ref(), env!("CARGO_PKG_VERSION"));
        HeaderValue::try_from(&agent).map_err(|_| Cause::UserAgent(agent.clone()))?;
        self.user_agent = agent;
        Ok(self)
    }

    /// The deadline of each call that does not bring a shorter one, over the whole call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long to wait for a server's answer when connecting. 5 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets time-outs, `waitForReady`, retries and hedging by method. Unless this says so, only calls that no
    /// server has read are made again. The channels of this endpoint and of its clones have one budget of
    /// further attempts.
    pub fn service_config(mut self, config: ServiceConfig) -> Self {
        self.policies = Some(Arc::new(Policies::new(config)));
        self
    }

    /// Has the calls of the endpoint's channels [observed](crate::observe).
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(AnyObserver(Arc::new(observer)));
        self
    }

    /// Sets how many calls may be open at once on a channel and its clones; more wait. A limit of 0, with
    /// which all would wait for ever, is an error when the endpoint is connected.
    pub fn concurrency_limit(mut self, limit: usize) -> Self {
        self.concurrency_limit = Some(limit);
        self
    }

    /// Sets how often to ask the server whether it is there (keepalive). Off unless set: the end of a process
    /// is noticed without, only a server that hangs is not. Over HTTP/2 it is 20 s unless set. Zero turns it
    /// off.
    pub fn keep_alive_interval(mut self, interval: Duration) -> Self {
        self.keepalive_interval = Some(interval);
        self
    }

    /// Sets how long a server may take to answer whether it is there
    /// ([`keep_alive_interval`](Self::keep_alive_interval)), before its link is closed and calls fail with
    /// `UNAVAILABLE`. 20 s unless set.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.keepalive_timeout = timeout;
        self
    }

    /// Sets whether the server is asked if it is there ([`keep_alive_interval`](Self::keep_alive_interval))
    /// also while no call is open. Off unless set.
    pub fn keep_alive_while_idle(mut self, enabled: bool) -> Self {
        self.keepalive_while_idle = enabled;
        self
    }

    /// Connects now.
    ///
    /// # Errors
    /// When there is no such name here, or its server does not want us.
    pub async fn connect(&self) -> Result<Channel, Error> {
        Channel::new(self.clone()).connected().await
    }

    /// A channel that connects when the first call is made, and gives its calls the error if that
    /// fails.
    pub fn connect_lazy(&self) -> Channel {
        Channel::new(self.clone())
    }

    /// The URI, in the form that has a host: `notnets://./inventory` for `notnets:///inventory`.
    pub fn uri(&self) -> &http::Uri {
        &self.uri
    }

    /// The timeout of each call, if one is set.
    pub fn get_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The timeout of connecting.
    pub fn get_connect_timeout(&self) -> Option<Duration> {
        Some(self.connect_timeout)
    }

    /// The calls that may be open at once, if they are limited.
    pub fn get_concurrency_limit(&self) -> Option<usize> {
        self.concurrency_limit
    }

    /// The user agent, as servers see it.
    pub fn get_user_agent(&self) -> &str {
        &self.user_agent
    }

    /// What the URI means. An error if no call could be made with these settings.
    pub(super) fn target(&self) -> Result<&Uri, Error> {
        if self.concurrency_limit == Some(0) {
            return Err(Cause::NoCalls("Endpoint::concurrency_limit").into());
        }
        self.target.as_ref().map_err(|error| Cause::Uri(error.clone()).into())
    }

    /// The same settings for one of the servers of a name.
    pub(crate) fn of_server(&self, target: Uri, address: Option<Name>) -> Self {
        Self { target: Ok(target), address, ..self.clone() }
    }

    /// An endpoint for links within this process, whose calls say themselves by what agent they are made.
    #[cfg(feature = "http2")]
    pub(crate) fn within(link: LinkOptions) -> Self {
        Self { link, user_agent: String::new(), ..Self::from_static("notnets:///within") }
    }

    /// Has the ends of calls counted.
    pub(crate) fn counted(self, outcomes: &Arc<Outcomes>) -> Self {
        Self { outcomes: Some(Arc::clone(outcomes)), ..self }
    }

    /// Reaches servers by this TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(self, tls: ClientTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same settings for a server that is reached in this way.
    #[cfg(feature = "http2")]
    pub(crate) fn reached(&self, reach: Arc<dyn Reach>) -> Self {
        Self { reach: Some(reach), ..self.clone() }
    }

    /// What sees the calls of a channel of this endpoint.
    pub(super) fn observer_of_channel(&self) -> Option<OfChannel> {
        let AnyObserver(observer) = self.observer.as_ref()?;
        let target = self.target.as_ref().map_or_else(|_| self.uri.to_string(), Uri::to_string);
        Some(OfChannel(observer.of_channel(&target)))
    }

    pub(super) fn keepalive(&self) -> Option<Keepalive> {
        Some(Keepalive {
            interval: self.keepalive_interval?,
            timeout: self.keepalive_timeout,
            while_idle: self.keepalive_while_idle,
        })
    }
}

/// `notnets://./inventory` is `notnets:///inventory`: an `http::Uri` has to have a host. That it is no
/// `notnets:` URI is an error once it is connected.
impl From<http::Uri> for Endpoint {
    fn from(uri: http::Uri) -> Self {
        let target = uri.to_string().parse();
        Self::with(uri, target)
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let target: Uri = text.parse().map_err(Cause::Uri)?;
        let host = target.pod().map_or(THIS_HOST, Name::as_str);
        let uri =
            http::Uri::builder().scheme(SCHEME).authority(host).path_and_query(format!("/{}", target.name()));
        // Names have no character that a URI does not have.
        let uri = uri.build().map_err(|_| Cause::UnusualUri(text.to_owned()))?;
        Ok(Self::with(uri, Ok(target)))
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = Error;

    fn try_from(uri: &str) -> Result<Self, Error> {
        uri.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;

    fn try_from(uri: String) -> Result<Self, Error> {
        uri.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = Error;

    fn try_from(uri: &String) -> Result<Self, Error> {
        uri.parse()
    }
}

impl TryFrom<Bytes> for Endpoint {
    type Error = Error;

    fn try_from(uri: Bytes) -> Result<Self, Error> {
        String::from_utf8_lossy(&uri).parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_http_uri_that_is_none_of_ours_is_an_error_when_it_is_connected() {
        let endpoint = Endpoint::from(http::Uri::from_static("http://[::1]:50051"));
        assert_eq!(endpoint.target().unwrap_err().kind(), ErrorKind::InvalidUri);
        let error = Endpoint::new(http::Uri::from_static("http://[::1]:50051")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUri);
    }

    #[test]
    fn settings_can_be_read() {
        let endpoint =
            Endpoint::from_static("notnets:///a").timeout(Duration::from_secs(1)).concurrency_limit(3);
        let endpoint = endpoint.connect_timeout(Duration::from_secs(2)).user_agent("shop/1").unwrap();
        assert_eq!(endpoint.get_timeout(), Some(Duration::from_secs(1)));
        assert_eq!(endpoint.get_connect_timeout(), Some(Duration::from_secs(2)));
        assert_eq!(endpoint.get_concurrency_limit(), Some(3));
        assert!(endpoint.get_user_agent().starts_with("shop/1 notnets/"));
    }

    proptest! {
        #[test]
        fn names_come_back_from_the_uri_of_the_crate_http(
            pod in proptest::option::of("[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}"),
            name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}",
        ) {
            let text = format!("notnets://{}/{name}", pod.unwrap_or_default());
            let endpoint: Endpoint = text.parse().unwrap();
            let again = Endpoint::from(endpoint.uri().clone());
            prop_assert_eq!(again.target().unwrap().to_string(), text);
            let from_text: Endpoint = endpoint.uri().to_string().parse().unwrap();
            prop_assert_eq!(from_text.uri(), endpoint.uri());
        }
    }
}
