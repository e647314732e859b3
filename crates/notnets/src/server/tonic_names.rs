//! The setters of tonic's `Server` that have another name here, or no effect.

use std::time::Duration;

use super::Server;

/// Setters by tonic's names, so that configured builders compile as they are.
impl<L> Server<L> {
    /// Sets [`keepalive_interval`](Self::keepalive_interval).
    pub fn http2_keepalive_interval(self, interval: Option<Duration>) -> Self {
        self.keepalive_interval(interval)
    }

    /// Sets [`keepalive_timeout`](Self::keepalive_timeout).
    pub fn http2_keepalive_timeout(self, timeout: Option<Duration>) -> Self {
        self.keepalive_timeout(timeout)
    }

    /// Sets [`max_metadata_size`](Self::max_metadata_size). `None` leaves it as it is.
    pub fn http2_max_header_list_size(self, bytes: impl Into<Option<u32>>) -> Self {
        match bytes.into() {
            Some(bytes) => self.max_metadata_size(bytes),
            None => self,
        }
    }

    /// Has no effect: windows are as large as they are set.
    pub fn http2_adaptive_window(self, _enabled: Option<bool>) -> Self {
        self
    }

    /// Has no effect: a call that was reset takes no memory.
    pub fn http2_max_pending_accept_reset_streams(self, _streams: Option<usize>) -> Self {
        self
    }

    /// Has no effect: a client that breaks the protocol loses its link at once.
    pub fn http2_max_local_error_reset_streams(self, _streams: Option<usize>) -> Self {
        self
    }

    /// Has no effect: messages are cut by the sizes of shared memory.
    pub fn max_frame_size(self, _bytes: impl Into<Option<u32>>) -> Self {
        self
    }

    /// Has no effect: there is no HTTP/1.
    pub fn accept_http1(self, _accept: bool) -> Self {
        self
    }

    /// Has no effect: there is no TCP.
    pub fn tcp_nodelay(self, _enabled: bool) -> Self {
        self
    }

    /// Has no effect: there is no TCP. The end of a client's process is noticed at once.
    pub fn tcp_keepalive(self, _interval: Option<Duration>) -> Self {
        self
    }

    /// Has no effect: there is no TCP.
    pub fn tcp_keepalive_interval(self, _interval: Option<Duration>) -> Self {
        self
    }

    /// Has no effect: there is no TCP.
    pub fn tcp_keepalive_retries(self, _retries: Option<u32>) -> Self {
        self
    }
}
