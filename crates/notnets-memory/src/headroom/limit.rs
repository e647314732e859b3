//! A limit of memory, and where it is set.

use std::fmt;
use std::path::PathBuf;

/// A limit and how near it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// The owner of the limit.
    pub source: Source,
    /// How many bytes may be in use.
    pub limit: u64,
    /// How many bytes are in use.
    pub usage: u64,
    /// How many of these the kernel takes back when it needs them.
    pub reclaimable: u64,
}

impl Limit {
    /// How many bytes may still be taken.
    pub fn available(&self) -> u64 {
        self.limit.saturating_sub(self.usage.saturating_sub(self.reclaimable))
    }
}

/// Where a limit is set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A control group at or above that of this process.
    ControlGroup {
        /// Its directory.
        path: PathBuf,
        /// The file in it that holds the limit.
        file: &'static str,
    },
    /// The host has no more memory.
    Host,
    /// `RLIMIT_FSIZE` of this process, which shared memory is held to as files are.
    FileSize,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::ControlGroup { path, file } => {
                write!(f, "{file} of the control group {}", path.display())
            }
            Source::Host => f.write_str("the memory of this host"),
            Source::FileSize => f.write_str("RLIMIT_FSIZE of this process"),
        }
    }
}

impl Source {
    /// Returns an operator's remedy.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Source::ControlGroup { .. } => "raise that limit, or share less memory",
            Source::Host => "stop something else, or share less memory",
            Source::FileSize => "raise it with `ulimit -f`",
        }
    }
}
