//! Unary calls.

use bytes::Bytes;
use notnets::SharedBytes;

use super::super::case::Work;
use super::super::channel::Channel;
use super::super::control::Load;
use super::super::proto::bench_client::BenchClient;
use super::super::proto::{Message, Question};
use super::super::sizes::Sizes;
use super::Caller;
use crate::Result;

/// The number of different sizes that take turns.
const DRAWN: usize = 1024;
/// The byte that every payload is made of.
pub const FILLER: u8 = 0x5a;

/// Payloads that were made before the first call.
pub struct Payloads {
    bytes: Bytes,
    sizes: Vec<Sizes>,
    next: usize,
    marker: u32,
}

impl Payloads {
    /// Makes the payloads of a task.
    pub fn new(load: &Load, task: usize) -> Self {
        let seed = load.seed ^ (task as u64) << 32;
        let count = if matches!(load.size, super::super::sizes::Size::Bytes(_)) { 1 } else { DRAWN };
        let sizes = load.size.draw(count, seed);
        let most = sizes.iter().map(|sizes| sizes.request).max().unwrap_or(0);
        let bytes = if load.shared && most > 0 {
            SharedBytes::build(most, |bytes| bytes.fill(FILLER)).expect("memory for the payload").into()
        } else {
            vec![FILLER; most].into()
        };
        Self { bytes, sizes, next: 0, marker: (task as u32) << 20 }
    }

    /// Returns the next request's payload, its marker, and the length of its reply.
    #[inline]
    pub fn next(&mut self) -> (Bytes, u32, Sizes) {
        let sizes = self.sizes[self.next];
        self.next = if self.next + 1 == self.sizes.len() { 0 } else { self.next + 1 };
        self.marker = self.marker.wrapping_add(1);
        (self.bytes.slice(..sizes.request), self.marker, sizes)
    }
}

/// Checks that a reply is the expected one: the reply to this call, of the expected length, and with the
/// expected bytes at both ends.
#[inline]
pub fn check(reply: &Message, marker: u32, bytes: usize) -> Result {
    let Message { payload, marker: got, .. } = reply;
    let ends = [payload.first(), payload.last()];
    let right =
        *got == marker && payload.len() == bytes && ends.into_iter().flatten().all(|byte| *byte == FILLER);
    if right { Ok(()) } else { Err(wrong(reply, marker, bytes)) }
}

#[cold]
fn wrong(reply: &Message, marker: u32, bytes: usize) -> Box<dyn std::error::Error + Send + Sync> {
    let got = reply.marker;
    let len = reply.payload.len();
    format!("a wrong reply: {len} bytes with marker {got:#x}, not {bytes} with {marker:#x}").into()
}

/// Makes unary calls.
pub struct Unary<C> {
    client: BenchClient<C>,
    payloads: Payloads,
    ask: bool,
    read: bool,
}

impl<C: Channel> Unary<C> {
    /// Of the kind and sizes in the order.
    pub fn new(client: BenchClient<C>, load: &Load, task: usize) -> Self {
        Self { client, payloads: Payloads::new(load, task), ask: load.work == Work::Ask, read: load.read }
    }
}

impl<C: Channel> Caller for Unary<C> {
    async fn call(&mut self) -> Result {
        let (payload, marker, sizes) = self.payloads.next();
        let read = self.read;
        if self.ask {
            let reply_bytes = sizes.reply as u32;
            let question = Question { payload, marker, reply_bytes, count: 1, read };
            check(self.client.ask(question).await?.get_ref(), marker, sizes.reply)
        } else {
            let message = Message { payload, marker, read };
            check(self.client.echo(message).await?.get_ref(), marker, sizes.request)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_replies_are_noticed() {
        let reply = |bytes: &'static [u8], marker| Message {
            payload: Bytes::from_static(bytes),
            marker,
            read: false,
        };
        assert!(check(&reply(b"ZZZ", 7), 7, 3).is_ok());
        assert!(check(&reply(b"", 7), 7, 0).is_ok());
        for (wrong, bytes) in [
            (reply(b"ZZZ", 8), 3),
            (reply(b"ZZ", 7), 3),
            (reply(b"", 7), 1),
            (reply(b"ZZa", 7), 3),
            (reply(b"aZZ", 7), 3),
        ] {
            assert!(check(&wrong, 7, bytes).is_err(), "{wrong:?}");
        }
    }
}
