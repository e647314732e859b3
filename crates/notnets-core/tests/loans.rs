//! Payloads that are written where they are sent from: two connections over mapped memory.

mod mapped;

use bytes::{BufMut, Bytes};
use mapped::{BLOCK, Ends, message};
use notnets_core::call::{LEAST_LOANED, PayloadKind, Sent, Tally};
use notnets_core::limits::Limits;
use notnets_memory::LoanedBytes;

/// The client has this number of large blocks.
fn ends(blocks: u32) -> Ends {
    Ends::new(blocks, Limits::default())
}

fn sent(ends: &Ends, kind: PayloadKind) -> Tally {
    ends.client.payloads().of(kind)
}

fn filled(mut loan: LoanedBytes, bytes: &[u8]) -> Bytes {
    loan.put_slice(bytes);
    loan.freeze()
}

fn tally(frames: u64, bytes: usize) -> Tally {
    Tally { frames, bytes: bytes as u64 }
}

#[test]
fn what_is_written_in_place_is_not_copied() {
    // Whole blocks, and a little in the last.
    for len in [LEAST_LOANED, BLOCK, 2 * BLOCK + 100, 4 * BLOCK + LEAST_LOANED, 8 * BLOCK - 1] {
        let mut ends = ends(16);
        let bytes = message(len);
        let loan = ends.client.loan(len);
        assert!(loan.is_in_place() && loan.is_empty() && loan.capacity() == len);
        let mut data = filled(loan, &bytes);
        let kept = data.clone();
        let stream = ends.open(&mut data);
        let came = ends.send(stream, data).concat();
        assert!(came == bytes && kept == bytes, "{len} bytes");
        let blocks = len.div_ceil(BLOCK) as u64;
        let counts: Vec<_> = ends.client.payloads().present().collect();
        assert_eq!(counts, [(PayloadKind::SentLoaned, tally(blocks, len))]);
        // The peer has released them, but they can still be read here.
        assert_eq!((ends.lent(), ends.client.loans()), (0, 1));
        drop(kept);
        ends.drive();
        ends.client.tell_returns();
        assert_eq!(ends.client.loans(), 0);
        assert!(ends.client.loan(8 * BLOCK).is_in_place(), "all blocks are back");
    }
}

#[test]
fn a_block_is_used_again_once_both_sides_are_done_with_it() {
    let mut ends = ends(2);
    let stream = ends.open(&mut Bytes::new());
    let mut data = filled(ends.client.loan(BLOCK), &message(BLOCK));
    assert_eq!(ends.client.send(stream, &mut data, false), Sent::All);
    drop(data);
    ends.client.tell_returns();
    assert_eq!((ends.client.loans(), ends.lent()), (0, 1), "the peer has it");
    let came = ends.take(stream);
    assert_eq!(ends.lent(), 0);
    assert!(came.concat() == message(BLOCK));
}

/// One loan can be sent as often as anything else: from the second time on it is copied.
#[test]
fn it_goes_as_it_is_once() {
    let mut ends = ends(8);
    let stream = ends.open(&mut Bytes::new());
    let data = filled(ends.client.loan(2 * BLOCK), &message(2 * BLOCK));
    for _ in 0..3 {
        assert!(ends.send(stream, data.clone()).concat() == message(2 * BLOCK));
    }
    let counts: Vec<_> = ends.client.payloads().present().collect();
    let expected =
        [(PayloadKind::SentLoaned, tally(2, 2 * BLOCK)), (PayloadKind::SentRepeated, tally(4, 4 * BLOCK))];
    assert_eq!(counts, expected);
    // Parts of it, in whatever order.
    let data = filled(ends.client.loan(2 * BLOCK), &message(2 * BLOCK));
    for part in [BLOCK + 100..BLOCK + 30_000, 5..20_000, 0..2 * BLOCK] {
        assert!(ends.send(stream, data.slice(part.clone())).concat() == message(2 * BLOCK)[part]);
    }
    assert_eq!(sent(&ends, PayloadKind::SentLoaned).frames, 4);
}

#[test]
fn what_may_still_change_is_copied() {
    let mut ends = ends(8);
    let stream = ends.open(&mut Bytes::new());
    let mut loan = ends.client.loan(BLOCK);
    loan.resize(BLOCK, 1);
    let mut data: &[u8] = &loan;
    assert_eq!(ends.client.send(stream, &mut data, false), Sent::All);
    loan.fill(2);
    assert!(ends.take(stream).concat() == vec![1; BLOCK]);
    assert_eq!(sent(&ends, PayloadKind::SentLoaned), Tally::default());
}

#[test]
fn a_loan_that_is_dropped_gives_its_blocks_back() {
    let mut ends = ends(4);
    for _ in 0..10 {
        let loan = ends.client.loan(2 * BLOCK);
        assert!(loan.is_in_place());
        std::thread::spawn(move || drop(loan)).join().unwrap();
    }
    let unsent = filled(ends.client.loan(2 * BLOCK), &message(100));
    assert!(!ends.client.loan(BLOCK).is_in_place(), "half of the blocks are loaned");
    drop(unsent);
    assert!(ends.client.loan(BLOCK).is_in_place());
    assert_eq!(ends.lent(), 0);
}

/// Loans that are held for ever leave the link what it needs.
#[test]
fn half_of_the_blocks_are_loaned_at_most() {
    let mut ends = ends(6);
    let held: Vec<LoanedBytes> = (0..5).map(|_| ends.client.loan(BLOCK)).collect();
    assert_eq!(held.iter().filter(|loan| loan.is_in_place()).count(), 3);
    assert!(ends.client.wants_segment(), "more blocks are asked for");
    let stream = ends.open(&mut Bytes::new());
    for _ in 0..10 {
        assert!(ends.send(stream, &message(BLOCK)[..]).concat() == message(BLOCK));
    }
    assert_eq!(sent(&ends, PayloadKind::SentPrivate).bytes, 10 * BLOCK as u64);
}

#[test]
fn a_small_window_is_filled_with_copies() {
    let limits = Limits::default().with_stream_window(BLOCK as u32);
    let mut ends = Ends::new(8, limits);
    let loan = ends.client.loan(BLOCK);
    assert!(!loan.is_in_place(), "a block would need all of the credit");
    let stream = ends.open(&mut Bytes::new());
    assert!(ends.send(stream, filled(loan, &message(BLOCK))).concat() == message(BLOCK));
}

/// What is left of a loan can be read when its link is gone, and is nothing special to another.
#[test]
fn a_loan_outlives_its_link() {
    let (mut first, mut second) = (ends(8), ends(8));
    let mut unfinished = first.client.loan(BLOCK);
    let data = filled(first.client.loan(2 * BLOCK), &message(2 * BLOCK));
    drop(first);
    unfinished.put_slice(b"still there");
    assert_eq!(&*unfinished, b"still there");
    let stream = second.open(&mut Bytes::new());
    assert!(second.send(stream, data).concat() == message(2 * BLOCK));
    let counts: Vec<_> = second.client.payloads().present().collect();
    assert_eq!(counts, [(PayloadKind::SentPrivate, tally(2, 2 * BLOCK))]);
}

/// A segment can't be taken out while anything refers to a loan of it, and another that is does not matter.
#[test]
fn segments_may_come_and_go_beside_a_loan() {
    let mut ends = ends(4);
    let data = filled(ends.client.loan(BLOCK), &message(BLOCK));
    assert!(ends.client.lanes().arena().remove(0).is_some(), "the small blocks");
    assert!(ends.client.lanes().arena().remove(1).is_none());
    let stream = ends.open(&mut Bytes::new());
    assert!(ends.send(stream, data).concat() == message(BLOCK));
    assert_eq!(sent(&ends, PayloadKind::SentLoaned), tally(1, BLOCK));
    ends.client.tell_returns();
    assert!(ends.client.lanes().arena().remove(1).is_some());
}
