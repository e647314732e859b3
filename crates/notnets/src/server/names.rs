//! The names that a server serves.

use notnets_core::name::{Name, Uri};

use crate::Error;

/// One or several names: `"notnets:///a"`, `["notnets:///a", "notnets:///b"]`, a `Vec` of them.
pub trait Names {
    /// The names.
    ///
    /// # Errors
    /// When one is no `notnets:` URI of this host.
    fn names(self) -> Result<Vec<Name>, Error>;
}

fn parse(uri: &str) -> Result<Name, Error> {
    let uri: Uri = uri.parse()?;
    match uri.pod() {
        None => Ok(uri.name().clone()),
        Some(pod) => Err(Error::Uri(format!(
            "{uri} is in the pod {pod}; this version serves names of this host only, as notnets:///{}",
            uri.name()
        ))),
    }
}

impl Names for &str {
    fn names(self) -> Result<Vec<Name>, Error> {
        Ok(vec![parse(self)?])
    }
}

impl Names for String {
    fn names(self) -> Result<Vec<Name>, Error> {
        self.as_str().names()
    }
}

impl Names for &String {
    fn names(self) -> Result<Vec<Name>, Error> {
        self.as_str().names()
    }
}

impl<S: AsRef<str>, const N: usize> Names for [S; N] {
    fn names(self) -> Result<Vec<Name>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}

impl<S: AsRef<str>> Names for Vec<S> {
    fn names(self) -> Result<Vec<Name>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}

impl<S: AsRef<str>> Names for &[S] {
    fn names(self) -> Result<Vec<Name>, Error> {
        self.iter().map(|uri| parse(uri.as_ref())).collect()
    }
}
