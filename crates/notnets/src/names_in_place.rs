//! Names that are gone from their directory, though their server runs.

use std::time::Duration;

use notnets_core::link::rendezvous::Listener;

/// A name is taken again so long after it was removed, and then tried for as often: whoever cleans a
/// directory up is done by then.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// What has become of a name.
pub(crate) enum Place {
    /// Clients find it.
    Kept,
    /// It was taken again.
    Restored(Listener),
    /// Another server has taken it over.
    TakenOver,
    /// Clients don't find it: its directory is gone, or another server has it.
    Lost,
}

/// Takes a name again that clients can't find any more. `first` says that this was not tried just before.
#[cold]
pub(crate) fn restore(listener: &Listener, first: bool) -> Place {
    if listener.is_in_place() {
        return Place::Kept;
    }
    if listener.has_successor() {
        return Place::TakenOver;
    }
    let path = listener.path().display();
    match listener.bind_again() {
        Ok(again) => {
            tracing::warn!(target: crate::log::SERVER, %path, "the socket of a name was removed, or its directory: it is bound again");
            Place::Restored(again)
        }
        Err(error) => {
            if first {
                tracing::warn!(target: crate::log::SERVER, %path, %error, "the socket of a name was removed, and it can't be bound again now");
            }
            Place::Lost
        }
    }
}
