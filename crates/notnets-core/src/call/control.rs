//! Frames that must get out even when there is no room now.
//!
//! They are state, not a queue: resets, credit and answers to resets take one slot for each stream,
//! however many events it stands for, so a peer that reads slowly makes nothing grow.

use std::collections::{HashMap, VecDeque};

use crate::code::Code;
use crate::frame::{Frame, INLINE, Kind, Payload};
use crate::stream_id::StreamId;

/// The echo of the ping behind a go-away.
pub(super) const FENCE: u64 = u64::MAX;

/// Control frames that are still to be sent.
#[derive(Debug, Default)]
pub(super) struct Control {
    order: VecDeque<StreamId>,
    slots: HashMap<StreamId, Slot>,
    go_away: Option<StreamId>,
    /// A ping right behind the announcement that we go away.
    fence: bool,
    /// The answer to the peer's.
    fence_pong: bool,
    ping: Option<u64>,
    pong: Option<u64>,
    /// One of these is there: it is looked at several times for each call.
    any: bool,
}

#[derive(Debug, Default)]
struct Slot {
    window: u64,
    reset: Option<Reset>,
    closed: bool,
}

#[derive(Debug)]
struct Reset {
    code: Code,
    refused: bool,
    reason: &'static str,
}

impl Control {
    /// Gives credit to a stream, or to the link.
    pub fn window(&mut self, stream: StreamId, credit: u64) {
        self.slot(stream).window += credit;
    }

    /// Ends a stream. The reason is cut to what fits in a descriptor.
    pub fn reset(&mut self, stream: StreamId, code: Code, refused: bool, reason: &'static str) {
        self.slot(stream).reset = Some(Reset { code, refused, reason });
    }

    /// Answers a reset.
    pub fn closed(&mut self, stream: StreamId) {
        self.slot(stream).closed = true;
    }

    pub fn go_away(&mut self, last: StreamId) {
        self.any = true;
        self.go_away = Some(last);
    }

    /// Says that we go away, and asks for an answer to that: what the client has sent before it still
    /// counts.
    pub fn announce(&mut self) {
        self.any = true;
        self.go_away = Some(StreamId::MAX);
        self.fence = true;
    }

    pub fn ping(&mut self, echo: u64) {
        self.any = true;
        self.ping = Some(echo);
    }

    pub fn pong(&mut self, echo: u64) {
        self.any = true;
        match echo {
            FENCE => self.fence_pong = true,
            echo => self.pong = Some(echo),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// Streams with control frames to send.
    pub fn streams(&self) -> usize {
        self.order.len()
    }

    /// Gives back what many streams took.
    pub fn shrink_to(&mut self, streams: usize) {
        self.order.shrink_to(streams);
        self.slots.shrink_to(streams);
    }

    /// The next frame to push.
    pub fn pop(&mut self) -> Option<Frame> {
        let frame = self.take();
        self.any = self.has_any();
        frame
    }

    fn has_any(&self) -> bool {
        let link = self.go_away.is_some() || self.ping.is_some() || self.pong.is_some();
        !self.order.is_empty() || link || self.fence || self.fence_pong
    }

    fn take(&mut self) -> Option<Frame> {
        let link = |kind, argument| Frame { argument, ..Frame::new(kind, StreamId::LINK) };
        if let Some(echo) = self.pong.take() {
            return Some(link(Kind::Pong, echo));
        }
        if let Some(echo) = self.ping.take() {
            return Some(link(Kind::Ping, echo));
        }
        while let Some(&stream) = self.order.front() {
            if let Some(frame) = self.slots.get_mut(&stream).and_then(|slot| slot.pop(stream)) {
                return Some(frame);
            }
            self.order.pop_front();
            self.slots.remove(&stream);
        }
        // After the resets: a client that receives GOAWAY must not lose the refusals.
        if let Some(last) = self.go_away.take() {
            return Some(link(Kind::GoAway, last.get()));
        }
        if std::mem::take(&mut self.fence) {
            return Some(link(Kind::Ping, FENCE));
        }
        std::mem::take(&mut self.fence_pong).then(|| link(Kind::Pong, FENCE))
    }

    fn slot(&mut self, stream: StreamId) -> &mut Slot {
        self.any = true;
        self.slots.entry(stream).or_insert_with(|| {
            self.order.push_back(stream);
            Slot::default()
        })
    }
}

impl Slot {
    fn pop(&mut self, stream: StreamId) -> Option<Frame> {
        if let Some(reset) = self.reset.take() {
            // Nothing more is received there, so credit is of no use.
            self.window = 0;
            let mut bytes = [0; INLINE];
            let len = reset.reason.len().min(INLINE);
            bytes[..len].copy_from_slice(&reset.reason.as_bytes()[..len]);
            let payload = Payload::Inline { bytes, len: len as u8, head: 0 };
            let Reset { code, refused, .. } = reset;
            return Some(Frame { code: code.0, refused, payload, ..Frame::new(Kind::Reset, stream) });
        }
        if std::mem::take(&mut self.closed) {
            return Some(Frame::new(Kind::Closed, stream));
        }
        match std::mem::take(&mut self.window) {
            0 => None,
            credit => Some(Frame { argument: credit, ..Frame::new(Kind::Window, stream) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::new(1);

    #[test]
    fn one_slot_for_each_stream() {
        let mut control = Control::default();
        for _ in 0..1000 {
            control.window(STREAM, 10);
            control.window(StreamId::LINK, 1);
        }
        let first = control.pop().unwrap();
        assert_eq!((first.kind, first.stream, first.argument), (Kind::Window, STREAM, 10_000));
        control.reset(
            StreamId::LINK,
            Code::CANCELLED,
            false,
            "a reason that is far too long for a descriptor's 32 bytes",
        );
        assert_eq!(control.pop().unwrap().kind, Kind::Reset);
        assert_eq!(control.pop(), None, "credit is of no use after a reset");
        assert!(control.is_empty());
    }
}
