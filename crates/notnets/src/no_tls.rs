//! What stands for TLS in a program without the feature `tls`.

use std::convert::Infallible;
use std::io;

use crate::http2::Stream;

/// There is none.
#[derive(Clone, Debug)]
pub struct ClientTls(Infallible);

/// There is none.
#[derive(Clone, Debug)]
pub struct ServerTls(Infallible);

/// There is none.
#[derive(Clone, Debug)]
pub struct Shown(Infallible);

impl Shown {
    pub(crate) fn never(&self) -> ! {
        match self.0 {}
    }
}

impl ClientTls {
    pub(crate) fn of_system() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn connect(&self, _: &str, _: impl Stream + 'static) -> io::Result<Box<dyn Stream>> {
        match self.0 {}
    }
}

impl ServerTls {
    pub(crate) async fn accept(&self, _: Box<dyn Stream>) -> io::Result<(Box<dyn Stream>, Shown)> {
        match self.0 {}
    }
}

pub(crate) fn explained(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
