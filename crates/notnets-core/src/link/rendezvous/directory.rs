//! Where names are looked up.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, path};

use rustix::io::Errno;

use super::error::{Absence, RendezvousError};
use super::listener::Listener;
use super::socket::{Found, Peephole, dial};
use super::successor::Successor;
use super::watch::DirectoryWatch;
use crate::name::Name;
use crate::random;

/// The variable that names the directory.
const VARIABLE: &str = "NOTNETS_DIR";
/// The variable of the user's directory for sockets and the like, in which ours is `notnets`.
const XDG_VARIABLE: &str = "XDG_RUNTIME_DIR";
const DEFAULT: &str = "/run/notnets";

/// The longest path that fits the 108 bytes of `sun_path` with its final zero.
pub(super) const MAX_PATH_LENGTH: usize = 107;

/// A rendezvous directory. It need not exist before something is served in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    origin: Origin,
}

/// The reason why a process uses a certain directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `NOTNETS_DIR` is set to it.
    Variable,
    /// It is `notnets` in `XDG_RUNTIME_DIR`.
    XdgRuntimeDir,
    /// It is the default.
    Default,
    /// The program asked for it.
    Program,
}

impl Origin {
    /// What to do to get another directory, as the end of a sentence: `wanted` is "a shorter directory".
    pub(super) fn remedy(self, wanted: &str) -> String {
        match self {
            Origin::Program => format!("let the program choose {wanted} (it overrules {VARIABLE})"),
            Origin::Variable | Origin::XdgRuntimeDir | Origin::Default => {
                format!("set {VARIABLE} to {wanted}")
            }
        }
    }
}

/// The outcome of dialling an address.
enum Dialled {
    Server(OwnedFd),
    Absent(Absence),
}

impl Directory {
    /// The directory that the environment calls for: `$NOTNETS_DIR`, else `$XDG_RUNTIME_DIR/notnets`, else
    /// `/run/notnets`.
    ///
    /// An empty variable counts as not set, and so does an `XDG_RUNTIME_DIR` that isn't absolute.
    pub fn from_env() -> Self {
        Self::from_variables(|variable| env::var_os(variable))
    }

    fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |variable| get(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = set(VARIABLE) {
            return Directory { path: absolute(path), origin: Origin::Variable };
        }
        if let Some(path) = set(XDG_VARIABLE).filter(|path| path.is_absolute()) {
            return Directory { path: path.join("notnets"), origin: Origin::XdgRuntimeDir };
        }
        Directory { path: DEFAULT.into(), origin: Origin::Default }
    }

    /// This directory, whatever the environment is.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Directory { path: absolute(path.into()), origin: Origin::Program }
    }

    /// Where it is, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it is this one.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Serves a name: creates the directory when it is missing (mode 0700), removes the socket of a server
    /// that has ended, and listens.
    ///
    /// # Errors
    /// When the name is in use, and when the directory doesn't permit it: see [`RendezvousError`].
    pub fn listen(&self, name: &Name) -> Result<Listener, RendezvousError> {
        Listener::bind(self, name)
    }

    /// Serves a name as [`listen`](Self::listen) does, beside other processes that do so, too. Each has a
    /// socket of its own; clients of the name get to any of them.
    ///
    /// # Errors
    /// When the name is in use by a server that has it for itself, and when the directory doesn't permit it.
    pub fn listen_as_replica(&self, name: &Name) -> Result<Listener, RendezvousError> {
        Listener::bind_replica(self, name)
    }

    /// Takes names over from their servers: a socket that listens already takes the place of each one's, so
    /// that there is a server at any time. Each old server is told, as soon as all names are taken. A name
    /// that nobody serves is taken, too.
    ///
    /// # Errors
    /// When one of the names has replicas, and when the directory doesn't permit it. Then all names are where
    /// they were, unless the file system itself fails meanwhile.
    pub fn take_over(&self, names: &[Name]) -> Result<Vec<Listener>, RendezvousError> {
        let successors = names.iter().map(|name| Successor::prepare(self, name));
        let successors = successors.collect::<Result<Vec<_>, _>>()?;
        let taken = successors.into_iter().map(Successor::take).collect::<Result<Vec<_>, _>>()?;
        Ok(taken
            .into_iter()
            .map(|(listener, old)| {
                old.tell();
                listener
            })
            .collect())
    }

    /// Connects to the server of a name, or to any of its replicas, or to the one at an
    /// [address](Self::addresses), without waiting. The socket doesn't block and isn't inherited.
    ///
    /// # Errors
    /// [`RendezvousError::NoSuchName`] when nobody serves it, [`RendezvousError::Busy`] when its server has
    /// no room for another client just now, or what else [`RendezvousError`] knows.
    pub fn connect(&self, name: &Name) -> Result<OwnedFd, RendezvousError> {
        self.connect_except(name, &[]).map(|(socket, _)| socket)
    }

    /// Connects as [`connect`](Self::connect) does, and returns the address that it connected to: one of
    /// `avoided` only if there is no other.
    pub(crate) fn connect_except(
        &self,
        name: &Name,
        avoided: &[Name],
    ) -> Result<(OwnedFd, Name), RendezvousError> {
        let mut absence = match self.dial(name)? {
            Dialled::Server(socket) => return Ok((socket, name.clone())),
            Dialled::Absent(absence) => absence,
        };
        let mut failed = None;
        for address in self.replicas_in_turn(name, absence, avoided) {
            match self.dial(&address) {
                Ok(Dialled::Server(socket)) => return Ok((socket, address)),
                Ok(Dialled::Absent(_)) => absence = Absence::Ended,
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| self.no_such_name(name, absence)))
    }

    /// The replicas of a name from any of them on, those to avoid last.
    fn replicas_in_turn(&self, name: &Name, absence: Absence, avoided: &[Name]) -> Vec<Name> {
        if absence == Absence::NoDirectory || name.replica_number().is_some() {
            return Vec::new();
        }
        // A directory that can't be read has no replicas that can be found.
        let mut replicas = self.addresses(name).unwrap_or_default();
        if !replicas.is_empty() {
            let first = random::word() as usize % replicas.len();
            replicas.rotate_left(first);
        }
        replicas.sort_by_key(|address| avoided.contains(address));
        replicas
    }

    fn dial(&self, address: &Name) -> Result<Dialled, RendezvousError> {
        let path = self.socket_path(address)?;
        match dial(&path).map_err(|errno| self.failed("connect to", &path, errno))? {
            Found::Server(socket, _) => Ok(Dialled::Server(socket)),
            Found::Nothing if self.path.exists() => Ok(Dialled::Absent(Absence::NoSocket)),
            Found::Nothing => Ok(Dialled::Absent(Absence::NoDirectory)),
            Found::Dead | Found::Orphaned => Ok(Dialled::Absent(Absence::Ended)),
            Found::Busy => Err(RendezvousError::Busy { name: address.service(), path }),
            Found::OtherType => Err(RendezvousError::NotOurs { path }),
        }
    }

    /// The names that are served now, sorted. Their servers don't notice.
    ///
    /// Two cases can be distinguished from a server only by connecting, and are listed as one: an open socket
    /// that isn't ours, and one that only a forked child of a dead server holds. A server that this process
    /// must not connect to is not listed.
    ///
    /// # Errors
    /// When the directory can't be read. One that doesn't exist has no names.
    pub fn names(&self) -> Result<Vec<Name>, RendezvousError> {
        let addresses = self.open_sockets(|_| true)?;
        let mut names: Vec<_> = addresses.iter().map(Name::service).collect();
        names.dedup();
        Ok(names)
    }

    /// The addresses at which a name is served now, sorted: the name itself, or one for each replica. Their
    /// servers don't notice. What is listed is what [`names`](Self::names) would list.
    ///
    /// # Errors
    /// When the directory can't be read. In one that doesn't exist nothing is served.
    pub fn addresses(&self, name: &Name) -> Result<Vec<Name>, RendezvousError> {
        self.open_sockets(|address| address.service() == *name)
    }

    /// Watches for servers that come and go: whenever it is readable, look at the
    /// [addresses](Self::addresses) again.
    ///
    /// # Errors
    /// When there is no such directory, and when the kernel has no more watches for this user.
    pub fn watch(&self) -> io::Result<DirectoryWatch> {
        DirectoryWatch::of_comings_and_goings(&self.path)
    }

    /// Watches for servers that come and go, also before the directory is there: then for what is made where
    /// it will be. Whenever it is readable, watch anew, then look at the [addresses](Self::addresses).
    ///
    /// # Errors
    /// When the kernel has no more watches for this user.
    pub fn watch_from_before(&self) -> io::Result<DirectoryWatch> {
        loop {
            match self.watch() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                watched => return watched,
            }
            let missing = self.path.ancestors().take_while(|path| !path.exists()).last();
            let place = self.path.ancestors().find(|path| path.exists());
            let (Some(missing), Some(place)) = (missing, place) else {
                // It was made meanwhile.
                continue;
            };
            match DirectoryWatch::of_new(place) {
                // Made or removed meanwhile.
                Ok(_) if missing.exists() => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                watched => return watched,
            }
        }
    }

    /// The addresses of the wanted sockets that are open, sorted.
    fn open_sockets(&self, is_wanted: impl Fn(&Name) -> bool) -> Result<Vec<Name>, RendezvousError> {
        let failed = |error: io::Error| RendezvousError::from_io(self.origin, "read", &self.path, error);
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let peephole = Peephole::new().map_err(|errno| self.failed("look into", &self.path, errno))?;
        let mut addresses = Vec::new();
        for entry in entries {
            let file_name = entry.map_err(failed)?.file_name();
            let Some(address) = file_name.to_str().and_then(Name::from_file_name) else { continue };
            if is_wanted(&address) && peephole.is_open(&self.socket_path(&address)?) {
                addresses.push(address);
            }
        }
        addresses.sort_unstable_by(|a, b| (a.service(), a).cmp(&(b.service(), b)));
        Ok(addresses)
    }

    pub(super) fn socket_path(&self, name: &Name) -> Result<PathBuf, RendezvousError> {
        let path = self.path.join(name.as_str());
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_PATH_LENGTH {
            return Err(RendezvousError::PathTooLong { path, length, origin: self.origin });
        }
        Ok(path)
    }

    /// The error of a step, on the directory or on what is in it.
    pub(super) fn failed(&self, action: &'static str, path: &Path, errno: Errno) -> RendezvousError {
        RendezvousError::from_errno(self.origin, action, path, errno)
    }

    fn no_such_name(&self, name: &Name, absence: Absence) -> RendezvousError {
        // Only for the message: a directory that can't be listed is as good as empty.
        let mut present = self.names().unwrap_or_default();
        present.retain(|other| other != name);
        RendezvousError::NoSuchName { name: name.clone(), directory: self.clone(), absence, present }
    }
}

/// So that a later change of the working directory changes nothing.
fn absolute(path: PathBuf) -> PathBuf {
    path::absolute(&path).unwrap_or(path)
}

/// The path and why it is this one, for errors.
impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.path.display())?;
        match self.origin {
            Origin::Variable => write!(f, "(from {VARIABLE})"),
            Origin::XdgRuntimeDir => write!(f, "(from {XDG_VARIABLE}, as {VARIABLE} is not set)"),
            Origin::Default => {
                write!(f, "(the default, as {VARIABLE} is not set, nor {XDG_VARIABLE} to an absolute path)")
            }
            Origin::Program => write!(f, "(chosen by the program)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)]) -> Directory {
        Directory::from_variables(|wanted| {
            variables.iter().find(|(variable, _)| *variable == wanted).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_environment_chooses_the_directory() {
        for (variables, path, origin) in [
            (&[("NOTNETS_DIR", "/a"), ("XDG_RUNTIME_DIR", "/x")][..], "/a", Origin::Variable),
            (&[("NOTNETS_DIR", ""), ("XDG_RUNTIME_DIR", "/x")], "/x/notnets", Origin::XdgRuntimeDir),
            (&[("XDG_RUNTIME_DIR", "relative")], "/run/notnets", Origin::Default),
            (&[], "/run/notnets", Origin::Default),
        ] {
            let directory = chosen(variables);
            assert_eq!((directory.path(), directory.origin()), (Path::new(path), origin));
        }
        let reason = "(the default, as NOTNETS_DIR is not set, nor XDG_RUNTIME_DIR to an absolute path)";
        assert!(chosen(&[("XDG_RUNTIME_DIR", "relative")]).to_string().ends_with(reason));
    }

    #[test]
    fn a_relative_path_is_fixed_at_once() {
        let here = env::current_dir().expect("there is a working directory");
        assert_eq!(chosen(&[("NOTNETS_DIR", "names")]).path(), here.join("names"));
        assert_eq!(Directory::at("names").path(), here.join("names"));
    }
}
