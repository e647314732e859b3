//! Sockets that were opened for this process before it was started, as systemd does: `sd_listen_fds(3)`.
//!
//! They are taken here and not by a crate for that: those hand out numbers, and to own what a number stands
//! for is `unsafe`.

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process;
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};

/// The first of them; those before are for input, output and errors.
const FIRST: RawFd = 3;
/// The most that are believed in.
const MAX: usize = 1024;

/// A socket that was opened for this process.
#[derive(Debug)]
pub struct Passed {
    /// The socket. It is not inherited.
    pub socket: OwnedFd,
    /// What it is called (`FileDescriptorName=`); may be empty.
    pub name: String,
}

/// What connects to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Links: a Unix socket with message boundaries (`ListenSequentialPacket=`).
    Packets,
    /// Streams of bytes over a Unix socket (`ListenStream=` with a path).
    UnixStreams,
    /// Streams of bytes over TCP (`ListenStream=` with a port).
    TcpStreams,
    /// Something else.
    Other,
}

impl Passed {
    /// Returns what connects to it.
    ///
    /// # Errors
    /// When it is no socket.
    pub fn kind(&self) -> io::Result<Kind> {
        let family = getsockname(&self.socket)?.address_family();
        Ok(match (family, sockopt::socket_type(&self.socket)?) {
            (AddressFamily::UNIX, SocketType::SEQPACKET) => Kind::Packets,
            (AddressFamily::UNIX, SocketType::STREAM) => Kind::UnixStreams,
            (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => Kind::TcpStreams,
            _ => Kind::Other,
        })
    }
}

/// Takes the sockets with this name, or all, that were opened for this process and not taken yet.
///
/// # Errors
/// When the environment tells of descriptors that are not open.
pub fn take_passed(name: Option<&str>) -> io::Result<Vec<Passed>> {
    /// Those that were not taken; `None` before the first look.
    static LEFT: Mutex<Option<Vec<Passed>>> = Mutex::new(None);
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let all = match left.take() {
        Some(all) => all,
        None => own_all()?,
    };
    let (wanted, others) = all.into_iter().partition(|passed| name.is_none_or(|name| passed.name == name));
    *left = Some(others);
    Ok(wanted)
}

/// Takes all of them. Called once.
fn own_all() -> io::Result<Vec<Passed>> {
    let names = names(|key| env::var(key).ok(), process::id());
    let mut all = Vec::with_capacity(names.len());
    for (name, fd) in names.into_iter().zip(FIRST..) {
        // SAFETY: only asked whether it is open; if it is not, nothing else is done with it.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl_getfd(borrowed)?;
        // SAFETY: it is open, and the environment says that it was passed to this process, and not to a
        // parent from which the variables were inherited. Such a descriptor belongs to whoever takes it by
        // this protocol, and nobody does so twice: this is called once.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        fcntl_setfd(socket.as_fd(), FdFlags::CLOEXEC)?;
        all.push(Passed { socket, name });
    }
    Ok(all)
}

/// Returns the names of the descriptors that were passed to the process `pid`.
fn names(get: impl Fn(&str) -> Option<String>, pid: u32) -> Vec<String> {
    let is_ours = get("LISTEN_PID").is_some_and(|of| of.parse() == Ok(pid));
    let number = get("LISTEN_FDS").filter(|_| is_ours).and_then(|number| number.parse::<usize>().ok());
    let names = get("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    names.take(number.unwrap_or(0).min(MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Vec<String> {
        let get = |key: &str| {
            let found = variables.iter().find(|(known, _)| *known == key);
            found.map(|(_, value)| (*value).to_owned())
        };
        names(get, 7)
    }

    #[test]
    fn descriptors_are_those_of_this_process() {
        assert_eq!(of(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2")]), ["", ""]);
        let named = [("LISTEN_PID", "7"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "a:b")];
        assert_eq!(of(&named), ["a", "b", ""]);
        let none = Vec::<String>::new();
        assert_eq!(of(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "2")]), none);
        assert_eq!(of(&[("LISTEN_FDS", "2")]), none);
        assert_eq!(of(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-2")]), none);
        assert_eq!(of(&[("LISTEN_PID", "x"), ("LISTEN_FDS", "2")]), none);
    }

    #[test]
    fn the_kind_of_a_socket_says_what_connects_to_it() {
        let passed = |socket: OwnedFd| Passed { socket, name: String::new() };
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(passed(tcp.into()).kind().unwrap(), Kind::TcpStreams);
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(passed(udp.into()).kind().unwrap(), Kind::Other);
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(passed(stream.into()).kind().unwrap(), Kind::UnixStreams);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(passed(file.into()).kind().is_err());
    }
}
