//! Keys and values that go with a call.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use notnets_core::metadata;

/// How gRPC writes binary values: without padding, and it reads them with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Keys of binary values end with this.
const BINARY: &str = "-bin";
/// gRPC's own entries in a head or in trailers, which have places of their own here.
const RESERVED: [&str; 6] =
    ["grpc-status", "grpc-message", "grpc-timeout", "te", "content-type", "user-agent"];

/// The metadata of a request, of a response's head, or of its end: keys and values, in the order they were
/// added. Keys may repeat. An empty one takes no memory.
///
/// Keys are of lower-case letters, digits, `-`, `_` and `.`. The values of keys that end with `-bin` are any
/// bytes, all others are printable ASCII.
///
/// ```
/// use notnets::rpc::Metadata;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut metadata = Metadata::new();
/// metadata.append("trace-id", "4711")?;
/// metadata.append_bin("shape-bin", &[0, 255])?;
/// assert_eq!(metadata.get("trace-id"), Some("4711"));
/// assert_eq!(metadata.get_bin("shape-bin").as_deref(), Some(&[0, 255][..]));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(metadata::Metadata);

/// A key or value that can't be sent as metadata.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMetadata {
    /// The key has other characters than it may have.
    #[error("{0:?} is not a metadata key: lower-case letters, digits, '-', '_' and '.'")]
    Key(String),
    /// The key is one of gRPC's own.
    #[error("the metadata key {0:?} is reserved")]
    Reserved(String),
    /// The value of this key is not printable ASCII.
    #[error("the value of the metadata key {0:?} is not printable ASCII: its name should end with -bin")]
    Value(String),
    /// The key of a binary value does not end with `-bin`, or that of a text does.
    #[error(
        "the metadata key {0:?} has the wrong kind of value: those of -bin keys are binary, others are text"
    )]
    Kind(String),
}

impl fmt::Debug for InvalidMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `main` and `unwrap` print this.
        write!(f, "InvalidMetadata({:?})", self.to_string())
    }
}

impl Metadata {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key with a text.
    ///
    /// # Errors
    /// When key or value can't be sent.
    pub fn append(
        &mut self,
        key: impl Into<Arc<str>>,
        value: impl Into<Bytes>,
    ) -> Result<(), InvalidMetadata> {
        let key = check_key(key.into())?;
        let value = value.into();
        if key.ends_with(BINARY) {
            return Err(InvalidMetadata::Kind(key.to_string()));
        }
        if !value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err(InvalidMetadata::Value(key.to_string()));
        }
        self.0.push(key, value);
        Ok(())
    }

    /// Adds a key that ends with `-bin`, with any bytes.
    ///
    /// # Errors
    /// When the key can't be sent.
    pub fn append_bin(
        &mut self,
        key: impl Into<Arc<str>>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), InvalidMetadata> {
        let key = check_key(key.into())?;
        if !key.ends_with(BINARY) {
            return Err(InvalidMetadata::Kind(key.to_string()));
        }
        self.0.push(key, BASE64.encode(value));
        Ok(())
    }

    /// The first value of a key, if it is a text.
    pub fn get(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.find(key)?).ok()
    }

    /// The first value of a key that ends with `-bin`.
    pub fn get_bin(&self, key: &str) -> Option<Vec<u8>> {
        BASE64.decode(self.find(key)?).ok()
    }

    /// All keys and values as they are sent: binary values in base64.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if it has no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all values of a key.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(present, _)| &**present != key);
    }

    fn find(&self, key: &str) -> Option<&Bytes> {
        self.0.iter().find(|(present, _)| &**present == key).map(|(_, value)| value)
    }

    pub(super) fn received(metadata: metadata::Metadata) -> Self {
        Self(metadata)
    }

    /// Takes out a value that has a place of its own here.
    pub(super) fn take(&mut self, key: &str) -> Option<Bytes> {
        if self.0.is_empty() {
            return None;
        }
        let value = self.find(key)?.clone();
        self.remove(key);
        Some(value)
    }
}

/// Returns `true` if these are the bytes of a binary value, as it travels.
pub(crate) fn is_base64(bytes: &[u8]) -> bool {
    BASE64.decode(bytes).is_ok()
}

fn check_key(key: Arc<str>) -> Result<Arc<str>, InvalidMetadata> {
    let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if key.is_empty() || !key.bytes().all(is_allowed) {
        Err(InvalidMetadata::Key(key.to_string()))
    } else if RESERVED.contains(&&*key) {
        Err(InvalidMetadata::Reserved(key.to_string()))
    } else {
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let mut metadata = Metadata::new();
        for wrong in ["", "Upper", ":path", "a b", "ä", "grpc-status", "te"] {
            assert!(metadata.append(wrong, "x").is_err(), "{wrong}");
        }
        assert_eq!(metadata.append("a-bin", "x"), Err(InvalidMetadata::Kind("a-bin".into())));
        assert_eq!(metadata.append_bin("a", "x"), Err(InvalidMetadata::Kind("a".into())));
        assert_eq!(metadata.append("a", "\n"), Err(InvalidMetadata::Value("a".into())));
        assert!(metadata.is_empty());
    }

    #[test]
    fn keys_repeat_and_keep_their_order() {
        let mut metadata = Metadata::new();
        metadata.append("a", "1").unwrap();
        metadata.append_bin("b-bin", [1, 2]).unwrap();
        metadata.append("a", "2").unwrap();
        let all: Vec<_> = metadata.iter().collect();
        assert_eq!(all, [("a", &b"1"[..]), ("b-bin", b"AQI"), ("a", b"2")]);
        metadata.remove("a");
        assert_eq!((metadata.len(), metadata.get("a")), (1, None));
        assert_eq!(metadata.get_bin("b-bin"), Some(vec![1, 2]));
    }

    #[test]
    fn binary_values_are_read_with_and_without_padding() {
        for text in ["AQI", "AQI="] {
            let metadata = Metadata::received([("b-bin".into(), Bytes::from(text))].into());
            assert_eq!(metadata.get_bin("b-bin"), Some(vec![1, 2]));
        }
    }
}
