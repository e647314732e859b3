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
    match error.reason() {
        // Only calls beyond the last one that a server will process end with its going away.
        Some(reason) if error.is_go_away() && error.is_remote() => Status::unavailable(match reason {
            Reason::NO_ERROR => "the server went away before it processed the call".to_owned(),
            _ => format!("the server went away before it processed the call: {reason}"),
        }),
        _ => Status::unavailable(format!("the connection to the server was lost: {error}")),
    }
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
