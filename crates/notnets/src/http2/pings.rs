//! When a silent server is asked whether it is still there.
//!
//! gRPC's servers close connections that ping too often: by default they count a ping that comes within five
//! minutes of the one before, unless they have sent headers or data in between, and close at the third. So
//! two pings may be early in each silence. The first is for the silence itself, the second is kept for a call
//! that begins while it lasts; further ones leave more than five minutes.

use std::time::Duration;

use notnets_core::session::Keepalive;
use tokio::time::Instant;

/// The least time between pings that no server with gRPC's defaults counts.
const UNCOUNTED: Duration = Duration::from_secs(5 * 60 + 10);

/// How a connection's liveness is watched.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// How long a server may be silent while calls are open before it is asked. `None` never asks.
    pub interval: Option<Duration>,
    /// How long its answer may take before it counts as dead.
    pub timeout: Duration,
}

impl KeepAlive {
    /// As a link is asked, if something is set for links. An interval of zero never asks.
    pub(crate) fn of_link(keepalive: Option<Keepalive>) -> Self {
        keepalive.map_or_else(Self::default, |Keepalive { interval, timeout, .. }| Self {
            interval: Some(interval).filter(|interval| !interval.is_zero()),
            timeout,
        })
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(20)), timeout: Duration::from_secs(20) }
    }
}

/// What is known of a connection when its pings are planned.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When its last byte came.
    pub received: Instant,
    /// When its last headers or data came, if any have.
    pub answered: Option<Instant>,
    /// When its youngest call began, if one is open.
    pub called: Option<Instant>,
}

/// The pings of one connection.
#[derive(Debug)]
pub struct Pings {
    interval: Duration,
    last: Option<Instant>,
    /// Those since headers or data last came.
    early: u32,
    answered: Option<Instant>,
}

impl Pings {
    /// Pings after silences of `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None, early: 0, answered: None }
    }

    /// Returns when the next ping is due: at once if that is past. Look again then. `None` if no call is
    /// open.
    pub fn due(&mut self, seen: Seen) -> Option<Instant> {
        let called = seen.called?;
        if seen.answered > self.answered {
            self.answered = seen.answered;
            self.early = 0;
        }
        let silence = seen.received.max(called) + self.interval;
        let Some(last) = self.last else { return Some(silence) };
        let may_be_early = match self.early {
            0 => true,
            1 => called > last,
            _ => false,
        };
        Some(if may_be_early { silence } else { silence.max(last + UNCOUNTED) })
    }

    /// Notes that a ping is sent.
    pub fn sent(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now < last + UNCOUNTED) || self.last.is_none() {
            self.early += 1;
        }
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(20);

    /// gRPC-Go's enforcement of its default policy.
    struct Server {
        last: Option<Instant>,
        strikes: u32,
    }

    impl Server {
        fn ping(&mut self, now: Instant) {
            if self.last.is_some_and(|last| now < last + Duration::from_secs(300)) {
                self.strikes += 1;
            }
            self.last = Some(now);
            assert!(self.strikes <= 2, "it closes the connection");
        }
    }

    /// Pings from `begin` to `end`, each answered at once; when they were sent.
    fn pings(pings: &mut Pings, server: &mut Server, mut seen: Seen, end: Instant) -> Vec<Instant> {
        let mut sent = Vec::new();
        while let Some(due) = pings.due(seen).filter(|due| *due < end) {
            server.ping(due);
            pings.sent(due);
            seen.received = due;
            sent.push(due);
        }
        sent
    }

    #[test]
    fn a_long_silence_is_pinged_as_often_as_servers_allow() {
        let start = Instant::now();
        let mut server = Server { last: Some(start), strikes: 0 };
        let mut ours = Pings::new(INTERVAL);
        let seen = Seen { received: start, answered: Some(start), called: Some(start) };
        let hour = start + Duration::from_secs(3600);
        let sent = pings(&mut ours, &mut server, seen, hour);
        assert_eq!(sent[0], start + INTERVAL);
        assert!(sent.len() >= 11, "{sent:?}");
        // A call that begins in the silence is soon known to be lost.
        let later = hour + Duration::from_secs(1);
        let seen = Seen { received: *sent.last().expect("some"), called: Some(later), ..seen };
        assert_eq!(pings(&mut ours, &mut server, seen, later + INTERVAL * 2), [later + INTERVAL]);
    }

    #[test]
    fn answers_allow_early_pings_again() {
        let start = Instant::now();
        let mut ours = Pings::new(INTERVAL);
        for round in 0..10 {
            let now = start + Duration::from_secs(60) * round;
            let mut server = Server { last: ours.last, strikes: 0 };
            let seen = Seen { received: now, answered: Some(now), called: Some(now) };
            let sent = pings(&mut ours, &mut server, seen, now + INTERVAL * 3 / 2);
            assert_eq!(sent, [now + INTERVAL], "round {round}");
        }
    }

    #[test]
    fn without_a_call_there_is_no_ping() {
        let start = Instant::now();
        assert_eq!(Pings::new(INTERVAL).due(Seen { received: start, answered: None, called: None }), None);
    }
}
