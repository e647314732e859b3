//! Connections that have said nothing yet: each waits in a task of its own, and is told when it must leave.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notnets_core::link::lobby::{self, Place};
use tokio::sync::oneshot::{Receiver, Sender, channel};

/// The connections of a server that have said nothing yet. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Lobby(Arc<Mutex<lobby::Lobby<Sender<()>>>>);

impl Lobby {
    /// Adds a connection of this uid. Another one may have to leave for it.
    pub(super) fn enter(&self, uid: u32) -> InLobby {
        let (sender, leave) = channel();
        let (place, left) = self.guests().enter(uid, sender);
        // That wakes its task.
        drop(left);
        InLobby { lobby: self.clone(), place, leave }
    }

    fn guests(&self) -> MutexGuard<'_, lobby::Lobby<Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place there, until this is dropped.
pub(super) struct InLobby {
    lobby: Lobby,
    place: Place,
    leave: Receiver<()>,
}

impl InLobby {
    /// Completes when it must leave, as others have come.
    pub(super) async fn must_leave(&mut self) {
        // Nothing is ever sent.
        let _ = (&mut self.leave).await;
    }
}

impl Drop for InLobby {
    fn drop(&mut self) {
        self.lobby.guests().leave(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_must_leave_is_told() {
        let lobby = Lobby(Arc::new(Mutex::new(lobby::Lobby::with_room(1))));
        let mut first = lobby.enter(1);
        assert!(!first.leave.is_terminated());
        let second = lobby.enter(2);
        first.must_leave().await;
        drop(second);
        drop(first);
        assert_eq!(lobby.guests().iter().count(), 0);
    }
}
