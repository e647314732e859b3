//! The context of a trace among a call's metadata.

use std::str;

use notnets::observe::{CallToMake, CallToServe};
use opentelemetry::propagation::{Extractor, Injector};

/// Sends a context along with a call.
pub(crate) struct Outgoing<'a, 'b>(pub(crate) &'a mut CallToMake<'b>);

impl Injector for Outgoing<'_, '_> {
    fn set(&mut self, key: &str, value: String) {
        let is_sendable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let key = key.to_ascii_lowercase();
        if is_sendable(&key) && is_sendable(&value) {
            self.0.send_along(key, value);
        }
    }
}

/// Reads the context that has come with a call.
pub(crate) struct Incoming<'a>(pub(crate) &'a CallToServe<'a>);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        str::from_utf8(self.0.metadata(key)?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().collect()
    }
}
