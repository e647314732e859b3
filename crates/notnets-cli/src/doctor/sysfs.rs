//! What the kernel says of a device, a file for each attribute.

use std::fs;
use std::path::Path;

/// Reads an attribute. `None` if there is none, or not for us.
pub fn read(directory: &Path, attribute: &str) -> Option<String> {
    Some(fs::read_to_string(directory.join(attribute)).ok()?.trim().to_owned())
}
