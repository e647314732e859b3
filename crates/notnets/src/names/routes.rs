//! Routes files, which are followed while the process runs.
//!
//! A file is read and watched once in a process, by a task for all channels that go by it. One that changes
//! to what can't be understood is as it was.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use notnets_core::link::rendezvous::DirectoryWatch;
use notnets_core::per_process::PerProcess;
use once_cell::race::OnceBox;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::table::Table;
use crate::Error;
use crate::async_fd::{Pollable, register};
use crate::client::Home;
use crate::error::Cause;

/// The variable with the path of the routes file of a process.
pub(super) const VARIABLE: &str = "NOTNETS_ROUTES";

type Followed = HashMap<PathBuf, Arc<watch::Sender<Arc<Table>>>>;

/// The files that are followed in this process.
static FOLLOWED: OnceBox<PerProcess<Followed>> = OnceBox::new();

fn followed() -> MutexGuard<'static, Followed> {
    FOLLOWED.get_or_init(|| PerProcess::new(Followed::new()).into()).lock(Followed::new)
}

/// Returns the file that the environment names.
pub(super) fn from_env() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What is in a file, now and later.
///
/// # Errors
/// When it can't be read or understood, and when the thread that follows it can't be started.
pub(super) fn follow(path: &Path) -> Result<watch::Receiver<Arc<Table>>, Error> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let home = Home::fallback()?;
    let mut followed = followed();
    if let Some(sender) = followed.get(&absolute) {
        return Ok(sender.subscribe());
    }
    let table = read(&absolute).map_err(Cause::Names)?;
    let (sender, receiver) = watch::channel(Arc::new(table));
    let sender = Arc::new(sender);
    followed.insert(absolute.clone(), Arc::clone(&sender));
    home.spawn(keep(absolute, sender));
    Ok(receiver)
}

/// Keeps what is in a file up to date, for as long as a channel goes by it.
async fn keep(path: PathBuf, sender: Arc<watch::Sender<Arc<Table>>>) {
    tokio::select! {
        () = update(&path, &sender) => {}
        () = unused(&path, &sender) => {}
    }
}

/// Waits until no channel goes by a file any more, and forgets it.
async fn unused(path: &Path, sender: &watch::Sender<Arc<Table>>) {
    loop {
        sender.closed().await;
        let mut followed = followed();
        if sender.receiver_count() == 0 {
            followed.remove(path);
            return;
        }
    }
}

async fn update(path: &Path, sender: &watch::Sender<Arc<Table>>) {
    loop {
        // Watched first and read then, so that no change falls between the two.
        let watch = match begin_to_watch(path) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(
                    "cannot watch the routes file {}: {error}; its changes take effect when this process is \
                     started again; raise fs.inotify.max_user_instances, or make its directory",
                    path.display()
                );
                return std::future::pending().await;
            }
        };
        match read(path) {
            Ok(table) => {
                sender.send_if_modified(|present| {
                    let is_new = **present != table;
                    if is_new {
                        tracing::info!("the routes file {} has changed", path.display());
                        *present = Arc::new(table);
                    }
                    is_new
                });
            }
            Err(sentence) => tracing::warn!("{sentence}; what it said before stays in effect"),
        }
        if watch.readable().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn begin_to_watch(path: &Path) -> std::io::Result<AsyncFd<Pollable<DirectoryWatch>>> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    register(DirectoryWatch::of_files(directory)?, Interest::READABLE)
}

fn read(path: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("cannot read the routes file {}: {error}; see {VARIABLE}", path.display())
    })?;
    Table::from_json(&text).map_err(|why| format!("the routes file {} is not valid: {why}", path.display()))
}
