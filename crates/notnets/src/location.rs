//! Where servers are, and where they serve.

use std::fmt;
use std::str::FromStr;

use notnets_core::name::{SCHEME, Uri};

use crate::Error;
use crate::error::Cause;
#[cfg(feature = "http2")]
use crate::http2;

/// Where servers are looked for, one is reached, or one serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In memory: a name of this host, or of a pod.
    Memory(Uri),
    /// At an address where HTTP/2 is spoken.
    #[cfg(feature = "http2")]
    Http2(http2::Address),
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        match scheme {
            None | Some(SCHEME) => Ok(Self::Memory(text.parse().map_err(Cause::Uri)?)),
            Some("http" | "https" | "unix") => by_http2(text),
            Some("dns") => by_dns(text),
            Some(_) => {
                let sentence = format!("`{text}` is not a notnets: URI: write notnets:///NAME{OTHERS}");
                Err(Cause::Location(sentence).into())
            }
        }
    }
}

#[cfg(feature = "http2")]
const OTHERS: &str = ", notnets://POD/NAME, http://HOST:PORT or unix:/PATH";
#[cfg(not(feature = "http2"))]
const OTHERS: &str = " or notnets://POD/NAME";

#[cfg(feature = "http2")]
fn by_http2(text: &str) -> Result<Location, Error> {
    let address = text.parse().map_err(|error: http2::BadAddress| Cause::Location(error.to_string()))?;
    Ok(Location::Http2(address))
}

/// Servers are looked for in DNS by names: each is somewhere else.
#[cfg(feature = "http2")]
fn by_dns(text: &str) -> Result<Location, Error> {
    let sentence = format!(
        "`{text}` is no address of one server: a channel that finds its servers takes it \
         (Channel::named); an address is http://HOST:PORT"
    );
    Err(Cause::Location(sentence).into())
}

#[cfg(not(feature = "http2"))]
fn by_dns(text: &str) -> Result<Location, Error> {
    by_http2(text)
}

#[cfg(not(feature = "http2"))]
fn by_http2(text: &str) -> Result<Location, Error> {
    Err(Cause::WithoutHttp2(text.to_owned()).into())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(uri) => uri.fmt(f),
            #[cfg(feature = "http2")]
            Self::Http2(address @ http2::Address::Tcp(_)) => write!(f, "http://{address}"),
            #[cfg(feature = "http2")]
            Self::Http2(address) => address.fmt(f),
        }
    }
}
