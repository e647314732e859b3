//! Bytes and descriptors on a `SOCK_SEQPACKET` Unix socket, without waiting.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Sends a packet, perhaps with a descriptor.
///
/// # Errors
/// `WouldBlock` when there is no room now; `BrokenPipe` when the peer is gone, whether or not it had read
/// all.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
            // After a peer closed without reading all, the kernel reports a reset, once.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// A packet that came.
#[derive(Debug)]
pub struct Received {
    /// How long it is. 0: the other end is closed.
    pub bytes: usize,
    /// It was longer than there was room for.
    pub truncated: bool,
    /// The first that came with it; others are closed.
    pub descriptor: Option<OwnedFd>,
}

/// Receives the next packet.
///
/// # Errors
/// `WouldBlock` when no packet waits; others when the socket is broken.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags) {
            // After a peer closed without reading all, the kernel reports a reset, once, before its last
            // packets.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.flatten().fold(None, |first, next| first.or(Some(next)));
    Ok(Received { bytes: received.bytes, truncated: received.flags.contains(ReturnFlags::TRUNC), descriptor })
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn a_peer_that_closed_is_gone_whether_or_not_it_had_read_all() {
        for unread in [false, true] {
            let (peer, own) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            if unread {
                send(&own, b"unread", None).unwrap();
            }
            drop(peer);
            for _ in 0..2 {
                let error = send(&own, b"more", None).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "unread: {unread}");
            }
            assert_eq!(receive(&own, &mut [0; 8]).unwrap().bytes, 0);
        }
    }
}
