//! The interceptor in front of the well-behaved service.

use bytes::Bytes;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

/// Marks every request, and refuses those with `x-reject`.
#[allow(clippy::result_large_err, reason = "the signature is tonic's")]
pub fn intercept(mut request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(reason) = request.metadata().get("x-reject") {
        let mut metadata = MetadataMap::new();
        metadata.insert("x-rejected-by", "interceptor".parse().expect("valid metadata"));
        metadata.insert("x-reason", reason.clone());
        let details = Bytes::from_static(b"rejected");
        return Err(Status::with_details_and_metadata(
            Code::PermissionDenied,
            "the interceptor refuses",
            details,
            metadata,
        ));
    }
    request.metadata_mut().insert("x-intercepted", "by the server".parse().expect("valid metadata"));
    Ok(request)
}
