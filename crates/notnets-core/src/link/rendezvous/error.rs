//! Errors of serving and looking up names, with their remedies.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use notnets_memory::descriptors::DescriptorLimit;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use thiserror::Error;

use super::directory::{Directory, MAX_PATH_LENGTH, Origin};
use crate::name::Name;

/// Why a name can't be served or connected to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RendezvousError {
    /// Nobody serves the name.
    #[error(
        "nobody serves the name `{name}` in {directory}: {absence}, and {}; start its server, or {}",
        listed(present),
        directory.origin().remedy("the directory of its server")
    )]
    NoSuchName {
        /// The name.
        name: Name,
        /// Where it was looked for.
        directory: Directory,
        /// The evidence that was found instead.
        absence: Absence,
        /// The names that are served there.
        present: Vec<Name>,
    },

    /// Another listener has the name.
    #[error(
        "the name `{name}` is in use by {} ({}); stop it or serve another name, or make each server of this \
         name a replica",
        holder(*pid),
        path.display()
    )]
    NameInUse {
        /// The name.
        name: Name,
        /// Its socket.
        path: PathBuf,
        /// The process that listens there, unless it can't be seen from this pid namespace or is too busy to
        /// be asked.
        pid: Option<u32>,
    },

    /// The server has more clients waiting than it has room for. Trying again later may succeed.
    #[error("the server of `{name}` accepts no more clients for now, as its backlog is full ({}); try again later", path.display())]
    Busy {
        /// The name.
        name: Name,
        /// Its socket.
        path: PathBuf,
    },

    /// There is something else at the path than a socket of NotNets. It is left alone.
    #[error("{} is not a socket of NotNets, so it is left alone; remove it or choose another name", path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
    },

    /// A socket that was passed to this process can't serve a name.
    #[error(
        "the socket {} that was passed to this process can't serve a name: {why}; in a systemd unit write \
         ListenSequentialPacket=DIRECTORY/NAME",
        path.display()
    )]
    Passed {
        /// The path of the socket, as far as it has one.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },

    /// The path of the socket is too long.
    #[error(
        "{} has {length} bytes, while the path of a Unix socket has at most {MAX_PATH_LENGTH}; \
         {}, for all processes that are to meet",
        path.display(),
        origin.remedy("a shorter directory")
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// How many bytes it has.
        length: usize,
        /// Why it is in this directory.
        origin: Origin,
    },

    /// The file system denies access.
    #[error(
        "cannot {action} {}: permission denied: {} belongs to uid {owner} and gid {group} with mode {mode:04o}, while this process \
         has uid {uid} and gid {gid}; have its owner change that, or {}, for all processes that are to meet",
        path.display(),
        at.display(),
        origin.remedy("a directory of this uid")
    )]
    PermissionDenied {
        /// The step that failed.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The last file or directory on the way there that can be seen.
        at: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its group.
        group: u32,
        /// Its permission bits.
        mode: u32,
        /// Our effective uid.
        uid: u32,
        /// Our effective gid.
        gid: u32,
        /// Why it is in this directory.
        origin: Origin,
    },

    /// The directory, or one above it, is something else.
    #[error("{} is not a directory; {}", path.display(), origin.remedy("a directory"))]
    NotADirectory {
        /// What is in the way.
        path: PathBuf,
        /// Why it was to be this directory.
        origin: Origin,
    },

    /// Sockets can't be created on a read-only file system.
    #[error(
        "cannot {action} {} on a read-only file system; {}",
        path.display(),
        origin.remedy("a directory on tmpfs, as /run")
    )]
    ReadOnlyFileSystem {
        /// The step that failed.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it is in this directory.
        origin: Origin,
    },

    /// There is no file descriptor left.
    #[error("no file descriptor is left to {action} {}: {limit}", path.display())]
    NoDescriptors {
        /// The step that failed.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Which limit was reached.
        limit: DescriptorLimit,
    },

    /// Something else.
    #[error("cannot {action} {}: {cause}; {}", path.display(), origin.remedy("a directory where that is possible"))]
    Io {
        /// The step that failed.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it is in this directory.
        origin: Origin,
        /// The system's error.
        cause: io::Error,
    },
}

impl RendezvousError {
    /// Returns `true` if the same call may succeed a moment later, without anything being done about it.
    pub fn is_retryable(&self) -> bool {
        matches!(self, RendezvousError::Busy { .. })
    }

    pub(super) fn in_use(name: &Name, path: &Path, pid: Option<u32>) -> Self {
        RendezvousError::NameInUse { name: name.clone(), path: path.into(), pid }
    }

    /// The one place where error numbers get their meaning. `action` completes "cannot … /run/notnets".
    /// `origin` is that of the directory, for what to do about it.
    pub(super) fn from_errno(origin: Origin, action: &'static str, path: &Path, errno: Errno) -> Self {
        let path = path.to_path_buf();
        if let Some(limit) = DescriptorLimit::of(errno) {
            return RendezvousError::NoDescriptors { action, path, limit };
        }
        match errno {
            Errno::ACCESS | Errno::PERM => Self::denied(origin, action, path, errno),
            Errno::ROFS => RendezvousError::ReadOnlyFileSystem { action, path, origin },
            Errno::NOTDIR => {
                let path = last_visible(&path).map_or(path, |(at, _)| at);
                RendezvousError::NotADirectory { path, origin }
            }
            errno => RendezvousError::Io { action, path, origin, cause: errno.into() },
        }
    }

    pub(super) fn from_io(origin: Origin, action: &'static str, path: &Path, error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => Self::from_errno(origin, action, path, errno),
            None => RendezvousError::Io { action, path: path.into(), origin, cause: error },
        }
    }

    fn denied(origin: Origin, action: &'static str, path: PathBuf, errno: Errno) -> Self {
        let Some((at, metadata)) = last_visible(&path) else {
            return RendezvousError::Io { action, path, origin, cause: errno.into() };
        };
        RendezvousError::PermissionDenied {
            action,
            path,
            at,
            owner: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.permissions().mode() & 0o7777,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            origin,
        }
    }
}

/// The last file or directory on the way to `path` that can be seen.
fn last_visible(path: &Path) -> Option<(PathBuf, Metadata)> {
    path.ancestors().find_map(|at| Some((at.to_path_buf(), at.symlink_metadata().ok()?)))
}

/// The evidence that nobody serves a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// There is no directory.
    NoDirectory,
    /// There is no socket of that name.
    NoSocket,
    /// There is a socket, but its server has ended.
    Ended,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Absence::NoDirectory => "there is no such directory",
            Absence::NoSocket => "there is no such socket",
            Absence::Ended => "its server has ended",
        })
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => format!("this process (pid {pid})"),
        Some(pid) => format!("the process with pid {pid}"),
        None => "a process whose pid can't be told from here".into(),
    }
}

/// "cart and inventory are served there", cut where there are many.
fn listed(names: &[Name]) -> String {
    const MAX_SHOWN: usize = 20;
    let mut shown: Vec<String> = names.iter().take(MAX_SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > MAX_SHOWN {
        shown.push(format!("{} more", names.len() - MAX_SHOWN));
    }
    match shown.as_slice() {
        [] => "no other name is served there".into(),
        [one] => format!("{one} is the only name that is served there"),
        [first @ .., last] => format!("{} and {last} are served there", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(origin: Origin, errno: Errno) -> String {
        RendezvousError::from_errno(origin, "listen on", Path::new("/run/notnets/x"), errno).to_string()
    }

    fn message(errno: Errno) -> String {
        message_of(Origin::Default, errno)
    }

    #[test]
    fn error_numbers_become_advice() {
        assert!(message(Errno::ROFS).contains("read-only file system; set NOTNETS_DIR"));
        assert!(message(Errno::NFILE).contains("sysctl fs.file-max"));
        assert!(message(Errno::IO).starts_with("cannot listen on /run/notnets/x: "));
        assert!(message(Errno::IO).ends_with("; set NOTNETS_DIR to a directory where that is possible"));
    }

    #[test]
    fn a_directory_that_the_program_chose_is_not_changed_by_a_variable() {
        for errno in [Errno::ROFS, Errno::ACCESS, Errno::NOTDIR, Errno::NOENT] {
            let message = message_of(Origin::Program, errno);
            assert!(message.contains("let the program choose a directory"), "{message}");
            assert!(!message.contains("set NOTNETS_DIR"), "{message}");
        }
    }

    #[test]
    fn what_is_no_directory_is_named_itself() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let socket = file.path().join("inventory");
        let error = RendezvousError::from_errno(Origin::Variable, "connect to", &socket, Errno::NOTDIR);
        let expected =
            format!("{} is not a directory; set NOTNETS_DIR to a directory", file.path().display());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        let names: Vec<Name> = (10..40).map(|n| format!("s{n}").parse().expect("is a name")).collect();
        assert_eq!(listed(&names[..0]), "no other name is served there");
        assert_eq!(listed(&names[..1]), "`s10` is the only name that is served there");
        assert_eq!(listed(&names[..3]), "`s10`, `s11` and `s12` are served there");
        assert!(listed(&names).ends_with("`s29` and 10 more are served there"));
    }
}
