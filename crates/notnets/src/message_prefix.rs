//! The five bytes that gRPC puts in front of each message: whether it is compressed, and its length.

use notnets_core::call::Role;
use notnets_core::frame::{PREFIX, prefix};

/// A message of more bytes is refused unless another limit is set, as by all gRPC libraries.
pub const MAX_MESSAGE_SIZE: usize = 4 * 1024 * 1024;

/// The longest message that one side of a call accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// That side.
    pub receiver: Role,
    /// Bytes.
    pub bytes: usize,
}

/// The most that is reserved by a message's announced length, before its bytes are there.
pub const MAX_RESERVED: usize = 64 * 1024;

/// A length that is not accepted. As a status it is `RESOURCE_EXHAUSTED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLength {
    /// Longer than the prefix can express.
    #[error("a message of more than 4 GiB")]
    TooLong,
    /// Longer than the receiver accepts.
    #[error(
        "a {} of {length} bytes, over the {side}'s limit of {}: send less, or raise max_message_size on the {side}",
        message_to(limit.receiver),
        limit.bytes,
        side = side(limit.receiver)
    )]
    OverLimit {
        /// The announced length.
        length: usize,
        /// What the receiver accepts.
        limit: Limit,
    },
}

fn message_to(receiver: Role) -> &'static str {
    match receiver {
        Role::Client => "response",
        Role::Server => "request",
    }
}

fn side(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
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
pub fn check(length: usize, limit: Limit) -> Result<(), BadLength> {
    if length > limit.bytes { Err(BadLength::OverLimit { length, limit }) } else { Ok(()) }
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
        for (receiver, text) in [
            (
                Role::Server,
                "a request of 101 bytes, over the server's limit of 100: send less, or raise max_message_size on the server",
            ),
            (
                Role::Client,
                "a response of 101 bytes, over the client's limit of 100: send less, or raise max_message_size on the client",
            ),
        ] {
            let limit = Limit { receiver, bytes: 100 };
            assert_eq!(check(100, limit), Ok(()));
            assert_eq!(check(101, limit).unwrap_err().to_string(), text);
        }
    }
}
