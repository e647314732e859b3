//! What a link counts beside its calls: one table, of which the words in its area, sums and names are made.

use crate::call::{Payloads, Tally};

/// What a link counts, in the order of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Frames with data that were sent.
    FramesSent,
    /// Bytes in them.
    BytesSent,
    /// Frames with data that have come.
    FramesReceived,
    /// Bytes in them.
    BytesReceived,
    /// Calls that ended without an answer of the server's application: cancelled, over their deadline,
    /// refused, or cut off with their link.
    Unanswered,
    /// Times that something could not be sent for want of room in the ring, or of a block.
    NoRoom,
    /// Times that something could not be sent for want of credit of its stream.
    NoStreamCredit,
    /// Times that something could not be sent for want of credit of the link.
    NoLinkCredit,
    /// Times that the peer was rung.
    DoorbellsRung,
    /// Packets that came through the socket: doorbells, mostly.
    DoorbellsReceived,
    /// Times that the link went to sleep.
    Parks,
    /// Requests that were refused before any application saw them.
    Refused,
    /// Messages of gRPC's that were sent, to their ends.
    MessagesSent,
    /// Messages of gRPC's that have come, to their ends.
    MessagesReceived,
    /// Times that a client's call had to wait because as many were open as the server lets it have.
    NoStream,
    /// Calls that were refused because their user makes as many in a second as it may.
    OverCallRate,
    /// Calls that were refused because their user has sent as many bytes as it may.
    OverByteRate,
    /// Times that more of a request was read later, because its user has sent as many bytes as it may.
    ReadLater,
    /// Times that the link was polled for as long as that may pay off, and nothing came.
    PollsInVain,
}

impl Count {
    /// All of them, in the order of their words.
    pub const ALL: [Self; 19] = [
        Self::FramesSent,
        Self::BytesSent,
        Self::FramesReceived,
        Self::BytesReceived,
        Self::Unanswered,
        Self::NoRoom,
        Self::NoStreamCredit,
        Self::NoLinkCredit,
        Self::DoorbellsRung,
        Self::DoorbellsReceived,
        Self::Parks,
        Self::Refused,
        Self::MessagesSent,
        Self::MessagesReceived,
        Self::NoStream,
        Self::OverCallRate,
        Self::OverByteRate,
        Self::ReadLater,
        Self::PollsInVain,
    ];

    /// A name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::FramesSent => "frames_sent",
            Self::BytesSent => "bytes_sent",
            Self::FramesReceived => "frames_received",
            Self::BytesReceived => "bytes_received",
            Self::Unanswered => "unanswered",
            Self::NoRoom => "waits_for_room",
            Self::NoStreamCredit => "waits_for_stream_credit",
            Self::NoLinkCredit => "waits_for_link_credit",
            Self::DoorbellsRung => "doorbells_rung",
            Self::DoorbellsReceived => "doorbells_received",
            Self::Parks => "parks",
            Self::Refused => "refused",
            Self::MessagesSent => "messages_sent",
            Self::MessagesReceived => "messages_received",
            Self::NoStream => "waits_for_stream",
            Self::OverCallRate => "calls_over_call_rate",
            Self::OverByteRate => "calls_over_byte_rate",
            Self::ReadLater => "reads_put_off",
            Self::PollsInVain => "polls_in_vain",
        }
    }
}

/// What a link has counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    counts: [u64; Count::ALL.len()],
    /// How long it slept, in seconds.
    pub parked_seconds: f64,
    /// Large payloads.
    pub payloads: Payloads,
}

impl Counts {
    /// What `of` returns of each.
    pub fn of_each(of: impl FnMut(Count) -> u64) -> Self {
        Self { counts: Count::ALL.map(of), ..Self::default() }
    }

    /// How much was counted of this.
    pub fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// All of it, in the order of the table.
    pub fn all(&self) -> impl Iterator<Item = (Count, u64)> {
        Count::ALL.into_iter().zip(self.counts)
    }

    /// Adds those of another link.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.wrapping_add(more);
        }
        self.parked_seconds += other.parked_seconds;
        self.payloads = Payloads::of_kinds(|kind| {
            let (one, other) = (self.payloads.of(kind), other.payloads.of(kind));
            Tally {
                frames: one.frames.wrapping_add(other.frames),
                bytes: one.bytes.wrapping_add(other.bytes),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_in_the_order_of_their_words() {
        assert!(Count::ALL.into_iter().enumerate().all(|(i, count)| i == count as usize));
        let mut names = Count::ALL.map(Count::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn links_are_added_up() {
        let mut sum = Counts::of_each(|count| count as u64);
        sum.add(&Counts::of_each(|count| if count == Count::Parks { u64::MAX } else { 1 }));
        assert_eq!((sum.of(Count::FramesSent), sum.of(Count::Parks), sum.of(Count::Refused)), (1, 9, 12));
        assert!(sum.all().map(|(count, _)| count).eq(Count::ALL));
    }
}
