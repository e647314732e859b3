//! What tonic says of a connection, for handlers and interceptors that ask for it.

use std::os::fd::AsFd;
use std::os::unix::net;

use http::Extensions;
use tokio::net::UnixStream;
#[cfg(feature = "http2")]
use tonic::transport::server::TcpConnectInfo;
use tonic::transport::server::{Connected as _, UdsConnectInfo};

#[cfg(feature = "tls")]
use crate::tls::Shown;

/// Who connected, in tonic's terms.
pub(crate) enum ConnectInfo {
    Uds(UdsConnectInfo),
    #[cfg(feature = "http2")]
    Tcp(TcpConnectInfo),
    #[cfg(feature = "tls")]
    Tls(Box<Shown>),
}

impl ConnectInfo {
    /// What the kernel says of the other end of a socket.
    pub(crate) fn of(socket: impl AsFd) -> Self {
        let shared = socket.as_fd().try_clone_to_owned().map(net::UnixStream::from);
        let end = shared.and_then(UnixStream::from_std);
        end.map_or_else(|_| Self::unknown(), |end| Self::Uds(end.connect_info()))
    }

    /// Of a client over TCP.
    #[cfg(feature = "http2")]
    pub(crate) fn tcp(local: std::net::SocketAddr, remote: std::net::SocketAddr) -> Self {
        Self::Tcp(TcpConnectInfo { local_addr: Some(local), remote_addr: Some(remote) })
    }

    /// Of a client over TCP, by TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(local: std::net::SocketAddr, remote: std::net::SocketAddr, shown: &Shown) -> Self {
        let mut shown = shown.clone();
        *shown.info.get_mut() = TcpConnectInfo { local_addr: Some(local), remote_addr: Some(remote) };
        Self::Tls(Box::new(shown))
    }

    /// Of a client on another host, of which the kernel says nothing.
    pub(crate) fn unknown() -> Self {
        Self::Uds(UdsConnectInfo { peer_addr: None, peer_cred: None })
    }

    /// Puts it among a request's extensions.
    pub(super) fn insert_into(&self, extensions: &mut Extensions) {
        match self {
            Self::Uds(info) => extensions.insert(info.clone()).map(drop),
            #[cfg(feature = "http2")]
            Self::Tcp(info) => extensions.insert(info.clone()).map(drop),
            #[cfg(feature = "tls")]
            Self::Tls(shown) => {
                if let Some(certificates) = &shown.certificates {
                    extensions.insert(certificates.clone());
                }
                extensions.insert(shown.info.clone()).map(drop)
            }
        };
    }
}
