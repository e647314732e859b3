//! Between HTTP heads, which tonic speaks, and metadata, which links carry.
//!
//! Entries that are the same on every call are not sent: `te`, the usual content type, the user agent that
//! the client has announced once. The deadline and the status have fields of their own.

use std::time::Duration;

use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use notnets_core::code::Code;
use notnets_core::metadata::Metadata;

use crate::rpc::is_base64;

const GRPC: &[u8] = b"application/grpc";
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const DETAILS: &str = "grpc-status-details-bin";
/// Only sent when it is not the usual one.
const METHOD: &str = ":method";
const STATUS: &str = ":status";
/// Only sent when the request's URI has one.
const AUTHORITY: &str = ":authority";
/// A map of headers holds little more and panics when it is full. Further entries are left out: only a
/// hostile peer sends that many, for others had them in such a map as well.
const MAX_ENTRIES: usize = 24_000;

/// The entries that a request's head is sent as.
pub(crate) fn request_entries<'a>(
    method: &'a Method,
    authority: Option<&'a Authority>,
    headers: &'a HeaderMap,
    user_agent: &'a str,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let unusual = (method != Method::POST).then(|| (METHOD, method.as_str().as_bytes()));
    // A header set by the user replaces the announced one; an absent content type is sent as such.
    let no_type = find(headers, &CONTENT_TYPE).is_none().then_some((CONTENT_TYPE.as_str(), &b""[..]));
    let authority = authority.map(|authority| (AUTHORITY, authority.as_str().as_bytes()));
    unusual.into_iter().chain(authority).chain(no_type).chain(entries(headers).filter(
        move |(name, value)| {
            let silent = *name == TE.as_str()
                || *name == GRPC_TIMEOUT.as_str()
                || (*name == CONTENT_TYPE.as_str() && *value == GRPC)
                || (*name == USER_AGENT.as_str() && *value == user_agent.as_bytes());
            !silent
        },
    ))
}

/// The entries that a response's head is sent as. Its status, if it has one, travels beside them.
pub(crate) fn response_entries<'a>(
    status: &'a StatusCode,
    headers: &'a HeaderMap,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let code = (*status != StatusCode::OK).then(|| (STATUS, status.as_str().as_bytes()));
    let no_type = find(headers, &CONTENT_TYPE).is_none().then_some((CONTENT_TYPE.as_str(), &b""[..]));
    let rest =
        trailer_entries(headers).filter(|(name, value)| !(*name == CONTENT_TYPE.as_str() && *value == GRPC));
    code.into_iter().chain(no_type).chain(rest)
}

/// The entries that trailers are sent as, without the status.
pub(crate) fn trailer_entries(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    entries(headers).filter(|(name, _)| *name != GRPC_STATUS.as_str())
}

fn entries(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// Returns headers in a box, if there are any.
#[cfg(feature = "stubs")]
#[inline]
pub(crate) fn boxed(headers: HeaderMap) -> Option<Box<HeaderMap>> {
    if headers.capacity() == 0 {
        // There is nothing to free, and to find that out takes longer.
        std::mem::forget(headers);
        return None;
    }
    (!headers.is_empty()).then(|| Box::new(headers))
}

/// The entries of an application's metadata: gRPC's own have places of their own. tonic sends the same.
#[cfg(feature = "stubs")]
pub(crate) fn application_entries(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    entries(headers).filter(|(name, _)| {
        !matches!(
            *name,
            "te" | "content-type" | "grpc-message" | "grpc-message-type" | "grpc-status" | "grpc-timeout"
        )
    })
}

/// The status in a response's head or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<Code> {
    let value = find(headers, &GRPC_STATUS)?;
    Some(value.to_str().ok().and_then(|text| text.parse().ok()).map_or(Code::UNKNOWN, Code))
}

/// A header's first value. Most heads have a few headers only, which are compared faster than hashed.
fn find<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    const FEW: usize = 8;
    match headers.len() {
        0..=FEW => headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value),
        _ => headers.get(name),
    }
}

/// The head of a request without metadata of its own.
pub(crate) fn usual_request(user_agent: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Some(agent) = user_agent.filter(|agent| !agent.is_empty()) {
        headers.insert(USER_AGENT, agent);
    }
    headers
}

/// A request's method, authority and headers, from its entries and the usual head.
pub(crate) fn request_head(metadata: Metadata, usual: &HeaderMap) -> (Method, Option<Authority>, HeaderMap) {
    let mut headers = usual.clone();
    let mut method = Method::POST;
    let mut authority = None;
    for (key, value) in metadata.into_iter().take(MAX_ENTRIES) {
        if &*key == METHOD {
            method = Method::from_bytes(&value).unwrap_or(Method::POST);
        } else if &*key == AUTHORITY {
            authority = Authority::from_maybe_shared(value).ok();
        } else {
            append(&mut headers, &key, value);
        }
    }
    (method, authority, headers)
}

/// Adds the entries of an application's metadata.
#[cfg(all(feature = "server", feature = "stubs"))]
pub(crate) fn extend(headers: &mut HeaderMap, metadata: Metadata) {
    for (key, value) in metadata.into_iter().take(MAX_ENTRIES) {
        append(headers, &key, value);
    }
}

/// A response's status and headers, from its entries.
pub(crate) fn response_head(metadata: Metadata) -> (StatusCode, HeaderMap) {
    // With room for the trailers as well: tonic puts them into the same map.
    let mut headers = header_map(&metadata);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut status = StatusCode::OK;
    for (key, value) in metadata.into_iter().take(MAX_ENTRIES) {
        if &*key == STATUS {
            status = StatusCode::from_bytes(&value).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        } else {
            append(&mut headers, &key, value);
        }
    }
    (status, headers)
}

/// Trailers, from their entries and the status.
pub(crate) fn trailers(metadata: Metadata, status: Code) -> HeaderMap {
    if status == Code::OK && metadata.is_empty() {
        return OK.try_with(HeaderMap::clone).unwrap_or_else(|_ended| ok());
    }
    let mut headers = header_map(&metadata);
    for (key, value) in metadata.into_iter().take(MAX_ENTRIES) {
        append(&mut headers, &key, value);
    }
    set_status(&mut headers, status);
    headers
}

thread_local! {
    // Of each thread, so that none waits for another that makes it, in a forked child for ever.
    static OK: HeaderMap = ok();
}

fn ok() -> HeaderMap {
    HeaderMap::from_iter([(GRPC_STATUS.clone(), HeaderValue::from(0))])
}

/// Puts the status where gRPC libraries look for it.
pub(crate) fn set_status(headers: &mut HeaderMap, status: Code) {
    if status != Code::NONE && headers.try_insert(&GRPC_STATUS, status.0.into()).is_err() {
        // Of a map that is full, the status is what matters.
        headers.clear();
        headers.insert(&GRPC_STATUS, status.0.into());
    }
}

/// Room for these entries and a few of our own.
fn header_map(metadata: &Metadata) -> HeaderMap {
    HeaderMap::with_capacity(metadata.len().min(MAX_ENTRIES) + 4)
}

/// Adds what the peer sent if it can be a header at all. The content type and user agent replace the
/// usual ones; an empty content type stands for none.
fn append(headers: &mut HeaderMap, key: &str, value: bytes::Bytes) {
    let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_maybe_shared(value))
    else {
        return;
    };
    match name {
        // tonic panics at details that it can't read.
        _ if name == DETAILS && !is_base64(value.as_bytes()) => {}
        CONTENT_TYPE if value.is_empty() => {
            headers.remove(CONTENT_TYPE);
        }
        CONTENT_TYPE | USER_AGENT => {
            let _full = headers.try_insert(name, value);
        }
        _ => {
            let _full = headers.try_append(name, value);
        }
    }
}

/// Returns the time-out that a client asked for in `grpc-timeout`
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = find(headers, &GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// The remaining time, for the handler: at most eight digits, as the protocol wants it.
pub(crate) fn set_timeout(headers: &mut HeaderMap, remaining: Duration) {
    const LARGEST: u128 = 99_999_999;
    let nanos = remaining.as_nanos();
    let units = [(1, 'n'), (1_000, 'u'), (1_000_000, 'm'), (1_000_000_000, 'S')];
    let (n, unit) = units
        .into_iter()
        .map(|(size, unit)| (nanos / size, unit))
        .find(|(n, _)| *n <= LARGEST)
        .unwrap_or((LARGEST, 'S'));
    if let Ok(value) = HeaderValue::try_from(format!("{n}{unit}")) {
        let _full = headers.try_insert(&GRPC_TIMEOUT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_round_trip_within_their_digits() {
        for duration in [
            Duration::ZERO,
            Duration::from_nanos(7),
            Duration::from_millis(1500),
            Duration::from_secs(3),
            Duration::from_secs(86_400),
        ] {
            let mut headers = HeaderMap::new();
            set_timeout(&mut headers, duration);
            assert_eq!(timeout(&headers), Some(duration));
        }
        for wrong in ["", "5", "123456789S", "5x", "S", "-1S", "é"] {
            let mut headers = HeaderMap::new();
            headers.insert(&GRPC_TIMEOUT, HeaderValue::from_bytes(wrong.as_bytes()).unwrap());
            assert_eq!(timeout(&headers), None, "{wrong:?}");
        }
    }

    #[test]
    fn more_metadata_than_a_map_holds_do_no_harm() {
        let entry = |n: usize| (format!("key-{n}").into(), bytes::Bytes::from_static(b"v"));
        let metadata: Metadata = (0..100_000).map(entry).collect();
        let (_, _, mut headers) =
            request_head(metadata.clone(), &usual_request(Some(HeaderValue::from_static("agent"))));
        set_timeout(&mut headers, Duration::ZERO);
        assert!(headers["key-23999"] == "v" && headers[USER_AGENT] == "agent");
        assert_eq!(response_head(metadata.clone()).1["key-23999"], "v");
        assert_eq!(trailers(metadata, Code(5))[&GRPC_STATUS], "5");
    }

    #[test]
    fn details_that_tonic_cannot_read_are_left_out() {
        for (details, are_kept) in [("AQI", true), ("AQI=", true), ("%", false), ("A", false)] {
            let metadata = Metadata::from([(DETAILS.into(), bytes::Bytes::from(details))]);
            let headers = trailers(metadata, Code(5));
            assert_eq!(headers.contains_key(DETAILS), are_kept, "{details}");
            assert_eq!(tonic::Status::from_header_map(&headers).unwrap().code(), tonic::Code::NotFound);
        }
    }

    #[test]
    fn the_usual_head_has_no_entries() {
        let mut headers = HeaderMap::new();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        assert_eq!(request_entries(&Method::POST, None, &headers, "agent").count(), 0);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        headers.insert(USER_AGENT, HeaderValue::from_static("mine"));
        let authority = Authority::from_static("shop.example:80");
        assert_eq!(request_entries(&Method::GET, Some(&authority), &headers, "agent").count(), 4);
    }
}
