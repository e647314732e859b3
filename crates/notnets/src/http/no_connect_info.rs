//! Without the feature `tonic-connect-info` nothing is said in tonic's terms of who connected, and only what
//! a client has shown by TLS in ours.

use std::os::fd::AsFd;

use http::Extensions;

#[cfg(feature = "tls")]
use crate::tls::{PeerCertificates, Shown};

/// What a client has shown.
#[derive(Default)]
pub(crate) struct ConnectInfo {
    #[cfg(feature = "tls")]
    certificates: Option<PeerCertificates>,
}

impl ConnectInfo {
    pub(crate) fn of(_socket: impl AsFd) -> Self {
        Self::default()
    }

    #[cfg(feature = "http2")]
    pub(crate) fn tcp(_local: std::net::SocketAddr, _remote: std::net::SocketAddr) -> Self {
        Self::default()
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(_local: std::net::SocketAddr, _remote: std::net::SocketAddr, shown: &Shown) -> Self {
        Self { certificates: shown.certificates.clone() }
    }

    #[cfg(any(feature = "http2", feature = "pod"))]
    pub(crate) fn unknown() -> Self {
        Self::default()
    }

    #[inline]
    pub(super) fn insert_into(&self, _extensions: &mut Extensions) {
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.certificates {
            _extensions.insert(certificates.clone());
        }
    }
}
