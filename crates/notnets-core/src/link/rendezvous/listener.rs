//! The server's side: a socket in the directory, from bind to unlink.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, chmod, fstat, open, openat,
    renameat, stat, statat, unlinkat, utimensat,
};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, getsockname, listen, sockopt};
use rustix::process::geteuid;

use super::directory::Directory;
use super::error::RendezvousError;
use super::lock::Lock;
use super::numbers::{self, above_watches};
use super::socket::{Found, Peephole, dial, seqpacket};
use super::watch::DirectoryWatch;
use crate::name::{COMING, HIDDEN, Name};
use crate::random;

/// How many clients may wait to be accepted. The kernel cuts it down to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The mark of a socket that has taken its name over from another. On a socket's file this bit of the mode
/// means nothing else.
pub(super) const TAKES_OVER: Mode = Mode::SVTX;

/// A name that this process serves. Dropping it gives the name back.
///
/// Readiness for [`accept`](Listener::accept) shows on its descriptor ([`AsFd`]), which doesn't block.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// Stays open, so that the name can be given back even when descriptors have run out.
    directory: OwnedFd,
    name: Name,
    /// The name of the socket's file: the name itself, or a replica's.
    address: Name,
    path: PathBuf,
    /// Where `directory` is, for errors.
    place: Directory,
    /// The socket's file. No other file can have this identity while `socket` is open.
    file: FileId,
    /// The process that bound it: a forked child that drops its copy gives nothing back.
    owner: u32,
    /// The name was given back, or belongs to another process that has passed the socket.
    closed: bool,
}

impl Listener {
    /// Takes the name for itself.
    pub(super) fn bind(directory: &Directory, name: &Name) -> Result<Self, RendezvousError> {
        Self::bind_at(directory, name, name.clone())
    }

    /// Takes the name beside other replicas.
    pub(super) fn bind_replica(directory: &Directory, name: &Name) -> Result<Self, RendezvousError> {
        // With four billion numbers, two that are the same have to be sought.
        Self::bind_at(directory, name, name.replica(random::word() as u32))
    }

    fn bind_at(directory: &Directory, name: &Name, address: Name) -> Result<Self, RendezvousError> {
        let path = directory.socket_path(&address)?;
        let opened = open_current(directory)?;
        let lock = Lock::take(&opened, directory)?;
        if !is_at(&opened, directory)? {
            // It was replaced before we had the lock, so our lock is useless.
            return Self::bind_at(directory, name, address);
        }
        crate::failpoint!("name locked");
        make_room(directory, &opened, name, &directory.socket_path(name)?)?;
        if name.is_hidden() {
            sweep(&opened, directory.path(), |file| file.starts_with(HIDDEN));
        } else {
            clear_replicas(directory, &opened, name, address == *name)?;
        }
        let socket = bind_socket(directory, name, &path)?;
        crate::failpoint!("name bound");
        let file = finish(&opened, &address, &socket, Mode::empty()).map_err(|errno| {
            let _ = unlinkat(&opened, address.as_str(), AtFlags::empty());
            directory.failed("listen on", &path, errno)
        })?;
        if file_at(&opened, &address).map(|found| found.is(file)) != Ok(true) {
            // One that did not wait for the lock took it for a dead server's, before it listened.
            drop(lock);
            return Self::bind_at(directory, name, address);
        }
        crate::failpoint!("name served");
        drop(lock);
        Self::new(socket, opened, name, address, directory, file)
    }

    pub(super) fn new(
        socket: OwnedFd,
        directory: OwnedFd,
        name: &Name,
        address: Name,
        place: &Directory,
        file: FileId,
    ) -> Result<Self, RendezvousError> {
        let path = place.socket_path(&address)?;
        let (name, place, owner) = (name.clone(), place.clone(), process::id());
        numbers::keep();
        Ok(Listener { socket, directory, name, address, path, place, file, owner, closed: false })
    }

    /// Serves the name of a socket that was opened for this process by another one, which keeps it: the name
    /// is not given back. Clients see that process at the other end: one that said that it listens, and has
    /// ended, would be taken for a dead server although the socket waits for the next.
    ///
    /// # Errors
    /// When it is not a socket of a name.
    pub fn of_passed(socket: OwnedFd) -> Result<Self, RendezvousError> {
        let path = getsockname(&socket).ok().and_then(|address| SocketAddrUnix::try_from(address).ok());
        let path = path.as_ref().and_then(SocketAddrUnix::path_bytes).map(OsStr::from_bytes);
        let path = path.map(PathBuf::from).unwrap_or_default();
        let bad = |why| RendezvousError::Passed { path: path.clone(), why };
        let (Some(parent), Some(file)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else {
            return Err(bad("it has no path"));
        };
        let address =
            Name::from_file_name(file).ok_or_else(|| bad("its file has not the name of a service"))?;
        if sockopt::socket_type(&socket) != Ok(SocketType::SEQPACKET) {
            return Err(bad("it has no message boundaries"));
        }
        let place = Directory::at(parent);
        let failed = |action| {
            let (place, path) = (&place, &path);
            move |errno| place.failed(action, path, errno)
        };
        ioctl_fionbio(&socket, true).map_err(failed("listen on"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = open(place.path(), flags, Mode::empty()).map_err(failed("look for"))?;
        let file = file_at(&opened, &address).map_err(failed("look for"))?.id;
        let name = address.service();
        let mut listener = Self::new(socket, opened, &name, address, &place, file)?;
        listener.closed = true;
        Ok(listener)
    }

    /// Moves the socket to the place of its name, whatever socket is there.
    pub(super) fn move_to_its_name(&mut self) -> Result<(), RendezvousError> {
        let path = self.place.socket_path(&self.name)?;
        let _lock = Lock::take(&self.directory, &self.place)?;
        let moved = renameat(&self.directory, self.address.as_str(), &self.directory, self.name.as_str());
        moved.map_err(|errno| self.place.failed("take over", &path, errno))?;
        self.address = self.name.clone();
        self.path = path;
        Ok(())
    }

    /// The name that is served.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where it is served: the name itself, or, beside other replicas, an address of its own.
    pub fn address(&self) -> &Name {
        &self.address
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts the next client that waits, or returns `None`. The socket doesn't block and isn't inherited.
    ///
    /// A client that closes without having sent anything was only a probe.
    ///
    /// # Errors
    /// When the client can't be accepted, above all because descriptors have run out. Then it stays where it
    /// is and the listener stays readable: wait before trying again.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        loop {
            return match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(client) => Ok(Some(above_watches(client))),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(errno @ (Errno::MFILE | Errno::NFILE)) => {
                    Err(io::Error::other(self.failed("accept on", errno)))
                }
                Err(errno) => Err(errno.into()),
            };
        }
    }

    /// Takes the name over from the process that this one was forked from: clients see this process from now
    /// on, and the name is given back when this is dropped here. Nothing is done in the process that bound
    /// it.
    ///
    /// # Errors
    /// When the socket can't listen.
    pub fn adopt(&mut self) -> Result<(), RendezvousError> {
        if process::id() == self.owner || self.closed {
            return Ok(());
        }
        // The kernel notes anew who listens.
        listen(&self.socket, BACKLOG).map_err(|errno| self.failed("listen on", errno))?;
        self.owner = process::id();
        Ok(())
    }

    /// Watches the directory: whenever something goes away there, see whether the name is still
    /// [in place](Self::is_in_place).
    ///
    /// # Errors
    /// When the kernel has no more watches for this user.
    pub fn watch(&self) -> io::Result<DirectoryWatch> {
        DirectoryWatch::of_goings(self.place.path())
    }

    /// Returns `true` unless clients can't find this listener any more: its file, or the directory, was
    /// removed, moved or replaced.
    pub fn is_in_place(&self) -> bool {
        // Where that can't be found out, nothing can be done about it either.
        let directory = is_at(&self.directory, &self.place).unwrap_or(true);
        directory && file_at(&self.directory, &self.address).map(|found| found.is(self.file)) == Ok(true)
    }

    /// Returns `true` if another process listens in the place of this listener, as one does that says that it
    /// has taken the name over.
    pub fn is_taken_over(&self) -> bool {
        self.successor().is_some()
    }

    /// Returns `true` if another process of this user has taken the name over, whether or not it could say
    /// so: it listens in the place of this listener, with a socket that bears the mark of that.
    pub fn has_successor(&self) -> bool {
        let is_own = |found: &FileAt| found.owner == geteuid().as_raw();
        self.successor().is_some_and(|found| found.mode.contains(TAKES_OVER) && is_own(&found))
    }

    fn successor(&self) -> Option<FileAt> {
        let found = file_at(&self.directory, &self.address).ok().filter(|found| !found.is(self.file))?;
        // Where descriptors have run out, it can't be found out whether it is open.
        Peephole::new().map_or(true, |peephole| peephole.is_open(&self.path)).then_some(found)
    }

    /// Takes the name again, with another socket, when this one is not in place any more. A directory that
    /// was removed is not created.
    ///
    /// # Errors
    /// When the name is in use, and when the directory is not there or doesn't permit it.
    pub fn bind_again(&self) -> Result<Self, RendezvousError> {
        let directory = self.place.path();
        stat(directory).map_err(|errno| self.place.failed("look at", directory, errno))?;
        Self::bind_at(&self.place, &self.name, self.address.clone())
    }

    /// Gives the name back. Clients that wait to be accepted see the end of the connection.
    ///
    /// # Errors
    /// When the socket's file can't be removed. It is dead all the same, and the next server replaces it.
    pub fn close(mut self) -> Result<(), RendezvousError> {
        self.give_back()
    }

    /// Removes the file, if it is still the one that was bound, and this process bound it.
    fn give_back(&mut self) -> Result<(), RendezvousError> {
        if std::mem::replace(&mut self.closed, true) || process::id() != self.owner {
            return Ok(());
        }
        let _lock = Lock::take(&self.directory, &self.place)?;
        if file_at(&self.directory, &self.address).map(|found| found.is(self.file)) != Ok(true) {
            return Ok(());
        }
        let removed = unlinkat(&self.directory, self.address.as_str(), AtFlags::empty());
        crate::failpoint!("name removed");
        removed.map_err(|errno| self.failed("remove", errno))
    }

    fn failed(&self, action: &'static str, errno: Errno) -> RendezvousError {
        self.place.failed(action, &self.path, errno)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // On failure a dead socket stays behind, and the next server replaces it.
        let _ = self.give_back();
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens the directory, having created it for its owner alone when it was missing.
pub(super) fn open_current(directory: &Directory) -> Result<OwnedFd, RendezvousError> {
    // It is unlikely to be removed in between twice. A dangling link is missing every time.
    const ATTEMPTS: usize = 5;
    let mut opened = Err(Errno::NOENT);
    for _ in 0..ATTEMPTS {
        create(directory)?;
        opened = open(directory.path(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        if !matches!(opened, Err(Errno::NOENT)) {
            break;
        }
    }
    opened.map_err(|errno| directory.failed("open", directory.path(), errno))
}

fn create(directory: &Directory) -> Result<(), RendezvousError> {
    let path = directory.path();
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        // It exists but isn't a directory: opening it will fail and show that.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => {
            created.map_err(|error| RendezvousError::from_io(directory.origin(), "create", path, error))
        }
    }
}

/// Returns `true` if the path still leads to the open directory.
pub(super) fn is_at(opened: &OwnedFd, directory: &Directory) -> Result<bool, RendezvousError> {
    let failed = |errno| directory.failed("look at", directory.path(), errno);
    match stat(directory.path()) {
        Ok(there) => Ok(FileId::from(fstat(opened).map_err(failed)?) == FileId::from(there)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed(errno)),
    }
}

/// Removes a dead server's socket from the name, or fails with what is in the way.
fn make_room(
    directory: &Directory,
    opened: &OwnedFd,
    name: &Name,
    path: &Path,
) -> Result<(), RendezvousError> {
    let failed = |action| move |errno| directory.failed(action, path, errno);
    let before = match file_at(opened, name) {
        Err(Errno::NOENT) => return Ok(()),
        found => found.map_err(failed("look at"))?,
    };
    if !before.is_socket {
        return Err(RendezvousError::NotOurs { path: path.into() });
    }
    match dial(path).map_err(failed("check the server of"))? {
        Found::Nothing => Ok(()),
        Found::Dead | Found::Orphaned => match file_at(opened, name) {
            Ok(now) if now.is(before.id) => {
                unlinkat(opened, name.as_str(), AtFlags::empty()).map_err(failed("remove the dead socket"))
            }
            // Replaced by a process that doesn't take the lock: then bind fails.
            _ => Ok(()),
        },
        Found::Server(_, peer) => Err(RendezvousError::in_use(name, path, peer.pid)),
        Found::Busy => Err(RendezvousError::in_use(name, path, None)),
        Found::OtherType => Err(RendezvousError::NotOurs { path: path.into() }),
    }
}

/// Removes what dead replicas of a name left, and servers that died when they were to take a name over. Where
/// the name is to be had `alone`, live replicas are in the way.
pub(super) fn clear_replicas(
    directory: &Directory,
    opened: &OwnedFd,
    name: &Name,
    alone: bool,
) -> Result<(), RendezvousError> {
    let is_replica = |file: &str| {
        Name::from_file_name(file)
            .is_some_and(|address| address.replica_number().is_some() && address.service() == *name)
    };
    sweep(opened, directory.path(), |file| file.starts_with(COMING));
    let living = sweep(opened, directory.path(), is_replica);
    match living.into_iter().next() {
        Some((path, pid)) if alone => Err(RendezvousError::in_use(name, &path, pid)),
        _ => Ok(()),
    }
}

/// Removes what dead servers left at those names that nobody takes again. Servers that begin meanwhile wait
/// for the lock. Returns the others, with their pids where they are known.
fn sweep(directory: &OwnedFd, path: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<(PathBuf, Option<u32>)> {
    let mut living = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(&is_meant) {
            continue;
        }
        match dial(&entry.path()) {
            Ok(Found::Dead | Found::Orphaned) => {
                let _ = unlinkat(directory, entry.file_name(), AtFlags::empty());
            }
            Ok(Found::Server(_, peer)) => living.push((entry.path(), peer.pid)),
            Ok(Found::Busy) => living.push((entry.path(), None)),
            Ok(Found::Nothing | Found::OtherType) | Err(_) => {}
        }
    }
    living
}

pub(super) fn bind_socket(
    directory: &Directory,
    name: &Name,
    path: &Path,
) -> Result<OwnedFd, RendezvousError> {
    let failed = |errno| match errno {
        Errno::ADDRINUSE => RendezvousError::in_use(name, path, None),
        errno => directory.failed("create a socket in", directory.path(), errno),
    };
    let socket = seqpacket().map_err(failed)?;
    bind(&socket, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
    Ok(socket)
}

/// Opens the bound socket to clients, with a mark on its file, and returns which file it is.
pub(super) fn finish(
    directory: &OwnedFd,
    address: &Name,
    socket: &OwnedFd,
    mark: Mode,
) -> Result<FileId, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, address.as_str(), flags, Mode::empty())?;
    open_to_all(&file, mark)?;
    listen(socket, BACKLOG)?;
    // Nothing in the directory shows that it listens from now on: watchers look when this is done.
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let _ = utimensat(directory, address.as_str(), &times, AtFlags::SYMLINK_NOFOLLOW);
    Ok(fstat(&file)?.into())
}

/// Undoes the umask on a socket's file, for the directory decides who may connect.
fn open_to_all(file: &OwnedFd, mark: Mode) -> Result<(), Errno> {
    if FileType::from_raw_mode(fstat(file)?.st_mode) != FileType::Socket {
        return Err(Errno::EXIST); // Another user of the directory put something else there.
    }
    // By descriptor, as in a shared directory the name may lead to another file by now.
    match chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(0o666) | mark) {
        Err(Errno::NOENT) => Ok(()), // Without /proc the umask stays in effect; clients of other uids get an error that shows it.
        changed => changed,
    }
}

/// Which file it is, on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl From<Stat> for FileId {
    fn from(stat: Stat) -> Self {
        FileId { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// The file at a name. Symbolic links are not followed.
pub(super) struct FileAt {
    id: FileId,
    pub(super) is_socket: bool,
    mode: Mode,
    /// The uid of its owner.
    owner: u32,
}

impl FileAt {
    fn is(&self, id: FileId) -> bool {
        self.is_socket && self.id == id
    }
}

pub(super) fn file_at(directory: &OwnedFd, address: &Name) -> Result<FileAt, Errno> {
    let stat = statat(directory, address.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
    let (mode, owner) = (Mode::from_raw_mode(stat.st_mode), stat.st_uid);
    Ok(FileAt { is_socket, mode, owner, id: stat.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_sockets_of_the_dead_do_not_pile_up() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = Directory::at(temporary.path());
        let count = || fs::read_dir(temporary.path()).expect("is there").count();
        let alive = directory.listen(&Name::hidden(1)).expect("listens");
        for number in 2..6 {
            // As if it had been killed: its file stays.
            let mut dead = directory.listen(&Name::hidden(number)).expect("listens");
            dead.owner += 1;
            drop(dead);
            assert_eq!(count(), 2);
        }
        assert!(directory.connect(alive.name()).is_ok());
        assert_eq!(directory.names().expect("readable"), [], "nobody sees them");
    }

    #[test]
    fn a_forked_child_gives_nothing_back() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let name = "inventory".parse().expect("is a name");
        let mut listener = Directory::at(temporary.path()).listen(&name).expect("listens");
        let path = listener.path().to_path_buf();
        listener.owner += 1; // As in a forked child: another process bound it.
        drop(listener);
        assert!(path.exists(), "the parent's socket was removed");
    }
}
