//! What tonic says of a connection over a Unix socket, for handlers and interceptors that ask for it.

use std::os::fd::AsFd;
use std::os::unix::net;

use http::Extensions;
use tokio::net::UnixStream;
use tonic::transport::server::{Connected as _, UdsConnectInfo};

/// Who connected, in tonic's terms.
pub(crate) struct ConnectInfo(UdsConnectInfo);

impl ConnectInfo {
    /// What the kernel says of the other end of a socket.
    pub(crate) fn of(socket: impl AsFd) -> Self {
        let shared = socket.as_fd().try_clone_to_owned().map(net::UnixStream::from);
        shared.and_then(UnixStream::from_std).map_or_else(|_| Self::unknown(), |end| Self(end.connect_info()))
    }

    /// Of a client on another host, of which the kernel says nothing.
    pub(crate) fn unknown() -> Self {
        Self(UdsConnectInfo { peer_addr: None, peer_cred: None })
    }

    /// Puts it among a request's extensions.
    pub(super) fn insert_into(&self, extensions: &mut Extensions) {
        extensions.insert(self.0.clone());
    }
}
