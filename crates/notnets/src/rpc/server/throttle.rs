//! Requests that are read no faster than their user may send.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use notnets_core::clock;
use notnets_core::link::quota::Meter;
use tokio::time::Sleep;

/// Slows a request down whose user has sent more than it may: what is not read gives no credit back.
pub(crate) struct Throttle {
    meter: Meter,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Throttle {
    pub(crate) fn new(meter: Meter) -> Box<Self> {
        Box::new(Self { meter, pause: None })
    }

    /// So many bytes are taken. Returns `true` if more may be only later.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let pause = self.meter.take(bytes as u64, clock::now());
        self.pause = (!pause.is_zero()).then(|| Box::pin(tokio::time::sleep(pause)));
        self.pause.is_some()
    }

    /// Waits until more may be taken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }
}
