//! The rendezvous directory, in which the processes of one host find each other by name.
//!
//! Each server listens on a Unix socket, `SOCK_SEQPACKET`, whose file name is the service's
//! [`Name`](crate::name::Name). There is no lock file in the directory: to check for a living server, to
//! remove a dead one's socket and to bind happen under `flock` on the directory itself. Pods have sockets of
//! their own there, which begin with a dot: `.pod-POD` is the agent's, and `.at-…` those of processes that
//! serve names in a pod and are reached by others of their host.
//!
//! ```
//! use notnets_core::link::rendezvous::{Directory, peer_credentials};
//!
//! # let temporary = tempfile::tempdir()?;
//! # let path = temporary.path();
//! let directory = Directory::at(path);            // or Directory::from_env()
//! let inventory = "inventory".parse()?;
//! let listener = directory.listen(&inventory)?;
//! let client = directory.connect(&inventory)?;
//! let server = listener.accept()?.expect("there is a client");
//! assert_eq!(peer_credentials(&server)?.pid, Some(std::process::id()));
//! assert_eq!(peer_credentials(&client)?.pid, Some(std::process::id()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Liveness of a server
//!
//! A server is alive when its socket accepts connections and the process that called `listen` has not ended.
//! The first condition alone is not enough: a child forked by a server that was killed keeps its socket open,
//! though nobody accepts there. Pids don't reach into other pid namespaces; there the first condition has to
//! suffice. So a server that turns itself into a daemon forks before it listens, or [adopts](Listener::adopt)
//! its listener in the child.
//!
//! The check connects and closes at once. So **a server must treat a connection that is closed before its
//! first message as a probe, and neither count nor report it as an error.** [`Directory::names`] does not
//! even connect.
//!
//! # Who may meet
//!
//! The directory decides, for the sockets in it are open to all (mode 0666) and each server judges a
//! connection by its [`peer_credentials`]. A directory that this module creates has mode 0700: it is for
//! one uid. To share names between uids, create it beforehand, for example with `install -d -m 3770 -g
//! services /run/notnets`: the group may serve and connect, and the sticky bit keeps its members from
//! removing each other's sockets (also the dead ones: each uid clears up after itself). With mode 0755 only
//! the owner serves and everybody connects. A process that may serve in a directory may take any free name in
//! it; a client that shares one with uids it doesn't trust looks at the server's uid too.

mod directory;
mod error;
mod listener;
mod lock;
mod numbers;
mod peer;
mod socket;
mod successor;
mod watch;

pub use directory::{Directory, Origin};
pub use error::{Absence, RendezvousError};
pub use listener::Listener;
pub use notnets_memory::descriptors::DescriptorLimit;
pub use notnets_memory::process::{PeerCredentials, peer_credentials};
pub use watch::DirectoryWatch;
