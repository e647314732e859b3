//! The setters of tonic's `Endpoint` that have another name here, or no effect.

use std::time::Duration;

use super::Endpoint;

/// Setters by tonic's names, so that configured builders compile as they are.
impl Endpoint {
    /// Sets [`keep_alive_interval`](Self::keep_alive_interval).
    pub fn http2_keep_alive_interval(self, interval: Duration) -> Self {
        self.keep_alive_interval(interval)
    }

    /// Sets [`max_metadata_size`](Self::max_metadata_size).
    pub fn http2_max_header_list_size(self, bytes: u32) -> Self {
        self.max_metadata_size(bytes)
    }

    /// Has no effect: requests go to the name that the endpoint leads to, and carry no `:authority`.
    pub fn origin(self, _origin: http::Uri) -> Self {
        self
    }

    /// Has no effect: a `tower::limit::RateLimitLayer` around the channel limits the rate of calls.
    pub fn rate_limit(self, _limit: u64, _duration: Duration) -> Self {
        self
    }

    /// Has no effect: a channel has no task and no queue between a call and its link.
    pub fn buffer_size(self, _size: impl Into<Option<usize>>) -> Self {
        self
    }

    /// Has no effect: a channel's tasks run on the runtime that it was made in.
    pub fn executor<E>(self, _executor: E) -> Self {
        self
    }

    /// Has no effect: messages are cut by the sizes of shared memory.
    pub fn max_frame_size(self, _bytes: impl Into<Option<u32>>) -> Self {
        self
    }

    /// Has no effect: windows are as large as they are set.
    pub fn http2_adaptive_window(self, _enabled: bool) -> Self {
        self
    }

    /// Has no effect: metadata are not compressed.
    pub fn http2_header_table_size(self, _bytes: u32) -> Self {
        self
    }

    /// Has no effect: a call that was reset takes no memory.
    pub fn http2_max_concurrent_reset_streams(self, _streams: usize) -> Self {
        self
    }

    /// Has no effect: a call that was reset takes no memory.
    pub fn http2_reset_stream_duration(self, _duration: Duration) -> Self {
        self
    }

    /// Has no effect: a server that breaks the protocol loses its link at once.
    pub fn http2_max_local_error_reset_streams(self, _streams: impl Into<Option<usize>>) -> Self {
        self
    }

    /// Has no effect: there is no TCP.
    pub fn local_address(self, _address: Option<std::net::IpAddr>) -> Self {
        self
    }

    /// Has no effect: there is no TCP.
    pub fn tcp_nodelay(self, _enabled: bool) -> Self {
        self
    }

    /// Has no effect: there is no TCP. The end of a server's process is noticed at once.
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
