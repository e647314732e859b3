//! Metadata as they travel: a list of keys and values at the head of a payload
//! (`docs/protocol.md`, "Heads").
//!
//! An entry is the key's tag and bytes ([`crate::strings`]), the value's length in four bytes, and
//! the value. Order and repetition are kept.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use thin_vec::ThinVec;

use crate::strings::{BadString, MAX_STRING, StringReader, StringWriter};

/// Keys and values, in the order they were sent.
pub type Metadata = ThinVec<(Arc<str>, Bytes)>;

/// A head that can't be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// In one of its strings.
    #[error(transparent)]
    String(#[from] BadString),
    /// It ends within an entry.
    #[error("a head that ends within an entry")]
    Short,
}

/// A key that is longer than a string can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a metadata key or method path of {0} bytes, over the limit of {MAX_STRING}")]
pub struct KeyTooLong(pub usize);

/// Appends a string's tag and bytes.
///
/// # Errors
/// When it is too long for a tag.
#[inline]
pub fn write_string(head: &mut Vec<u8>, strings: &mut StringWriter, string: &str) -> Result<(), KeyTooLong> {
    if string.len() > MAX_STRING {
        return Err(KeyTooLong(string.len()));
    }
    let (tag, bytes_follow) = strings.tag(string);
    head.extend_from_slice(&tag.to_le_bytes());
    if bytes_follow {
        head.extend_from_slice(string.as_bytes());
    }
    Ok(())
}

/// Appends entries.
///
/// # Errors
/// When a key is too long.
#[inline]
pub fn write<'a>(
    head: &mut Vec<u8>,
    strings: &mut StringWriter,
    entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<(), KeyTooLong> {
    for (key, value) in entries {
        write_string(head, strings, key)?;
        head.extend_from_slice(&(value.len() as u32).to_le_bytes());
        head.extend_from_slice(value);
    }
    Ok(())
}

/// Parses a string with its tag from the front of a head.
///
/// # Errors
/// When the peer broke the rules.
pub fn read_string(head: &mut Bytes, strings: &mut StringReader) -> Result<Arc<str>, BadHead> {
    if head.len() < 2 {
        return Err(BadHead::Short);
    }
    let tag = head.get_u16_le();
    Ok(strings.read(tag, head)?)
}

/// Parses all entries of a head, which is empty then. Mostly it is before: it is not moved for that.
///
/// # Errors
/// When the peer broke the rules.
#[inline]
pub fn read(head: &mut Bytes, strings: &mut StringReader) -> Result<Metadata, BadHead> {
    let mut metadata = Metadata::new();
    while !head.is_empty() {
        let key = read_string(head, strings)?;
        if head.len() < 4 {
            return Err(BadHead::Short);
        }
        let len = head.get_u32_le() as usize;
        if len > head.len() {
            return Err(BadHead::Short);
        }
        metadata.push((key, head.split_to(len)));
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_round_trip(calls in prop::collection::vec(prop::collection::vec(("[a-c]{1,3}", any::<Vec<u8>>()), 0..5), 0..20)) {
            let (mut writer, mut reader) = (StringWriter::default(), StringReader::default());
            for entries in calls {
                let mut head = Vec::new();
                write(&mut head, &mut writer, entries.iter().map(|(k, v)| (k.as_str(), v.as_slice()))).unwrap();
                writer.commit();
                let read = read(&mut Bytes::from(head), &mut reader).unwrap();
                let read: Vec<_> = read.into_iter().map(|(k, v)| (k.to_string(), v.to_vec())).collect();
                prop_assert_eq!(read, entries);
            }
        }

        #[test]
        fn wild_heads_do_no_harm(bytes in any::<Vec<u8>>()) {
            let _ = read(&mut Bytes::from(bytes), &mut StringReader::default());
        }
    }
}
