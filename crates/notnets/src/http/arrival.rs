//! Where a request arrives: a request that asks for that is not sent. The channel that it arrives at answers
//! with itself, and with the head that the request has by then.
//!
//! Generated clients ask for it: what they are given may be a channel, or an interceptor in front of one.

use std::sync::{Arc, Mutex, PoisonError};

use http::request::Parts;
use http::{Extensions, Request};
use tonic::body::Body;

use crate::Channel;

/// Among a request's extensions: it asks where it arrives.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Option<Arrival>>>);

/// Where a request arrived, and its head there.
pub(crate) struct Arrival {
    pub(crate) channel: Channel,
    pub(crate) head: Parts,
}

impl Asked {
    /// Marks a request, so that it is answered with where it arrives.
    pub(crate) fn mark(&self, request: &mut Request<Body>) {
        request.extensions_mut().insert(self.clone());
    }

    /// Returns where the request arrived. `None` if it did not arrive at a channel.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes the question from among a request's extensions, if it is there.
    #[inline]
    pub(super) fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }

    /// Answers it.
    pub(super) fn answer(&self, arrival: Arrival) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(arrival);
    }
}
