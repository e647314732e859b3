//! Credit for received data: spent by the peer, and given back to it.
//!
//! A peer spends credit of the link and of the stream with all data that it sends. It gets it back when the
//! application takes the data, or at once when it will not.

use notnets_memory::{ReadMemory, WriteMemory};

use super::stream::Receive;
use super::{Connection, StreamId, Violation};

/// Credit is given back when this part of a window has been taken: rarely, but before it runs dry.
const GIVE_BACK: u64 = 4;

/// The cost of received data, charged to the link and not yet to the stream. It has to be
/// [accepted](Receive::accept) for a stream or [refunded](Connection::refund); only where the link is closed
/// for a violation is it dropped.
#[derive(Debug)]
#[must_use = "the credit is lost to the peer unless it is accepted or refunded"]
pub(super) struct Charge(u64);

impl Receive {
    /// Takes the data's cost from what the peer may send on this stream.
    #[inline]
    pub fn accept(&mut self, charge: Charge, stream: StreamId) -> Result<(), Violation> {
        self.credit = self.credit.checked_sub(charge.0).ok_or(Violation::Window(stream))?;
        Ok(())
    }
}

impl<T, W: WriteMemory, R: ReadMemory> Connection<T, W, R> {
    /// Takes the cost of data from what the peer may send on the link.
    #[inline]
    pub(super) fn charge(&mut self, stream: StreamId, cost: u64) -> Result<Charge, Violation> {
        self.receive_credit = self.receive_credit.checked_sub(cost).ok_or(Violation::Window(stream))?;
        Ok(Charge(cost))
    }

    /// Gives back what data cost that no stream takes.
    #[cold]
    pub(super) fn refund(&mut self, charge: Charge) {
        self.unwanted = charge.0 > 0;
        self.give_link_credit(charge.0);
    }

    #[inline]
    pub(super) fn give_link_credit(&mut self, credit: u64) {
        self.taken += credit;
        if self.taken >= u64::from(self.own.link_window) / GIVE_BACK {
            self.receive_credit += self.taken;
            self.control.window(StreamId::LINK, std::mem::take(&mut self.taken));
        }
    }

    /// The application has taken data of a stream that cost this: gives the peer credit for more, now and
    /// then.
    pub(super) fn on_data_taken(&mut self, stream: StreamId, cost: u64) {
        if let Some(entry) = self.streams.get_mut(stream)
            && entry.state.may_receive()
        {
            entry.receive.taken += cost;
            if entry.receive.taken >= u64::from(self.own.stream_window) / GIVE_BACK {
                entry.receive.credit += entry.receive.taken;
                self.control.window(stream, std::mem::take(&mut entry.receive.taken));
            }
        }
        self.on_last_data_taken(cost);
    }

    /// As [`on_data_taken`](Self::on_data_taken), for a stream on which nothing more comes.
    #[inline]
    pub(super) fn on_last_data_taken(&mut self, cost: u64) {
        self.give_link_credit(cost);
        if self.has_control() {
            self.flush();
        }
    }
}
