//! What an application saw of a case, as named facts that can be compared
//! between transports.

use std::fmt::{self, Debug};

use tonic::Status;
use tonic::metadata::{KeyAndValueRef, MetadataMap};

/// Metadata that belongs to a transport and not to the application.
const TRANSPORT_KEYS: &[&str] = &["date", "user-agent", "te", "content-length"];

/// What HTTP puts into a response's metadata. Clients that `notnets-build` generated don't see it where their
/// calls go without HTTP.
const HTTP_KEYS: &[&str] = &["content-type", "grpc-status"];
/// The suite is compiled for two crates.
const WITH_OUR_STUBS: bool = matches!(env!("CARGO_PKG_NAME").as_bytes(), b"notnets-conformance-stubs");

/// The facts that one run of a case noted, in the order in which it did.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Observation {
    facts: Vec<(String, String)>,
}

impl Observation {
    /// An observation without facts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a value under a name.
    ///
    /// # Panics
    /// When the name was used before: a fact could hide another.
    pub fn note(&mut self, name: impl Into<String>, value: impl Debug) {
        let name = name.into();
        assert!(self.get(&name).is_none(), "the fact {name:?} was noted twice");
        self.facts.push((name, format!("{value:?}")));
    }

    /// Notes metadata: sorted by key, repeated values in their order, without
    /// what belongs to the transport.
    pub fn note_metadata(&mut self, name: impl Into<String>, metadata: &MetadataMap) {
        let lines =
            entries(metadata).into_iter().map(|(key, value)| format!("{key}: {}", value.escape_ascii()));
        self.note(name, lines.collect::<Vec<_>>());
    }

    /// Notes all of a status: code, message, details and metadata.
    pub fn note_status(&mut self, name: &str, status: &Status) {
        self.note(format!("{name}.code"), status.code());
        self.note(format!("{name}.message"), status.message());
        self.note(format!("{name}.details"), status.details());
        self.note_metadata(format!("{name}.metadata"), status.metadata());
    }

    /// The value noted under a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names of all facts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.facts.iter().map(|(name, _)| name.as_str())
    }
}

impl Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.facts.iter().map(|(name, value)| (name, value))).finish()
    }
}

/// Metadata as (key, value) pairs, binary values decoded, sorted by key only,
/// for the order of repeated values is part of what the application sees.
pub(crate) fn entries(metadata: &MetadataMap) -> Vec<(String, Vec<u8>)> {
    let mut entries: Vec<(String, Vec<u8>)> = metadata
        .iter()
        .map(|entry| match entry {
            KeyAndValueRef::Ascii(key, value) => (key.to_string(), value.as_bytes().to_vec()),
            KeyAndValueRef::Binary(key, value) => {
                (key.to_string(), value.to_bytes().expect("binary metadata is valid base64").to_vec())
            }
        })
        .filter(|(key, _)| !TRANSPORT_KEYS.contains(&key.as_str()))
        .filter(|(key, _)| !(WITH_OUR_STUBS && HTTP_KEYS.contains(&key.as_str())))
        .collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_sorted_by_key_and_keeps_the_order_of_repeated_values() {
        let mut metadata = MetadataMap::new();
        metadata.append("x-b", "2".parse().unwrap());
        metadata.append("x-a", "z".parse().unwrap());
        metadata.append("x-b", "1".parse().unwrap());
        metadata.insert("date", "today".parse().unwrap());
        let seen = entries(&metadata);
        let expected = [("x-a", "z"), ("x-b", "2"), ("x-b", "1")];
        assert_eq!(seen, expected.map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec())));
    }

    #[test]
    #[should_panic(expected = "noted twice")]
    fn a_fact_is_noted_once() {
        let mut seen = Observation::new();
        seen.note("reply", 1);
        seen.note("reply", 2);
    }
}
