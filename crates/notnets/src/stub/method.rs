//! Methods, as generated clients name them.

/// A method of a service.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    pub(super) path: &'static str,
    pub(super) service: &'static str,
    pub(super) name: &'static str,
}

impl Method {
    /// The method with that path, which its service's and its own name are in.
    pub const fn new(path: &'static str, service: &'static str, name: &'static str) -> Self {
        Self { path, service, name }
    }
}
