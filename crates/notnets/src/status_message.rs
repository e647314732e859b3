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

/// Stands for the part of a sentence that was cut off.
const CUT: char = '…';

/// As much of a sentence, as it travels, as this many bytes hold.
#[cfg(any(feature = "blocking", feature = "server"))]
pub fn encode_within(message: &str, most: usize) -> String {
    let whole = encode(message);
    if whole.len() <= most {
        return whole;
    }
    let cost = |c: char| encode(c.encode_utf8(&mut [0; 4])).len();
    let Some(mut left) = most.checked_sub(cost(CUT)) else { return String::new() };
    let fits = |(_, c): &(usize, char)| left.checked_sub(cost(*c)).inspect(|less| left = *less).is_some();
    let end = message.char_indices().take_while(fits).last().map_or(0, |(at, c)| at + c.len_utf8());
    format!("{}{}", encode(&message[..end]), encode(CUT.encode_utf8(&mut [0; 4])))
}

/// A sentence that a peer sent.
pub fn decode(value: &[u8]) -> String {
    percent_decode(value).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "blocking", feature = "server"))]
    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(encode_within("short", 5), "short");
        assert_eq!(decode(encode_within("longer", 12).as_bytes()), "longer");
        for most in 0..100 {
            let cut = encode_within(&"aé%".repeat(100), most);
            assert!(cut.len() <= most && most - cut.len() < 16, "{most}: {cut}");
            let text = decode(cut.as_bytes());
            assert!(text.ends_with('…') || text.is_empty() && most < 9, "{most}: {text}");
            assert!(!text.contains('\u{fffd}'), "{text}");
        }
    }

    #[test]
    fn messages_survive_the_way() {
        for message in ["", "no bread", "100 % – ünïcode\nand\tmore", "%41"] {
            let encoded = encode(message);
            assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{encoded}");
            assert_eq!(decode(encoded.as_bytes()), message);
        }
    }
}
