//! What stands in for iceoryx2 in a build without it.

use std::path::Path;

use super::control::{Connect, Serve};
use crate::Result;

/// Whether it can be measured.
pub const BUILT: bool = false;
/// The most calls that a client may have open.
pub const MAX_OPEN: u32 = 1;
/// The most client processes.
pub const MAX_CLIENTS: u32 = 1;

/// Nothing serves: [`super::case::Case::check`] does not let a case come here.
pub fn serve(_: &Serve) -> Result {
    Err(MISSING.into())
}

/// Nothing is called.
pub fn call(_: &Connect) -> Result {
    Err(MISSING.into())
}

/// Nothing remains.
pub fn remove_remains(_: &Path) {}

const MISSING: &str = "built without the feature iceoryx2";
