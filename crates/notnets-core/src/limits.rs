//! All limits of a link, with their reasons. Each side announces its own in the handshake; the
//! sender keeps to the receiver's.

/// What one side of a link is willing to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one head (metadata, with the method path): what gRPC libraries accept by default.
    pub metadata_bytes: u32,
    /// Streams that a client may have open at once; it queues what is beyond.
    pub streams: u32,
    /// Bytes of one stream that its reader has not taken yet. Four large blocks, so that some can be
    /// filled while others are read.
    pub stream_window: u32,
    /// The same over all streams of the link: large, so that streams nobody reads leave room for
    /// others.
    pub link_window: u32,
    /// Bytes of arena segments beyond the first that are accepted from the peer.
    pub segment_bytes: u32,
}

/// A window is at least this.
pub const MIN_WINDOW: u32 = 1024;
/// Any chunk of data is charged at least this: small messages cost memory as well.
pub const MIN_CHARGE: u64 = 64;
/// A head lies in one block of the first segment, so it is at most this.
pub const MAX_METADATA: u32 = 1 << 24;
/// Streams that a peer may announce at most, whatever it says.
pub const MAX_STREAMS: u32 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            metadata_bytes: 16 * 1024,
            streams: 16 * 1024,
            stream_window: 256 * 1024,
            link_window: 16 * 1024 * 1024,
            segment_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A limit that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a link can't work with a limit of {value} for its {what}: it has to be at least {least} and at most {most}"
)]
pub struct BadLimits {
    /// What is limited.
    pub what: &'static str,
    /// The limit.
    pub value: u32,
    /// The least that makes sense.
    pub least: u32,
    /// The most.
    pub most: u32,
}

impl Limits {
    /// Checks what a peer announced, or a user configured.
    ///
    /// # Errors
    /// When a link can't work with them.
    pub fn check(self) -> Result<Self, BadLimits> {
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
        Ok(self)
    }
}

/// What a chunk of data costs of the windows.
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
