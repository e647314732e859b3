//! The five bytes that gRPC puts in front of each message: whether it is compressed, and its length.

use notnets_core::frame::{PREFIX, prefix};

/// The most that is reserved by a message's announced length, before its bytes are there.
pub const MAX_RESERVED: usize = 64 * 1024;

/// A length that is not accepted. As a status it is `RESOURCE_EXHAUSTED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLength {
    /// Longer than the prefix can express.
    #[error("a message of more than 4 GiB")]
    TooLong,
    /// Longer than the receiver accepts.
    #[error("a message of {length} bytes, over the limit of {limit} (max_message_size)")]
    OverLimit {
        /// The announced length.
        length: usize,
        /// What the receiver accepts.
        limit: usize,
    },
}

/// The prefix of a message of `length` bytes.
///
/// # Errors
/// When it is longer than gRPC can express.
#[inline]
pub fn encode(length: usize, compressed: bool) -> Result<[u8; PREFIX], BadLength> {
    let mut bytes = prefix(u32::try_from(length).map_err(|_| BadLength::TooLong)?);
    bytes[0] = compressed.into();
    Ok(bytes)
}

/// The flag and the length in a received prefix.
#[inline]
pub fn decode(prefix: [u8; PREFIX]) -> (u8, usize) {
    let [flag, length @ ..] = prefix;
    (flag, u32::from_be_bytes(length) as usize)
}

/// Accepts the length of a received message.
///
/// # Errors
/// When it is over the limit.
#[inline]
pub fn check(length: usize, limit: usize) -> Result<(), BadLength> {
    if length > limit { Err(BadLength::OverLimit { length, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_survives_the_way() {
        for (length, compressed) in [(0, false), (7, true), (1 << 20, false)] {
            let prefix = encode(length, compressed).unwrap();
            assert_eq!(decode(prefix), (compressed.into(), length));
        }
    }

    #[test]
    fn lengths_beyond_what_is_possible_or_accepted_are_refused() {
        assert_eq!(encode(1 << 32, false), Err(BadLength::TooLong));
        let over = BadLength::OverLimit { length: 101, limit: 100 };
        assert_eq!((check(100, 100), check(101, 100)), (Ok(()), Err(over)));
    }
}
