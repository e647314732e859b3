//! Methods by their paths.

use std::fmt;
use std::sync::Arc;

/// A method: the path `/package.Service/Method`. Cheap to clone.
///
/// A link sends each path once; calls after that carry a number in its place, and a server gets the path from
/// the link's table. So it costs nothing to make a [`Method`] once and clone it for each call.
///
/// ```
/// use notnets::rpc::Method;
///
/// const GREET: Method = Method::from_static("/greeter.Greeter/Greet");
/// assert_eq!((GREET.service(), GREET.name()), ("greeter.Greeter", "Greet"));
/// ```
#[derive(Clone)]
pub struct Method(Path);

#[derive(Clone)]
enum Path {
    Static(&'static str),
    Shared(Arc<str>),
}

/// A path that does not begin with a slash, or is too long.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the path of a method: /package.Service/Method")]
#[non_exhaustive]
pub struct InvalidMethod(String);

impl fmt::Debug for InvalidMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `main` and `unwrap` print this.
        write!(f, "InvalidMethod({:?})", self.to_string())
    }
}

impl Method {
    /// A method whose path is written in the program.
    ///
    /// # Panics
    /// When it does not begin with a slash.
    pub const fn from_static(path: &'static str) -> Self {
        assert!(!path.is_empty() && path.as_bytes()[0] == b'/', "a method's path is /package.Service/Method");
        Self(Path::Static(path))
    }

    /// A method with this path.
    ///
    /// # Errors
    /// When the path does not begin with a slash.
    pub fn new(path: impl Into<Arc<str>>) -> Result<Self, InvalidMethod> {
        let path = path.into();
        if path.starts_with('/') {
            Ok(Self(Path::Shared(path)))
        } else {
            Err(InvalidMethod(path.to_string()))
        }
    }

    /// A path as a peer sent it, unchecked.
    pub(crate) fn received(path: Arc<str>) -> Self {
        Self(Path::Shared(path))
    }

    /// The path.
    pub fn path(&self) -> &str {
        match &self.0 {
            Path::Static(path) => path,
            Path::Shared(path) => path,
        }
    }

    /// The service's name, with its package; empty if the path has none.
    pub fn service(&self) -> &str {
        self.parts().0
    }

    /// The name of the method within its service; empty if the path has none.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        let parts = self.path().strip_prefix('/').and_then(|path| path.split_once('/'));
        parts.unwrap_or_default()
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
    }
}

impl Eq for Method {}

impl std::hash::Hash for Method {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.path().hash(state);
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Method({:?})", self.path())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_service_and_a_name() {
        let method = Method::new("/a.B/C").unwrap();
        assert_eq!(method, Method::from_static("/a.B/C"));
        assert_eq!((method.service(), method.name(), method.path()), ("a.B", "C", "/a.B/C"));
        for odd in ["", "/", "/a", "nothing", "//"] {
            let method = Method::received(odd.into());
            assert_eq!((method.service(), method.name(), method.path()), ("", "", odd));
        }
        assert!(Method::new("a.B/C").is_err());
    }
}
