//! Packets, descriptors and doorbells on a link's socket. Nothing here waits: what can't be done now
//! is `WouldBlock`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::packet::{BadPacket, DOORBELL, MAX_PACKET, Packet};
use crate::seqpacket;

/// A connected `SOCK_SEQPACKET` Unix socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

/// A packet or event from the socket.
#[derive(Debug)]
pub enum Incoming {
    /// A packet, perhaps with a descriptor.
    Packet(Packet, Option<OwnedFd>),
    /// The peer's end is closed everywhere.
    Closed,
    /// The peer sent a malformed packet.
    Bad(BadPacket),
}

impl From<OwnedFd> for Socket {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// Rings the peer. That the socket is full means that it has been rung already, and that it is
    /// closed is noticed when reading from it.
    pub fn ring(&self) {
        let _ = send(&self.0, &DOORBELL, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Ends the connection for both sides, whoever still holds this socket.
    pub fn shut_down(&self) {
        // It fails when the peer is gone, and then nothing is left to end.
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// Sends a packet, perhaps with a descriptor.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room now; others when the peer is gone.
    pub fn send(&self, packet: &Packet, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        seqpacket::send(&self.0, &packet.encode(), descriptor)
    }

    /// Receives the next packet. Descriptors beyond the first are closed.
    ///
    /// # Errors
    /// `WouldBlock` when no packet waits; others when the socket is broken, among them `EMFILE`-like
    /// conditions that show as a packet without its descriptor.
    pub fn receive(&self) -> io::Result<Incoming> {
        self.receive_into(&mut [0; MAX_PACKET])
    }

    /// Receives the next packet as [`receive`](Self::receive) does, by way of a buffer that is kept.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_into(&self, bytes: &mut [u8; MAX_PACKET]) -> io::Result<Incoming> {
        let received = seqpacket::receive(&self.0, bytes)?;
        if received.bytes == 0 {
            return Ok(Incoming::Closed);
        }
        if received.truncated {
            return Ok(Incoming::Bad(BadPacket::Length));
        }
        Ok(match Packet::decode(&bytes[..received.bytes]) {
            Ok(packet) => Incoming::Packet(packet, received.descriptor),
            Err(bad) => Incoming::Bad(bad),
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;
    use crate::link::packet::Refusal;

    fn pair() -> (Socket, Socket) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (a.into(), b.into())
    }

    #[test]
    fn packets_bring_descriptors() {
        let (a, b) = pair();
        a.send(&Packet::Accept { segment: 3 }, Some(a.as_fd())).unwrap();
        let Incoming::Packet(Packet::Accept { segment: 3 }, Some(_)) = b.receive().unwrap() else { panic!() };
        assert_eq!(b.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_connection_that_is_shut_down_is_closed_while_its_socket_is_held() {
        let (a, b) = pair();
        a.ring();
        a.shut_down();
        assert!(matches!(b.receive(), Ok(Incoming::Packet(Packet::Doorbell, None))));
        assert!(matches!(b.receive(), Ok(Incoming::Closed)));
        assert!(matches!(a.receive(), Ok(Incoming::Closed)));
        a.shut_down();
    }

    #[test]
    fn what_was_said_last_is_heard_also_of_one_who_did_not_listen() {
        let (a, b) = pair();
        b.ring();
        let text = || "the server shuts down".to_owned();
        a.send(&Packet::Refused { reason: Refusal::ShuttingDown, text: text() }, None).unwrap();
        drop(a);
        let Incoming::Packet(Packet::Refused { text: why, .. }, None) = b.receive().unwrap() else {
            panic!()
        };
        assert_eq!(why, text());
        assert!(matches!(b.receive(), Ok(Incoming::Closed)));
    }

    #[test]
    fn ringing_never_waits_or_fails() {
        let (a, b) = pair();
        for _ in 0..100_000 {
            a.ring();
        }
        let mut rung = 0;
        while let Ok(Incoming::Packet(Packet::Doorbell, None)) = b.receive() {
            rung += 1;
        }
        assert!(rung > 0);
        drop(b);
        a.ring();
        assert!(matches!(a.receive(), Ok(Incoming::Closed)));
    }

    #[test]
    fn what_is_no_packet_is_told_apart() {
        let (a, b) = pair();
        send(&a, &[99], SendFlags::empty()).unwrap();
        assert!(matches!(b.receive(), Ok(Incoming::Bad(BadPacket::Kind(99)))));
        send(&a, &[0; MAX_PACKET + 1], SendFlags::empty()).unwrap();
        assert!(matches!(b.receive(), Ok(Incoming::Bad(BadPacket::Length))));
    }
}
