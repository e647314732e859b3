//! Without the feature `tonic-connect-info` nothing is said in tonic's terms of who connected.

use std::os::fd::AsFd;

use http::Extensions;

/// Nothing.
pub(crate) struct ConnectInfo;

impl ConnectInfo {
    pub(crate) fn of(_socket: impl AsFd) -> Self {
        Self
    }

    #[cfg(feature = "http2")]
    pub(crate) fn tcp(_local: std::net::SocketAddr, _remote: std::net::SocketAddr) -> Self {
        Self
    }

    #[cfg(any(feature = "http2", feature = "pod"))]
    pub(crate) fn unknown() -> Self {
        Self
    }

    #[inline]
    pub(super) fn insert_into(&self, _extensions: &mut Extensions) {}
}
