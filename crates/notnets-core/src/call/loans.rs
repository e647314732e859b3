//! Blocks that the application fills itself, so that sending what is in them copies nothing.
//!
//! A loan is made before it is known for which call. Sending recognises it by its address, in pieces of a
//! message of 16 KiB and more. Each block goes as a frame of data of its own, once; after that, and over any
//! other link, its bytes are copied as all others are. Half of a segment's blocks are loaned at most: the
//! other half keeps the link going. Where sending had to wait before the last few bytes of a loan, these are
//! copied: less than 16 KiB are not looked at.

use std::collections::BTreeMap;

use notnets_memory::arena::InPlace;
use notnets_memory::{LoanedBytes, ReadMemory, Run, WriteMemory};

use super::Connection;
use super::outbound::LARGEST;
use super::payloads::PayloadKind;
use crate::frame::Payload;
use crate::limits::charge;

/// Loans of fewer bytes are private memory: to copy them costs less than to look for them.
pub const LEAST_LOANED: usize = 16 << 10;

/// The loans of a link that something refers to, by the addresses of their first bytes.
#[derive(Debug, Default)]
pub(super) struct Loans(BTreeMap<usize, Run>);

/// A part of a loan that can be sent where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoanedPiece {
    /// The loan's first address.
    start: usize,
    pub place: InPlace,
}

impl LoanedPiece {
    pub fn len(&self) -> usize {
        self.place.length as usize
    }
}

/// What is known of bytes that are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// They don't lie in a loan, or in one that may still change.
    Elsewhere,
    /// So many of them lie in a block that was sent before.
    Sent(usize),
    Loaned(LoanedPiece),
}

impl Loans {
    /// Looks where these bytes begin.
    pub fn find(&self, bytes: &[u8]) -> Found {
        let Some((start, run)) = self.0.range(..=bytes.as_ptr() as usize).next_back() else {
            return Found::Elsewhere;
        };
        match run.find(bytes) {
            None => Found::Elsewhere,
            Some(place) if run.is_sent(place.block) => Found::Sent(place.length as usize),
            Some(place) => Found::Loaned(LoanedPiece { start: *start, place }),
        }
    }
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Bytes to be written where they are sent from. Where there is no room for so many in one piece, they
    /// are private memory, and more blocks are asked for, for the next. So they are between hosts, below 16
    /// KiB, and for a peer with a window that is filled by two blocks.
    pub fn loan(&mut self, bytes: usize) -> LoanedBytes {
        let window = self.peer.stream_window.min(self.peer.link_window) as usize;
        let fits = bytes >= LEAST_LOANED && window >= 2 * LARGEST.bytes as usize;
        if !fits || self.detached || self.lanes.is_silent() {
            return LoanedBytes::private(bytes);
        }
        let Some(returns) = self.lending.returns().cloned() else { return LoanedBytes::private(bytes) };
        self.tell_returns();
        match self.lanes.arena().loan_run(bytes, LEAST_LOANED, &returns) {
            Some((run, loan)) => {
                self.loans.0.insert(run.start(), run);
                loan
            }
            None => {
                if self.may_grow && self.wants_segment.is_none() {
                    self.wants_segment = Some(LARGEST);
                }
                LoanedBytes::private(bytes)
            }
        }
    }

    /// How many loans there are that something refers to.
    pub fn loans(&self) -> usize {
        self.loans.0.len()
    }

    /// Nothing refers to a loan any more.
    pub(super) fn end_loan(&mut self, start: usize) {
        if let Some(run) = self.loans.0.remove(&start) {
            self.lanes.arena().end_run(run);
        }
    }

    /// Lends a part of a loan to the peer, as it is. Returns what it costs.
    pub(super) fn commit_loaned(&mut self, piece: LoanedPiece) -> Option<(Payload, u64)> {
        let run = self.loans.0.get_mut(&piece.start)?;
        let reference = self.lanes.arena().commit_in_place(run, piece.place)?;
        self.count_payload(PayloadKind::SentLoaned, piece.len());
        Some((Payload::Reference(reference), charge(piece.len())))
    }
}
