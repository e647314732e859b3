//! The names that a server serves.

use notnets_core::name::Uri;

use crate::Error;
use crate::error::Cause;

/// One or several names: `"notnets:///a"`, `["notnets:///a", "notnets://pod0/a"]`, a `Vec` of them. Those of
/// this host and those of pods can be served at once.
pub trait Names {
    /// The names.
    ///
    /// # Errors
    /// When one is no `notnets:` URI.
    fn names(self) -> Result<Vec<Uri>, Error>;
}

fn parse(uri: &str) -> Result<Uri, Error> {
    Ok(uri.parse().map_err(Cause::from)?)
}

impl Names for &str {
    fn names(self) -> Result<Vec<Uri>, Error> {
        Ok(vec![parse(self)?])
    }
}

impl Names for String {
    fn names(self) -> Result<Vec<Uri>, Error> {
        self.as_str().names()
    }
}

impl Names for &String {
    fn names(self) -> Result<Vec<Uri>, Error> {
        self.as_str().names()
    }
}

impl<S: AsRef<str>, const N: usize> Names for [S; N] {
    fn names(self) -> Result<Vec<Uri>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}

impl<S: AsRef<str>> Names for Vec<S> {
    fn names(self) -> Result<Vec<Uri>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}

impl<S: AsRef<str>> Names for &[S] {
    fn names(self) -> Result<Vec<Uri>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}
