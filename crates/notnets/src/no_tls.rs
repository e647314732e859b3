//! What stands for TLS in a program without the feature `tls`.

use std::io;

use crate::http2::Stream;

/// There is none.
#[derive(Clone, Debug)]
pub enum ClientTls {}

/// There is none.
#[derive(Clone, Debug)]
pub enum ServerTls {}

impl ClientTls {
    pub(crate) fn of_system() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn connect(&self, _: &str, _: impl Stream + 'static) -> io::Result<Box<dyn Stream>> {
        match *self {}
    }
}

impl ServerTls {
    pub(crate) async fn accept(&self, _: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        match *self {}
    }
}

pub(crate) fn explained(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
