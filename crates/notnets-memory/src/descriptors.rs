//! Running out of file descriptors: which limit was reached, and what to do about it or before it.

use std::fmt;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process have as many file descriptors as it may. Programs with very many links call it: it does
/// not suit those that use `select`.
///
/// # Errors
/// When the kernel refuses. Then the limit stays as it is.
pub fn raise_limit() -> Result<(), Errno> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

/// Which limit left no file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorLimit {
    /// The limit of the process, `RLIMIT_NOFILE`.
    Process {
        /// The soft limit, which counts; `None` is without limit.
        soft: Option<u64>,
        /// The hard limit, to which the process may raise it.
        hard: Option<u64>,
    },
    /// The limit of the whole system, `fs.file-max`.
    System,
}

impl DescriptorLimit {
    /// The limit that this error number stands for, if it stands for one.
    pub fn of(errno: Errno) -> Option<Self> {
        match errno {
            Errno::MFILE => {
                let limit = getrlimit(Resource::Nofile);
                Some(Self::Process { soft: limit.current, hard: limit.maximum })
            }
            Errno::NFILE => Some(Self::System),
            _ => None,
        }
    }
}

impl fmt::Display for DescriptorLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |limit: &Option<u64>| limit.map_or("unlimited".into(), |limit| limit.to_string());
        match self {
            Self::Process { soft, hard } => write!(
                f,
                "RLIMIT_NOFILE of this process is {} (hard limit {}); raise it with `ulimit -n` or LimitNOFILE=, \
                 or look for descriptors that are not closed",
                number(soft),
                number(hard)
            ),
            Self::System => {
                f.write_str("the limit of the whole system is reached; raise it with `sysctl fs.file-max`")
            }
        }
    }
}
