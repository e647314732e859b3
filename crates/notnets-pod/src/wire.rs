//! Packets between a process and its agent on a socket, without waiting.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

use super::packet::MAX_PACKET;
use notnets_core::seqpacket;
pub(super) use notnets_core::seqpacket::send;

/// A received packet.
#[derive(Debug)]
pub(super) enum Received {
    /// A packet, perhaps with a descriptor.
    Packet(Vec<u8>, Option<OwnedFd>),
    /// The other end is closed.
    Closed,
    /// Nothing now.
    Nothing,
}

/// Receives the next packet. One that is too long is taken for the end.
pub(super) fn receive(socket: impl AsFd) -> Received {
    let mut bytes = [0; MAX_PACKET];
    match seqpacket::receive(socket, &mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Nothing,
        Ok(received) if received.bytes > 0 && !received.truncated => {
            Received::Packet(bytes[..received.bytes].to_vec(), received.descriptor)
        }
        Err(_) | Ok(_) => Received::Closed,
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn what_was_sent_before_the_end_is_heard_also_of_one_who_did_not_listen() {
        let (peer, own) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        assert!(matches!(receive(&own), Received::Nothing));
        send(&own, b"unread", None).unwrap();
        send(&peer, b"first", None).unwrap();
        send(&peer, b"last", None).unwrap();
        drop(peer);
        for expected in [b"first".as_slice(), b"last"] {
            let Received::Packet(bytes, None) = receive(&own) else { panic!("no packet") };
            assert_eq!(bytes, expected);
        }
        assert!(matches!(receive(&own), Received::Closed));
        assert!(matches!(receive(&own), Received::Closed));
    }
}
