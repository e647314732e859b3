//! Reading the small text files that the kernel makes up.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The text of a kernel file. Its size isn't asked for, as the kernel reports none.
pub(super) fn read(path: &Path) -> Option<String> {
    let mut text = String::with_capacity(8 << 10);
    File::open(path).ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The number behind a key, in a file with one key to a line.
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_ascii_whitespace);
    words.find_map(|mut words| (words.next() == Some(key)).then(|| words.next()?.parse().ok())?)
}
