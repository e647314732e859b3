//! The status of a call when HTTP/2 failed beneath it.

use std::error::Error;

use h2::Reason;
use tonic::{Code, Status};

/// The status that gRPC's HTTP/2 mapping gives to `error`: a reset stream by
/// its reason, a lost connection as `UNAVAILABLE`.
pub fn status_of(error: &hyper::Error) -> Status {
    let http2 = sources(error).find_map(|source| source.downcast_ref::<h2::Error>());
    match http2 {
        Some(http2) if http2.is_reset() => {
            let reason = http2.reason().unwrap_or(Reason::INTERNAL_ERROR);
            Status::new(code_of(reason), format!("the server reset the call: {reason}"))
        }
        _ => {
            let cause = sources(error).last().map_or_else(|| error.to_string(), ToString::to_string);
            Status::unavailable(format!("the connection to the server was lost: {cause}"))
        }
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

fn sources(error: &hyper::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |error: &&(dyn Error + 'static)| (*error).source())
}
