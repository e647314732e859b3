//! Statuses as tonic has them.

use std::sync::Arc;

use super::RetrySafe;
use crate::rpc::Status;

/// A call's status, for the application.
pub(crate) fn to_tonic(status: &Status) -> tonic::Status {
    let code = i32::try_from(status.code().0).map_or(tonic::Code::Unknown, tonic::Code::from);
    let mut converted = tonic::Status::new(code, status.message());
    if status.is_retry_safe() {
        converted.set_source(Arc::new(RetrySafe::because_of(status.channel_error().cloned())));
    }
    converted
}

/// Returns the status of the call when a body of the application's failed.
pub(crate) fn from_tonic(status: &tonic::Status) -> Status {
    Status::new(crate::rpc::Code(status.code() as u32), status.message().to_owned())
}
