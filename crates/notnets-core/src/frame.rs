//! Frames: the content of a descriptor's 56 bytes (`docs/protocol.md`, "Frames").
//!
//! This is the one parser for what a peer writes into its ring. It takes any 56 bytes and returns a
//! [`Frame`] or a [`BadFrame`]; references in it are checked by the memory layer before use.

use notnets_memory::Reference;
use notnets_memory::ring::Descriptor;

use crate::stream_id::StreamId;

/// Bytes of payload that a descriptor can carry itself.
pub const INLINE: usize = 32;

/// No more payload comes in this direction.
const END: u8 = 1;
/// The payload lies in the arena, not in the descriptor.
const REFERENCE: u8 = 2;
/// A response without head: its metadata are trailers.
const TRAILERS_ONLY: u8 = 4;
/// The reset stream was never given to the application: calling again is safe.
const REFUSED: u8 = 8;
/// The data are one whole message, and what gRPC puts in front of it is left out.
const MESSAGE: u8 = 16;
/// The data lie in a payload that was shared.
const SHARED: u8 = 32;
const KNOWN_FLAGS: u8 = END | REFERENCE | TRAILERS_ONLY | REFUSED | MESSAGE | SHARED;

/// Bytes that gRPC puts in front of a message: whether it is compressed, and its length in network order.
pub const PREFIX: usize = 5;

/// The prefix of a message of this many bytes that is not compressed.
#[inline]
pub fn prefix(bytes: u32) -> [u8; PREFIX] {
    let [a, b, c, d] = bytes.to_be_bytes();
    [0, a, b, c, d]
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Opens a stream: method, deadline, metadata, perhaps payload. From clients only.
    Request = 1,
    /// The response's head, perhaps with payload, perhaps all of it. From servers only.
    Response = 2,
    /// More payload.
    Data = 3,
    /// The end of a response: status and trailers. From servers only.
    Trailers = 4,
    /// Ends a stream in both directions, with a status.
    Reset = 5,
    /// Gives credit: to a stream, or with stream 0 to the link.
    Window = 6,
    /// Answers a reset: nothing more comes for that stream.
    Closed = 7,
    /// The server takes no streams after the one named. From servers only.
    GoAway = 8,
    /// Asks the peer for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
    /// A payload was shared: its packet is to be read from the socket.
    Share = 11,
    /// Answers that: whether the payload was taken.
    Shared = 12,
    /// A payload is referred to no more.
    Unshare = 13,
}

/// A parsed descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: Kind,
    /// No more payload comes in this direction.
    pub end: bool,
    /// A response without head.
    pub trailers_only: bool,
    /// A reset of a stream that the application has not seen.
    pub refused: bool,
    /// The data are one message that is not compressed, without its [`prefix`].
    pub message: bool,
    /// Request: the method, see [`crate::strings`]. Response and trailers: the status. Reset: too.
    pub code: u32,
    /// The stream, or the link.
    pub stream: StreamId,
    /// Request: the deadline. Window: the credit. Go-away: the last stream. Ping, pong: an echo.
    pub argument: u64,
    /// Head and data.
    pub payload: Payload,
}

/// Where head and data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the descriptor: the first `head` of `len` bytes are the head.
    Inline {
        /// The bytes; those from `len` on mean nothing.
        bytes: [u8; INLINE],
        /// How many are used.
        len: u8,
        /// How many of them are the head.
        head: u8,
    },
    /// In the sender's arena.
    Reference(Reference),
    /// In a payload that the sender has shared; there is no head.
    Shared(SharedReference),
}

/// A part of a payload that was shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedReference {
    /// Its sender's number for the payload.
    pub payload: u32,
    /// The first byte within the payload.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A descriptor that is not a valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Of no known kind.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// With flags that have no meaning.
    #[error("a frame with unknown flags {0:#x}")]
    Flags(u8),
    /// With more payload than fits.
    #[error("a frame with {len} inline bytes, {head} of them its head")]
    Inline {
        /// The length that the descriptor claims for its payload.
        len: u8,
        /// The length that it claims for the head.
        head: u8,
    },
}

impl Payload {
    /// No bytes at all.
    pub const EMPTY: Self = Self::Inline { bytes: [0; INLINE], len: 0, head: 0 };

    /// How many bytes of head.
    pub fn head_len(&self) -> usize {
        match self {
            Self::Inline { head, .. } => *head as usize,
            Self::Reference(reference) => reference.head as usize,
            Self::Shared(_) => 0,
        }
    }

    /// How many bytes of data that have to be copied, without the head.
    pub fn data_len(&self) -> usize {
        match self {
            Self::Inline { len, head, .. } => (len - head) as usize,
            Self::Reference(reference) => reference.length.saturating_sub(reference.head) as usize,
            // They are not copied, whatever their length.
            Self::Shared(_) => 0,
        }
    }
}

impl Frame {
    /// A frame with nothing but its kind and stream.
    pub fn new(kind: Kind, stream: StreamId) -> Self {
        Self {
            kind,
            end: false,
            trailers_only: false,
            refused: false,
            message: false,
            code: 0,
            stream,
            argument: 0,
            payload: Payload::EMPTY,
        }
    }

    /// As it goes into the ring.
    #[inline]
    pub fn encode(&self) -> Descriptor {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut flags = flag(self.end, END)
            | flag(self.trailers_only, TRAILERS_ONLY)
            | flag(self.refused, REFUSED)
            | flag(self.message, MESSAGE);
        let (len, head, words) = match &self.payload {
            Payload::Inline { bytes, len, head } => {
                let word =
                    |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("8 bytes"));
                (*len, *head, [word(0), word(1), word(2), word(3)])
            }
            Payload::Reference(reference) => {
                flags |= REFERENCE;
                (0, 0, reference.to_words())
            }
            Payload::Shared(SharedReference { payload, offset, length }) => {
                flags |= SHARED;
                (0, 0, [u64::from(*payload), *offset, *length, 0])
            }
        };
        let code = self.code.to_le_bytes();
        let first = [self.kind as u8, flags, len, head, code[0], code[1], code[2], code[3]];
        let [a, b, c, d] = words;
        [u64::from_le_bytes(first), self.stream.get(), self.argument, a, b, c, d]
    }

    /// As it came out of the peer's ring.
    ///
    /// # Errors
    /// When it is not a valid frame.
    #[inline]
    pub fn decode(descriptor: Descriptor) -> Result<Self, BadFrame> {
        let [first, stream, argument, words @ ..] = descriptor;
        let [kind, flags, len, head, code @ ..] = first.to_le_bytes();
        if flags & !KNOWN_FLAGS != 0 {
            return Err(BadFrame::Flags(flags));
        }
        let payload = if flags & SHARED != 0 {
            let [payload, offset, length, _] = words;
            if kind != Kind::Data as u8 || flags & (REFERENCE | MESSAGE) != 0 {
                return Err(BadFrame::Flags(flags));
            }
            // Numbers have 32 bits; what is beyond is the number of no payload.
            let payload = u32::try_from(payload).unwrap_or_default();
            Payload::Shared(SharedReference { payload, offset, length })
        } else if flags & REFERENCE != 0 {
            Payload::Reference(Reference::from_words(words))
        } else {
            if len as usize > INLINE || head > len {
                return Err(BadFrame::Inline { len, head });
            }
            let mut bytes = [0; INLINE];
            for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
                to.copy_from_slice(&word.to_le_bytes());
            }
            Payload::Inline { bytes, len, head }
        };
        Ok(Self {
            kind: Kind::from_byte(kind).ok_or(BadFrame::Kind(kind))?,
            end: flags & END != 0,
            trailers_only: flags & TRAILERS_ONLY != 0,
            refused: flags & REFUSED != 0,
            message: flags & MESSAGE != 0,
            code: u32::from_le_bytes(code),
            stream: StreamId::new(stream),
            argument,
            payload,
        })
    }
}

impl Kind {
    /// All kinds, in the order of their numbers, which begin at 1.
    pub const ALL: [Self; 13] = [
        Self::Request,
        Self::Response,
        Self::Data,
        Self::Trailers,
        Self::Reset,
        Self::Window,
        Self::Closed,
        Self::GoAway,
        Self::Ping,
        Self::Pong,
        Self::Share,
        Self::Shared,
        Self::Unshare,
    ];

    #[inline]
    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).wrapping_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_payload_is_its_head_and_then_its_data() {
        let inline = Payload::Inline { bytes: [7; INLINE], len: 20, head: 6 };
        assert_eq!((inline.head_len(), inline.data_len()), (6, 14));
        let reference = Reference::from_words([0; 4]);
        let whole = Payload::Reference(Reference { length: 20, head: 6, ..reference });
        assert_eq!((whole.head_len(), whole.data_len()), (6, 14));
        let wrong = Payload::Reference(Reference { length: 5, head: 6, ..reference });
        assert_eq!((wrong.head_len(), wrong.data_len()), (6, 0));
        let shared = Payload::Shared(SharedReference { payload: 1, offset: 2, length: 3 });
        assert_eq!((shared.head_len(), shared.data_len()), (0, 0), "nothing is copied");
    }

    #[test]
    fn more_than_a_descriptor_holds_is_refused() {
        let with = |len, head| {
            let first = [Kind::Data as u8, 0, len, head, 0, 0, 0, 0];
            Frame::decode([u64::from_le_bytes(first), 1, 0, 0, 0, 0, 0])
        };
        assert!(with(32, 0).is_ok() && with(32, 32).is_ok() && with(0, 0).is_ok());
        for (len, head) in [(33, 0), (255, 0), (33, 33), (33, 34), (4, 5), (0, 1)] {
            assert_eq!(with(len, head), Err(BadFrame::Inline { len, head }));
        }
    }

    #[test]
    fn only_plain_data_refer_to_what_was_shared() {
        let with = |kind, flags| {
            let first = [kind as u8, flags, 0, 0, 0, 0, 0, 0];
            Frame::decode([u64::from_le_bytes(first), 1, 0, 1, 2, 3, 0])
        };
        assert!(with(Kind::Data, SHARED).is_ok() && with(Kind::Data, SHARED | END).is_ok());
        let wrong = [(Kind::Request, 0), (Kind::Data, REFERENCE), (Kind::Data, MESSAGE)];
        for (kind, beside) in wrong {
            assert_eq!(with(kind, SHARED | beside), Err(BadFrame::Flags(SHARED | beside)));
        }
    }

    proptest! {
        /// A frame that decodes encodes to the same bytes again: no two encodings mean the same.
        #[test]
        fn any_descriptor_is_refused_or_round_trips(mut descriptor in any::<[u64; 7]>(), kind in 0u8..16, flags in 0u8..72, len in 0u8..40, head in 0u8..40) {
            let [_, _, _, _, rest @ ..] = descriptor[0].to_le_bytes();
            descriptor[0] = u64::from_le_bytes([kind, flags, len, head, rest[0], rest[1], rest[2], rest[3]]);
            if let Ok(frame) = Frame::decode(descriptor) {
                prop_assert_eq!(Frame::decode(frame.encode()), Ok(frame));
                if let Payload::Inline { len, head, .. } = frame.payload {
                    prop_assert!(len as usize <= INLINE && head <= len, "{} of {} bytes", head, len);
                }
            } else {
                let is_shared = flags & SHARED != 0;
                let shares_wrongly = is_shared && (kind != 3 || flags & (REFERENCE | MESSAGE) != 0);
                let is_inline = flags & (REFERENCE | SHARED) == 0;
                prop_assert!(!(1..=13).contains(&kind) || flags > 63 || shares_wrongly || (is_inline && (len > 32 || head > len)));
            }
        }
    }
}
