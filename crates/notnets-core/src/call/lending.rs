//! Payloads of a trusted peer, which are read where they are.
//!
//! Without trust each payload is copied out of its block when its descriptor is taken. With
//! [`TrustPeerMemory`] those of 16 KiB and more are views of their blocks, until half of a segment's blocks
//! are held by them: the other half keeps the peer going, and what comes in it is copied. What is let go of,
//! on any thread, goes back to the peer with the link's next turn, for which the driver of the link is woken.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use notnets_memory::{ReadMemory, Reference, Returned, Returns, TrustPeerMemory, WriteMemory};

use super::Connection;
use super::payloads::PayloadKind;

/// Payloads of which fewer bytes came are copied: to hold a block costs an allocation and a wake-up.
pub const LEAST_LENT: usize = 16 << 10;

/// What is let go of is told by, and the peer's memory read in place if that is trusted.
#[derive(Debug, Default)]
pub(super) struct Lending {
    returns: Option<Arc<Returns>>,
    trust: Option<TrustPeerMemory>,
}

impl Lending {
    #[inline]
    pub fn returns(&self) -> Option<&Arc<Returns>> {
        self.returns.as_ref()
    }
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// What is let go of in this process from now on wakes whoever has
    /// [asked for that](Self::wake_for_returns).
    pub fn notice_returns(&mut self, returns: Arc<Returns>) {
        self.sharing.notice(&returns);
        self.lending.returns = Some(returns);
    }

    /// Payloads are read where they are, for as long as few are held. Between hosts they are copied all the
    /// same.
    pub fn trust_peer_memory(&mut self, trust: TrustPeerMemory) {
        if !self.lanes.is_silent() {
            self.lending.trust = Some(trust);
        }
    }

    /// Has this woken when something is let go of from now on. Then [`tell_returns`](Self::tell_returns).
    pub fn wake_for_returns(&self, waker: &Waker) {
        if let Some(returns) = self.lending.returns() {
            returns.wake_by(waker);
        }
    }

    /// Tells the peer what was let go of.
    #[inline]
    pub fn tell_returns(&mut self) {
        if let Some(returns) = self.lending.returns()
            && let Some(returned) = returns.take()
        {
            self.tell(&returned);
        }
    }

    #[cold]
    fn tell(&mut self, returned: &Returned) {
        if self.detached {
            return;
        }
        for start in &returned.loans {
            self.end_loan(*start);
        }
        for block in &returned.blocks {
            self.lanes.take_back(block);
        }
        self.flush();
    }

    /// The data of a payload that was checked, where they are. `None` if they have to be copied.
    #[inline]
    pub(super) fn lend(&mut self, reference: &Reference) -> Option<Bytes> {
        if ((reference.length - reference.head) as usize) < LEAST_LENT {
            return None;
        }
        self.lend_large(reference)
    }

    fn lend_large(&mut self, reference: &Reference) -> Option<Bytes> {
        let length = (reference.length - reference.head) as usize;
        if self.lanes.is_silent() {
            // The beginning of a message, perhaps: the application is given a turn, and has the rest put
            // together in one piece. Between hosts a window is so large that all of it may be there already.
            self.bytes_left = 0;
        }
        let (Some(trust), Some(returns)) = (self.lending.trust, &self.lending.returns) else {
            self.count_payload(PayloadKind::ReceivedUntrusted, length);
            return None;
        };
        let lent = self.lanes.lend(trust, reference, returns);
        let kind = if lent.is_some() { PayloadKind::ReceivedLent } else { PayloadKind::ReceivedOverShare };
        self.count_payload(kind, length);
        lent
    }

    /// Returns `true` if a message of so many bytes may be held in blocks.
    pub(super) fn may_hold(&self, bytes: usize) -> bool {
        self.lending.trust.is_some() && bytes <= self.lanes.peer_arena().may_hold(LEAST_LENT)
    }

    /// Puts views together that lie one behind the other.
    pub(super) fn join(&self, pieces: &mut Vec<Bytes>) {
        if let Some(trust) = self.lending.trust {
            self.lanes.peer_arena().join(trust, pieces);
        }
    }
}
