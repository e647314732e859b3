//! Which server gets a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::Server;
use crate::client::{ClientLink, Standing};
use crate::service_config::Policy;

/// How a channel chooses among servers that are equally near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pick {
    /// The first that can be reached, as long as that is so. Only it is connected.
    First,
    /// One after the other.
    RoundRobin,
    /// Of two that are drawn by lot the one with fewer open calls, of this channel's.
    #[default]
    LeastOutstanding,
}

/// The state of choosing: the number of the next choice.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicUsize);

impl Turn {
    /// Returns a number that is one more each time.
    fn next(&self) -> usize {
        // It orders nothing.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A server with a link, and whether that has room.
struct Ready {
    link: Arc<ClientLink>,
    open: usize,
    has_room: bool,
}

impl Pick {
    /// The one that gRPC's config calls so.
    pub(super) fn of(policy: Policy) -> Self {
        match policy {
            Policy::PickFirst => Self::First,
            Policy::RoundRobin => Self::RoundRobin,
            Policy::LeastRequest => Self::LeastOutstanding,
        }
    }

    /// Chooses a server that has a link. Begins to connect those without one that it would also choose.
    pub(super) fn choose(self, servers: &[Arc<Server>], turn: &Turn) -> Choice {
        let n = servers.len();
        if n == 0 {
            return Choice::default();
        }
        let first = match self {
            Self::First => 0,
            Self::RoundRobin => turn.next() % n,
            Self::LeastOutstanding => scatter(turn.next()) % n,
        };
        let mut choice = Choice::default();
        let mut at = first;
        loop {
            let looked = look(&servers[at]);
            choice.is_open |= matches!(looked, Look::Connecting);
            if let Look::Ready(ready) = looked {
                choice.consider(ready);
                let is_enough = match self {
                    Self::First | Self::RoundRobin => choice.has_room,
                    // Another one is looked at for comparison.
                    Self::LeastOutstanding => choice.has_room && choice.seen == 2,
                };
                if is_enough {
                    return choice;
                }
            }
            at = (at + 1) % n;
            if at == first {
                return choice;
            }
        }
    }
}

/// A look at a server.
enum Look {
    Ready(Ready),
    Connecting,
    /// It gets no calls for now.
    Out,
}

fn look(server: &Server) -> Look {
    match server.standing() {
        Standing::Ready(link) => {
            let (open, free) = link.load();
            Look::Ready(Ready { link, open, has_room: free > 0 })
        }
        Standing::Idle => {
            server.begin();
            Look::Connecting
        }
        Standing::Failed => Look::Out,
    }
}

/// The best link that was seen.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) link: Option<Arc<ClientLink>>,
    open: usize,
    /// A call need not wait on it.
    pub(super) has_room: bool,
    /// There may be a better one soon.
    pub(super) is_open: bool,
    seen: usize,
}

impl Choice {
    fn consider(&mut self, ready: Ready) {
        self.seen += 1;
        let is_better = match (&self.link, ready.has_room) {
            (None, _) => true,
            (Some(_), has_room) if has_room != self.has_room => has_room,
            (Some(_), _) => ready.open < self.open,
        };
        if is_better {
            (self.link, self.open, self.has_room) = (Some(ready.link), ready.open, ready.has_room);
        }
    }
}

/// Turns consecutive numbers into such that seem random.
fn scatter(n: usize) -> usize {
    let n = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ (n >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) as usize >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lot_falls_on_each_equally_often() {
        for n in 1..8 {
            let mut drawn = vec![0usize; n];
            (0..n * 1000).for_each(|turn| drawn[scatter(turn) % n] += 1);
            assert!(drawn.iter().all(|times| (850..1150).contains(times)), "{n}: {drawn:?}");
        }
    }
}
