//! `loadBalancingConfig`: how a server is chosen, and when one gets no calls because too many have failed
//! (gRFC A50).

use std::time::Duration;

use serde_json::Value;

use super::json::{Object, duration_at, list, object};

/// How the servers of a channel share its calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Balancing {
    pub(crate) policy: Option<Policy>,
    pub(crate) outliers: Option<OutlierDetection>,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    PickFirst,
    RoundRobin,
    LeastRequest,
}

/// When a server is an outlier, and for how long it gets no calls then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutlierDetection {
    /// How often the counts of calls are looked at.
    pub(crate) interval: Duration,
    pub(crate) base_ejection_time: Duration,
    pub(crate) max_ejection_time: Duration,
    /// Of all servers, with no calls at a time.
    pub(crate) max_ejection_percent: u32,
    pub(crate) success_rate: Option<SuccessRate>,
    pub(crate) failure_percentage: Option<FailurePercentage>,
}

/// A server is an outlier whose share of calls that succeed is far below the mean.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SuccessRate {
    /// How far: in thousandths of the standard deviation.
    pub(crate) stdev_factor: u32,
    pub(crate) bounds: Bounds,
}

/// A server is an outlier whose share of calls that fail is above the threshold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailurePercentage {
    pub(crate) threshold: u32,
    pub(crate) bounds: Bounds,
}

/// What has to be there for counts to mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The chance that an outlier gets no calls.
    pub(crate) enforcement_percentage: u32,
    /// Servers.
    pub(crate) minimum_hosts: u32,
    /// Calls of a server in an interval.
    pub(crate) request_volume: u32,
}

/// With gRFC A50's defaults, and neither algorithm.
impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            success_rate: None,
            failure_percentage: None,
        }
    }
}

impl OutlierDetection {
    /// Both algorithms, with gRFC A50's defaults.
    pub(crate) fn of_both() -> Self {
        Self {
            success_rate: Some(SuccessRate::default()),
            failure_percentage: Some(FailurePercentage::default()),
            ..Self::default()
        }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { stdev_factor: 1900, bounds: Bounds::with_volume(100) }
    }
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self { threshold: 85, bounds: Bounds::with_volume(50) }
    }
}

impl Bounds {
    fn with_volume(request_volume: u32) -> Self {
        Self { enforcement_percentage: 100, minimum_hosts: 5, request_volume }
    }

    fn read(self, config: &Object) -> Result<Self, String> {
        Ok(Self {
            enforcement_percentage: percentage(config, "enforcementPercentage", self.enforcement_percentage)?,
            minimum_hosts: number(config, "minimumHosts", self.minimum_hosts)?,
            request_volume: number(config, "requestVolume", self.request_volume)?,
        })
    }
}

/// Reads a list of policies, of which the first counts that is known here.
pub(super) fn parse(root: &Object, key: &str) -> Result<Balancing, String> {
    let policies = list(root, key)?;
    for policy in policies {
        let Some((name, config)) = object(policy, &format!("a policy of `{key}`"))?.iter().next() else {
            return Err(format!("a policy of `{key}` has to be named"));
        };
        let policy = match name.as_str() {
            "pick_first" => Policy::PickFirst,
            "round_robin" => Policy::RoundRobin,
            "least_request_experimental" => Policy::LeastRequest,
            "outlier_detection_experimental" => {
                let read = outlier_detection(object(config, &format!("`{name}`"))?);
                return read.map_err(|why| format!("{name}: {why}"));
            }
            _ => continue,
        };
        return Ok(Balancing { policy: Some(policy), outliers: None });
    }
    if policies.is_empty() {
        return Ok(Balancing::default());
    }
    Err(format!(
        "`{key}` has no policy that is known here; add one of pick_first, round_robin, \
         least_request_experimental, outlier_detection_experimental"
    ))
}

fn outlier_detection(config: &Object) -> Result<Balancing, String> {
    let default = OutlierDetection::default();
    let duration = |key: &str, default: Duration| match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(_) => duration_at(config, key),
    };
    let interval = duration("interval", default.interval)?;
    if interval.is_zero() {
        return Err("`interval` has to be longer than 0s".to_owned());
    }
    let success_rate = algorithm(config, "successRateEjection", |config| {
        let SuccessRate { stdev_factor, bounds } = SuccessRate::default();
        let stdev_factor = number(config, "stdevFactor", stdev_factor)?;
        Ok(SuccessRate { stdev_factor, bounds: bounds.read(config)? })
    })?;
    let failure_percentage = algorithm(config, "failurePercentageEjection", |config| {
        let FailurePercentage { threshold, bounds } = FailurePercentage::default();
        let threshold = percentage(config, "threshold", threshold)?;
        Ok(FailurePercentage { threshold, bounds: bounds.read(config)? })
    })?;
    let outliers = OutlierDetection {
        interval,
        base_ejection_time: duration("baseEjectionTime", default.base_ejection_time)?,
        max_ejection_time: duration("maxEjectionTime", default.max_ejection_time)?,
        max_ejection_percent: percentage(config, "maxEjectionPercent", default.max_ejection_percent)?,
        success_rate,
        failure_percentage,
    };
    let is_on = outliers.success_rate.is_some() || outliers.failure_percentage.is_some();
    Ok(Balancing { outliers: is_on.then_some(outliers), ..parse(config, "childPolicy")? })
}

fn algorithm<A>(
    config: &Object,
    key: &str,
    read: impl Fn(&Object) -> Result<A, String>,
) -> Result<Option<A>, String> {
    let Some(config) = config.get(key).filter(|config| !config.is_null()) else { return Ok(None) };
    read(object(config, &format!("`{key}`"))?).map(Some).map_err(|why| format!("{key}: {why}"))
}

fn number(config: &Object, key: &str, default: u32) -> Result<u32, String> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| format!("`{key}` has to be a whole number of 0 or more"))
        }
    }
}

fn percentage(config: &Object, key: &str, default: u32) -> Result<u32, String> {
    match number(config, key, default)? {
        number if number <= 100 => Ok(number),
        _ => Err(format!("`{key}` has to be 100 at most: it is a percentage")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(policies: &str) -> Result<Balancing, String> {
        let text = format!(r#"{{"loadBalancingConfig": {policies}}}"#);
        parse(serde_json::from_str::<Value>(&text).unwrap().as_object().unwrap(), "loadBalancingConfig")
    }

    #[test]
    fn the_first_policy_that_is_known_counts() {
        for (policies, policy) in [
            ("[]", None),
            ("null", None),
            (r#"[{"round_robin": {}}]"#, Some(Policy::RoundRobin)),
            (r#"[{"ring_hash": {}}, {"pick_first": {}}, {"round_robin": {}}]"#, Some(Policy::PickFirst)),
            (r#"[{"least_request_experimental": {}}]"#, Some(Policy::LeastRequest)),
            (
                r#"[{"outlier_detection_experimental": {"childPolicy": [{"round_robin": {}}]}}]"#,
                Some(Policy::RoundRobin),
            ),
        ] {
            assert_eq!(read(policies), Ok(Balancing { policy, outliers: None }), "{policies}");
        }
    }

    #[test]
    fn what_is_left_out_is_as_a50_has_it() {
        let both = r#"[{"outlier_detection_experimental":
            {"successRateEjection": {}, "failurePercentageEjection": {}}}]"#;
        assert_eq!(read(both).unwrap().outliers, Some(OutlierDetection::of_both()));
        let other = r#"[{"outlier_detection_experimental": {
            "interval": "1s", "baseEjectionTime": "2s", "maxEjectionTime": "3s", "maxEjectionPercent": 40,
            "failurePercentageEjection": {
                "threshold": 50, "enforcementPercentage": 60, "minimumHosts": 7, "requestVolume": 8
            }
        }}]"#;
        let bounds = Bounds { enforcement_percentage: 60, minimum_hosts: 7, request_volume: 8 };
        let expected = OutlierDetection {
            interval: Duration::from_secs(1),
            base_ejection_time: Duration::from_secs(2),
            max_ejection_time: Duration::from_secs(3),
            max_ejection_percent: 40,
            success_rate: None,
            failure_percentage: Some(FailurePercentage { threshold: 50, bounds }),
        };
        assert_eq!(read(other).unwrap().outliers, Some(expected));
    }

    #[test]
    fn each_error_is_told() {
        for (policies, words) in [
            ("{}", "`loadBalancingConfig` has to be a list"),
            ("[1]", "a policy of `loadBalancingConfig` has to be an object"),
            ("[{}]", "has to be named"),
            (r#"[{"ring_hash": {}}]"#, "no policy that is known here; add one of pick_first"),
        ] {
            assert!(read(policies).unwrap_err().contains(words), "{policies}");
        }
        for (config, words) in [
            ("1", "`outlier_detection_experimental` has to be an object"),
            (r#"{"interval": 1}"#, "`interval` has to be a duration"),
            (r#"{"interval": "0s"}"#, "`interval` has to be longer than 0s"),
            (r#"{"baseEjectionTime": "-1s"}"#, "`baseEjectionTime` has to be a duration"),
            (r#"{"maxEjectionPercent": 101}"#, "`maxEjectionPercent` has to be 100 at most"),
            (r#"{"maxEjectionPercent": -1}"#, "`maxEjectionPercent` has to be a whole number"),
            (r#"{"successRateEjection": 1}"#, "`successRateEjection` has to be an object"),
            (r#"{"successRateEjection": {"stdevFactor": 1.9}}"#, "successRateEjection: `stdevFactor` has to"),
            (r#"{"failurePercentageEjection": {"threshold": 101}}"#, "`threshold` has to be 100 at most"),
            (r#"{"childPolicy": [{"x": {}}]}"#, "`childPolicy` has no policy that is known here"),
        ] {
            let error = read(&format!(r#"[{{"outlier_detection_experimental": {config}}}]"#)).unwrap_err();
            assert!(error.contains(words), "{config}: {error}");
        }
    }
}
