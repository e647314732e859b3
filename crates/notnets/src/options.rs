//! What can be set for each end of a link, of a client or a server, on a runtime or without.

use std::time::Duration;

use notnets_core::clock;
use notnets_core::limits::Limits;
use notnets_core::link::connect::Connecting;
use notnets_core::link::expected::ExpectedServer;
use notnets_core::link::handshake::{Config, SHARED_BYTES};
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use notnets_core::wait::Wait;
use notnets_memory::TrustPeerMemory;
use notnets_memory::lane::{Blocks, Geometry};
#[cfg(feature = "pod")]
use notnets_pod::member::Dial;

/// The options of an end of a link.
#[derive(Clone, Debug)]
pub(crate) struct LinkOptions {
    pub(crate) directory: Directory,
    pub(crate) limits: Limits,
    pub(crate) wait: Wait,
    /// The sizes of the first segment, if they don't follow from the limits.
    pub(crate) geometry: Option<Geometry>,
    /// Bytes of the peer's sealed payloads that are mapped at a time.
    pub(crate) shared_bytes: u64,
    /// Who may be the server, for a client.
    pub(crate) expected: ExpectedServer,
    /// Payloads are read where the peer has put them.
    pub(crate) trust: Option<TrustPeerMemory>,
    #[cfg(feature = "pod")]
    pub(crate) wake_latency: Option<Duration>,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            directory: Directory::from_env(),
            limits: Limits::default(),
            wait: Wait::default(),
            geometry: None,
            shared_bytes: SHARED_BYTES,
            expected: ExpectedServer::default(),
            trust: None,
            #[cfg(feature = "pod")]
            wake_latency: None,
        }
    }
}

impl LinkOptions {
    /// What is said in the handshake with a process of this host.
    pub(crate) fn config(&self) -> Config {
        let Self { limits, shared_bytes, .. } = *self;
        let geometry = self.geometry.unwrap_or_else(|| geometry(limits));
        Config { limits, geometry, shared_bytes, places: None }
    }

    /// What is said in the handshake with a process of another host of a pod.
    #[cfg(feature = "pod")]
    pub(crate) fn config_between_hosts(&self) -> Config {
        let between_hosts = || notnets_pod::member::between_hosts(geometry(self.limits));
        let geometry = self.geometry.unwrap_or_else(between_hosts);
        Config { limits: self.limits, geometry, shared_bytes: self.shared_bytes, places: self.trust }
    }

    /// An attempt to connect to a name of this host from now on.
    pub(crate) fn connecting(&self, name: &Name, user_agent: &str, timeout: Duration) -> Connecting {
        let deadline = clock::after(timeout);
        Connecting::new(self.directory.clone(), name.clone(), self.config(), user_agent, deadline)
            .expect(self.expected.clone())
    }

    /// An attempt to connect to a name of a pod from now on.
    #[cfg(feature = "pod")]
    pub(crate) fn dial(&self, pod: &Name, name: &Name, user_agent: &str, timeout: Duration) -> Dial {
        Dial {
            directory: self.directory.clone(),
            pod: pod.clone(),
            name: name.clone(),
            expected: self.expected.clone(),
            limits: self.limits,
            shared_bytes: self.shared_bytes,
            places: self.trust,
            geometry: self.config().geometry,
            geometry_between_hosts: self.config_between_hosts().geometry,
            user_agent: user_agent.to_owned(),
            wake_latency: self.wake_latency,
            deadline: std::time::Instant::now() + timeout,
        }
    }
}

/// A first segment whose large block holds the largest head we may send.
fn geometry(limits: Limits) -> Geometry {
    let default = Geometry::default();
    let bytes = limits.metadata_bytes.next_multiple_of(4096).max(default.large.bytes);
    Geometry { large: Blocks { bytes, ..default.large }, ..default }
}

/// The setters that all builders have: `link_setters!(a.b)` for a builder whose [`LinkOptions`] are
/// `self.a.b`.
macro_rules! link_setters {
    ($($options:ident).+) => {
        /// Looks for names and for the agents of pods in this rendezvous directory instead of the
        /// environment's (`NOTNETS_DIR`).
        pub fn directory(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.$($options).+.directory = notnets_core::link::rendezvous::Directory::at(path);
            self
        }

        /// Sets how to wait for messages.
        pub fn wait(mut self, wait: crate::Wait) -> Self {
            self.$($options).+.wait = wait;
            self
        }

        /// Sets how long, in a pod, a message from another host may wait for a side that is parked. What the
        /// host's agent says unless set, and that is 500 µs unless set there. No doorbell rings between
        /// hosts, so the host's agent looks that often; of several wishes the shortest counts.
        #[cfg(feature = "pod")]
        pub fn wake_latency(mut self, latency: std::time::Duration) -> Self {
            self.$($options).+.wake_latency = Some(latency);
            self
        }

        /// Sets the bytes of one stream that may have arrived and wait to be read. `None` is the default: 256
        /// KiB, and between the hosts of a pod, as where 256 KiB are set, a mebibyte.
        #[doc(alias = "http2_initial_stream_window_size")]
        pub fn initial_stream_window_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
            let default = notnets_core::limits::Limits::default();
            self.$($options).+.limits.stream_window = bytes.into().unwrap_or(default.stream_window);
            self
        }

        /// Sets the bytes over all streams of a link that may have arrived and wait to be read. `None` is the
        /// default.
        #[doc(alias = "http2_initial_connection_window_size")]
        pub fn initial_connection_window_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
            let default = notnets_core::limits::Limits::default();
            self.$($options).+.limits.link_window = bytes.into().unwrap_or(default.link_window);
            self
        }

        /// Sets the bytes of metadata that this side accepts in one head; it sends no larger ones either. 16
        /// KiB unless set.
        #[doc(alias = "http2_max_header_list_size")]
        pub fn max_metadata_size(mut self, bytes: u32) -> Self {
            self.$($options).+.limits.metadata_bytes = bytes;
            self
        }

        /// Sets the bytes of the peer's [`SharedBytes`](crate::SharedBytes) that this side reads in place at
        /// a time, for each link. What is beyond is copied, as everything is with 0. 1 GiB unless set. All
        /// links of the process together have [a limit](crate::SharedBytes::limit_received), too.
        pub fn max_shared_bytes(mut self, bytes: u64) -> Self {
            self.$($options).+.shared_bytes = bytes;
            self
        }

        /// Sets the bytes of messages that may have come in part, over all calls of a link. Of a call that
        /// goes beyond them no more is taken: it ends with `RESOURCE_EXHAUSTED`. A message may be longer,
        /// as far as messages may, while the others are within it. What the peer sends until it is read does
        /// not count, but against the windows. 1 GiB unless set.
        ///
        /// What is not gRPC's has no messages, so nothing of it counts. A proxy that passes parts of messages
        /// on holds none of them, and sets `u64::MAX`.
        pub fn max_unfinished_bytes(mut self, bytes: u64) -> Self {
            self.$($options).+.limits.unfinished_bytes = bytes;
            self
        }

        /// Reads large payloads where the peer has put them, without a copy, on the word of whoever has
        /// [made the token](crate::TrustPeerMemory::new). They are `Bytes` that hold their blocks of the
        /// peer's memory. Of each of its segments up to half the blocks are held, and what comes in the
        /// others is copied. From other hosts of a pod [`SharedBytes`](crate::SharedBytes) are read where
        /// they lie in the region, which all of its hosts can write, and all else is copied.
        pub fn trust_peer_memory(mut self, trust: crate::TrustPeerMemory) -> Self {
            self.$($options).+.trust = Some(trust);
            self
        }

        /// Sets all limits at once.
        #[cfg(feature = "testing")]
        #[doc(hidden)]
        pub fn limits(mut self, limits: notnets_core::limits::Limits) -> Self {
            self.$($options).+.limits = limits;
            self
        }

        /// Sets the sizes of the first segment of each link, to test links that are short of memory.
        #[cfg(feature = "testing")]
        #[doc(hidden)]
        pub fn geometry(mut self, geometry: notnets_memory::lane::Geometry) -> Self {
            self.$($options).+.geometry = Some(geometry);
            self
        }
    };
}

/// The setters of what is a client's alone.
macro_rules! client_setters {
    ($($options:ident).+) => {
        /// Sets whom this client takes for its server; it sends nothing to anybody else. Unless set,
        /// processes of its own uid and of root are servers, and those of the owner of the rendezvous
        /// directory if nobody else may put a name there: where several users share the directory, each could
        /// take a name that is free and be called in the place of its server.
        ///
        /// It goes by who listens on the name's socket. Over HTTP/2 nobody is checked.
        pub fn expect_server(mut self, expected: crate::ExpectedServer) -> Self {
            self.$($options).+.expected = expected;
            self
        }
    };
}

pub(crate) use client_setters;
pub(crate) use link_setters;
