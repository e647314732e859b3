//! Messages that nothing encodes: a payload's bytes as they are, with a marker in the first of them.

use super::case::Work;
use super::control::Load;
use super::load::unary::FILLER;
use super::service::MAX_MESSAGE;
use super::sizes::{Size, Sizes};
use crate::Result;

/// The number of different sizes that take turns.
const DRAWN: usize = 1024;
/// Bytes of a request to `ask`, at least: its marker and the length of the reply that it wants.
const ASK_BYTES: usize = 8;

/// The requests of a caller, one after the other.
pub struct Requests {
    message: Vec<u8>,
    sizes: Vec<Sizes>,
    next: usize,
    now: Sizes,
    marker: u32,
    ask: bool,
}

impl Requests {
    /// Makes those of the caller of a number.
    pub fn new(load: &Load, caller: u32) -> Self {
        let count = if matches!(load.size, Size::Bytes(_)) { 1 } else { DRAWN };
        let ask = load.work == Work::Ask;
        let least = if ask { ASK_BYTES } else { 0 };
        let mut sizes = load.size.draw(count, load.seed ^ u64::from(caller) << 32);
        sizes.iter_mut().for_each(|sizes| sizes.request = sizes.request.max(least));
        let most = sizes.iter().map(|sizes| sizes.request).max().unwrap_or(0);
        let message = vec![FILLER; most];
        Self { message, now: sizes[0], sizes, next: 0, marker: caller << 20, ask }
    }

    /// Returns the next request.
    pub fn next(&mut self) -> &[u8] {
        self.now = self.sizes[self.next];
        self.next = if self.next + 1 == self.sizes.len() { 0 } else { self.next + 1 };
        self.marker = self.marker.wrapping_add(1);
        let message = &mut self.message[..self.now.request];
        write(message, &self.marker.to_le_bytes());
        if self.ask {
            message[4..ASK_BYTES].copy_from_slice(&(self.now.reply as u32).to_le_bytes());
        }
        message
    }

    /// Checks the reply to the request that was returned last.
    ///
    /// # Errors
    /// When it is another reply.
    pub fn check(&self, reply: &[u8]) -> Result {
        let request = &self.message[..self.now.request];
        let right = if self.ask {
            reply.len() == self.now.reply && begins_alike(reply, request)
        } else {
            reply == request
        };
        if right { Ok(()) } else { Err("a wrong reply".into()) }
    }
}

/// Returns the length of the reply that a request to `ask` wants, and the bytes that it is to begin with.
/// `None`: it is no such request.
pub fn wanted(request: &[u8]) -> Option<(usize, [u8; 4])> {
    let [a, b, c, d, e, f, g, h, ..] = request else { return None };
    let bytes = u32::from_le_bytes([*e, *f, *g, *h]) as usize;
    Some((bytes.min(MAX_MESSAGE), [*a, *b, *c, *d]))
}

/// Overwrites the beginning of a message, as far as it goes.
pub fn write(message: &mut [u8], first: &[u8]) {
    for (byte, first) in message.iter_mut().zip(first) {
        *byte = *first;
    }
}

fn begins_alike(reply: &[u8], request: &[u8]) -> bool {
    reply.iter().zip(&request[..4]).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(work: Work, bytes: usize) -> Load {
        let size = Size::Bytes(bytes);
        Load {
            work,
            size,
            outstanding: 1,
            burn_ns: 0,
            shared: false,
            read: false,
            rate: None,
            start: 0,
            seconds: 1.0,
            seed: 1,
        }
    }

    #[test]
    fn an_echo_has_to_be_the_request() {
        let mut requests = Requests::new(&load(Work::Echo, 64), 3);
        let first = requests.next().to_vec();
        assert!(requests.check(&first).is_ok());
        let second = requests.next().to_vec();
        assert_ne!(first, second);
        for wrong in [&first[..], &second[..63], &[]] {
            assert!(requests.check(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_reply_has_the_wanted_length_and_marker() {
        let mut requests = Requests::new(&load(Work::Ask, 64), 0);
        let request = requests.next();
        let (bytes, first) = wanted(request).unwrap();
        let mut reply = vec![FILLER; bytes];
        write(&mut reply, &first);
        assert!(requests.check(&reply).is_ok());
        assert!(requests.check(&reply[1..]).is_err());
        reply[0] = !reply[0];
        assert!(requests.check(&reply).is_err());
        assert_eq!(wanted(&[1; 7]), None);
    }
}
