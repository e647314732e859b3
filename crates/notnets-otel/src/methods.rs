//! The methods that are known by their paths: as many as there may be series for.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::conventions::Side;
use crate::metrics::MethodMetrics;

/// Methods that have series of their own.
const MOST: usize = 1000;

/// The methods of a channel or a server.
pub(crate) struct Methods {
    side: Side,
    by_path: RwLock<HashMap<Box<str>, Arc<Method>>>,
    other: Arc<Method>,
}

/// A method.
pub(crate) struct Method {
    /// Without the slash in front. `None` for all that are not recognised.
    pub(crate) name: Option<Box<str>>,
    pub(crate) metrics: MethodMetrics,
}

/// The method of a call.
#[derive(Clone)]
pub(crate) enum Found {
    /// It is recognised.
    Method(Arc<Method>),
    /// A server may not have it: that is known when the call has ended.
    Unknown(Box<str>),
}

impl Methods {
    pub(crate) fn new(side: Side) -> Self {
        Self { side, by_path: RwLock::default(), other: Arc::new(Method::new(None)) }
    }

    /// Finds a method by its path. A client knows what it calls; what a server is asked for it may not have.
    pub(crate) fn find(&self, path: &str) -> Found {
        let found = self.by_path.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        match (found, self.side) {
            (Some(method), _) => Found::Method(method),
            (None, Side::Client) => Found::Method(self.recognise(path)),
            (None, Side::Server) => Found::Unknown(path.into()),
        }
    }

    /// A method that there is, by its path.
    pub(crate) fn recognise(&self, path: &str) -> Arc<Method> {
        let mut by_path = self.by_path.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(method) = by_path.get(path) {
            return Arc::clone(method);
        }
        if by_path.len() == MOST {
            return Arc::clone(&self.other);
        }
        let name = path.strip_prefix('/').unwrap_or(path);
        let method = Arc::new(Method::new(Some(name.into())));
        by_path.insert(path.into(), Arc::clone(&method));
        method
    }

    /// All methods that are not recognised.
    pub(crate) fn other(&self) -> Arc<Method> {
        Arc::clone(&self.other)
    }
}

impl Method {
    fn new(name: Option<Box<str>>) -> Self {
        Self { name, metrics: MethodMetrics::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many() {
        let methods = Methods::new(Side::Server);
        assert!(matches!(methods.find("/a.B/C"), Found::Unknown(path) if &*path == "/a.B/C"));
        for n in 0..2 * MOST {
            let method = methods.recognise(&format!("/a.B/{n}"));
            assert_eq!(method.name.is_some(), n < MOST);
        }
        assert!(
            matches!(methods.find("/a.B/7"), Found::Method(method) if method.name.as_deref() == Some("a.B/7"))
        );
        assert!(matches!(methods.find("/a.B/1999"), Found::Unknown(_)));
        let client = Methods::new(Side::Client);
        assert!(matches!(client.find("/a.B/C"), Found::Method(method) if method.name.is_some()));
    }
}
