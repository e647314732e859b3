//! Names in pods, without the feature `pod`: there are none.

use std::convert::Infallible;
use std::os::fd::BorrowedFd;

use notnets_core::link::Established;
use notnets_core::link::accept::{Policy, Refused};
use notnets_core::link::handshake::Config;
use notnets_core::link::rendezvous::{Directory, Listener};
use notnets_core::name::Name;

use super::Endpoint;
use crate::Error;
use crate::error::Cause;
use crate::options::LinkOptions;

/// Fails: there is no pod.
pub fn dial(_endpoint: &Endpoint, _pod: &Name) -> Result<Established, Error> {
    Err(Cause::WithoutPods.into())
}

/// There is none.
pub struct PodAcceptor(Infallible);

impl PodAcceptor {
    pub fn open(_options: &LinkOptions, _pod: &Name, _name: &Name) -> Result<Self, Error> {
        Err(Cause::WithoutPods.into())
    }

    pub fn config(options: &LinkOptions) -> Config {
        options.config()
    }

    pub fn listen_local(&self, _directory: &Directory) -> Option<Listener> {
        match self.0 {}
    }

    pub fn event(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }

    pub fn take(&mut self, _policy: &Policy, _open: usize, _refused: impl Fn(&Refused)) -> Vec<Established> {
        match self.0 {}
    }
}
