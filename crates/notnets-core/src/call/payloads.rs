//! How large payloads go and come: by reference, or copied and why. Of less than 16 KiB nothing is counted.

use notnets_memory::{ReadMemory, WriteMemory};

use super::Connection;

/// How a payload of 16 KiB and more, or the part of one that is in a frame, was sent or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// In sealed memory, by reference.
    SentShared,
    /// From where the application had written it, in a loan.
    SentLoaned,
    /// Copied out of private memory.
    SentPrivate,
    /// Copied out of a loan that had been sent before.
    SentRepeated,
    /// Copied out of sealed memory: the peer knows nothing of that, or is on another host.
    SentUnsupported,
    /// Copied out of sealed memory: the peer takes no more bytes of it, or could not map it.
    SentDeclined,
    /// Copied out of sealed memory: as much is shared over the link as can be at a time.
    SentOverLimit,
    /// Copied out of sealed memory: the peer had not said yet whether it takes it, and it was too little to
    /// wait for that.
    SentUnanswered,
    /// Copied out of a loan: the link had not the credit for a whole block.
    SentNoCredit,
    /// In sealed memory, and read there.
    ReceivedShared,
    /// Read where the peer, which is trusted, had put it.
    ReceivedLent,
    /// Copied, since the peer is not trusted.
    ReceivedUntrusted,
    /// Copied, though the peer is trusted: enough of its blocks were held.
    ReceivedOverShare,
}

impl PayloadKind {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 13] = [
        Self::SentShared,
        Self::SentLoaned,
        Self::SentPrivate,
        Self::SentRepeated,
        Self::SentUnsupported,
        Self::SentDeclined,
        Self::SentOverLimit,
        Self::SentUnanswered,
        Self::SentNoCredit,
        Self::ReceivedShared,
        Self::ReceivedLent,
        Self::ReceivedUntrusted,
        Self::ReceivedOverShare,
    ];

    /// A name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::SentShared => "sent_shared",
            Self::SentLoaned => "sent_loaned",
            Self::SentPrivate => "sent_copied_private",
            Self::SentRepeated => "sent_copied_repeated",
            Self::SentUnsupported => "sent_copied_unsupported",
            Self::SentDeclined => "sent_copied_declined",
            Self::SentOverLimit => "sent_copied_over_limit",
            Self::SentUnanswered => "sent_copied_unanswered",
            Self::SentNoCredit => "sent_copied_no_credit",
            Self::ReceivedShared => "received_shared",
            Self::ReceivedLent => "received_lent",
            Self::ReceivedUntrusted => "received_copied_untrusted",
            Self::ReceivedOverShare => "received_copied_over_share",
        }
    }
}

/// A number of frames, and the bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many frames.
    pub frames: u64,
    /// How many bytes they carried.
    pub bytes: u64,
}

/// How payloads of 16 KiB and more went and came, frame by frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payloads([Tally; PayloadKind::ALL.len()]);

impl Payloads {
    /// What `tally` returns for each kind.
    pub fn of_kinds(tally: impl FnMut(PayloadKind) -> Tally) -> Self {
        Self(PayloadKind::ALL.map(tally))
    }

    /// Those of one kind.
    pub fn of(&self, kind: PayloadKind) -> Tally {
        self.0[kind as usize]
    }

    /// The kinds of which there were any.
    pub fn present(&self) -> impl Iterator<Item = (PayloadKind, Tally)> {
        let counted = PayloadKind::ALL.into_iter().zip(self.0);
        counted.filter(|(_, tally)| tally.frames > 0)
    }
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// How large payloads went and came over this link.
    pub fn payloads(&self) -> &Payloads {
        &self.payloads
    }

    #[cold]
    pub(super) fn count_payload(&mut self, kind: PayloadKind, bytes: usize) {
        let Tally { frames, bytes: all } = &mut self.payloads.0[kind as usize];
        *frames += 1;
        *all = all.wrapping_add(bytes as u64);
        if let Some(counters) = &self.counters {
            counters.payload(kind, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_the_order_of_their_counters() {
        assert!(PayloadKind::ALL.into_iter().enumerate().all(|(i, kind)| i == kind as usize));
        let mut names = PayloadKind::ALL.map(PayloadKind::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
