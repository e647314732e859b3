//! Connections whose client has not yet said that it speaks HTTP/2.
//!
//! They are few and do not stay: when more come, the oldest has to leave, so that silent ones keep nobody
//! out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// The most connections that may be silent at once.
const ROOM: usize = 128;

/// How long a client may take to say that it speaks HTTP/2.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The connections of a listener that are silent so far.
#[derive(Clone, Default)]
pub struct Lobby {
    /// The oldest first.
    waiting: Arc<Mutex<VecDeque<Arc<Notify>>>>,
}

/// A connection's place; dropped when its client has spoken, or with the connection.
pub struct InLobby {
    lobby: Lobby,
    leave: Arc<Notify>,
}

impl Lobby {
    /// Enters a connection, for which the oldest may have to leave.
    pub fn enter(&self) -> InLobby {
        let leave = Arc::new(Notify::new());
        let mut waiting = self.waiting();
        if waiting.len() == ROOM
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.notify_one();
        }
        waiting.push_back(Arc::clone(&leave));
        InLobby { lobby: self.clone(), leave }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InLobby {
    /// Resolves when the connection has to be closed.
    pub async fn must_leave(&self) {
        let _ = tokio::time::timeout(PATIENCE, self.leave.notified()).await;
    }
}

impl Drop for InLobby {
    fn drop(&mut self) {
        self.lobby.waiting().retain(|waiting| !Arc::ptr_eq(waiting, &self.leave));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_leaves_when_one_too_many_comes() {
        let (lobby, start) = (Lobby::default(), Instant::now());
        let mut all: VecDeque<_> = (0..ROOM).map(|_| lobby.enter()).collect();
        // One that has spoken makes room.
        all.pop_back();
        all.push_back(lobby.enter());
        let _late = lobby.enter();
        all[0].must_leave().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        all[1].must_leave().await;
        assert_eq!(start.elapsed(), PATIENCE);
        drop((all, _late));
        assert!(lobby.waiting().is_empty());
    }
}
