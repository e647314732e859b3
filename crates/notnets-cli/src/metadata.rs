//! Metadata from the command line, and in JSON.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use tonic::metadata::MetadataMap;

/// One `-H key:value`.
pub type Pair = (HeaderName, HeaderValue);

/// Parses `key:value`; spaces around the value do not count.
///
/// # Errors
/// When gRPC would not carry it.
pub fn parse(text: &str) -> Result<Pair, String> {
    let (key, value) = text.split_once(':').ok_or("write KEY:VALUE, for example -H tenant:acme")?;
    let key = key.trim().to_ascii_lowercase();
    if key.starts_with("grpc-") {
        return Err(format!("`{key}`: keys that begin with grpc- belong to gRPC itself (see --timeout)"));
    }
    let name =
        key.parse().map_err(|_| format!("`{key}` is not a metadata key: use a-z, 0-9, `-`, `_`, `.`"))?;
    let value: HeaderValue = value.trim().parse().map_err(|_| {
        format!("the value of `{key}` has characters metadata cannot carry: send it as {key}-bin, in base64")
    })?;
    let pair = (name, value);
    if key.ends_with("-bin") && !is_base64(&pair) {
        return Err(format!("the value of `{key}` is not base64, as that of a -bin key must be"));
    }
    Ok(pair)
}

/// All pairs, with repeated keys kept.
pub fn collect(pairs: &[Pair]) -> MetadataMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.clone(), value.clone());
    }
    MetadataMap::from_headers(headers)
}

/// An object with a list of values for each key; those of `-bin` keys are in base64, as they are carried.
pub fn to_json(headers: &HeaderMap) -> Value {
    let values = |key| {
        let values = headers.get_all(key).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned().into()).collect()
    };
    headers.keys().map(|key| (key.to_string(), Value::Array(values(key)))).collect::<Map<_, _>>().into()
}

fn is_base64(pair: &Pair) -> bool {
    binary(pair).is_some()
}

/// The bytes that the value of a `-bin` key stands for. `None` for other keys.
pub fn binary(pair: &Pair) -> Option<Bytes> {
    let metadata = collect(std::slice::from_ref(pair));
    metadata.get_bin(pair.0.as_str())?.to_bytes().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let (name, value) = parse("Tenant: acme: east ").expect("a pair");
        assert_eq!((name.as_str(), value.as_bytes()), ("tenant", &b"acme: east"[..]));
        assert!(parse("trace-bin:AAEC/w==").is_ok());
        assert!(parse("trace-bin:AAEC/w").is_ok());
    }

    #[test]
    fn what_grpc_would_not_carry() {
        for (text, word) in [
            ("tenant", "KEY:VALUE"),
            ("grpc-timeout:1S", "belong to gRPC"),
            ("a b:c", "not a metadata key"),
            ("a:ä\u{7}", "base64"),
            ("a-bin:###", "not base64"),
        ] {
            assert!(parse(text).is_err_and(|sentence| sentence.contains(word)), "{text}");
        }
    }

    #[test]
    fn repeated_keys_stay_repeated() {
        let pairs = ["k:1", "k:2"].map(|text| parse(text).expect("a pair"));
        assert_eq!(collect(&pairs).get_all("k").iter().count(), 2);
    }
}
