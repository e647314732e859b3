//! Planning of one frame: how much of the data that waits it carries, and where.

use bytes::Buf;

use crate::frame::{Frame, INLINE, Kind, PREFIX, Payload};
use crate::limits::MIN_CHARGE;

/// Where head and data of a frame go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nowhere: there is no credit for data, and nothing else to send.
    Blocked,
    /// Into the descriptor: the head, and this many bytes of the data.
    Inline {
        /// They count in full, though the prefix of a message is not sent.
        bytes: usize,
        /// They are one whole message, which goes without its prefix: its reader recognises that by its
        /// length.
        message: bool,
    },
    /// Into a block: the head, and up to this many bytes of the data.
    Block {
        /// As many as there is credit for.
        bytes: usize,
    },
}

impl Plan {
    /// The plan for a frame of this kind, with a head of this many bytes and as much of `data` as there is
    /// credit for, but at most `limit` bytes of it.
    #[inline]
    pub fn new(kind: Kind, head: usize, data: &impl Buf, credit: u64, limit: usize) -> Self {
        let wanted = data.remaining();
        let bytes = if credit < MIN_CHARGE { 0 } else { wanted.min(credit as usize).min(limit) };
        if wanted > 0 && bytes == 0 && kind == Kind::Data {
            return Self::Blocked;
        }
        let message = bytes == wanted && head + wanted <= INLINE + PREFIX && is_message(data);
        if message || head + bytes <= INLINE {
            Self::Inline { bytes, message }
        } else {
            Self::Block { bytes }
        }
    }
}

/// Puts the head and `bytes` of the data into the descriptor.
#[inline]
pub(super) fn write_inline(
    frame: &mut Frame,
    head: &[u8],
    data: &mut impl Buf,
    mut bytes: usize,
    message: bool,
) {
    frame.message = message;
    if message {
        data.advance(PREFIX);
        bytes -= PREFIX;
    }
    let mut inline = [0; INLINE];
    if !head.is_empty() {
        inline[..head.len()].copy_from_slice(head);
    }
    let len = head.len() + bytes;
    data.copy_to_slice(&mut inline[head.len()..len]);
    frame.payload = Payload::Inline { bytes: inline, len: len as u8, head: head.len() as u8 };
}

/// The data that are in a descriptor.
#[inline]
pub(super) fn inline_data(frame: &Frame) -> &[u8] {
    match &frame.payload {
        Payload::Inline { bytes, len, head } => &bytes[usize::from(*head)..usize::from(*len)],
        _ => &[],
    }
}

/// Returns `true` if these data are one whole message that is not compressed.
#[inline]
fn is_message(data: &impl Buf) -> bool {
    match data.chunk() {
        // Not compared with the bytes of a `prefix`: the processor waits for bytes that were just stored
        // when they are loaded in other pieces.
        [0, a, b, c, d, ..] => data.remaining() == PREFIX + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::prefix;
    use crate::stream_id::StreamId;

    const ENOUGH: u64 = 1 << 20;

    fn plan(kind: Kind, head: usize, data: &[u8], credit: u64) -> Plan {
        Plan::new(kind, head, &data, credit, usize::MAX)
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&prefix(message.len() as u32)[..], message].concat()
    }

    #[test]
    fn data_wait_for_credit() {
        assert_eq!(plan(Kind::Data, 0, &[1], MIN_CHARGE - 1), Plan::Blocked);
        assert_eq!(plan(Kind::Data, 0, &[1], MIN_CHARGE), Plan::Inline { bytes: 1, message: false });
        let end = plan(Kind::Data, 0, &[], 0);
        assert_eq!(end, Plan::Inline { bytes: 0, message: false }, "an end takes no credit");
    }

    #[test]
    fn a_head_goes_without_credit_and_its_data_follow() {
        let head_alone = Plan::Inline { bytes: 0, message: false };
        assert_eq!(plan(Kind::Request, 10, &[1; 100], 0), head_alone);
        assert_eq!(plan(Kind::Response, INLINE + 1, &[1; 100], 0), Plan::Block { bytes: 0 });
    }

    #[test]
    fn what_fits_into_the_descriptor_needs_no_block() {
        for head in [0, 1, INLINE] {
            let rest = INLINE - head;
            let fits = Plan::Inline { bytes: rest, message: false };
            assert_eq!(plan(Kind::Response, head, &vec![1; rest], ENOUGH), fits);
            assert_eq!(
                plan(Kind::Response, head, &vec![1; rest + 1], ENOUGH),
                Plan::Block { bytes: rest + 1 }
            );
        }
        assert_eq!(
            plan(Kind::Data, 0, &[1; 1000], 100),
            Plan::Block { bytes: 100 },
            "as there is credit for"
        );
    }

    #[test]
    fn a_message_may_be_longer_by_its_prefix() {
        let message = framed(&[7; INLINE]);
        let inline = Plan::Inline { bytes: INLINE + PREFIX, message: true };
        assert_eq!(plan(Kind::Data, 0, &message, ENOUGH), inline);
        assert_eq!(plan(Kind::Data, 1, &message, ENOUGH), Plan::Block { bytes: INLINE + PREFIX });
        let mut compressed = message.clone();
        compressed[0] = 1;
        assert_eq!(plan(Kind::Data, 0, &compressed, ENOUGH), Plan::Block { bytes: INLINE + PREFIX });
        let part = framed(&[7; 100]);
        assert_eq!(plan(Kind::Data, 0, &part, MIN_CHARGE), Plan::Block { bytes: MIN_CHARGE as usize });
    }

    #[test]
    fn head_and_data_lie_one_behind_the_other() {
        let mut frame = Frame::new(Kind::Request, StreamId::new(1));
        let message = framed(b"hi");
        let mut data = &message[..];
        write_inline(&mut frame, b"head", &mut data, message.len(), true);
        let Payload::Inline { bytes, len: 6, head: 4 } = frame.payload else { panic!("{frame:?}") };
        assert_eq!((&bytes[..6], frame.message, data.len()), (&b"headhi"[..], true, 0));
    }
}
