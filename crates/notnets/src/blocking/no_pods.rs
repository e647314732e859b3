//! Names in pods, without the feature `pod`: there are none.

use std::convert::Infallible;
use std::os::fd::BorrowedFd;

use notnets_core::link::Established;
use notnets_core::link::accept::Policy;
use notnets_core::link::rendezvous::{Directory, Listener};
use notnets_core::name::Name;
use notnets_memory::lane::Geometry;

use super::{Endpoint, Error};

/// The sizes of a first segment, unless others are asked for.
pub fn geometry(wanted: Option<Geometry>) -> Geometry {
    wanted.unwrap_or_default()
}

/// Fails: there is no pod.
pub fn dial(_endpoint: &Endpoint, _pod: &Name) -> Result<Established, Error> {
    Err(Error::no_pods())
}

/// There is none.
pub struct PodAcceptor(Infallible);

impl PodAcceptor {
    pub fn open(_directory: &Directory, _pod: &Name, _name: &Name) -> Result<Self, Error> {
        Err(Error::no_pods())
    }

    pub fn listen_local(&self, _directory: &Directory) -> Option<Listener> {
        match self.0 {}
    }

    pub fn event(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }

    pub fn take(&mut self, _policy: &Policy, _open: usize) -> Vec<Established> {
        match self.0 {}
    }
}
