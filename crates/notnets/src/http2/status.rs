//! The status of a call when HTTP/2 failed beneath it.

use h2::Reason;
use tonic::{Code, Status};

/// The status that gRPC's HTTP/2 mapping gives to `error`: a reset stream by
/// its reason, a lost connection as `UNAVAILABLE`.
pub fn status_of(error: &h2::Error) -> Status {
    if error.is_reset() {
        let reason = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
        return Status::new(code_of(reason), format!("the server reset the call: {reason}"));
    }
    Status::unavailable(format!("the connection to the server was lost: {error}"))
}

/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors>
fn code_of(reason: Reason) -> Code {
    match reason {
        Reason::REFUSED_STREAM => Code::Unavailable,
        Reason::CANCEL => Code::Cancelled,
        Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    }
}
