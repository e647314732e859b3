//! Taking a name over from a server that runs, so that clients find a server at any time.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::directory::Directory;
use super::error::RendezvousError;
use super::listener::{
    Listener, TAKES_OVER, bind_socket, clear_replicas, file_at, finish, is_at, open_current,
};
use super::lock::Lock;
use super::socket::{Found, dial};
use crate::link::packet::Packet;
use crate::link::socket::Socket;
use crate::name::Name;
use crate::random;

/// A socket that listens, but is not in the name's place yet.
pub(super) struct Successor {
    listener: Listener,
    old: Old,
}

/// A connection to the server that had the name, if there was one that could be reached.
pub(super) struct Old(Option<OwnedFd>);

impl Successor {
    /// Listens in the directory, out of sight.
    pub(super) fn prepare(directory: &Directory, name: &Name) -> Result<Self, RendezvousError> {
        let coming = Name::coming(random::word() as u32);
        let place = directory.socket_path(name)?;
        let path = directory.socket_path(&coming)?;
        let opened = open_current(directory)?;
        let lock = Lock::take(&opened, directory)?;
        if !is_at(&opened, directory)? {
            drop(lock);
            return Self::prepare(directory, name);
        }
        clear_replicas(directory, &opened, name, true)?;
        let old = match file_at(&opened, name) {
            Err(Errno::NOENT) => Old(None),
            Ok(found) if found.is_socket => Old::reach(directory, name)?,
            Ok(_) => return Err(RendezvousError::NotOurs { path: place }),
            Err(errno) => return Err(directory.failed("look at", &place, errno)),
        };
        let socket = bind_socket(directory, name, &path)?;
        let file = finish(&opened, &coming, &socket, TAKES_OVER)
            .map_err(|errno| directory.failed("listen on", &path, errno))?;
        crate::failpoint!("successor bound");
        drop(lock);
        let listener = Listener::new(socket, opened, name, coming, directory, file)?;
        Ok(Self { listener, old })
    }

    /// Takes the name's place.
    pub(super) fn take(mut self) -> Result<(Listener, Old), RendezvousError> {
        self.listener.move_to_its_name()?;
        crate::failpoint!("successor moved");
        Ok((self.listener, self.old))
    }
}

impl Old {
    /// Connects to the server of a name, whose socket is there.
    fn reach(directory: &Directory, name: &Name) -> Result<Self, RendezvousError> {
        let path = directory.socket_path(name)?;
        match dial(&path).map_err(|errno| directory.failed("connect to", &path, errno))? {
            Found::Server(socket, _) => Ok(Self(Some(socket))),
            Found::OtherType => Err(RendezvousError::NotOurs { path }),
            // One that is busy sees the mark.
            Found::Busy | Found::Nothing | Found::Dead | Found::Orphaned => Ok(Self(None)),
        }
    }

    /// Says that the name is taken.
    pub(super) fn tell(self) {
        // It fails if that server has ended meanwhile, or doesn't admit this process.
        let _ = self.0.map(|socket| Socket::from(socket).send(&Packet::TakenOver, None));
        crate::failpoint!("successor told");
    }
}
