//! gRPC's status codes, as numbers on the wire.

/// A gRPC status code (<https://grpc.io/docs/guides/status-codes/>). Codes that we don't know travel
/// as they are: this names those that the layers here produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

#[allow(missing_docs)]
impl Code {
    pub const OK: Self = Self(0);
    pub const CANCELLED: Self = Self(1);
    pub const UNKNOWN: Self = Self(2);
    pub const INVALID_ARGUMENT: Self = Self(3);
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    pub const PERMISSION_DENIED: Self = Self(7);
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    pub const UNIMPLEMENTED: Self = Self(12);
    pub const INTERNAL: Self = Self(13);
    pub const UNAVAILABLE: Self = Self(14);
    /// A response that ends without a status: the gRPC library above says what that means.
    pub const NONE: Self = Self(u32::MAX);
}
