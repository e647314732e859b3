//! Names in pods, in a program that was built without the feature `pod`.
#![cfg(not(feature = "pod"))]

use notnets::blocking;

const NAME: &str = "notnets://pod0/inventory";
const WHY: &str = "built without the feature `pod`";

#[tokio::test]
async fn names_in_pods_are_an_error_that_says_why() {
    let error = notnets::Endpoint::new(NAME).expect("is a name").connect().await.expect_err("no pods");
    assert!(error.to_string().contains(WHY), "{error}");
    let error = blocking::Endpoint::new(NAME).expect("is a name").connect().expect_err("no pods");
    assert!(error.to_string().contains(WHY), "{error}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bound = blocking::Server::builder().directory(directory.path()).bind(NAME);
    let error = bound.err().expect("no pods");
    assert!(error.to_string().contains(WHY), "{error}");
}
