//! The names that a server serves.

use crate::Error;
use crate::location::Location;
use crate::passed;

/// One or several names: `"notnets:///a"`, `["notnets:///a", "notnets://pod0/a"]`, a `Vec` of them, an
/// `http::Uri`. Those of this host and those of pods can be served at once, and with the feature `http2` also
/// addresses where HTTP/2 is spoken: `http://0.0.0.0:50051`, `unix:/run/inventory.sock`. `systemd:` stands
/// for the sockets that were opened for this process before it was started (`sd_listen_fds(3)`),
/// `systemd:NAME` for those with that `FileDescriptorName=`. There is nothing to implement.
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
    fn uris(self) -> Result<Vec<Wanted>, Error>;
}

/// What a server is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A name or an address.
    At(Location),
    /// What was opened for this process before it was started: all, or what is called so.
    Passed(Option<String>),
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(location) => location.fmt(f),
            Self::Passed(name) => write!(f, "{}{}", passed::SCHEME, name.as_deref().unwrap_or_default()),
        }
    }
}

fn parse(uri: &str) -> Result<Wanted, Error> {
    match uri.strip_prefix(passed::SCHEME) {
        Some("") => Ok(Wanted::Passed(None)),
        Some(name) => Ok(Wanted::Passed(Some(name.to_owned()))),
        None => uri.parse().map(Wanted::At),
    }
}

impl Uris for &str {
    fn uris(self) -> Result<Vec<Wanted>, Error> {
        Ok(vec![parse(self)?])
    }
}

/// With a dot for this host: `notnets://./inventory`.
impl Uris for http::Uri {
    fn uris(self) -> Result<Vec<Wanted>, Error> {
        self.to_string().uris()
    }
}

impl Uris for &http::Uri {
    fn uris(self) -> Result<Vec<Wanted>, Error> {
        self.to_string().uris()
    }
}

impl Uris for String {
    fn uris(self) -> Result<Vec<Wanted>, Error> {
        self.as_str().uris()
    }
}

impl Uris for &String {
    fn uris(self) -> Result<Vec<Wanted>, Error> {
        self.as_str().uris()
    }
}

impl<S: AsRef<str>, const N: usize> Uris for [S; N] {
    fn uris(self) -> Result<Vec<Wanted>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}

impl<S: AsRef<str>> Uris for Vec<S> {
    fn uris(self) -> Result<Vec<Wanted>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}

impl<S: AsRef<str>> Uris for &[S] {
    fn uris(self) -> Result<Vec<Wanted>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}
