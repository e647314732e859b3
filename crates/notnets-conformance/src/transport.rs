//! The transports under test and the runtimes they are driven by.

use clap::ValueEnum;
use std::fmt;
use tokio::runtime::{Builder, Runtime};

/// What carries the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// tonic's HTTP/2 over TCP on the loopback interface.
    Tcp,
    /// tonic's HTTP/2 over a Unix socket.
    Uds,
    /// Shared memory.
    #[value(name = "notnets")]
    NotNets,
    /// A channel of ours to tonic's server, over HTTP/2 on a Unix socket.
    #[value(name = "to-http2")]
    ToHttp2,
    /// tonic's channel to a server of ours, over HTTP/2 on TCP.
    #[value(name = "from-http2")]
    FromHttp2,
    /// tonic's HTTP/2 over a Unix socket, to a server without layers.
    UdsUnlayered,
    /// Shared memory, to a server without layers: what `notnets-build` has generated is then served without
    /// HTTP.
    #[value(name = "notnets-unlayered")]
    NotNetsUnlayered,
    /// The memory of a pod that its hosts' caches agree on: each process is a host of its own.
    #[value(name = "pod-hardware")]
    PodHardware,
    /// The same where they don't.
    #[value(name = "pod-software")]
    PodSoftware,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Uds => "uds",
            Self::NotNets => "notnets",
            Self::ToHttp2 => "to-http2",
            Self::FromHttp2 => "from-http2",
            Self::UdsUnlayered => "uds-unlayered",
            Self::NotNetsUnlayered => "notnets-unlayered",
            Self::PodHardware => "pod-hardware",
            Self::PodSoftware => "pod-software",
        })
    }
}

/// Which tokio runtime drives a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// One thread for everything.
    Current,
    /// Work stealing over two threads.
    Multi,
}

impl Flavour {
    /// A new runtime of this flavour.
    ///
    /// # Errors
    /// When the operating system refuses a thread or a descriptor.
    pub fn runtime(self) -> std::io::Result<Runtime> {
        let mut builder = match self {
            Self::Current => Builder::new_current_thread(),
            Self::Multi => Builder::new_multi_thread(),
        };
        builder.worker_threads(2).enable_all().build()
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Multi => "multi",
        })
    }
}
