//! A cache line over and back: each side writes one word of its own segment and watches the other's.

use std::hint::spin_loop;
use std::os::fd::AsFd;

use notnets_core::link::packet::Packet;
use notnets_core::link::socket::{Incoming, Socket};
use notnets_memory::{LINE, OwnMemory, OwnSegment, PAGE, PeerMemory, PeerSegment, ReadMemory, WriteMemory};

use super::super::control::Load;
use super::super::recorder::Sample;
use super::{BATCH, receive};
use crate::Result;

/// The last word.
const END: u64 = u64::MAX;

/// Gives each number back until the last.
pub fn echo(client: &Socket) -> Result {
    let (own, peer) = share(client)?;
    let mut seen = 0;
    while seen != END {
        let word = peer.load_acquire(0);
        if word == seen {
            spin_loop();
            continue;
        }
        seen = word;
        own.store_release(0, word);
    }
    Ok(())
}

/// Counts up, and waits for each number to come back.
pub fn measure(load: &Load, server: &Socket) -> Result<Sample> {
    let (own, peer) = share(server)?;
    let mut count = 0;
    let sample = super::measure(load, BATCH, || {
        count += 1;
        own.store_release(0, count);
        while peer.load_acquire(0) != count {
            spin_loop();
        }
        Ok(())
    });
    own.store_release(0, END);
    sample
}

/// A segment of our own, and the one that the other side offers.
fn share(socket: &Socket) -> Result<(OwnMemory, PeerMemory)> {
    let mut segment = OwnSegment::create(PAGE)?;
    socket.send(&Packet::Accept { segment: 0 }, Some(segment.descriptor()))?;
    let Incoming::Packet(_, Some(descriptor)) = receive(socket)? else {
        return Err("no segment came".into());
    };
    let peer = PeerSegment::map(descriptor.as_fd(), PAGE as u64)?;
    Ok((segment.carve(LINE), peer.part(0, LINE).ok_or("a segment without a line")?))
}
