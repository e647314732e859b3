//! Which side still uses a link, and what this side has to keep for it.
//!
//! | | this side closes | the peer closes |
//! | --- | --- | --- |
//! | `Open` | `ClosedHere` | `ClosedThere` |
//! | `ClosedHere` | stays | over |
//! | `ClosedThere` | over | stays |
//!
//! A link that did not come about, but whose first segment the peer may know, begins as `ClosedHere`.

/// The state of a link. `E` is what its user holds the other end of, `L` keeps a segment that the peer may
/// read.
#[derive(Debug)]
pub(super) enum LinkState<E, L> {
    /// Both sides use it.
    Open { end: E, leases: Vec<L> },
    /// Only the peer uses it.
    ClosedHere { leases: Vec<L> },
    /// Only this side uses it.
    ClosedThere { end: E },
}

impl<E, L> LinkState<E, L> {
    /// Returns the state after this side has closed. `None` when the link is over.
    pub(super) fn close_here(self) -> Option<Self> {
        match self {
            Self::Open { leases, .. } | Self::ClosedHere { leases } => Some(Self::ClosedHere { leases }),
            Self::ClosedThere { .. } => None,
        }
    }

    /// Returns the state after the peer has closed, and the leases that end. `None` when the link is over.
    pub(super) fn close_there(self) -> (Option<Self>, Vec<L>) {
        match self {
            Self::Open { end, leases } => (Some(Self::ClosedThere { end }), leases),
            Self::ClosedHere { leases } => (None, leases),
            Self::ClosedThere { end } => (Some(Self::ClosedThere { end }), Vec::new()),
        }
    }

    /// Returns the watcher's end, while this side's user holds the other one.
    pub(super) fn end(&self) -> Option<&E> {
        match self {
            Self::Open { end, .. } | Self::ClosedThere { end } => Some(end),
            Self::ClosedHere { .. } => None,
        }
    }

    /// The leases of what the peer may read, while it uses the link.
    pub(super) fn leases_mut(&mut self) -> Option<&mut Vec<L>> {
        match self {
            Self::Open { leases, .. } | Self::ClosedHere { leases } => Some(leases),
            Self::ClosedThere { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type State = LinkState<&'static str, u32>;

    fn open() -> State {
        State::Open { end: "end", leases: vec![1, 2] }
    }

    #[test]
    fn what_the_peer_may_read_is_kept_until_it_closes() {
        let mut state = open().close_here().expect("the peer still uses it");
        assert_eq!(state.end(), None);
        assert_eq!(state.leases_mut(), Some(&mut vec![1, 2]));
        state = state.close_here().expect("nothing changes");
        let (left, leases) = state.close_there();
        assert!(left.is_none());
        assert_eq!(leases, [1, 2]);
    }

    #[test]
    fn what_the_user_holds_is_kept_until_it_closes() {
        let (left, leases) = open().close_there();
        assert_eq!(leases, [1, 2]);
        let (left, leases) = left.expect("its user has not closed it").close_there();
        assert!(leases.is_empty());
        let mut state = left.expect("nothing changes");
        assert_eq!(state.end(), Some(&"end"));
        assert_eq!(state.leases_mut(), None);
        assert!(state.close_here().is_none());
    }
}
