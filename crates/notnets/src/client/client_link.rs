//! A client's end of a link.

use std::ops::Deref;
use std::sync::Arc;

use notnets_core::session::Ending;

use super::home::Home;
use crate::link::Link;

/// A client's end of a link. It closes the link when neither channel nor call needs it any more.
#[derive(Debug)]
pub(crate) struct ClientLink {
    link: Arc<Link>,
    home: Home,
}

impl ClientLink {
    pub(super) fn new(link: Arc<Link>, home: Home) -> Self {
        Self { link, home }
    }

    /// Where the link's driver runs.
    #[inline]
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }
}

impl Deref for ClientLink {
    type Target = Arc<Link>;

    #[inline]
    fn deref(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for ClientLink {
    fn drop(&mut self) {
        self.link.close();
        // A driver that nobody runs would not say it to the server.
        if !self.home.runs_beside_caller() {
            self.link.end(Ending::Closed);
        }
    }
}
