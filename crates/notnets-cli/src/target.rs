//! Where a service is: what users write for it, and how it is reached.
//!
//! | written | means |
//! | --- | --- |
//! | `inventory`, `notnets:///inventory` | a name, reached through shared memory |
//! | `127.0.0.1:50051`, `[::1]:50051`, `http://shop.internal:50051` | HTTP/2 over TCP |
//! | `https://shop.internal:443` | the same by TLS |
//! | `dns:///shop.internal:50051`, `dns+https:///shop.internal:443` | the same, at all addresses of a host |
//! | `unix:/run/shop.sock` | HTTP/2 over a Unix socket |
//!
//! Further places stand behind commas, for when those before have no server that takes calls. A place may be
//! several addresses that are equally near, with spaces between them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::uri::Authority;
use notnets::http2::pings::KeepAlive;
use notnets::http2::{self, client};
use notnets::names::{self, Address, Channels, Fixed, Pick};
use notnets::tls::ClientTls;
use notnets::{Channel, Endpoint, Server, ServiceConfig};
use notnets_core::name::Uri;

use crate::failure::Failure;
use crate::place::Servers;

/// The largest metadata that are passed on; gRPC's own default is 8 KiB, ours 16 KiB.
const MAX_METADATA: u32 = 64 << 10;

/// What is used of a name that has none.
const NAMELESS: &str = "server";

/// Where a service is reached or served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Nearest first, each with the URIs that are there; none is empty.
    places: Vec<Vec<String>>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = |place: &str| {
            let addresses = place.split_whitespace().map(uri).collect::<Result<Vec<_>, _>>()?;
            if addresses.is_empty() { Err(format!("the address is empty: {FORMS}")) } else { Ok(addresses) }
        };
        Ok(Self { places: text.split(',').map(place).collect::<Result<_, _>>()? })
    }
}

const FORMS: &str =
    "write a name, notnets:///NAME, HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:/PATH";

/// The URI that is meant. Of names it is only looked at when they are used.
fn uri(text: &str) -> Result<String, String> {
    if text.starts_with(NOTNETS) {
        return Ok(text.to_owned());
    }
    if text.contains("://") || text.starts_with("unix:") {
        let target: names::Target = text.parse().map_err(|error: notnets::Error| error.to_string())?;
        return Ok(target.to_string());
    }
    if text.contains(':') {
        let has_port = text.parse::<Authority>().is_ok_and(|authority| authority.port_u16().is_some());
        return if has_port {
            Ok(format!("{HTTP}{text}"))
        } else {
            Err(format!("`{text}` is not a host and port (like 127.0.0.1:50051): {FORMS}"))
        };
    }
    Ok(format!("notnets:///{text}"))
}

/// What the URIs of names begin with.
pub const NOTNETS: &str = "notnets:";
/// What addresses begin with that are served by TLS.
pub const HTTPS: &str = "https:";
const HTTP: &str = "http://";

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, place) in self.places.iter().enumerate() {
            out.write_str(if n == 0 { "" } else { "," })?;
            for (n, address) in place.iter().enumerate() {
                out.write_str(if n == 0 { "" } else { " " })?;
                out.write_str(short(address))?;
            }
        }
        Ok(())
    }
}

/// An address as it is shown.
pub fn short(uri: &str) -> &str {
    uri.strip_prefix(HTTP).unwrap_or(uri)
}

impl Target {
    /// All URIs.
    pub fn into_uris(self) -> impl Iterator<Item = String> {
        self.places.into_iter().flatten()
    }

    /// The address, if it is a single one over HTTP/2.
    pub fn http2_address(&self) -> Option<http2::Address> {
        match &self.places[..] {
            [place] => match &place[..] {
                [only] if !only.starts_with(NOTNETS) => only.parse().ok(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Makes a channel, which connects when the first call needs it.
    ///
    /// # Errors
    /// When the target cannot be reached by any server, whether it runs or not.
    pub fn connect_lazy(&self, settings: Settings) -> Result<Channel, Failure> {
        // The error of one name says what is served instead.
        if let [place] = &self.places[..]
            && let [only] = &place[..]
            && only.starts_with(NOTNETS)
        {
            let endpoint = Endpoint::new(only.as_str()).map_err(failure)?;
            return Ok(settings.of_endpoint(endpoint).connect_lazy());
        }
        let builder = self.builder(&settings)?;
        by_tls(builder, settings.servers.tls.tls()?).connect_lazy().map_err(failure)
    }

    /// Makes what makes channels: each has connections of its own, so that its windows, its resets and its
    /// silence are felt by those alone who share it.
    ///
    /// # Errors
    /// When the target cannot be reached by any server, whether it runs or not.
    pub fn channels(
        &self,
        settings: &Settings,
        pick: Option<Pick>,
        config: Option<ServiceConfig>,
        tls: Option<ClientTls>,
    ) -> Result<Channels, Failure> {
        let builder = by_tls(self.builder(settings)?, tls);
        let builder = match pick {
            Some(pick) => builder.pick(pick),
            None => builder,
        };
        let builder = match config {
            Some(config) => builder.settings(|endpoint| endpoint.service_config(config)),
            None => builder,
        };
        builder.channels().map_err(failure)
    }

    fn builder(&self, settings: &Settings) -> Result<names::Builder, Failure> {
        let settings = settings.clone();
        let builder = Channel::named(self.name()).settings(move |endpoint| settings.of_endpoint(endpoint));
        self.places.iter().try_fold(builder, |builder, place| match &place[..] {
            [only] => Ok(builder.or(only)),
            several => {
                let addresses = several.iter().map(Address::new).collect::<Result<Vec<_>, _>>();
                Ok(builder.or_resolved(several.join(" "), Fixed::new(addresses.map_err(failure)?)))
            }
        })
    }

    /// What a channel of this target is called: like the first name that is in it.
    fn name(&self) -> String {
        let names = self.places.iter().flatten().filter_map(|uri| uri.parse::<Uri>().ok());
        names.map(|uri| uri.name().as_str().to_owned()).next().unwrap_or_else(|| NAMELESS.to_owned())
    }
}

fn by_tls(builder: names::Builder, tls: Option<ClientTls>) -> names::Builder {
    match tls {
        Some(tls) => builder.tls(tls),
        None => builder,
    }
}

fn failure(error: notnets::Error) -> Failure {
    Failure::new(error.to_string())
}

/// How the other end of a connection is dealt with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a connection may take before its calls fail.
    pub connect_timeout: Duration,
    /// How long the other end may be silent before it is asked whether it is there. Zero never asks.
    pub keepalive_interval: Duration,
    /// How long its answer may take before it counts as dead.
    pub keepalive_timeout: Duration,
    /// Where names are, and who may serve them.
    pub servers: Servers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(20),
            servers: Servers::default(),
        }
    }
}

impl Settings {
    fn of_endpoint(&self, endpoint: Endpoint) -> Endpoint {
        self.servers
            .of_endpoint(endpoint)
            .connect_timeout(self.connect_timeout)
            .max_metadata_size(MAX_METADATA)
            // Parts of messages are passed on, and not kept.
            .max_unfinished_bytes(u64::MAX)
            .keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
    }

    /// How the other end of a connection over HTTP/2 is watched.
    pub fn keep_alive(&self) -> KeepAlive {
        let interval = Some(self.keepalive_interval).filter(|interval| !interval.is_zero());
        KeepAlive { interval, timeout: self.keepalive_timeout }
    }

    /// The same of a client over HTTP/2.
    pub fn http2_client(&self) -> client::Options {
        client::Options { connect_timeout: self.connect_timeout, keep_alive: self.keep_alive() }
    }

    /// A server that deals so with its clients.
    pub fn server(&self) -> Server {
        self.servers
            .place
            .of_server(Server::builder())
            .max_metadata_size(MAX_METADATA)
            // Parts of messages are passed on, and not kept.
            .max_unfinished_bytes(u64::MAX)
            .keepalive_interval(Some(self.keepalive_interval))
            .keepalive_timeout(Some(self.keepalive_timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match text.parse::<Target>() {
            Ok(target) => target.places.iter().map(|place| place.join(" ")).collect::<Vec<_>>().join(","),
            Err(sentence) => sentence,
        }
    }

    #[test]
    fn every_form_is_understood() {
        for (text, meant) in [
            ("inventory", "notnets:///inventory"),
            ("notnets:///inventory", "notnets:///inventory"),
            ("notnets://pod0/inventory", "notnets://pod0/inventory"),
            ("127.0.0.1:0", "http://127.0.0.1:0"),
            ("[::1]:50051", "http://[::1]:50051"),
            ("http://shop.internal:50051/", "http://shop.internal:50051"),
            ("https://shop.internal:443", "https://shop.internal:443"),
            ("dns+https:///shop.internal:443", "dns+https:///shop.internal:443"),
            ("unix:/run/shop.sock", "unix:/run/shop.sock"),
            ("unix:///run/shop.sock", "unix:/run/shop.sock"),
            ("unix:shop.sock", "unix:shop.sock"),
            ("shop, a:1  b:1", "notnets:///shop,http://a:1 http://b:1"),
        ] {
            assert_eq!(parsed(text), meant);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("", "empty"),
            ("shop,", "empty"),
            ("http://shop/cart", "path"),
            ("http://", "URI"),
            ("unix:", "no path"),
            ("shop:many", "host and port"),
            ("ftp://shop", "not a notnets: URI"),
        ] {
            let sentence = parsed(text);
            assert!(sentence.contains(word), "{text}: {sentence}");
            assert!(sentence.contains("write "), "{text}: {sentence}");
        }
    }

    #[test]
    fn a_channel_is_called_like_the_first_name() {
        for (text, name) in
            [("a:1,shop,cart", "shop"), ("notnets://pod0/shop", "shop"), ("unix:/x.sock", NAMELESS)]
        {
            assert_eq!(text.parse::<Target>().unwrap().name(), name);
        }
        assert!(NAMELESS.parse::<notnets_core::name::Name>().is_ok());
    }
}
