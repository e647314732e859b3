//! The servers of a name of this host, as they come and go in the rendezvous directory.

use std::io;
use std::task::{Context, Poll, ready};

use notnets_core::link::rendezvous::{Directory, DirectoryWatch};
use notnets_core::name::{Name, Uri};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::resolve::{Address, BoxError, Resolve};
use crate::async_fd::{Pollable, register};
use crate::location::Location;

/// Follows a name in a rendezvous directory. The kernel tells when something changes there: nothing is
/// polled.
#[derive(Debug)]
pub(super) struct Rendezvous {
    directory: Directory,
    name: Name,
    watch: Watch,
    /// Something may have changed since the last look.
    is_due: bool,
}

#[derive(Debug)]
enum Watch {
    /// To be begun with the next look.
    New,
    On(AsyncFd<Pollable<DirectoryWatch>>),
    /// The kernel has no more for this user. Servers that can't be reached are a reason to look again.
    Without,
}

impl Rendezvous {
    pub(super) fn new(directory: Directory, name: Name) -> Self {
        Self { directory, name, watch: Watch::New, is_due: true }
    }

    /// Watches first and looks then, so that no change falls between the two.
    fn look(&mut self) -> Result<Vec<Address>, BoxError> {
        self.is_due = false;
        self.watch = match self.begin_to_watch() {
            Ok(watch) => Watch::On(watch),
            Err(error) => {
                let directory = &self.directory;
                tracing::warn!(
                    "cannot watch {directory}: {error}; servers of `{}` that come later are found only once \
                     one that is known can't be reached; raise fs.inotify.max_user_instances",
                    self.name
                );
                Watch::Without
            }
        };
        let addresses = self.directory.addresses(&self.name)?;
        let address = |at: Name| {
            let replica = at.replica_number().is_some().then(|| at.clone());
            Address { replica, ..Address::at(Location::Memory(Uri::on_host(self.name.clone()))) }
        };
        Ok(addresses.into_iter().map(address).collect())
    }

    fn begin_to_watch(&self) -> io::Result<AsyncFd<Pollable<DirectoryWatch>>> {
        register(self.directory.watch_from_before()?, Interest::READABLE)
    }
}

impl Resolve for Rendezvous {
    fn poll_servers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Address>, BoxError>> {
        if !self.is_due
            && let Watch::On(watch) = &self.watch
        {
            ready!(watch.poll_read_ready(cx)).map(drop)?;
            self.is_due = true;
        }
        if self.is_due { Poll::Ready(self.look()) } else { Poll::Pending }
    }

    fn look_again(&mut self) {
        self.is_due = true;
    }
}
