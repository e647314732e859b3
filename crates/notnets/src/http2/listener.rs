//! Listening on a TCP address or on a Unix socket.
//!
//! A Unix socket is a file, and files outlive their process. One that a killed
//! process left is found dead (no process accepts on it) and replaced; one that is
//! alive is an error. Looking, unlinking and binding happen under a lock on the
//! directory, so that two processes that start at once cannot take each other's
//! socket away. Dropping the listener removes the file if it is still its own.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notnets_memory::process::{PeerCredentials, peer_credentials};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::net::{TcpListener, UnixListener};

use super::authority::LocalAuthority;
use super::pings::KeepAlive;
use super::{Address, Stream, liveness};
use crate::tls::Shown;

/// How long the lock on a directory is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
/// The longest path of a Unix socket, without the final zero.
const MAX_SOCKET_PATH: usize = 107;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A bound address, which no runtime watches yet: connections can be made to it from now on.
#[derive(Debug)]
pub enum Socket {
    /// A TCP port.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// Who may use the file of a Unix socket: who may write it may connect. What is `None` stays as it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAccess {
    /// Its mode.
    pub mode: Option<u32>,
    /// Its owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
}

impl FileAccess {
    fn apply(self, path: &Path) -> io::Result<()> {
        let of_file = |what: &str, error: io::Error| {
            io::Error::new(error.kind(), format!("could not set the {what} of its file: {error}"))
        };
        if self.uid.is_some() || self.gid.is_some() {
            std::os::unix::fs::chown(path, self.uid, self.gid).map_err(|error| of_file("owner", error))?;
        }
        // After that, for the owner may change the mode.
        if let Some(mode) = self.mode {
            let mode = Permissions::from_mode(mode);
            fs::set_permissions(path, mode).map_err(|error| of_file("mode", error))?;
        }
        Ok(())
    }
}

impl Socket {
    /// Binds `address`; port 0 takes a free port. A port that `is_shared` may be bound by other processes of
    /// the user that share it, too: each gets some of the connections. May wait for the system to look up a
    /// host.
    ///
    /// # Errors
    /// When the address is in use or cannot be bound.
    pub fn bind(address: &Address, is_shared: bool) -> io::Result<Self> {
        Self::bind_with(address, is_shared, FileAccess::default())
    }

    /// The same; of a Unix socket the file is such that those may use it.
    ///
    /// # Errors
    /// When the address is in use or cannot be bound.
    pub fn bind_with(address: &Address, is_shared: bool, access: FileAccess) -> io::Result<Self> {
        let Some(host_and_port) = address.host_and_port() else {
            return if let Address::Unix(path) = address {
                bind_unix(path, access)
            } else {
                Err(not_available())
            };
        };
        let mut last = not_available();
        for address in host_and_port.to_socket_addrs()? {
            match bind_tcp(address, is_shared) {
                Ok(bound) => return Ok(Self::Tcp(bound.into())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A TCP port that was bound by another process.
    ///
    /// # Errors
    /// When it can't be used here.
    pub fn of_passed_tcp(socket: OwnedFd) -> io::Result<Self> {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(listener))
    }

    /// A Unix socket that was bound by another process, to which its file belongs.
    ///
    /// # Errors
    /// When it can't be used here.
    pub fn of_passed_unix(socket: OwnedFd) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        let path = listener.local_addr()?.as_pathname().map(PathBuf::from).unwrap_or_default();
        Ok(Self::Unix(listener, SocketFile { path, identity: None }))
    }

    /// The address that was bound, with its real port.
    ///
    /// # Errors
    /// When the system does not know it.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| format!("http://{address}")),
            Self::Unix(_, file) => Ok(format!("unix:{}", file.path.display())),
        }
    }

    /// Has it watched by the present runtime.
    ///
    /// # Errors
    /// When that can't watch it.
    pub fn listen(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
            Self::Unix(listener, file) => {
                UnixListener::from_std(listener).map(|listener| Listener::Unix { listener, _file: file })
            }
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Over TCP.
    Tcp {
        /// This end.
        local: SocketAddr,
        /// The client's end.
        remote: SocketAddr,
    },
    /// Over TCP by TLS.
    Tls {
        /// This end.
        local: SocketAddr,
        /// The client's end.
        remote: SocketAddr,
        /// What the client has shown of itself.
        shown: Shown,
    },
    /// Over a Unix socket, from this process.
    Unix(PeerCredentials),
}

impl Origin {
    /// The same by TLS. That is there over TCP only.
    pub(super) fn by_tls(self, shown: Shown) -> Self {
        match self {
            Self::Tcp { local, remote } => Self::Tls { local, remote, shown },
            other => other,
        }
    }
}

/// A bound address; connections can be made to it from now on.
pub enum Listener {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Removed when nobody listens any more.
        _file: SocketFile,
    },
}

impl Listener {
    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub async fn accept(&self, keep_alive: KeepAlive) -> io::Result<(Box<dyn Stream>, Origin)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                liveness::set(&stream, keep_alive)?;
                let local = stream.local_addr()?;
                Ok((Box::new(stream), Origin::Tcp { local, remote }))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let origin = Origin::Unix(peer_credentials(&stream)?);
                Ok((Box::new(LocalAuthority::new(stream)), origin))
            }
        }
    }
}

fn not_available() -> io::Error {
    io::ErrorKind::AddrNotAvailable.into()
}

fn bind_tcp(address: SocketAddr, is_shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    set_socket_reuseaddr(&socket, true)?;
    if is_shared {
        set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The file of a Unix socket; removed on drop if this process has bound it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// `None` for one that another process has bound.
    identity: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Some(bound) = self.identity else { return };
        let Ok(_lock) = lock_directory(&self.path) else { return };
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == bound);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

fn bind_unix(path: &Path, access: FileAccess) -> io::Result<Socket> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let sentence = format!(
            "the path has {length} bytes and a Unix socket's may have {MAX_SOCKET_PATH}: use a shorter one"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    }
    let _lock = lock_directory(path)?;
    remove_dead(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let identity = Some(identity(&fs::symlink_metadata(path)?));
    let file = SocketFile { path: path.to_owned(), identity };
    // Nobody can connect before it listens.
    access.apply(path)?;
    listen(&socket, BACKLOG)?;
    Ok(Socket::Unix(socket.into(), file))
}

/// Removes the socket that a dead process left at `path`, if there is one.
fn remove_dead(path: &Path) -> io::Result<()> {
    let in_the_way = |what: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, what.to_owned()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return in_the_way("there is a file of that name which is not a socket: use another path");
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => in_the_way("another process is listening there: stop it or use another path"),
        Err(error) => Err(error),
    }
}

/// Holds the lock on the directory of `path` until the file is dropped. Whoever can read the directory can
/// lock it, so it is not waited for longer than those hold it that bind there.
fn lock_directory(path: &Path) -> io::Result<File> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = File::open(directory)?;
    let begin = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) if begin.elapsed() < PATIENCE => std::thread::sleep(PATIENCE / 100),
            Ok(()) | Err(Errno::AGAIN) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
