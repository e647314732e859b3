//! All limits of a link, with their reasons. Each side announces its own in the handshake; the
//! sender keeps to the receiver's.

use std::ops::Deref;

/// The limits on what one side of a link receives, as a user configured or a peer announced them. A link
/// takes only [`ValidLimits`], which come of [`check`](Self::check).
///
/// ```
/// use notnets_core::Limits;
///
/// let limits = Limits::default().with_streams(100).check()?;
/// assert_eq!(limits.streams, 100);
/// assert!(Limits::default().with_streams(0).check().is_err());
/// # Ok::<(), notnets_core::limits::BadLimits>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one head (metadata, with the method path): what gRPC libraries accept by default.
    pub metadata_bytes: u32,
    /// Streams that a client may have open at once; it queues what is beyond.
    pub streams: u32,
    /// Bytes of one stream that its reader has not taken yet. Four large blocks, so that some can be
    /// filled while others are read.
    pub stream_window: u32,
    /// Bytes of all streams of the link together that their readers have not taken yet: large, so that
    /// streams that are not read leave room for others.
    pub link_window: u32,
    /// Bytes of arena segments beyond the first that are accepted from the peer.
    pub segment_bytes: u32,
    /// Bytes of messages of which the rest has not come, over all streams of the link but one. The peer is
    /// not told: a call that would go beyond it ends.
    pub unfinished_bytes: u64,
}

/// A window is at least this.
pub const MIN_WINDOW: u32 = 1024;
/// Any chunk of data costs at least this: small messages take memory as well.
pub const MIN_CHARGE: u64 = 64;
/// A head lies in one block of the first segment, so it is at most this.
pub const MAX_METADATA: u32 = 1 << 24;
/// The most streams that a peer may announce.
pub const MAX_STREAMS: u32 = 1 << 20;

/// Limits that a link can work with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValidLimits(Limits);

impl Deref for ValidLimits {
    type Target = Limits;

    #[inline]
    fn deref(&self) -> &Limits {
        &self.0
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// A limit that a link can't work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error(
    "a link can't work with a limit of {value} for its {what}: it has to be at least {least} and at most {most}"
)]
pub struct BadLimits {
    /// The limited quantity.
    pub what: &'static str,
    /// The limit.
    pub value: u32,
    /// The least that works.
    pub least: u32,
    /// The most.
    pub most: u32,
}

impl Limits {
    /// The limits that are announced unless others are set.
    pub const fn new() -> Self {
        Self {
            metadata_bytes: 16 * 1024,
            streams: 16 * 1024,
            stream_window: 256 * 1024,
            link_window: 16 * 1024 * 1024,
            segment_bytes: 64 * 1024 * 1024,
            unfinished_bytes: 1 << 30,
        }
    }

    /// These limits for a link between hosts: there a stream's window is a mebibyte, unless another was
    /// set. A message of that size goes without a wait for credit, which is farther away, and at which a
    /// side that has to be woken takes long.
    #[must_use]
    pub const fn between_hosts(mut self) -> Self {
        if self.stream_window == Self::new().stream_window {
            self.stream_window = 1024 * 1024;
        }
        self
    }

    /// Sets [`metadata_bytes`](Self::metadata_bytes).
    #[must_use]
    pub const fn with_metadata_bytes(mut self, bytes: u32) -> Self {
        self.metadata_bytes = bytes;
        self
    }

    /// Sets [`streams`](Self::streams).
    #[must_use]
    pub const fn with_streams(mut self, streams: u32) -> Self {
        self.streams = streams;
        self
    }

    /// Sets [`stream_window`](Self::stream_window).
    #[must_use]
    pub const fn with_stream_window(mut self, bytes: u32) -> Self {
        self.stream_window = bytes;
        self
    }

    /// Sets [`link_window`](Self::link_window).
    #[must_use]
    pub const fn with_link_window(mut self, bytes: u32) -> Self {
        self.link_window = bytes;
        self
    }

    /// Sets [`segment_bytes`](Self::segment_bytes).
    #[must_use]
    pub const fn with_segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets [`unfinished_bytes`](Self::unfinished_bytes).
    #[must_use]
    pub const fn with_unfinished_bytes(mut self, bytes: u64) -> Self {
        self.unfinished_bytes = bytes;
        self
    }

    /// Checks that a link can work with these limits.
    ///
    /// # Errors
    /// With the first limit that it can't work with.
    pub fn check(self) -> Result<ValidLimits, BadLimits> {
        for (what, value, least, most) in [
            ("bytes of metadata", self.metadata_bytes, 1, MAX_METADATA),
            ("streams", self.streams, 1, MAX_STREAMS),
            ("stream window", self.stream_window, MIN_WINDOW, u32::MAX),
            ("link window", self.link_window, MIN_WINDOW, u32::MAX),
        ] {
            if value < least || value > most {
                return Err(BadLimits { what, value, least, most });
            }
        }
        Ok(ValidLimits(self))
    }
}

/// The credit that a chunk of data costs.
#[inline]
pub fn charge(bytes: usize) -> u64 {
    (bytes as u64).max(MIN_CHARGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_no_segment_can_hold_are_refused() {
        let fine = Limits::default();
        assert!(fine.check().is_ok());
        for wrong in [
            Limits { metadata_bytes: 0, ..fine },
            Limits { metadata_bytes: u32::MAX, ..fine },
            Limits { streams: 0, ..fine },
            Limits { streams: u32::MAX, ..fine },
            Limits { stream_window: 0, ..fine },
            Limits { link_window: MIN_WINDOW - 1, ..fine },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
