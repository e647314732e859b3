//! Payloads of a trusted peer, which are read where they are: two connections over mapped memory.

mod mapped;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use bytes::{Buf, Bytes};
use mapped::{BLOCK, Ends, message};
use notnets_core::call::{PayloadKind, Received};
use notnets_core::limits::Limits;
use notnets_memory::TrustPeerMemory;

/// The client has this number of large blocks.
fn ends(blocks: u32, trusts: bool) -> Ends {
    let mut ends = Ends::new(blocks, Limits::default());
    if trusts {
        // SAFETY: the peer is this test, which writes to no block that is lent, and nothing forks.
        ends.server.trust_peer_memory(unsafe { TrustPeerMemory::new() });
    }
    ends
}

fn came(ends: &Ends, kind: PayloadKind) -> u64 {
    ends.server.payloads().of(kind).frames
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_block_is_held_until_its_last_bytes_are_dropped() {
    let mut ends = ends(4, true);
    let woken = Arc::<Woken>::default();
    ends.server.wake_for_returns(&Waker::from(Arc::clone(&woken)));
    let stream = ends.open(&mut Bytes::new());
    let sent = message(40 << 10);
    let came = ends.send(stream, &sent[..]).remove(0);
    assert!(came == sent);
    let part = came.slice(100..200);
    drop(came);
    ends.drive();
    assert_eq!((ends.lent(), woken.0.load(Ordering::Relaxed)), (1, 0));
    std::thread::spawn(move || assert_eq!(part, message(200)[100..])).join().unwrap();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "whoever drives the link is told, on whatever thread");
    ends.server.lanes().bell_is_due();
    ends.client.lanes().arm_space();
    ends.server.tell_returns();
    assert!(ends.server.lanes().bell_is_due(), "a peer that waits for the block is rung");
    assert_eq!(ends.lent(), 0);
}

#[test]
fn half_of_the_blocks_are_held_and_the_rest_is_copied() {
    let mut ends = ends(6, true);
    let stream = ends.open(&mut Bytes::new());
    let sent = message(30 << 10);
    let held: Vec<Bytes> = (0..50).flat_map(|_| ends.send(stream, &sent[..])).collect();
    assert!(held.concat() == sent.repeat(50));
    assert_eq!(ends.lent(), 3);
    assert_eq!(came(&ends, PayloadKind::ReceivedLent), 3);
    assert_eq!(came(&ends, PayloadKind::ReceivedOverShare), 47);
    drop(held);
    ends.send(stream, &sent[..]);
    ends.send(stream, &sent[..]);
    assert!(came(&ends, PayloadKind::ReceivedLent) > 3, "there is room again");
}

#[test]
fn without_trust_and_below_16_kib_nothing_is_held() {
    for (trusts, len) in [(false, 60 << 10), (true, (16 << 10) - 1)] {
        let mut ends = ends(6, trusts);
        let stream = ends.open(&mut Bytes::new());
        let held: Vec<Bytes> = (0..50).flat_map(|_| ends.send(stream, &message(len)[..])).collect();
        assert!(held.concat() == message(len).repeat(50));
        assert_eq!(ends.lent(), 0);
        assert_eq!(came(&ends, PayloadKind::ReceivedLent), 0);
        let untrusted = if trusts { 0 } else { 50 };
        assert_eq!(came(&ends, PayloadKind::ReceivedUntrusted), untrusted);
    }
}

/// The blocks of a large message that lie one behind the other are one piece.
#[test]
fn a_message_is_gathered_where_it_is() {
    for (blocks, in_place) in [(16, true), (6, false)] {
        let mut ends = ends(blocks, true);
        let stream = ends.open(&mut Bytes::new());
        let sent = message(4 * BLOCK);
        let mut data = &sent[..];
        ends.client.send(stream, &mut data, false);
        ends.drive();
        let Received::Data(first) = ends.server.take(stream) else { panic!("nothing came") };
        ends.server.gather(stream, first, sent.len()).unwrap();
        while data.has_remaining() {
            ends.client.send(stream, &mut data, false);
            ends.drive();
        }
        let came = ends.take(stream);
        assert!(came.concat() == sent);
        assert_eq!(came.len(), 1, "it is one piece");
        ends.server.tell_returns();
        assert_eq!(ends.lent(), if in_place { 4 } else { 0 });
        drop(came);
        ends.server.tell_returns();
        assert_eq!(ends.lent(), 0);
    }
}

/// Views are of memory that stays mapped for as long as they live.
#[test]
fn views_outlive_the_link() {
    let mut ends = ends(6, true);
    let stream = ends.open(&mut Bytes::new());
    let sent = message(60 << 10);
    let came = ends.send(stream, &sent[..]);
    drop(ends);
    assert!(came.concat() == sent);
    drop(came);
}
