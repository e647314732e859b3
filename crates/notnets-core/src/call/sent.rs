//! How large payloads are sent: by reference, or copied and why. Below 16 KiB nothing is counted.

use std::ops::{Add, AddAssign};

/// A number of frames, and the bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many frames.
    pub frames: u64,
    /// How many bytes they carried.
    pub bytes: u64,
}

impl Tally {
    /// Counts one more frame.
    pub fn count(&mut self, bytes: usize) {
        *self += Self { frames: 1, bytes: bytes as u64 };
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { frames: self.frames + other.frames, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// How payloads of 16 KiB and more were sent, frame by frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentPayloads {
    /// In sealed memory, by reference.
    pub shared: Tally,
    /// From where the application had written them, in a loan.
    pub loaned: Tally,
    /// Copied.
    pub copied: SentCopies,
}

/// Why payloads were copied when they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentCopies {
    /// They were in private memory.
    pub private: Tally,
    /// They were in a loan that had been sent before.
    pub repeated: Tally,
    /// The peer knows nothing of sealed memory, or is on another host.
    pub unsupported: Tally,
    /// The peer takes no more bytes of sealed memory, or could not map them.
    pub declined: Tally,
    /// As many are shared over the link as can be at a time.
    pub over_limit: Tally,
    /// The peer had not said yet whether it takes them, and they were too few to wait for that.
    pub unanswered: Tally,
    /// They were in a loan, and the link had not the credit for a whole block.
    pub no_credit: Tally,
}

/// A reason of [`SentCopies`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CopyReason {
    #[default]
    Private,
    Repeated,
    Unsupported,
    Declined,
    OverLimit,
    Unanswered,
    NoCredit,
}

impl SentCopies {
    pub(super) fn count(&mut self, reason: CopyReason, bytes: usize) {
        let tally = match reason {
            CopyReason::Private => &mut self.private,
            CopyReason::Repeated => &mut self.repeated,
            CopyReason::Unsupported => &mut self.unsupported,
            CopyReason::Declined => &mut self.declined,
            CopyReason::OverLimit => &mut self.over_limit,
            CopyReason::Unanswered => &mut self.unanswered,
            CopyReason::NoCredit => &mut self.no_credit,
        };
        tally.count(bytes);
    }

    /// All of them.
    pub fn all(&self) -> Tally {
        let Self { private, repeated, unsupported, declined, over_limit, unanswered, no_credit } = *self;
        private + repeated + unsupported + declined + over_limit + unanswered + no_credit
    }
}
