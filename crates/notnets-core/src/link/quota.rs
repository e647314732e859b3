//! What the processes of one user may take of a server: those of others than its own user can't take all
//! that it has.

mod meter;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use meter::{Meter, OverRate, Rate};

use super::Config;
use super::admission::{Rejection, own_uid};
use crate::clock;

/// What each user may take of a server, but for the server's own and root. It holds for all links of the
/// user together, unless it says otherwise.
///
/// ```
/// use notnets_core::link::quota::UserLimits;
///
/// let limits = UserLimits::default().calls_per_second(1000).bytes_per_second(100 << 20);
/// assert_eq!(limits.links(8).links, 8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserLimits {
    /// Links that may be open at once; more are refused. 128 unless set.
    pub links: usize,
    /// Calls that may be open at once on each of them; the client holds more back. 1024 unless set; no more
    /// than the server allows on any link.
    pub streams: u32,
    /// Calls that may begin in a second; more end with `RESOURCE_EXHAUSTED`. As many as in a second may begin
    /// at once. Unlimited unless set.
    pub calls_per_second: Option<u32>,
    /// Bytes of requests that are taken in a second. Streams over that are read more slowly, and calls that
    /// begin meanwhile end with `RESOURCE_EXHAUSTED`. As many as in a second may come at once. Unlimited
    /// unless set.
    pub bytes_per_second: Option<u64>,
}

impl Default for UserLimits {
    fn default() -> Self {
        Self { links: 128, streams: 1024, calls_per_second: None, bytes_per_second: None }
    }
}

impl UserLimits {
    /// With so many links.
    #[must_use]
    pub fn links(self, links: usize) -> Self {
        Self { links, ..self }
    }

    /// With so many calls at once on a link.
    #[must_use]
    pub fn streams(self, streams: u32) -> Self {
        Self { streams, ..self }
    }

    /// With so many calls that begin in a second. 0 lets none begin.
    #[must_use]
    pub fn calls_per_second(self, calls: impl Into<Option<u32>>) -> Self {
        Self { calls_per_second: calls.into(), ..self }
    }

    /// With so many bytes of requests in a second.
    #[must_use]
    pub fn bytes_per_second(self, bytes: impl Into<Option<u64>>) -> Self {
        Self { bytes_per_second: bytes.into(), ..self }
    }
}

/// What each user has of a server, and may have. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    limits: UserLimits,
    users: Arc<Users>,
}

#[derive(Debug, Default)]
struct Users(Mutex<HashMap<u32, User>>);

/// A user with links, or that had some a moment ago.
#[derive(Debug, Default)]
struct User {
    links: usize,
    /// If there is a rate.
    meter: Option<Meter>,
}

/// One link of a user, until it is dropped.
#[derive(Debug)]
pub struct UserLink {
    uid: u32,
    streams: u32,
    meter: Option<Meter>,
    users: Arc<Users>,
}

impl Quota {
    /// As much for each user but the server's own, and root.
    pub fn new(limits: UserLimits) -> Self {
        Self { limits, users: Arc::default() }
    }

    /// Counts one more link of a user, if that counts. Keep it for as long as the link is open.
    ///
    /// # Errors
    /// When the user has as many as it may have.
    pub fn enter(&self, uid: u32) -> Result<Option<UserLink>, Rejection> {
        if uid == own_uid() || uid == 0 {
            return Ok(None);
        }
        let mut users = self.users.lock();
        // A user that comes back with a new link goes on with what it has taken.
        users.retain(|_, user| user.is_of_interest());
        let user = users.entry(uid).or_insert_with(|| User { links: 0, meter: Meter::new(uid, self.limits) });
        if user.links >= self.limits.links {
            return Err(Rejection::TooManyOfUser { uid, limit: self.limits.links });
        }
        user.links += 1;
        let meter = user.meter.clone();
        Ok(Some(UserLink { uid, streams: self.limits.streams, meter, users: Arc::clone(&self.users) }))
    }
}

impl UserLink {
    /// What counts the user's calls and bytes, if there are so many to a second.
    pub fn meter(&self) -> Option<Meter> {
        self.meter.clone()
    }

    /// A link's configuration, with as many streams as the user may have.
    pub fn limit(this: Option<&Self>, mut config: Config) -> Config {
        if let Some(Self { streams, .. }) = this {
            config.limits.streams = config.limits.streams.min(*streams);
        }
        config
    }
}

impl User {
    fn is_of_interest(&self) -> bool {
        self.links > 0 || self.meter.as_ref().is_some_and(|meter| meter.is_owed(clock::now()))
    }
}

impl Users {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, User>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UserLink {
    fn drop(&mut self) {
        let mut users = self.users.lock();
        if let Some(user) = users.get_mut(&self.uid) {
            user.links -= 1;
            if !user.is_of_interest() {
                users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_other_user_has_its_links_and_gets_them_back() {
        let quota = Quota::new(UserLimits::default().links(2));
        let stranger = own_uid() + 7;
        let mut links: Vec<_> = (0..2).map(|_| quota.enter(stranger).unwrap().unwrap()).collect();
        let refused = quota.clone().enter(stranger).unwrap_err();
        assert!(matches!(refused, Rejection::TooManyOfUser { limit: 2, .. }), "{refused}");
        assert!(quota.enter(stranger + 1).unwrap().is_some(), "another user has its own");
        links.pop();
        assert!(quota.enter(stranger).unwrap().is_some());
        drop(links);
        assert!(quota.users.lock().is_empty(), "nothing is kept of users without links");
        for _ in 0..3 {
            assert!(quota.enter(own_uid()).unwrap().is_none());
        }
    }

    #[test]
    fn the_links_of_a_user_have_a_rate_in_common_that_a_new_link_does_not_renew() {
        let quota = Quota::new(UserLimits::default().calls_per_second(2));
        let enter = || quota.enter(own_uid() + 7).unwrap().unwrap();
        let (first, second) = (enter(), enter());
        let begin = |link: &UserLink| link.meter().unwrap().begin_call(0, clock::now());
        assert!(begin(&first).is_ok() && begin(&second).is_ok());
        assert!(begin(&first).is_err());
        drop((first, second));
        assert!(begin(&enter()).is_err());
    }

    #[test]
    fn links_of_users_have_fewer_streams() {
        let quota = Quota::new(UserLimits::default().streams(7));
        let link = quota.enter(own_uid() + 7).unwrap();
        assert_eq!(UserLink::limit(link.as_ref(), Config::default()).limits.streams, 7);
        let own = Config::default().limits.streams;
        assert_eq!(UserLink::limit(None, Config::default()).limits.streams, own);
    }
}
