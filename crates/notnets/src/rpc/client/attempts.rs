//! Further attempts of a call, as the policy of its method says (gRFC A6).

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use notnets_core::clock::{self, Timestamp};
use notnets_core::metadata::Metadata;

use super::deadline_timer::DeadlineTimer;
use super::hedging::Hedging;
use crate::rpc::{Code, Status};
use crate::service_config::{MethodConfig, Policies, Throttle};

/// Tells the server how many attempts there were before this one.
const PREVIOUS: &str = "grpc-previous-rpc-attempts";
/// A server's word on further attempts: after how many milliseconds, or none if it is negative.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Numbers of attempts, of which there are five at most.
const NUMBERS: [&[u8]; 5] = [b"0", b"1", b"2", b"3", b"4"];

/// A call that waits for a server looks for one after this time, then after twice as long, …
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// … and at least this often.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// The attempts of a call whose method is configured.
#[derive(Debug)]
pub(super) struct Attempts {
    policies: Arc<Policies>,
    config: Arc<MethodConfig>,
    /// Those before the present one.
    previous: u32,
    /// Waits of the policy's, since the server last said how long to wait.
    waits: u32,
    /// Looks for a server.
    looks: u32,
    pause: Pause,
}

/// A wait before the next attempt or look.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Timestamp>,
    timer: Option<Box<DeadlineTimer>>,
}

impl Attempts {
    /// The attempts of a call of a method, by its path. `None` if nothing is configured for it.
    pub(super) fn new(policies: &Arc<Policies>, path: &str) -> Option<Self> {
        let config = policies.of_method(path)?;
        let policies = Arc::clone(policies);
        Some(Self { policies, config, previous: 0, waits: 0, looks: 0, pause: Pause::default() })
    }

    /// An attempt of a hedged call, behind so many others.
    pub(super) fn behind(&self, previous: u32) -> Self {
        let (policies, config) = (Arc::clone(&self.policies), Arc::clone(&self.config));
        Self { policies, config, previous, waits: 0, looks: 0, pause: Pause::default() }
    }

    /// Returns when the attempts are made from now on, if they are hedged.
    pub(super) fn hedging(&self) -> Option<Hedging> {
        Hedging::new(&self.policies, &self.config, clock::now())
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.config.timeout
    }

    /// Returns what the server is told about the attempts before.
    pub(super) fn entry(&self) -> Option<(&'static str, &'static [u8])> {
        let number = NUMBERS.get(self.previous as usize)?;
        (self.previous > 0).then_some((PREVIOUS, *number))
    }

    /// Returns `true` if a request of this many bytes is kept for further attempts.
    pub(super) fn keeps(&self, bytes: usize) -> bool {
        bytes <= self.policies.replay_bytes()
    }

    /// The present attempt has ended with this code, and with what the server says about further ones.
    /// Returns `true` if there is another attempt, after a pause.
    pub(super) fn fail(&mut self, code: Code, pushback: Option<&[u8]>, can_repeat: bool) -> bool {
        let Some(policy) = &self.config.retry else { return false };
        let delay = pushback.map(delay_of);
        let is_refused = delay == Some(None);
        let is_retryable = policy.codes.contains(&code);
        if !is_retryable && !is_refused {
            return false;
        }
        let is_allowed = self.policies.throttle().is_none_or(Throttle::fail);
        let is_last = self.previous + 1 >= policy.max_attempts;
        if !is_retryable || is_refused || !is_allowed || is_last || !can_repeat {
            return false;
        }
        self.previous += 1;
        let delay = match delay.flatten() {
            Some(delay) => {
                self.waits = 0;
                delay
            }
            None => {
                self.waits += 1;
                policy.backoff(self.waits)
            }
        };
        self.pause = Pause::of(delay);
        true
    }

    /// How long the next attempt waits.
    pub(super) fn delay(&self) -> Duration {
        self.pause.until.map_or(Duration::ZERO, clock::until)
    }

    /// The server has begun to answer. No further attempt is made.
    pub(super) fn succeed(&self) {
        if let (Some(throttle), Some(_)) = (self.policies.throttle(), &self.config.retry) {
            throttle.succeed();
        }
    }

    /// No server can be reached. Returns `true` if the call looks for one again, after a pause.
    pub(super) fn wait_for_server(&mut self, status: &Status) -> bool {
        if !self.config.wait_for_ready || status.code() != Code::UNAVAILABLE {
            return false;
        }
        let pause = FIRST_LOOK * 2u32.pow(self.looks.min(10));
        self.looks += 1;
        self.pause = Pause::of(pause.min(LONGEST_LOOK));
        true
    }

    /// Waits for the end of the pause, or for the call's deadline if that is earlier.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED`.
    pub(super) fn poll_pause(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<Timestamp>,
    ) -> Poll<Result<(), Status>> {
        let Pause { until: Some(until), timer } = &mut self.pause else { return Poll::Ready(Ok(())) };
        let too_late = deadline.filter(|deadline| deadline <= until);
        ready!(DeadlineTimer::poll(timer, cx, too_late.unwrap_or(*until)));
        self.pause = Pause::default();
        Poll::Ready(if too_late.is_none() { Ok(()) } else { Err(too_late_to_repeat()) })
    }
}

impl Pause {
    fn of(duration: Duration) -> Self {
        Self { until: Some(clock::after(duration)), timer: None }
    }
}

/// Returns the status of a call whose next attempt would come too late.
pub(super) fn too_late_to_repeat() -> Status {
    Status::new(Code::DEADLINE_EXCEEDED, "the call's deadline passed before it could be made again")
}

/// Returns a server's word on further attempts, if it has one.
pub(super) fn pushback_of(trailers: &Metadata) -> Option<&[u8]> {
    trailers.iter().find(|(key, _)| &**key == PUSHBACK).map(|(_, value)| &**value)
}

/// Reads a server's word on further attempts. `None` if it wants none, or can't be understood.
pub(super) fn delay_of(pushback: &[u8]) -> Option<Duration> {
    let millis: i32 = std::str::from_utf8(pushback).ok()?.parse().ok()?;
    Some(Duration::from_millis(millis.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceConfig;

    fn attempts(policy: &str) -> Attempts {
        let config = format!(
            r#"{{"methodConfig": [{{"name": [{{}}], "retryPolicy": {{
                "initialBackoff": "1s", "maxBackoff": "1s", "backoffMultiplier": 1, {policy}
            }}}}]}}"#
        );
        let policies = Policies::new(ServiceConfig::from_json(&config).unwrap());
        Attempts::new(&Arc::new(policies), "/a.B/C").unwrap()
    }

    const TWICE: &str = r#""maxAttempts": 3, "retryableStatusCodes": ["UNAVAILABLE"]"#;

    #[test]
    fn attempts_are_counted_and_told() {
        let mut attempts = attempts(TWICE);
        assert_eq!(attempts.entry(), None);
        assert!(attempts.fail(Code::UNAVAILABLE, None, true));
        assert_eq!(attempts.entry(), Some((PREVIOUS, &b"1"[..])));
        assert!(attempts.fail(Code::UNAVAILABLE, None, true));
        assert_eq!(attempts.entry(), Some((PREVIOUS, &b"2"[..])));
        assert!(!attempts.fail(Code::UNAVAILABLE, None, true));
    }

    #[test]
    fn what_is_not_retryable_ends_the_call() {
        assert!(!attempts(TWICE).fail(Code::INTERNAL, None, true));
        assert!(!attempts(TWICE).fail(Code::INTERNAL, Some(b"5"), true));
        assert!(!attempts(TWICE).fail(Code::UNAVAILABLE, None, false));
    }

    #[test]
    fn a_server_says_when_and_whether() {
        for refusal in ["-1", "", "soon", "1.5", "99999999999"] {
            assert!(!attempts(TWICE).fail(Code::UNAVAILABLE, Some(refusal.as_bytes()), true), "{refusal}");
        }
        let mut attempts = attempts(TWICE);
        let before = clock::now();
        assert!(attempts.fail(Code::UNAVAILABLE, Some(b"60000"), true));
        let until = attempts.pause.until.unwrap();
        assert!(until.nanos_since(before) >= 60_000_000_000 && attempts.waits == 0);
        assert!(attempts.fail(Code::UNAVAILABLE, None, true));
        assert_eq!(attempts.waits, 1);
    }
}
