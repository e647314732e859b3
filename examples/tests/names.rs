//! Each type that a user of `notnets` meets has a name that needs no other of its crates.

use std::time::Duration;

use notnets::admission::{Check, PeerCredentials, Rejection};
use notnets::{
    Admission, Bound, Channel, Endpoint, Error, ErrorKind, PeerInfo, Router, Routes, Server, Wait,
};
use notnets::{blocking, rpc};

/// What handlers, settings and errors are made of, as a program would keep it.
#[expect(dead_code, reason = "it is enough that it compiles")]
struct Kept {
    admission: (Admission, Check, PeerCredentials, Rejection),
    client: (Endpoint, Channel, notnets::ResponseFuture, notnets::RetrySafe),
    error: (Error, ErrorKind),
    server: (Server, Router, Bound, Routes, notnets::RoutesBuilder, PeerInfo, Wait),
    rpc: (rpc::Code, rpc::Deadline, rpc::Metadata, rpc::Method, rpc::Payload, rpc::Status),
    blocking: (blocking::Client, blocking::Endpoint, blocking::Server, blocking::Builder, blocking::Stopper),
    blocking_calls: (blocking::Response, blocking::Reply, blocking::Status),
    blocking_parts: (blocking::Code, blocking::Metadata),
}

fn handle(request: &blocking::Request<'_>, reply: &mut blocking::Reply) -> Result<(), blocking::Status> {
    let metadata: &blocking::Metadata = request.metadata;
    let peer: &PeerInfo = request.peer;
    let left: Option<Duration> = request.time_left();
    if metadata.is_empty() && peer.host.is_none() && left.is_none() {
        return Err(blocking::Status::new(blocking::Code::INVALID_ARGUMENT, "no metadata"));
    }
    reply.metadata = metadata.clone();
    Ok(())
}

#[test]
fn both_apis_have_the_same_errors_and_settings() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let admission = Admission::by(|peer| peer.uid == 0 || peer.pid.is_some());
    let server = Server::builder().directory(directory.path()).wait(Wait::Park).admission(admission.clone());
    let server = server.max_metadata_size(1 << 14).max_connections(10).add_routes(Routes::default());
    let bound: Bound = server.bind_blocking("notnets:///names")?;
    let blocking =
        blocking::Server::builder().directory(directory.path()).wait(Wait::Park).admission(admission);
    let blocking = blocking.max_metadata_size(1 << 14).max_connections(10);
    let error: Error = blocking.bind("notnets://./names").err().ok_or("the name is in use")?;
    assert_eq!(error.kind(), ErrorKind::NameInUse);
    drop(bound);
    let endpoint = blocking::Endpoint::new("notnets:///names")?.directory(directory.path());
    let error: Error = endpoint.connect().err().ok_or("there is no server")?;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let _handler: fn(&blocking::Request<'_>, &mut blocking::Reply) -> _ = handle;
    Ok(())
}
