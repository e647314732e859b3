//! Metadata as it travels: a list of keys and values at the head of a payload
//! (`docs/protocol.md`, "Heads").
//!
//! An entry is the key's tag and bytes ([`crate::strings`]), the value's length in four bytes, and
//! the value. Order and repetition are kept.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use thin_vec::ThinVec;

use crate::strings::{BadString, MAX_STRING, StringReader, StringWriter};

/// A key and its value.
pub type Entry = (Arc<str>, Bytes);

/// Keys and values, in the order they were sent. Keys may repeat.
///
/// ```
/// use notnets_core::metadata::Metadata;
///
/// let mut metadata = Metadata::new();
/// metadata.push("shelf", "top");
/// metadata.push("shelf", "bottom");
/// assert_eq!(metadata.get("shelf").map(|value| &value[..]), Some(&b"top"[..]));
/// assert_eq!(metadata.len(), 2);
/// ```
// Most calls have none: a pointer is all that they carry and move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(ThinVec<Entry>);

impl Metadata {
    /// No entries.
    #[inline]
    pub const fn new() -> Self {
        Self(ThinVec::new())
    }

    /// Appends an entry.
    pub fn push(&mut self, key: impl Into<Arc<str>>, value: impl Into<Bytes>) {
        self.0.push((key.into(), value.into()));
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&Bytes> {
        self.iter().find(|(of, _)| **of == *key).map(|(_, value)| value)
    }

    /// Returns `true` if there are no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The entries in order.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    /// Removes the entries for which `keep` returns `false`.
    pub fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.0.retain(keep);
    }

    /// Removes all entries, and keeps their memory for others.
    #[inline]
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<const N: usize> From<[Entry; N]> for Metadata {
    fn from(entries: [Entry; N]) -> Self {
        entries.into_iter().collect()
    }
}

impl FromIterator<Entry> for Metadata {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Extend<Entry> for Metadata {
    fn extend<I: IntoIterator<Item = Entry>>(&mut self, entries: I) {
        self.0.extend(entries);
    }
}

impl<'a> IntoIterator for &'a Metadata {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Metadata {
    type Item = Entry;
    type IntoIter = IntoIter;

    #[inline]
    fn into_iter(self) -> IntoIter {
        IntoIter(self.0.into_iter())
    }
}

/// The entries of [`Metadata`] that is used up.
#[derive(Debug)]
pub struct IntoIter(thin_vec::IntoIter<Entry>);

impl Iterator for IntoIter {
    type Item = Entry;

    #[inline]
    fn next(&mut self) -> Option<Entry> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for IntoIter {}

/// A list of more entries is cut to its size.
const FEW: usize = 16;

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

/// Parses all entries of a head, which is empty then. Most heads are empty before: they are not moved for
/// that.
///
/// # Errors
/// When the peer broke the rules.
#[inline]
pub fn read(head: &mut Bytes, strings: &mut StringReader) -> Result<Metadata, BadHead> {
    if head.is_empty() { Ok(Metadata::new()) } else { read_entries(head, strings) }
}

fn read_entries(head: &mut Bytes, strings: &mut StringReader) -> Result<Metadata, BadHead> {
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
        metadata.push(key, head.split_to(len));
    }
    if metadata.len() > FEW {
        metadata.0.shrink_to_fit();
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_repeat_in_order() {
        let entry = |key: &str, value: &'static str| -> Entry { (key.into(), value.into()) };
        let mut metadata = Metadata::from([entry("a", "1"), entry("b", "2")]);
        metadata.extend([entry("a", "3")]);
        assert_eq!((metadata.get("a"), metadata.get("c")), (Some(&Bytes::from("1")), None));
        metadata.retain(|(key, _)| &**key == "a");
        let values: Vec<_> = (&metadata).into_iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(values, ["1", "3"]);
        assert_eq!(metadata.clone().into_iter().len(), 2);
        metadata.clear();
        assert!(metadata.is_empty() && metadata == Metadata::new());
    }

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
