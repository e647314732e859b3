//! Refused clients in the log, where no client can flood it.

use notnets_core::clock;
use notnets_core::link::accept::Refused;
use notnets_core::link::admission::Rejection;
use notnets_core::log_pace::LogPace;
use notnets_core::stats::Stats;

use crate::log::{self, ADMISSION};

/// The refusals of a server.
#[derive(Debug, Default)]
pub(crate) struct Refusals(LogPace);

impl Refusals {
    /// Counts and logs that a client was refused. All clients are, of a server that stops: that is no
    /// warning.
    #[cold]
    pub(crate) fn log(&self, refused: &Refused, stats: Option<&Stats>) {
        let Refused { rejection, client } = refused;
        if let Some(stats) = stats {
            stats.refused(rejection);
        }
        log::refused(refused);
        if *rejection == Rejection::ShuttingDown {
            return;
        }
        let unlogged = self.0.line(clock::now());
        let (pid, uid) = (client.and_then(|client| client.pid), client.map(|client| client.uid));
        match unlogged {
            None => {}
            Some(0) => tracing::warn!(target: ADMISSION, pid, uid, %rejection, "a client was refused"),
            Some(before) => {
                tracing::warn!(target: ADMISSION, pid, uid, %rejection, before, "a client was refused, as others before it");
            }
        }
    }
}
