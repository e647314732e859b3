//! Limits that a user sets.

use notnets::{Channel, Endpoint, ErrorKind};
use tonic::Code;

#[tokio::test]
async fn impossible_limits_are_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = || Endpoint::from_static("notnets:///nobody").directory(directory.path());
    let impossible = endpoint().max_metadata_size(u32::MAX);
    assert_eq!(impossible.connect().await.unwrap_err().kind(), ErrorKind::InvalidConfiguration);
    // A lazy channel says it at its first call.
    let lazy: Channel = impossible.connect_lazy();
    assert_eq!(lazy.wait_until_connected().await.unwrap_err().code(), Code::InvalidArgument);
}
