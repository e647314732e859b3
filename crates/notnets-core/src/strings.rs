//! Strings that repeat, sent once for each link: method paths and metadata keys.
//!
//! A string is announced by a 16-bit *tag* (`docs/protocol.md`, "Strings"):
//!
//! | tag | then | meaning |
//! | --- | --- | --- |
//! | `0x8000 \| id` | nothing | the string with that id |
//! | `0x4000 \| length` | this many bytes | this string, and it gets the next id |
//! | `length` | this many bytes | this string, this once |
//!
//! Both sides count ids from 0. The sender stays within the limits that the receiver announced.
//! User metadata *values* are never interned: values that differ from call to call would fill the table.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::HashMap;

const KNOWN: u16 = 0x8000;
const DEFINE: u16 = 0x4000;
const MASK: u16 = 0x3fff;

/// The most bytes of a string.
pub const MAX_STRING: usize = MASK as usize;
/// The most strings of a table: ids are below this.
pub const MAX_STRINGS: usize = 4096;
/// The most bytes of all strings of a table together.
pub const MAX_STRING_BYTES: usize = 64 * 1024;

/// Something that can't be a string of this link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadString {
    /// An id that was not defined.
    #[error("string {id} of {known} that were defined")]
    Unknown {
        /// The id that the peer sent.
        id: u16,
        /// How many there are.
        known: usize,
    },
    /// More strings, or bytes of them, than were announced.
    #[error("more strings than the limit of {MAX_STRINGS} or {MAX_STRING_BYTES} bytes")]
    TooMany,
    /// Not UTF-8.
    #[error("a string that is not UTF-8")]
    NotUtf8,
    /// The head ends within it.
    #[error("a head that ends within a string")]
    Short,
}

/// The sender's table.
#[derive(Debug, Default)]
pub struct StringWriter {
    ids: HashMap<Box<str>, u16>,
    /// Strings defined since the last commit, to be taken back if what defines them is not sent.
    fresh: Vec<Box<str>>,
    bytes: usize,
}

impl StringWriter {
    /// The tag for a string, and whether its bytes must follow.
    #[inline]
    pub fn tag(&mut self, string: &str) -> (u16, bool) {
        if let Some(id) = self.ids.get(string) {
            return (KNOWN | id, false);
        }
        let len = string.len() as u16;
        if self.ids.len() == MAX_STRINGS || self.bytes + string.len() > MAX_STRING_BYTES {
            return (len, true);
        }
        let id = self.ids.len() as u16;
        self.bytes += string.len();
        self.ids.insert(string.into(), id);
        self.fresh.push(string.into());
        (DEFINE | len, true)
    }

    /// The id of a string, by its tag; `None` if it is sent in full each time.
    #[inline]
    pub fn id(&self, tag: u16, string: &str) -> Option<u16> {
        if tag & KNOWN == 0 { self.ids.get(string).copied() } else { Some(tag & !KNOWN) }
    }

    /// Keeps the tags since the last commit: they have been sent.
    #[inline]
    pub fn commit(&mut self) {
        self.fresh.clear();
    }

    /// Drops the tags since the last commit: they have not been sent.
    pub fn roll_back(&mut self) {
        for string in self.fresh.drain(..) {
            self.bytes -= string.len();
            self.ids.remove(&string);
        }
    }
}

/// The receiver's table.
#[derive(Debug, Default)]
pub struct StringReader {
    strings: Vec<Arc<str>>,
    bytes: usize,
}

impl StringReader {
    /// The id of the string that was read last, by its tag; `None` if it is sent in full each time.
    #[inline]
    pub fn id(&self, tag: u16) -> Option<u16> {
        match tag {
            _ if tag & KNOWN != 0 => Some(tag & !KNOWN),
            _ if tag & DEFINE != 0 => (self.strings.len() as u16).checked_sub(1),
            _ => None,
        }
    }

    /// Reads the string that a tag announces, its bytes from the front of `rest`.
    ///
    /// # Errors
    /// When the peer broke the rules above.
    #[inline]
    pub fn read(&mut self, tag: u16, rest: &mut Bytes) -> Result<Arc<str>, BadString> {
        if tag & KNOWN != 0 {
            let id = tag & !KNOWN;
            let unknown = BadString::Unknown { id, known: self.strings.len() };
            return self.strings.get(id as usize).cloned().ok_or(unknown);
        }
        let len = (tag & MASK) as usize;
        if len > rest.len() {
            return Err(BadString::Short);
        }
        let bytes = rest.split_to(len);
        let string: Arc<str> = std::str::from_utf8(&bytes).map_err(|_| BadString::NotUtf8)?.into();
        if tag & DEFINE != 0 {
            if self.strings.len() == MAX_STRINGS || self.bytes + len > MAX_STRING_BYTES {
                return Err(BadString::TooMany);
            }
            self.bytes += len;
            self.strings.push(Arc::clone(&string));
        }
        Ok(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(
        writer: &mut StringWriter,
        reader: &mut StringReader,
        string: &str,
    ) -> Result<Arc<str>, BadString> {
        let (tag, bytes_follow) = writer.tag(string);
        writer.commit();
        let mut rest = if bytes_follow { Bytes::copy_from_slice(string.as_bytes()) } else { Bytes::new() };
        reader.read(tag, &mut rest)
    }

    #[test]
    fn a_string_is_sent_once() {
        let (mut writer, mut reader) = (StringWriter::default(), StringReader::default());
        for _ in 0..3 {
            assert_eq!(&*send(&mut writer, &mut reader, "/a.B/C").unwrap(), "/a.B/C");
        }
        assert_eq!(writer.tag("/a.B/C"), (KNOWN, false));
    }

    #[test]
    fn past_the_limits_strings_are_sent_each_time() {
        let (mut writer, mut reader) = (StringWriter::default(), StringReader::default());
        for i in 0..MAX_STRINGS + 10 {
            let string = format!("key-{i}");
            assert_eq!(*send(&mut writer, &mut reader, &string).unwrap(), *string);
        }
        assert_eq!(writer.ids.len(), MAX_STRINGS);
        let (mut writer, mut reader) = (StringWriter::default(), StringReader::default());
        for i in 0..20 {
            let string = format!("{i:>10000}");
            assert_eq!(*send(&mut writer, &mut reader, &string).unwrap(), *string);
        }
        assert!(writer.bytes <= MAX_STRING_BYTES);
    }

    #[test]
    fn what_was_not_sent_is_taken_back() {
        let mut writer = StringWriter::default();
        writer.tag("sent");
        writer.commit();
        assert_eq!(writer.tag("lost"), (DEFINE | 4, true));
        writer.roll_back();
        assert_eq!(writer.tag("lost"), (DEFINE | 4, true));
        assert_eq!(writer.tag("sent"), (KNOWN, false));
    }

    #[test]
    fn a_peer_that_breaks_the_rules_is_refused() {
        let mut reader = StringReader::default();
        assert_eq!(reader.read(KNOWN | 1, &mut Bytes::new()), Err(BadString::Unknown { id: 1, known: 0 }));
        assert_eq!(reader.read(3, &mut Bytes::from_static(b"ab")), Err(BadString::Short));
        assert_eq!(reader.read(2, &mut Bytes::from_static(b"\xff\xfe")), Err(BadString::NotUtf8));
        for _ in 0..MAX_STRINGS {
            reader.read(DEFINE | 1, &mut Bytes::from_static(b"a")).unwrap();
        }
        assert_eq!(reader.read(DEFINE | 1, &mut Bytes::from_static(b"a")), Err(BadString::TooMany));
    }
}
