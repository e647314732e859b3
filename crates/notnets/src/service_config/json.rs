//! gRPC's JSON of a service config: `grpc/service_config/service_config.proto`, and for retries gRFC A6.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use notnets_core::code::Code;
use serde_json::{Map, Value};

use super::policy::{HedgingPolicy, MethodConfig, RetryPolicy};
use super::{REPLAY_BYTES, ServiceConfig, Throttling, balancing, code_of_name, code_of_number, duration};

/// More attempts are not made, whatever is configured.
const MAX_ATTEMPTS: u64 = 5;

pub(super) type Object = Map<String, Value>;

pub(super) fn parse(text: &str) -> Result<ServiceConfig, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let root = object(&value, "it")?;
    let mut methods = HashMap::new();
    for (n, method) in list(root, "methodConfig")?.iter().enumerate() {
        let at = format!("methodConfig[{n}]");
        let method = object(method, &at)?;
        let config = Arc::new(method_config(method).map_err(|why| format!("{at}: {why}"))?);
        for name in list(method, "name")? {
            let key = key_of(name).map_err(|why| format!("{at}: {why}"))?;
            match methods.entry(key) {
                Entry::Vacant(place) => place.insert(Arc::clone(&config)),
                Entry::Occupied(known) => {
                    return Err(format!("{at}: `{}` is named twice; name it once", known.key()));
                }
            };
        }
    }
    let throttling = root.get("retryThrottling").filter(|value| !value.is_null());
    let throttling = throttling.map(throttling_of).transpose()?;
    let health = root.get("healthCheckConfig").filter(|value| !value.is_null());
    let health = health.map(health_service).transpose()?.flatten();
    let balancing = balancing::parse(root, "loadBalancingConfig")?;
    Ok(ServiceConfig { methods, throttling, health, balancing, replay_bytes: REPLAY_BYTES })
}

fn method_config(method: &Object) -> Result<MethodConfig, String> {
    for (key, instead) in [
        ("maxRequestMessageBytes", "`max_encoding_message_size` of the client"),
        ("maxResponseMessageBytes", "`max_decoding_message_size` of the client"),
    ] {
        if method.contains_key(key) {
            return Err(format!("`{key}` is not supported here; use {instead}"));
        }
    }
    let wait_for_ready = match method.get("waitForReady") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(wait)) => *wait,
        Some(_) => return Err("`waitForReady` has to be true or false".to_owned()),
    };
    let timeout = match method.get("timeout") {
        None | Some(Value::Null) => None,
        Some(_) => Some(duration_at(method, "timeout")?),
    };
    let retry = policy(method, "retryPolicy", retry_policy)?;
    let hedging = policy(method, "hedgingPolicy", hedging_policy)?;
    if retry.is_some() && hedging.is_some() {
        return Err("`retryPolicy` and `hedgingPolicy` exclude each other; leave one out".to_owned());
    }
    Ok(MethodConfig { wait_for_ready, timeout, retry, hedging })
}

fn policy<P>(
    method: &Object,
    key: &str,
    parse: impl Fn(&Object) -> Result<P, String>,
) -> Result<Option<P>, String> {
    let Some(policy) = method.get(key).filter(|policy| !policy.is_null()) else { return Ok(None) };
    let policy = object(policy, &format!("`{key}`"))?;
    parse(policy).map(Some).map_err(|why| format!("{key}: {why}"))
}

fn retry_policy(policy: &Object) -> Result<RetryPolicy, String> {
    let max_attempts = max_attempts(policy)?;
    let backoff = |key: &str| match duration_at(policy, key)? {
        zero if zero.is_zero() => Err(format!("`{key}` has to be longer than 0s")),
        backoff => Ok(backoff),
    };
    let multiplier = match policy.get("backoffMultiplier").and_then(Value::as_f64) {
        Some(multiplier) if multiplier > 0.0 => multiplier,
        _ => return Err("`backoffMultiplier` has to be a number above 0".to_owned()),
    };
    let codes = codes(policy, "retryableStatusCodes")?;
    if codes.is_empty() {
        return Err("`retryableStatusCodes` has to list at least one code".to_owned());
    }
    Ok(RetryPolicy {
        max_attempts,
        initial_backoff: backoff("initialBackoff")?,
        max_backoff: backoff("maxBackoff")?,
        multiplier,
        codes,
    })
}

fn hedging_policy(policy: &Object) -> Result<HedgingPolicy, String> {
    let delay = match policy.get("hedgingDelay") {
        None | Some(Value::Null) => Duration::ZERO,
        Some(_) => duration_at(policy, "hedgingDelay")?,
    };
    let max_attempts = max_attempts(policy)?;
    Ok(HedgingPolicy { max_attempts, delay, non_fatal: codes(policy, "nonFatalStatusCodes")? })
}

fn max_attempts(policy: &Object) -> Result<u32, String> {
    match policy.get("maxAttempts").and_then(Value::as_u64) {
        Some(attempts) if attempts > 1 => Ok(attempts.min(MAX_ATTEMPTS) as u32),
        _ => Err("`maxAttempts` has to be an integer of 2 or more, with the first attempt".to_owned()),
    }
}

fn codes(policy: &Object, key: &str) -> Result<Vec<Code>, String> {
    let code = |value: &Value| {
        let code = match value {
            Value::String(name) => code_of_name(name),
            value => value.as_u64().and_then(code_of_number),
        };
        code.ok_or_else(|| format!("`{key}` has {value}; write codes like \"UNAVAILABLE\" or 14"))
    };
    list(policy, key)?.iter().map(code).collect()
}

fn throttling_of(value: &Value) -> Result<Throttling, String> {
    let throttling = object(value, "`retryThrottling`")?;
    let number = |key: &str| throttling.get(key).and_then(Value::as_f64);
    let max = number("maxTokens").filter(|max| *max > 0.0 && *max <= 1000.0);
    let max = max.ok_or("retryThrottling: `maxTokens` has to be a number above 0, and 1000 at most")?;
    // More than three decimals are ignored.
    let ratio = number("tokenRatio").map(|ratio| (ratio * 1000.0) as i64).filter(|ratio| *ratio > 0);
    let ratio = ratio.ok_or("retryThrottling: `tokenRatio` has to be a number of 0.001 or more")?;
    Ok(Throttling { max: (max * 1000.0) as i64, ratio })
}

/// Returns the service whose health is asked for. Without one there, nothing is.
fn health_service(value: &Value) -> Result<Option<Arc<str>>, String> {
    match object(value, "`healthCheckConfig`")?.get("serviceName") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(service)) => Ok(Some(service.as_str().into())),
        Some(_) => Err("healthCheckConfig: `serviceName` has to be a string".to_owned()),
    }
}

/// Returns the beginning of the paths that a name stands for.
fn key_of(name: &Value) -> Result<Box<str>, String> {
    let name = object(name, "a `name`")?;
    let part = |key: &str| match name.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(part)) => Ok(part.as_str()),
        Some(_) => Err(format!("the `{key}` of a `name` has to be a string")),
    };
    match (part("service")?, part("method")?) {
        ("", "") => Ok("".into()),
        ("", method) => Err(format!("a `name` has the method `{method}` and no service; add its service")),
        (service, method) => Ok(format!("/{service}/{method}").into()),
    }
}

pub(super) fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Object, String> {
    value.as_object().ok_or_else(|| format!("{what} has to be an object"))
}

pub(super) fn list<'a>(object: &'a Object, key: &str) -> Result<&'a [Value], String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("`{key}` has to be a list")),
    }
}

pub(super) fn duration_at(object: &Object, key: &str) -> Result<Duration, String> {
    let text = object.get(key).and_then(Value::as_str);
    text.and_then(duration).ok_or_else(|| format!("`{key}` has to be a duration like \"1.5s\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(changes: &[(&str, &str)]) -> Result<RetryPolicy, String> {
        let mut policy = HashMap::from([
            ("maxAttempts", "3"),
            ("initialBackoff", "\"0.1s\""),
            ("maxBackoff", "\"1s\""),
            ("backoffMultiplier", "2"),
            ("retryableStatusCodes", "[\"UNAVAILABLE\"]"),
        ]);
        policy.extend(changes.iter().copied());
        let policy: Vec<_> = policy.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        let text =
            format!(r#"{{"methodConfig": [{{"name": [{{}}], "retryPolicy": {{{}}}}}]}}"#, policy.join(","));
        Ok(parse(&text)?.methods[""].retry.clone().unwrap())
    }

    #[test]
    fn a_policy_is_read() {
        let read = policy(&[("retryableStatusCodes", "[14, \"aborted\", \"Unknown\"]")]).unwrap();
        assert_eq!(read.codes, [Code::UNAVAILABLE, Code::ABORTED, Code::UNKNOWN]);
        assert_eq!((read.max_attempts, read.multiplier), (3, 2.0));
        let backoffs = (Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!((read.initial_backoff, read.max_backoff), backoffs);
        assert_eq!(policy(&[("maxAttempts", "100")]).unwrap().max_attempts, 5);
    }

    #[test]
    fn each_error_of_a_policy_is_told() {
        for (key, values, words) in [
            ("maxAttempts", &["1", "0", "-2", "2.5", "\"3\"", "null"][..], "an integer of 2 or more"),
            ("initialBackoff", &["\"0s\"", "\"0.0s\""], "longer than 0s"),
            ("initialBackoff", &["1", "\"1\"", "\"-1s\"", "null"], "a duration like"),
            ("maxBackoff", &["\"0s\""], "longer than 0s"),
            ("maxBackoff", &["\"x\""], "a duration like"),
            ("backoffMultiplier", &["0", "-1", "\"2\"", "null"], "a number above 0"),
            ("retryableStatusCodes", &["[]", "null"], "at least one code"),
            ("retryableStatusCodes", &["\"UNAVAILABLE\""], "has to be a list"),
            ("retryableStatusCodes", &["[17]", "[-1]", "[\"GONE\"]", "[true]"], "write codes like"),
        ] {
            for value in values {
                let error = policy(&[(key, value)]).unwrap_err();
                let begin = format!("methodConfig[0]: retryPolicy: `{key}` ");
                assert!(error.starts_with(&begin) && error.contains(words), "{value}: {error}");
            }
        }
    }

    fn hedging(policy: &str) -> Result<HedgingPolicy, String> {
        let text = format!(r#"{{"methodConfig": [{{"name": [{{}}], "hedgingPolicy": {{{policy}}}}}]}}"#);
        Ok(parse(&text)?.methods[""].hedging.clone().unwrap())
    }

    #[test]
    fn hedging_is_read() {
        let all = r#""maxAttempts": 3, "hedgingDelay": "0.5s", "nonFatalStatusCodes": ["unavailable", 2]"#;
        let read = hedging(all).unwrap();
        assert_eq!((read.max_attempts, read.delay), (3, Duration::from_millis(500)));
        assert_eq!(read.non_fatal, [Code::UNAVAILABLE, Code::UNKNOWN]);
        let least = hedging(r#""maxAttempts": 9, "hedgingDelay": null"#).unwrap();
        assert_eq!(least, HedgingPolicy { max_attempts: 5, delay: Duration::ZERO, non_fatal: Vec::new() });
    }

    #[test]
    fn each_error_of_hedging_is_told() {
        for (policy, words) in [
            ("", "`maxAttempts` has to be an integer of 2 or more"),
            (r#""maxAttempts": 1"#, "`maxAttempts` has to be an integer of 2 or more"),
            (r#""maxAttempts": "2""#, "`maxAttempts` has to be an integer of 2 or more"),
            (r#""maxAttempts": 2, "hedgingDelay": 1"#, "`hedgingDelay` has to be a duration like"),
            (r#""maxAttempts": 2, "hedgingDelay": "-1s""#, "`hedgingDelay` has to be a duration like"),
            (
                r#""maxAttempts": 2, "nonFatalStatusCodes": "UNAVAILABLE""#,
                "`nonFatalStatusCodes` has to be a list",
            ),
            (
                r#""maxAttempts": 2, "nonFatalStatusCodes": [17]"#,
                "`nonFatalStatusCodes` has 17; write codes like",
            ),
        ] {
            let error = hedging(policy).unwrap_err();
            let begin = format!("methodConfig[0]: hedgingPolicy: {words}");
            assert!(error.starts_with(&begin), "{policy}: {error}");
        }
        let both = r#"{"methodConfig": [{
            "retryPolicy": {"maxAttempts": 2, "initialBackoff": "1s", "maxBackoff": "1s", "backoffMultiplier": 1,
                "retryableStatusCodes": [14]},
            "hedgingPolicy": {"maxAttempts": 2}
        }]}"#;
        assert!(parse(both).unwrap_err().contains("exclude each other"));
    }

    #[test]
    fn each_other_error_is_told() {
        for (text, words) in [
            ("", "it is not JSON"),
            ("[]", "it has to be an object"),
            (r#"{"methodConfig": {}}"#, "`methodConfig` has to be a list"),
            (r#"{"methodConfig": [1]}"#, "methodConfig[0] has to be an object"),
            (r#"{"methodConfig": [{"name": [{"method": "X"}]}]}"#, "no service; add its service"),
            (r#"{"methodConfig": [{"name": [{"service": 1}]}]}"#, "has to be a string"),
            (r#"{"methodConfig": [{"name": [{}, {"service": ""}]}]}"#, "is named twice"),
            (r#"{"methodConfig": [{"timeout": 1}]}"#, "`timeout` has to be a duration"),
            (r#"{"methodConfig": [{"waitForReady": 1}]}"#, "has to be true or false"),
            (r#"{"methodConfig": [{"hedgingPolicy": 3}]}"#, "`hedgingPolicy` has to be an object"),
            (r#"{"methodConfig": [{"maxRequestMessageBytes": 1}]}"#, "use `max_encoding_message_size`"),
            (r#"{"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}"#, "1000 at most"),
            (r#"{"retryThrottling": {"maxTokens": 1001, "tokenRatio": 1}}"#, "1000 at most"),
            (r#"{"retryThrottling": {"maxTokens": 10}}"#, "`tokenRatio` has to be"),
            (r#"{"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.0001}}"#, "0.001 or more"),
            (r#"{"retryThrottling": 3}"#, "has to be an object"),
            (r#"{"healthCheckConfig": 3}"#, "`healthCheckConfig` has to be an object"),
            (r#"{"healthCheckConfig": {"serviceName": 3}}"#, "`serviceName` has to be a string"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn health_is_asked_for_if_a_service_is_named() {
        for (config, service) in [
            ("{}", None),
            (r#"{"healthCheckConfig": null}"#, None),
            (r#"{"healthCheckConfig": {}}"#, None),
            (r#"{"healthCheckConfig": {"serviceName": ""}}"#, Some("")),
            (r#"{"healthCheckConfig": {"serviceName": "a.B"}}"#, Some("a.B")),
        ] {
            assert_eq!(parse(config).unwrap().health.as_deref(), service, "{config}");
        }
    }

    #[test]
    fn throttling_is_in_thousandths() {
        let text = r#"{"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1239}, "unknown": 1}"#;
        assert_eq!(parse(text).unwrap().throttling, Some(Throttling { max: 10_000, ratio: 123 }));
    }
}
