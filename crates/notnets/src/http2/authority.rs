//! Lets clients connect over a Unix socket whatever they call its host.
//!
//! A call over a Unix socket has no host, but HTTP/2 wants an `:authority`. The
//! C core (Python, C++, Ruby, PHP), Java and Swift send the socket's path, which
//! is not valid there, and h2 resets such calls with `PROTOCOL_ERROR`. So, on Unix sockets
//! only, the value is replaced before h2 sees it.
//!
//! No HPACK state is needed for that. Pseudo-headers come first in a block. A
//! value that is sent is a literal, whose name is spelt out (as the C core does)
//! or has the static index 1; a value that is referred to was sent before. The
//! replacement is one byte long, so that
//! no entry of the decoder's table is larger than the encoder assumes, and the
//! decoder never evicts one that the encoder may still refer to.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`
const PREFACE: usize = 24;
/// Length (3 bytes), type, flags, stream (4 bytes).
const FRAME_HEAD: usize = 9;
/// h2 refuses longer frames, so there is nothing to repair in them.
const MAX_FRAME: usize = 16 << 10;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The place of `:authority` in HPACK's static table.
const INDEX: usize = 1;
/// The name as an HPACK string, plain and in Huffman's code.
const NAMES: [&[u8]; 2] = [b"\x0a:authority", b"\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f"];
/// The host of calls that came over a Unix socket.
pub const UNKNOWN: &str = "u";
/// It as an HPACK string.
const REPLACEMENT: [u8; 2] = [1, b'u'];

/// A client's connection with a valid `:authority` in every call.
pub struct LocalAuthority<S> {
    stream: S,
    repair: Repair,
    repaired: BytesMut,
}

impl<S> LocalAuthority<S> {
    /// Repairs what is read from `stream`, from its first byte on.
    pub fn new(stream: S) -> Self {
        let repair = Repair { state: State::Pass(PREFACE), collected: Vec::new() };
        Self { stream, repair, repaired: BytesMut::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LocalAuthority<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.repaired.is_empty() {
            let before = buf.filled().len();
            // Bytes read land in the caller's buffer and are moved out of it again.
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.repair.push(read, &mut this.repaired);
            buf.set_filled(before);
        }
        let length = this.repaired.len().min(buf.remaining());
        buf.put_slice(&this.repaired[..length]);
        this.repaired.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LocalAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows the frames; takes bytes in any pieces.
struct Repair {
    state: State,
    collected: Vec<u8>,
}

enum State {
    /// This number of bytes is passed on unchanged.
    Pass(usize),
    /// A frame's head, or a whole frame of headers, is collected up to this length.
    Collect(usize),
}

impl Repair {
    fn push(&mut self, mut input: &[u8], out: &mut BytesMut) {
        while !input.is_empty() {
            let wanted = match self.state {
                State::Pass(left) => left,
                State::Collect(length) => length - self.collected.len(),
            };
            let (taken, rest) = input.split_at(wanted.min(input.len()));
            input = rest;
            match self.state {
                State::Pass(left) if left > taken.len() => {
                    out.extend_from_slice(taken);
                    self.state = State::Pass(left - taken.len());
                }
                State::Pass(_) => {
                    out.extend_from_slice(taken);
                    self.state = State::Collect(FRAME_HEAD);
                }
                State::Collect(length) => {
                    self.collected.extend_from_slice(taken);
                    if self.collected.len() == length {
                        self.complete(out);
                    }
                }
            }
        }
    }

    fn complete(&mut self, out: &mut BytesMut) {
        if self.collected.len() > FRAME_HEAD {
            match repaired(&self.collected) {
                Some(frame) => out.extend_from_slice(&frame),
                None => out.extend_from_slice(&self.collected),
            }
            self.collected.clear();
            self.state = State::Collect(FRAME_HEAD);
            return;
        }
        let head = &self.collected;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if head[3] == HEADERS && (1..=MAX_FRAME).contains(&length) {
            self.state = State::Collect(FRAME_HEAD + length);
            return;
        }
        out.extend_from_slice(head);
        self.collected.clear();
        self.state = if length == 0 { State::Collect(FRAME_HEAD) } else { State::Pass(length) };
    }
}

/// The frame with another authority, or nothing if it has none to replace. What
/// is malformed is left for h2 to refuse.
fn repaired(frame: &[u8]) -> Option<Vec<u8>> {
    let flags = frame[4];
    let mut block = FRAME_HEAD..frame.len();
    if flags & PADDED != 0 {
        block.end = block.end.checked_sub(usize::from(frame[FRAME_HEAD]))?;
        block.start += 1;
    }
    if flags & PRIORITY != 0 {
        block.start += 5;
    }
    let value = authority(frame.get(block.clone())?)?;
    let mut repaired = frame[..block.start + value.start].to_vec();
    repaired.extend(REPLACEMENT);
    repaired.extend(&frame[block.start + value.end..]);
    let length = repaired.len() - FRAME_HEAD;
    repaired[..3].copy_from_slice(&[(length >> 16) as u8, (length >> 8) as u8, length as u8]);
    Some(repaired)
}

/// Where in a header block the value of `:authority` stands, with its length.
/// RFC 7541, section 6: the kinds of field and the bits their index begins with.
fn authority(block: &[u8]) -> Option<Range<usize>> {
    let mut at = 0;
    while at < block.len() {
        let (bits, literal) = match block[at] {
            0x80.. => (7, false),
            0x40.. => (6, true),
            // A new size for the table.
            0x20.. => (5, false),
            _ => (4, true),
        };
        let index = integer(block, &mut at, bits)?;
        if !literal {
            continue;
        }
        let mut found = index == INDEX;
        if index == 0 {
            let name = at..string_end(block, at)?;
            at = name.end;
            found = NAMES.contains(&&block[name]);
        }
        let end = string_end(block, at)?;
        if found {
            // An empty value gains nothing by staying.
            return (end - at >= REPLACEMENT.len()).then_some(at..end);
        }
        at = end;
    }
    None
}

/// RFC 7541, section 5.2, without undoing a Huffman code.
fn string_end(block: &[u8], mut at: usize) -> Option<usize> {
    let length = integer(block, &mut at, 7)?;
    at.checked_add(length).filter(|end| *end <= block.len())
}

/// RFC 7541, section 5.1: an integer that begins in the low `bits` of a byte.
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let limit = (1 << bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & limit;
    *at += 1;
    if value < limit {
        return Some(value);
    }
    // A frame has no more than 2^14 bytes; three further digits are plenty.
    for shift in [0, 7, 14] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len();
        let head = [0, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        [&head[..], payload].concat()
    }

    /// `:method POST`, a new table size, `:path` as a literal, then `authority`
    /// and `:scheme http`.
    fn block(authority: &[u8]) -> Vec<u8> {
        [&[0x83, 0x3f, 0x81, 0x1f, 0x44, 3][..], b"/a/", authority, &[0x86]].concat()
    }

    fn pushed(input: &[u8], piece: usize) -> Vec<u8> {
        let mut repair = Repair { state: State::Pass(PREFACE), collected: Vec::new() };
        let mut out = BytesMut::new();
        for piece in input.chunks(piece) {
            repair.push(piece, &mut out);
        }
        out.to_vec()
    }

    #[test]
    fn the_authority_is_replaced_and_nothing_else() {
        let long = "x".repeat(200);
        // 0x4_: to be put into the table; 0x0_: not; 0x1_: never.
        let fields: [(&[u8], &[u8]); 5] = [
            (&[0x41], b"\x07/a.sock"),
            (&[0x01], &[0x82, 0xfe, 0xff]),
            (&[0x11], &[&[0x7f, 73], long.as_bytes()].concat()),
            (b"\x40\x0a:authority", b"\x07/a.sock"),
            (&[&[0], NAMES[1]].concat(), b"\x07/a.sock"),
        ];
        let preface = [b'P'; PREFACE];
        for (name, value) in fields {
            let sent = [name, value].concat();
            let replaced = [name, &REPLACEMENT].concat();
            let stream = |authority: &[u8]| {
                let block = block(authority);
                let padded = [&[2, 0, 0, 0, 0, 9][..], &block, &[0, 0]].concat();
                [
                    &preface[..],
                    &frame(4, 0, b"settings"),
                    &frame(HEADERS, 0x4, &block),
                    &frame(0, 0, &[0x41; 300]),
                    &frame(4, 1, b""),
                    &frame(HEADERS, 0x4 | PADDED | PRIORITY, &padded),
                    &frame(HEADERS, 0x4, &[0x83, 0xbe]),
                ]
                .concat()
            };
            for piece in [1, 7, 10_000] {
                assert_eq!(pushed(&stream(&sent), piece), stream(&replaced), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_malformed_passes_as_it_is() {
        for payload in [
            &[0x41][..],
            &[0x41, 200, 1],
            &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x40, 9, 1],
            &[0x41, 0],
            &[0xff],
        ] {
            for flags in [0, PADDED, PRIORITY, PADDED | PRIORITY] {
                let stream = [&[b'P'; PREFACE][..], &frame(HEADERS, flags, payload)].concat();
                assert_eq!(pushed(&stream, 3), stream, "{payload:?} {flags}");
            }
        }
    }
}
