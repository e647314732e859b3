//! What a client does for each method, in gRPC's format: time-outs, waiting for a server, further attempts.
//!
//! | file | what |
//! | --- | --- |
//! | `json.rs` | gRPC's JSON, and its errors |
//! | `policy.rs` | what is configured for a method |
//! | `balancing.rs` | how servers share the calls |
//! | `throttle.rs` | when too many calls fail for further attempts |

mod balancing;
mod json;
mod policy;
mod throttle;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notnets_core::code::Code;

pub(crate) use balancing::{Balancing, Bounds, OutlierDetection, Policy};
#[cfg(test)]
pub(crate) use balancing::{FailurePercentage, SuccessRate};
pub(crate) use policy::{HedgingPolicy, MethodConfig};
pub(crate) use throttle::Throttle;

use crate::Error;
use crate::error::Cause;

/// Bytes of a request that are kept for further attempts unless another number is set.
const REPLAY_BYTES: usize = 1 << 20;

/// A gRPC service config: time-outs, `waitForReady`, retries and hedging by method, for
/// [`Endpoint::service_config`](crate::Endpoint::service_config).
///
/// ```
/// use notnets::ServiceConfig;
///
/// let config = ServiceConfig::from_json(r#"{
///     "methodConfig": [{
///         "name": [{"service": "shop.Inventory", "method": "Get"}],
///         "timeout": "2s",
///         "waitForReady": true,
///         "retryPolicy": {
///             "maxAttempts": 4,
///             "initialBackoff": "0.01s",
///             "maxBackoff": "1s",
///             "backoffMultiplier": 2,
///             "retryableStatusCodes": ["UNAVAILABLE"]
///         }
///     }],
///     "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
/// }"#)?;
/// # Ok::<(), notnets::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// By `/service/method`, `/service/`, or nothing for all.
    methods: HashMap<Box<str>, Arc<MethodConfig>>,
    throttling: Option<Throttling>,
    /// The service whose health servers are asked for.
    health: Option<Arc<str>>,
    balancing: Balancing,
    replay_bytes: usize,
}

/// The parameters of throttling, in thousandths of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttling {
    max: i64,
    ratio: i64,
}

impl ServiceConfig {
    /// A service config from its JSON.
    ///
    /// # Errors
    /// With a sentence that says what is wrong where.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        json::parse(text)
            .map_err(|why| Cause::Names(format!("the service config is not valid: {why}")).into())
    }

    /// A service config from a file with its JSON.
    ///
    /// # Errors
    /// When the file can't be read, and with a sentence that says what is wrong in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Cause::Names(format!("cannot read the service config {}: {error}", path.display()))
        })?;
        json::parse(&text).map_err(|why| {
            Cause::Names(format!("the service config {} is not valid: {why}", path.display())).into()
        })
    }

    /// Sets how many bytes of a request are kept for further attempts. A larger request is made once. 1 MiB
    /// unless set.
    #[must_use]
    pub fn max_replay_bytes(mut self, bytes: usize) -> Self {
        self.replay_bytes = bytes;
        self
    }
}

/// A service config in use by a channel.
#[derive(Debug)]
pub(crate) struct Policies {
    config: ServiceConfig,
    throttle: Option<Throttle>,
}

impl Policies {
    pub(crate) fn new(config: ServiceConfig) -> Self {
        let throttle = config.throttling.map(Throttle::new);
        Self { config, throttle }
    }

    /// Returns what is configured for a method, by its path: the most specific of what applies.
    pub(crate) fn of_method(&self, path: &str) -> Option<Arc<MethodConfig>> {
        let methods = &self.config.methods;
        let service = || path.rfind('/').map_or(path, |end| &path[..=end]);
        let found = methods.get(path).or_else(|| methods.get(service())).or_else(|| methods.get(""));
        found.map(Arc::clone)
    }

    pub(crate) fn throttle(&self) -> Option<&Throttle> {
        self.throttle.as_ref()
    }

    /// Returns the service whose health servers are asked for.
    pub(crate) fn health_service(&self) -> Option<&Arc<str>> {
        self.config.health.as_ref()
    }

    pub(crate) fn balancing(&self) -> &Balancing {
        &self.config.balancing
    }

    pub(crate) fn replay_bytes(&self) -> usize {
        self.config.replay_bytes
    }
}

/// Returns the code with this number.
fn code_of_number(number: u64) -> Option<Code> {
    u32::try_from(number).ok().filter(|number| *number <= 16).map(Code)
}

/// Returns the code with this name, in whatever case.
fn code_of_name(name: &str) -> Option<Code> {
    (0..=16).map(Code).find(|code| code.name().is_some_and(|known| known.eq_ignore_ascii_case(name)))
}

/// A duration of protobuf's JSON, like `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    let (seconds, fraction) = match text.strip_suffix('s')?.split_once('.') {
        Some((seconds, fraction)) => (seconds, fraction),
        None => (text.strip_suffix('s')?, ""),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // Longer ones would overflow the clock.
    if seconds.is_empty()
        || seconds.len() > 9
        || fraction.len() > 9
        || !are_digits(seconds)
        || !are_digits(fraction)
    {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_wins() {
        let config = r#"{"methodConfig": [
            {"name": [{}], "timeout": "1s"},
            {"name": [{"service": "a.B"}], "timeout": "2s"},
            {"name": [{"service": "a.B", "method": "C"}, {"service": "a.D", "method": ""}], "timeout": "3s"}
        ]}"#;
        let policies = Policies::new(ServiceConfig::from_json(config).unwrap());
        for (path, seconds) in [("/a.B/C", 3), ("/a.B/X", 2), ("/a.D/C", 3), ("/x.Y/Z", 1), ("odd", 1)] {
            let method = policies.of_method(path).unwrap();
            assert_eq!(method.timeout, Some(Duration::from_secs(seconds)), "{path}");
        }
        assert!(Policies::new(ServiceConfig::from_json("{}").unwrap()).of_method("/a.B/C").is_none());
    }

    #[test]
    fn durations_are_those_of_protobuf() {
        for (text, nanos) in
            [("1s", Some(1_000_000_000)), ("0.05s", Some(50_000_000)), ("1.s", Some(1_000_000_000))]
        {
            assert_eq!(duration(text).map(|duration| duration.as_nanos()), nanos, "{text}");
        }
        for wrong in ["", "s", "1", "-1s", "1m", "1e3s", ".5s", "1.0000000001s", "99999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
