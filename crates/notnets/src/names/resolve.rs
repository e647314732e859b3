//! Which servers there are.

use std::fmt;
use std::task::{Context, Poll};

use notnets_core::name::Name;

use crate::Error;
#[cfg(feature = "http2")]
use crate::http2::Authority;
use crate::location::Location;

/// An error of a [`Resolve`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Follows which servers there are.
///
/// It is polled on a thread of the library's own, which has a tokio runtime with time and IO enabled, so it
/// must not block there.
pub trait Resolve: Send + 'static {
    /// Waits for the next list of servers, all that there are now. An empty one says that there is no server.
    ///
    /// # Errors
    /// When the servers can't be found out; those of the list before are kept. It is polled again.
    fn poll_servers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Address>, BoxError>>;

    /// A server could not be reached: the list may be out of date.
    fn look_again(&mut self) {}
}

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub(super) location: Location,
    /// The socket of one of several replicas of the name.
    pub(super) replica: Option<Name>,
    /// What calls say whom they want, if that is not the location.
    #[cfg(feature = "http2")]
    pub(super) host: Option<Authority>,
}

impl Address {
    /// A URI like `notnets:///inventory`, or `notnets://pod0/inventory` in a pod; with the feature `http2`
    /// also `http://HOST:PORT` and `unix:/PATH`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn new(uri: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self::at(uri.as_ref().parse()?))
    }

    pub(super) fn at(location: Location) -> Self {
        Self {
            location,
            replica: None,
            #[cfg(feature = "http2")]
            host: None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replica.as_ref().and_then(Name::replica_number) {
            Some(number) => write!(f, "{}@{number}", self.location),
            None => self.location.fmt(f),
        }
    }
}

/// Servers that are always the same.
#[derive(Clone, Debug)]
pub struct Fixed {
    servers: Option<Vec<Address>>,
}

impl Fixed {
    /// These servers.
    pub fn new(servers: impl IntoIterator<Item = Address>) -> Self {
        Self { servers: Some(servers.into_iter().collect()) }
    }
}

impl Resolve for Fixed {
    fn poll_servers(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Vec<Address>, BoxError>> {
        self.servers.take().map_or(Poll::Pending, |servers| Poll::Ready(Ok(servers)))
    }
}
