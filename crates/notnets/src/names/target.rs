//! Where a channel looks for its servers.

use std::fmt;
use std::str::FromStr;

use notnets_core::name::{Name, Uri};

#[cfg(feature = "http2")]
use super::dns::DnsName;
use crate::Error;
use crate::error::Cause;
use crate::location::Location;

/// One or several places where the servers of a channel may be, nearest first: URIs with commas between them.
/// `http://HOST:PORT`, `dns:///HOST:PORT` and `unix:/PATH` need the feature `http2`, `https://HOST:PORT` and
/// `dns+https:///HOST:PORT` the feature `tls`.
///
/// ```
/// use notnets::names::Target;
///
/// let target: Target = "notnets:///inventory, notnets://pod0/inventory".parse()?;
/// assert_eq!(target.to_string(), "notnets:///inventory,notnets://pod0/inventory");
/// # Ok::<(), notnets::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Vec<At>);

/// A place where servers may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    Location(Location),
    /// At the addresses of a name in DNS.
    #[cfg(feature = "http2")]
    Dns(DnsName),
}

impl Target {
    /// In this host's memory.
    pub(super) fn on_host(name: Name) -> Self {
        Self(vec![At::Location(Location::Memory(Uri::on_host(name)))])
    }

    /// The places, nearest first; at least one.
    pub(super) fn into_places(self) -> Vec<At> {
        self.0
    }
}

impl FromStr for At {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        #[cfg(feature = "http2")]
        if DnsName::is_meant(text) {
            return text.parse().map(Self::Dns);
        }
        text.parse().map(Self::Location)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Location(location) => location.fmt(f),
            #[cfg(feature = "http2")]
            Self::Dns(name) => name.fmt(f),
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            let sentence =
                "the target is empty; write `notnets:///NAME`, or several with commas between them";
            return Err(Cause::Names(sentence.to_owned()).into());
        }
        let places = text.split(',').map(|place| place.trim().parse());
        Ok(Self(places.collect::<Result<_, Error>>()?))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, place) in self.0.iter().enumerate() {
            write!(f, "{}{place}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_target_is_one_place_or_several() {
        for (text, printed) in [
            ("notnets:///a", "notnets:///a"),
            ("notnets://p/a", "notnets://p/a"),
            (" notnets:///a , notnets://p/a ", "notnets:///a,notnets://p/a"),
            #[cfg(feature = "http2")]
            ("notnets:///a, dns:///x.y:1", "notnets:///a,dns:///x.y:1"),
            #[cfg(feature = "http2")]
            ("notnets:///a,http://x:1/,unix:///a.sock", "notnets:///a,http://x:1,unix:/a.sock"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_target_is_told_in_a_sentence() {
        for (text, words, kind) in [
            ("", "the target is empty; write `notnets:///NAME`", ErrorKind::InvalidConfiguration),
            (" ", "the target is empty", ErrorKind::InvalidConfiguration),
            ("notnets:///a,", "write `notnets:///NAME`", ErrorKind::InvalidUri),
            ("inventory", "write `notnets:///inventory`", ErrorKind::InvalidUri),
            ("ftp://x", "`ftp://x` is not a notnets: URI", ErrorKind::InvalidUri),
            #[cfg(feature = "http2")]
            ("notnets:///a,dns:///x", "has no port: write dns:///HOST:PORT", ErrorKind::InvalidUri),
            #[cfg(not(feature = "http2"))]
            (
                "dns:///x:1",
                "without the feature `http2` of notnets: enable it",
                ErrorKind::InvalidConfiguration,
            ),
            #[cfg(all(feature = "http2", not(feature = "tls")))]
            ("notnets:///a,https://x:1", "asks for TLS", ErrorKind::InvalidUri),
            #[cfg(not(feature = "http2"))]
            (
                "http://x:1",
                "without the feature `http2` of notnets: enable it",
                ErrorKind::InvalidConfiguration,
            ),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.to_string().contains(words), "{text:?}: {error}");
            assert_eq!(error.kind(), kind);
        }
    }
}
