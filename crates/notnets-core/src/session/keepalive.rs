//! Asking the peer whether it is still there.

use std::time::Duration;

use crate::clock::Timestamp;

/// When to ask the peer whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How often.
    pub interval: Duration,
    /// How long to wait for the answer before the link is given up.
    pub timeout: Duration,
    /// Also while no call is open.
    pub while_idle: bool,
}

/// The action that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// A ping with this echo.
    Ping(u64),
    /// The last ping was not answered in time.
    GiveUp,
}

/// The pings of a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pings {
    keepalive: Keepalive,
    /// That of the last ping.
    echo: u64,
    /// When it was sent, or would have been.
    at: Timestamp,
    answered: bool,
}

impl Pings {
    pub(super) fn new(keepalive: Keepalive, now: Timestamp) -> Self {
        Self { keepalive, echo: 0, at: now, answered: true }
    }

    /// When the next ping is due, or the answer to the last one.
    pub(super) fn next(&self) -> Timestamp {
        let pause = if self.answered { self.keepalive.interval } else { self.keepalive.timeout };
        self.at + pause
    }

    /// The peer has answered a ping.
    pub(super) fn on_pong(&mut self, echo: u64) {
        self.answered |= echo == self.echo;
    }

    /// Returns the action that is due at `now`. With `while_idle` unset a link without open calls is not
    /// asked.
    pub(super) fn due(&mut self, now: Timestamp, calls_open: bool) -> Due {
        if now < self.next() {
            return Due::Nothing;
        }
        if !self.answered {
            return Due::GiveUp;
        }
        self.at = now;
        if !(self.keepalive.while_idle || calls_open) {
            return Due::Nothing;
        }
        self.echo += 1;
        self.answered = false;
        Due::Ping(self.echo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This number of tenths of a second after the start.
    fn at(tenths: u64) -> Timestamp {
        Timestamp::from_nanos(tenths * 100_000_000)
    }

    fn pings(while_idle: bool) -> Pings {
        let seconds = Duration::from_secs;
        Pings::new(Keepalive { interval: seconds(10), timeout: seconds(2), while_idle }, at(0))
    }

    #[test]
    fn a_peer_that_answers_is_asked_once_in_an_interval() {
        let mut pings = pings(false);
        assert_eq!(pings.due(at(99), true), Due::Nothing);
        assert_eq!(pings.due(at(100), true), Due::Ping(1));
        assert_eq!(pings.due(at(110), true), Due::Nothing);
        pings.on_pong(1);
        assert_eq!(pings.due(at(120), true), Due::Nothing, "it has answered in time");
        assert_eq!(pings.next(), at(200));
        assert_eq!(pings.due(at(200), true), Due::Ping(2));
    }

    #[test]
    fn a_peer_that_answers_another_ping_is_given_up() {
        let mut pings = pings(false);
        assert_eq!(pings.due(at(100), true), Due::Ping(1));
        pings.on_pong(7);
        assert_eq!(pings.due(at(120), true), Due::GiveUp);
    }

    #[test]
    fn an_idle_link_is_asked_only_where_that_is_wanted() {
        let mut quiet = pings(false);
        assert_eq!(quiet.due(at(100), false), Due::Nothing);
        assert_eq!(quiet.next(), at(200));
        assert_eq!(pings(true).due(at(100), false), Due::Ping(1));
    }
}
