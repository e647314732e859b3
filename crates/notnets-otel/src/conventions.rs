//! The names of metrics and attributes, and what counts as an error.

use notnets::rpc::Code;

/// Whose names metrics have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conventions {
    /// OpenTelemetry's semantic conventions: `rpc.client.call.duration`.
    #[default]
    OpenTelemetry,
    /// gRPC's: `grpc.client.call.duration`.
    Grpc,
    /// Both.
    Both,
}

impl Conventions {
    pub(crate) fn has_opentelemetry(self) -> bool {
        self != Self::Grpc
    }

    pub(crate) fn has_grpc(self) -> bool {
        self != Self::OpenTelemetry
    }
}

/// The attributes of OpenTelemetry's conventions.
pub(crate) mod rpc {
    pub(crate) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";
    pub(crate) const SYSTEM: &str = "rpc.system.name";
    pub(crate) const METHOD: &str = "rpc.method";
    pub(crate) const METHOD_ORIGINAL: &str = "rpc.method_original";
    pub(crate) const STATUS: &str = "rpc.response.status_code";
    pub(crate) const ERROR: &str = "error.type";
    pub(crate) const ADDRESS: &str = "server.address";
    /// A method that the server does not have.
    pub(crate) const OTHER: &str = "_OTHER";
}

/// The labels of gRPC's conventions.
pub(crate) mod grpc {
    pub(crate) const METHOD: &str = "grpc.method";
    pub(crate) const TARGET: &str = "grpc.target";
    pub(crate) const STATUS: &str = "grpc.status";
    /// A method that the server does not have.
    pub(crate) const OTHER: &str = "other";
}

/// The end of a call that records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    /// Returns `true` if a call that ends so has failed. What is the caller's fault is no error of a server.
    pub(crate) fn is_error(self, status: Code) -> bool {
        match self {
            Self::Client => !matches!(status, Code::OK | Code::NONE),
            Self::Server => matches!(
                status,
                Code::UNKNOWN
                    | Code::DEADLINE_EXCEEDED
                    | Code::UNIMPLEMENTED
                    | Code::INTERNAL
                    | Code::UNAVAILABLE
                    | Code::DATA_LOSS
            ),
        }
    }
}

/// Statuses have names; a call that is not gRPC's has none.
pub(crate) fn status_name(status: Code) -> Option<&'static str> {
    if status == Code::NONE { None } else { Some(status.name().unwrap_or("UNKNOWN")) }
}
