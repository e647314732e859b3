//! The sentence of a status as gRPC has it in trailers: percent-encoded.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// The key that it has there.
pub const KEY: &str = "grpc-message";
/// What does not travel as it is.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// A sentence as it travels.
pub fn encode(message: &str) -> String {
    utf8_percent_encode(message, ESCAPED).to_string()
}

/// A sentence that a peer sent.
pub fn decode(value: &[u8]) -> String {
    percent_decode(value).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        for message in ["", "no bread", "100 % – ünïcode\nand\tmore", "%41"] {
            let encoded = encode(message);
            assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{encoded}");
            assert_eq!(decode(encoded.as_bytes()), message);
        }
    }
}
