//! The names that a server serves.

use crate::Error;
use crate::location::Location;

/// One or several names: `"notnets:///a"`, `["notnets:///a", "notnets://pod0/a"]`, a `Vec` of them, an
/// `http::Uri`. Those of this host and those of pods can be served at once, and with the feature `http2` also
/// addresses where HTTP/2 is spoken: `http://0.0.0.0:50051`, `unix:/run/inventory.sock`. There is nothing to
/// implement.
///
/// ```no_run
/// # async fn example(routes: notnets::Routes) -> Result<(), notnets::Error> {
/// let server = notnets::Server::builder().add_routes(routes);
/// server.serve(["notnets:///inventory", "notnets://pod0/inventory"]).await
/// # }
/// ```
pub trait Names: Uris {}

impl<N: Uris> Names for N {}

/// What names are parsed as.
pub trait Uris {
    /// The names and addresses.
    ///
    /// # Errors
    /// When one is neither.
    fn uris(self) -> Result<Vec<Location>, Error>;
}

fn parse(uri: &str) -> Result<Location, Error> {
    uri.parse()
}

impl Uris for &str {
    fn uris(self) -> Result<Vec<Location>, Error> {
        Ok(vec![parse(self)?])
    }
}

/// With a dot for this host: `notnets://./inventory`.
impl Uris for http::Uri {
    fn uris(self) -> Result<Vec<Location>, Error> {
        self.to_string().uris()
    }
}

impl Uris for &http::Uri {
    fn uris(self) -> Result<Vec<Location>, Error> {
        self.to_string().uris()
    }
}

impl Uris for String {
    fn uris(self) -> Result<Vec<Location>, Error> {
        self.as_str().uris()
    }
}

impl Uris for &String {
    fn uris(self) -> Result<Vec<Location>, Error> {
        self.as_str().uris()
    }
}

impl<S: AsRef<str>, const N: usize> Uris for [S; N] {
    fn uris(self) -> Result<Vec<Location>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}

impl<S: AsRef<str>> Uris for Vec<S> {
    fn uris(self) -> Result<Vec<Location>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}

impl<S: AsRef<str>> Uris for &[S] {
    fn uris(self) -> Result<Vec<Location>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}
