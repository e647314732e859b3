//! Blocking clients and servers on two "hosts" of a pod: each has a partition of one region and an agent, and
//! nothing else in common with the other.

mod two_hosts;

use std::time::{Duration, Instant};

use bytes::Bytes;
use notnets::blocking::{Builder, Call, Endpoint, Response, Server, Status};
use notnets::{ErrorKind, SharedBytes, TrustPeerMemory};
use notnets_core::{Code, Wait};
use notnets_memory::Coherence;
use two_hosts::{LIMIT, Pod};

const COHERENCES: [Coherence; 2] = [Coherence::Hardware, Coherence::Software];
const WAITS: [Wait; 3] = [Wait::Spin, Wait::Adaptive, Wait::Park];

#[test]
fn calls_of_all_sizes_come_back() {
    for coherence in COHERENCES {
        let pod = Pod::new(coherence);
        for wait in WAITS {
            let name = format!("echo-{wait:?}");
            pod.serving(
                &name,
                |builder| builder.wait(wait),
                || {
                    let mut client = pod.client(&name, wait);
                    for bytes in [0, 1, 27, 32, 64, 1000, 70_000, 3 << 20] {
                        let message: Vec<u8> = (0..bytes).map(|i| (i * 7) as u8).collect();
                        assert_eq!(client.call("/test.Test/Echo", &message).unwrap(), message, "{bytes}");
                    }
                    assert_eq!(client.call("/test.Test/None", b"").unwrap_err().code, Code::UNIMPLEMENTED);
                },
            );
        }
    }
}

#[test]
fn deadlines_pass_on_both_sides() {
    let pod = Pod::new(Coherence::Software);
    pod.serving(
        "late",
        |builder| builder,
        || {
            let mut client = pod.client("late", Wait::Adaptive);
            let timeout = Some(Duration::from_millis(30));
            let call = Call { timeout, ..Call::new("/test.Test/Late", b"") };
            let failed = client.call_into(&call, &mut Response::default()).unwrap_err();
            assert_eq!(failed.code, Code::DEADLINE_EXCEEDED);
            // The server did not stop at it.
            assert_eq!(client.call("/test.Test/Echo", b"next").unwrap(), b"next");
        },
    );
}

#[test]
fn a_server_that_stops_is_told_and_its_successor_found() {
    let pod = Pod::new(Coherence::Hardware);
    let mut kept = None;
    pod.serving(
        "twice",
        |builder| builder,
        || {
            let mut client = pod.client("twice", Wait::Adaptive);
            assert_eq!(client.call("/test.Test/Echo", b"1").unwrap(), b"1");
            kept = Some(client);
        },
    );
    let mut client = kept.unwrap();
    // Until the agents know, it is found and does not answer, or says that it shuts down.
    assert_eq!(client.call("/test.Test/Echo", b"2").unwrap_err().code, Code::UNAVAILABLE);
    pod.serving(
        "twice",
        |builder| builder,
        || {
            let until = Instant::now() + LIMIT;
            while client.call("/test.Test/Echo", b"3").map_err(|failed| failed.code) != Ok(b"3".to_vec()) {
                assert!(Instant::now() < until, "the successor is not found");
            }
        },
    );
}

#[test]
fn who_is_not_admitted_is_told() {
    let pod = Pod::new(Coherence::Software);
    let admits_nobody = |builder: Builder| builder.admission(notnets::Admission::by(|_| false));
    pod.serving("closed", admits_nobody, || {
        let until = Instant::now() + LIMIT;
        let refused = loop {
            match pod.endpoint("closed").connect() {
                Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < until => {}
                other => break other.unwrap_err(),
            }
        };
        let status = Status::from(refused);
        assert_eq!(status.code, Code::PERMISSION_DENIED, "{}", status.message);
        assert!(status.message.contains("not admitted"), "{}", status.message);
    });
}

#[test]
fn without_an_agent_there_is_no_pod() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::new("notnets://pod0/echo").unwrap().directory(directory.path());
    let told = endpoint.connect().unwrap_err().to_string();
    assert!(told.contains("notnets://pod0/echo") && told.contains("no agent of the pod pod0"), "{told}");
    let server = Server::builder().directory(directory.path()).bind("notnets://pod0/echo");
    let error = server.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no agent of the pod pod0 answers"), "{error}");
}

/// Both hosts are this process.
#[expect(unsafe_code, reason = "the token has no other constructor")]
fn trust() -> TrustPeerMemory {
    // SAFETY: nothing writes to what it has shared, and nothing forks.
    unsafe { TrustPeerMemory::new() }
}

#[test]
fn payloads_go_there_and_back_by_reference() {
    for coherence in COHERENCES {
        let pod = Pod::new(coherence);
        let shared: Bytes = SharedBytes::build(1 << 20, |bytes| bytes.fill(7)).unwrap().into();
        pod.serving(
            "back",
            |builder| builder.trust_peer_memory(trust()),
            || {
                drop(pod.client("back", Wait::Adaptive));
                let mut client = pod.endpoint("back").trust_peer_memory(trust()).connect().unwrap();
                let begin = Instant::now();
                loop {
                    let call = Call::new("/test.Test/Back", &shared);
                    let message = client.call_bytes(&call).unwrap().message;
                    assert!(message == shared);
                    if SharedBytes::holds(&message) {
                        break assert_ne!(message.as_ptr(), shared.as_ptr(), "they lie in the region");
                    }
                    assert!(begin.elapsed() < LIMIT, "they come back as a copy");
                }
            },
        );
    }
}
