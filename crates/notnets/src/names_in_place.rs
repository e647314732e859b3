//! Names that are gone from their directory, though their server runs.

use notnets_core::link::rendezvous::Listener;

/// Takes a name again that clients can't find any more. `None` if it is in place, or another server has it.
#[cold]
pub(crate) fn restore(listener: &Listener) -> Option<Listener> {
    if listener.is_in_place() {
        return None;
    }
    let path = listener.path().display();
    match listener.bind_again() {
        Ok(again) => {
            tracing::warn!(%path, "the socket of a name was removed, or its directory: it is bound again");
            Some(again)
        }
        Err(error) => {
            tracing::warn!(%path, %error, "the socket of a name was removed, and it can't be bound again");
            None
        }
    }
}
