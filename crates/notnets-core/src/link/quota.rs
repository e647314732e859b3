//! How many links the processes of one user may have to a server: those of others than its own user can't
//! take all that it has room for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admission::{Rejection, own_uid};

/// The links of each user to a server, and how many they may be. Clones count together.
#[derive(Clone, Debug)]
pub struct Quota {
    limit: usize,
    open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Open(Mutex<HashMap<u32, usize>>);

/// One link of a user, until it is dropped.
#[derive(Debug)]
pub struct UserLink {
    uid: u32,
    open: Arc<Open>,
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

impl Quota {
    /// Links of each other user unless another limit is set.
    pub const DEFAULT: usize = 128;

    /// As many links for each user but the server's own, and root.
    pub fn new(limit: usize) -> Self {
        Self { limit, open: Arc::default() }
    }

    /// Counts one more link of a user, if that counts. Keep it for as long as the link is open.
    ///
    /// # Errors
    /// When the user has as many as it may have.
    pub fn enter(&self, uid: u32) -> Result<Option<UserLink>, Rejection> {
        if uid == own_uid() || uid == 0 {
            return Ok(None);
        }
        let mut open = self.open.lock();
        let links = open.get(&uid).copied().unwrap_or(0);
        if links >= self.limit {
            return Err(Rejection::TooManyOfUser { uid, limit: self.limit });
        }
        open.insert(uid, links + 1);
        Ok(Some(UserLink { uid, open: Arc::clone(&self.open) }))
    }
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UserLink {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(links) = open.get_mut(&self.uid) {
            *links -= 1;
            if *links == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_other_user_has_its_links_and_gets_them_back() {
        let quota = Quota::new(2);
        let stranger = own_uid() + 7;
        let mut links: Vec<_> = (0..2).map(|_| quota.enter(stranger).unwrap().unwrap()).collect();
        let refused = quota.clone().enter(stranger).unwrap_err();
        assert!(matches!(refused, Rejection::TooManyOfUser { limit: 2, .. }), "{refused}");
        assert!(quota.enter(stranger + 1).unwrap().is_some(), "another user has its own");
        links.pop();
        assert!(quota.enter(stranger).unwrap().is_some());
        drop(links);
        assert!(quota.open.lock().is_empty(), "nothing is kept of users without links");
        for _ in 0..3 {
            assert!(quota.enter(own_uid()).unwrap().is_none());
        }
    }
}
