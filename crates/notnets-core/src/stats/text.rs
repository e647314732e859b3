//! Texts in a stats segment: a word with the number of bytes, then the bytes.

use notnets_memory::{OwnMemory, ReadMemory, WORD, WriteMemory};

use crate::text::shown;

/// Writes as much of a text as `words` words have room for, the first of which holds its length.
pub(super) fn write_text(memory: &OwnMemory, word: usize, words: usize, text: &str) {
    let room = (words - 1) * WORD;
    // A character that is cut in two is shown as a replacement.
    let bytes = &text.as_bytes()[..text.len().min(room)];
    memory.copy_in((word + 1) * WORD, bytes);
    memory.store(word, bytes.len() as u64);
}

/// Reads a text that any process may have written.
pub(super) fn read_text(memory: &impl ReadMemory, word: usize, words: usize) -> String {
    let room = (words - 1) * WORD;
    let len = usize::try_from(memory.load(word)).unwrap_or(room).min(room);
    let mut bytes = vec![0; len];
    memory.copy_out((word + 1) * WORD, &mut bytes);
    shown(&String::from_utf8_lossy(&bytes))
}
