//! When the attempts of a hedged call are made, as the policy of its method says (gRFC A6). Reads no clock.

use std::sync::Arc;

use notnets_core::clock::Timestamp;

use super::attempts::delay_of;
use crate::rpc::Code;
use crate::service_config::{HedgingPolicy, MethodConfig, Policies, Throttle};

/// The attempts of a hedged call: how many were made, and when the next is due.
#[derive(Debug)]
pub(super) struct Hedging {
    policies: Arc<Policies>,
    config: Arc<MethodConfig>,
    made: u32,
    /// `None` if no more are made.
    next: Option<Timestamp>,
}

impl Hedging {
    /// The attempts of a call of a method with this configuration, from now on. `None` if they are not
    /// hedged.
    pub(super) fn new(policies: &Arc<Policies>, config: &Arc<MethodConfig>, now: Timestamp) -> Option<Self> {
        config.hedging.as_ref()?;
        let (policies, config) = (Arc::clone(policies), Arc::clone(config));
        Some(Self { policies, config, made: 0, next: Some(now) })
    }

    /// When the next attempt is due. `None` if no more are made.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// Returns how many attempts were made before the one that is to be made now, if one is.
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<u32> {
        let policy = self.policy()?;
        let (max_attempts, delay) = (policy.max_attempts, policy.delay);
        self.next.filter(|next| *next <= now)?;
        let is_allowed = self.made == 0 || self.policies.throttle().is_none_or(Throttle::allows);
        if !is_allowed {
            self.next = None;
            return None;
        }
        let previous = self.made;
        self.made += 1;
        self.next = (self.made < max_attempts).then(|| now + delay);
        Some(previous)
    }

    /// An attempt has ended with this code, and with what the server says about further ones. Returns `true`
    /// if the call goes on with others.
    pub(super) fn fail(&mut self, code: Code, pushback: Option<&[u8]>, now: Timestamp) -> bool {
        let is_non_fatal = self.policy().is_some_and(|policy| policy.non_fatal.contains(&code));
        let delay = pushback.map(delay_of);
        let is_refused = delay == Some(None);
        let counts = is_non_fatal || is_refused;
        let is_allowed = !counts || self.policies.throttle().is_none_or(Throttle::fail);
        if is_refused || !is_allowed || !is_non_fatal {
            self.next = None;
        }
        // The next is not waited for any longer, unless the server says how long.
        self.next = self.next.map(|_| delay.flatten().map_or(now, |delay| now + delay));
        is_non_fatal
    }

    /// A server has begun to answer.
    pub(super) fn succeed(&self) {
        if let Some(throttle) = self.policies.throttle() {
            throttle.succeed();
        }
    }

    fn policy(&self) -> Option<&HedgingPolicy> {
        self.config.hedging.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ServiceConfig;

    const START: Timestamp = Timestamp::from_nanos(1_000_000_000);

    fn at(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    /// Three attempts, 10 ms from one to the next.
    fn hedging(more: &str) -> Hedging {
        let config = format!(
            r#"{{"methodConfig": [{{"name": [{{}}], "hedgingPolicy": {{
                "maxAttempts": 3, "hedgingDelay": "0.01s", "nonFatalStatusCodes": ["UNAVAILABLE"]
            }}}}]{more}}}"#
        );
        let policies = Arc::new(Policies::new(ServiceConfig::from_json(&config).unwrap()));
        let config = policies.of_method("/a.B/C").unwrap();
        Hedging::new(&policies, &config, START).unwrap()
    }

    #[test]
    fn attempts_are_made_one_delay_after_the_other() {
        let mut plan = hedging("");
        assert_eq!((plan.begin(START), plan.begin(START), plan.next()), (Some(0), None, Some(at(10))));
        assert_eq!((plan.begin(at(9)), plan.begin(at(10)), plan.next()), (None, Some(1), Some(at(20))));
        assert_eq!((plan.begin(at(25)), plan.next(), plan.begin(at(99))), (Some(2), None, None));
    }

    #[test]
    fn the_next_follows_at_once_when_one_has_failed() {
        let mut plan = hedging("");
        plan.begin(START);
        assert!(plan.fail(Code::UNAVAILABLE, None, at(3)));
        assert_eq!((plan.begin(at(3)), plan.next()), (Some(1), Some(at(13))));
    }

    #[test]
    fn other_errors_end_the_call() {
        let mut plan = hedging("");
        plan.begin(START);
        assert!(!plan.fail(Code::INTERNAL, None, at(1)));
        assert_eq!(plan.next(), None);
    }

    #[test]
    fn a_server_says_when_and_whether() {
        let mut plan = hedging("");
        plan.begin(START);
        assert!(plan.fail(Code::UNAVAILABLE, Some(b"50"), at(1)));
        assert_eq!((plan.next(), plan.begin(at(51)), plan.next()), (Some(at(51)), Some(1), Some(at(61))));
        for refusal in ["-1", "", "soon"] {
            let mut plan = hedging("");
            plan.begin(START);
            assert!(plan.fail(Code::UNAVAILABLE, Some(refusal.as_bytes()), at(1)), "{refusal}");
            assert_eq!(plan.next(), None, "{refusal}");
        }
    }

    #[test]
    fn after_many_failures_only_first_attempts_are_made() {
        let mut plan = hedging(r#", "retryThrottling": {"maxTokens": 2, "tokenRatio": 1}"#);
        plan.begin(START);
        assert!(plan.fail(Code::UNAVAILABLE, None, START));
        assert_eq!(plan.next(), None);
        let mut next = Hedging::new(&plan.policies, &plan.config, START).unwrap();
        assert_eq!((next.begin(START), next.begin(at(10)), next.next()), (Some(0), None, None));
        next.succeed();
        let mut last = Hedging::new(&plan.policies, &plan.config, START).unwrap();
        assert_eq!((last.begin(START), last.begin(at(10))), (Some(0), Some(1)));
    }

    #[test]
    fn what_is_not_hedged_has_no_such_plan() {
        let config = ServiceConfig::from_json(r#"{"methodConfig": [{"name": [{}], "timeout": "1s"}]}"#);
        let policies = Arc::new(Policies::new(config.unwrap()));
        let config = policies.of_method("/a.B/C").unwrap();
        assert!(Hedging::new(&policies, &config, START).is_none());
    }
}
