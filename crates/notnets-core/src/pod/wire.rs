//! Packets between a process and its agent on a socket, without waiting.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::packet::MAX_PACKET;

/// What came.
#[derive(Debug)]
pub(super) enum Came {
    /// A packet, perhaps with a descriptor.
    Packet(Vec<u8>, Option<OwnedFd>),
    /// The other end is closed.
    Closed,
    /// Nothing now.
    Nothing,
}

/// Sends a packet.
///
/// # Errors
/// `WouldBlock` when there is no room now; others when the peer is gone.
pub(super) fn send(socket: impl AsFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the next packet. One that is too long is taken for the end.
pub(super) fn receive(socket: impl AsFd) -> Came {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; MAX_PACKET];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            // A peer that closed without reading all is said to have reset, once, before what it sent last.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            Err(Errno::AGAIN) => return Came::Nothing,
            Err(_) => return Came::Closed,
            Ok(received) => break received,
        }
    };
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.flatten().fold(None, |first, next| first.or(Some(next)));
    if received.bytes == 0 || received.flags.contains(ReturnFlags::TRUNC) {
        return Came::Closed;
    }
    Came::Packet(bytes[..received.bytes].to_vec(), descriptor)
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn what_was_sent_before_the_end_is_heard_also_of_one_who_did_not_listen() {
        let (peer, own) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        assert!(matches!(receive(&own), Came::Nothing));
        send(&own, b"unread", None).unwrap();
        send(&peer, b"first", None).unwrap();
        send(&peer, b"last", None).unwrap();
        drop(peer);
        for expected in [b"first".as_slice(), b"last"] {
            let Came::Packet(bytes, None) = receive(&own) else { panic!("no packet") };
            assert_eq!(bytes, expected);
        }
        assert!(matches!(receive(&own), Came::Closed));
        assert!(matches!(receive(&own), Came::Closed));
    }
}
