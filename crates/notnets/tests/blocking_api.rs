//! Blocking clients and servers: calls of all sizes, deadlines, stopping, and the ends of processes.

#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../../notnets-core/tests/helper/mod.rs"]
mod helper;

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use helper::Helper;
use notnets::blocking::{Call, Client, Endpoint, Reply, Request, Response, Server, Status, Stopper};
use notnets::observe::{CallEnd, CallToMake, CallToServe, ClientCalls, Observed, Observer, ServerCalls};
use notnets_core::limits::{Limits, MIN_WINDOW};
use notnets_core::link::inspect;
use notnets_core::link::rendezvous::Directory;
use notnets_core::metadata::Metadata;
use notnets_core::{Code, Wait};
use notnets_memory::lane::{Blocks, Geometry};
use tempfile::TempDir;

const ECHO: &str = "/test.Test/Echo";
const WAITS: [Wait; 3] = [Wait::Spin, Wait::Adaptive, Wait::Park];
/// Nothing here takes long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// What the servers of these tests do.
fn answer(request: &Request<'_>, reply: &mut Reply) -> Result<(), Status> {
    match request.method {
        ECHO => reply.message.extend_from_slice(request.message),
        // As many bytes as the request's eight say.
        "/test.Test/Many" => {
            let bytes = u64::from_le_bytes(request.message.try_into().expect("eight bytes"));
            reply.message.extend((0..bytes).map(|i| i as u8));
        }
        "/test.Test/Metadata" => {
            reply.metadata = request.metadata.clone();
            reply.trailers = request.metadata.iter().rev().cloned().collect();
        }
        "/test.Test/Fail" => {
            let status = Status::new(Code(5), "no bread – 100 %");
            return Err(Status { metadata: request.metadata.clone(), ..status });
        }
        // Each of its parts is larger than what a client accepts.
        "/test.Test/FailLarge" => {
            let metadata = [("why".into(), vec![b'y'; 20_000].into())].into();
            return Err(Status { metadata, ..Status::new(Code(3), "m".repeat(20_000)) });
        }
        "/test.Test/TrailersLarge" => {
            reply.message.extend_from_slice(b"one");
            reply.trailers.push("why", vec![b'y'; 20_000]);
        }
        // Does not answer in time.
        "/test.Test/Late" => {
            while request.time_left().expect("a deadline") > Duration::ZERO {
                std::thread::yield_now();
            }
        }
        "/test.Test/Die" => std::process::abort(),
        method => return Err(Status::unknown_method(method)),
    }
    Ok(())
}

/// A server on a thread, that is stopped when this is dropped.
struct Host {
    directory: TempDir,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    fn new(wait: Wait) -> Self {
        Self::with(|builder| builder.wait(wait))
    }

    fn with(set: impl FnOnce(notnets::blocking::Builder) -> notnets::blocking::Builder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = set(Server::builder()).directory(directory.path()).bind("notnets:///test").unwrap();
        let stopper = server.stopper();
        let thread = Some(std::thread::spawn(move || server.serve(answer)));
        Self { directory, stopper, thread }
    }

    fn client(&self, wait: Wait) -> Client {
        endpoint(self.directory.path()).wait(wait).connect().unwrap()
    }

    fn stop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, None | Some(Ok(()))));
    }
}

fn endpoint(directory: &Path) -> Endpoint {
    Endpoint::new("notnets:///test").unwrap().directory(directory)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + len) as u8).collect()
}

#[test]
fn messages_of_all_sizes_come_back() {
    for wait in WAITS {
        let host = Host::new(wait);
        let mut client = host.client(wait);
        for len in [0, 1, 26, 27, 28, 31, 32, 33, 37, 64, 1000, 1024, 16_000, 32_768, 300_000, 4 << 20] {
            assert!(client.call(ECHO, &bytes(len)).unwrap() == bytes(len), "{len} bytes, {wait:?}");
        }
        for len in [0u64, 32, 33, 100_000, 4 << 20] {
            assert_eq!(client.call("/test.Test/Many", &len.to_le_bytes()).unwrap().len() as u64, len);
        }
    }
}

#[test]
fn messages_larger_than_all_that_is_shared_go_through_it_piece_by_piece() {
    let small = Blocks { bytes: 64, count: 2 };
    let geometry = Geometry { slots: 4, small, large: Blocks { bytes: 1024, count: 2 } };
    let limits = Limits::default()
        .with_metadata_bytes(512)
        .with_stream_window(2 * MIN_WINDOW)
        .with_link_window(2 * MIN_WINDOW)
        .with_segment_bytes(0);
    for wait in WAITS {
        let host = Host::with(|builder| builder.wait(wait).geometry(geometry).limits(limits));
        let endpoint = endpoint(host.directory.path()).wait(wait).geometry(geometry).limits(limits);
        let mut client = endpoint.connect().unwrap();
        for len in [0, 100, 1019, 1020, 5000, 50_000] {
            assert!(client.call(ECHO, &bytes(len)).unwrap() == bytes(len), "{len} bytes, {wait:?}");
        }
    }
}

#[test]
fn metadata_go_both_ways() {
    let host = Host::new(Wait::Park);
    let mut client = host.client(Wait::Park);
    let metadata = [("a", &b"1"[..]), ("b-bin", &b"Ag"[..])];
    let mut response = Response::default();
    let call = Call { metadata: &metadata, ..Call::new("/test.Test/Metadata", b"") };
    for _ in 0..3 {
        client.call_into(&call, &mut response).unwrap();
        let sent = |entries: &Metadata| -> Vec<(String, Vec<u8>)> {
            entries.iter().map(|(key, value)| (key.to_string(), value.to_vec())).collect()
        };
        let expected: Vec<_> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_vec())).collect();
        assert_eq!(sent(&response.metadata), expected);
        assert_eq!(sent(&response.trailers), expected.into_iter().rev().collect::<Vec<_>>());
    }
    client.call_into(&Call::new(ECHO, b"x"), &mut response).unwrap();
    assert_eq!(response, Response { message: b"x".to_vec(), ..Response::default() });
}

#[test]
fn statuses_arrive_with_their_metadata() {
    let host = Host::new(Wait::Park);
    let mut client = host.client(Wait::Park);
    let call = Call { metadata: &[("why", b"sold out")], ..Call::new("/test.Test/Fail", b"") };
    let status = client.call_into(&call, &mut Response::default()).unwrap_err();
    assert_eq!((status.code, &*status.message), (Code(5), "no bread – 100 %"));
    assert_eq!(status.metadata, [("why".into(), "sold out".into())].into());
    let status = client.call("/test.Test/What", b"").unwrap_err();
    assert_eq!(status.code, Code::UNIMPLEMENTED);
    let value = vec![b'x'; 20_000];
    let call = Call { metadata: &[("large", &value)], ..Call::new(ECHO, b"") };
    let status = client.call_into(&call, &mut Response::default()).unwrap_err();
    assert_eq!(status.code, Code::RESOURCE_EXHAUSTED);
    assert_eq!(client.call(ECHO, b"on").unwrap(), b"on", "and the link goes on");
}

#[test]
fn an_end_that_is_too_large_keeps_its_code_and_takes_no_message_away() {
    let host = Host::new(Wait::Park);
    let mut client = host.client(Wait::Park);
    let status = client.call("/test.Test/FailLarge", b"").unwrap_err();
    assert_eq!(status.code, Code(3));
    assert!(status.message.starts_with("mmm") && status.message.len() > 10_000);
    let mut response = Response::default();
    let status = client.call_into(&Call::new("/test.Test/TrailersLarge", b""), &mut response).unwrap_err();
    assert_eq!((status.code, &*response.message), (Code::RESOURCE_EXHAUSTED, &b"one"[..]));
    assert!(status.message.contains("trailers could not be sent"), "{status}");
}

#[test]
fn messages_over_the_limit_are_refused_on_both_sides() {
    let host = Host::with(|builder| builder.max_message_size(1000));
    let mut client = endpoint(host.directory.path()).max_message_size(500).connect().unwrap();
    assert_eq!(client.call(ECHO, &bytes(500)).unwrap(), bytes(500));
    for (len, raise) in [(501, "client"), (1001, "server"), (100_000, "server")] {
        let status = client.call(ECHO, &bytes(len)).unwrap_err();
        assert_eq!(status.code, Code::RESOURCE_EXHAUSTED, "{len} bytes: {status}");
        let text = format!("raise max_message_size on the {raise}");
        assert!(status.message.ends_with(&text), "{len} bytes: {status}");
    }
    assert_eq!(client.call(ECHO, &bytes(500)).unwrap(), bytes(500));
}

#[test]
fn a_call_ends_with_its_deadline() {
    for wait in WAITS {
        let host = Host::new(wait);
        let mut client = host.client(wait);
        let call =
            |method, millis| Call { timeout: Some(Duration::from_millis(millis)), ..Call::new(method, b"") };
        let before = Instant::now();
        let status = client.call_into(&call("/test.Test/Late", 50), &mut Response::default()).unwrap_err();
        assert_eq!(status.code, Code::DEADLINE_EXCEEDED);
        assert!((Duration::from_millis(50)..LIMIT).contains(&before.elapsed()));
        client.call_into(&call(ECHO, 20_000), &mut Response::default()).unwrap();
        let status = client.call_into(&call(ECHO, 0), &mut Response::default()).unwrap_err();
        assert_eq!(status.code, Code::DEADLINE_EXCEEDED);
        assert_eq!(client.call(ECHO, b"on").unwrap(), b"on");
    }
}

#[test]
fn a_server_that_nobody_serves_for_is_waited_for_until_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().directory(directory.path()).bind("notnets:///test").unwrap();
    let endpoint = endpoint(directory.path()).connect_timeout(Duration::from_millis(20));
    let error = endpoint.connect().unwrap_err();
    assert!(error.to_string().contains("no answer within 20ms"), "{error}");
    drop(server);
}

#[test]
fn several_clients_share_a_server() {
    for wait in [Wait::Adaptive, Wait::Park] {
        let host = Host::new(wait);
        std::thread::scope(|scope| {
            for nth in 0..5 {
                let mut client = host.client(wait);
                scope.spawn(move || {
                    for round in 0..200 {
                        let sent = bytes(nth * 1000 + round);
                        assert_eq!(client.call(ECHO, &sent).unwrap(), sent);
                    }
                });
            }
        });
        let served = inspect::look(&Directory::at(host.directory.path()), LIMIT).unwrap();
        let counters = served[0].counters.as_ref().unwrap();
        assert_eq!(counters.links_total, 5);
        assert_eq!(counters.calls(), 1000);
    }
}

#[test]
fn links_beyond_the_limit_and_clients_that_are_not_admitted_are_told() {
    let host = Host::with(|builder| builder.max_connections(1));
    let first = host.client(Wait::Park);
    let error = endpoint(host.directory.path()).connect().unwrap_err();
    assert!(error.to_string().contains("as many links as it may have"), "{error}");
    drop(first);
    // The server sees its end in its own time.
    let before = Instant::now();
    while endpoint(host.directory.path()).connect().is_err() {
        assert!(before.elapsed() < LIMIT, "the link of a client that is gone still counts");
    }
    let host = Host::with(|builder| builder.admission(notnets::Admission::by(|_| false)));
    let status = Status::from(endpoint(host.directory.path()).connect().unwrap_err());
    assert_eq!((status.code, status.retry_safe), (Code::PERMISSION_DENIED, true));
}

#[test]
fn a_server_that_is_stopped_gives_its_name_up_and_a_client_goes_to_the_next() {
    for wait in WAITS {
        let mut host = Host::new(wait);
        let mut client = host.client(wait);
        client.call(ECHO, b"one").unwrap();
        let before = Instant::now();
        host.stop();
        assert!(before.elapsed() < LIMIT);
        let status = client.call(ECHO, b"two").unwrap_err();
        assert_eq!((status.code, status.retry_safe), (Code::UNAVAILABLE, true), "{status}");
        let next = Server::builder().directory(host.directory.path()).wait(wait).bind("notnets:///test");
        let next = next.unwrap();
        let stopper = next.stopper();
        let thread = std::thread::spawn(move || next.serve(answer));
        assert_eq!(client.call(ECHO, b"three").unwrap(), b"three");
        stopper.stop();
        thread.join().unwrap();
    }
}

#[test]
fn a_server_stops_while_its_clients_go_on_calling() {
    for wait in WAITS {
        let mut host = Host::new(wait);
        let clients: Vec<_> = (0..2).map(|_| host.client(wait)).collect();
        std::thread::scope(|scope| {
            let (begun, has_begun) = std::sync::mpsc::channel();
            for mut client in clients {
                let begun = begun.clone();
                scope.spawn(move || {
                    let mut calls = 0u64;
                    loop {
                        match client.call(ECHO, &calls.to_le_bytes()) {
                            Ok(reply) => assert_eq!(reply, calls.to_le_bytes()),
                            // No call is lost: each was answered, or never seen.
                            Err(status) => {
                                assert_eq!(
                                    (status.code, status.retry_safe),
                                    (Code::UNAVAILABLE, true),
                                    "{status}"
                                );
                                return;
                            }
                        }
                        calls += 1;
                        if calls == 100 {
                            begun.send(()).unwrap();
                        }
                    }
                });
            }
            has_begun.recv().unwrap();
            has_begun.recv().unwrap();
            host.stop();
        });
    }
}

/// In a process of its own: serves until it is killed, or calls until it is.
#[test]
fn helper_process() {
    let Some((role, directory)) = helper::role() else { return };
    let wait = WAITS[role[role.len() - 1..].parse::<usize>().expect("ends in a number")];
    // It must not outlive the test, which closes its input.
    std::thread::spawn(|| {
        helper::commands().for_each(drop);
        std::process::exit(0);
    });
    if role.starts_with("server") {
        let server = Server::builder().directory(&directory).wait(wait).bind("notnets:///test").unwrap();
        helper::say("serves");
        server.serve(|request, reply| {
            if request.method == "/test.Test/Hang" {
                helper::say("hangs");
                loop {
                    std::thread::park();
                }
            }
            answer(request, reply)
        });
    } else {
        let mut client = endpoint(&directory).wait(wait).connect().unwrap();
        client.call(ECHO, b"x").unwrap();
        helper::say("called");
        loop {
            client.call(ECHO, &bytes(100)).unwrap();
        }
    }
}

#[test]
fn a_killed_server_is_noticed_at_once() {
    for (nth, wait) in WAITS.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Helper::start(&format!("server{nth}"), directory.path());
        assert_eq!(server.answer(), "serves");
        let mut client = endpoint(directory.path()).wait(wait).connect().unwrap();
        assert_eq!(client.call(ECHO, b"x").unwrap(), b"x");
        let calling = std::thread::spawn(move || (client.call("/test.Test/Hang", b""), client));
        assert_eq!(server.answer(), "hangs");
        server.child.kill().unwrap();
        let killed = Instant::now();
        let (result, mut client) = calling.join().unwrap();
        assert!(killed.elapsed() < LIMIT);
        let status = result.unwrap_err();
        assert_eq!((status.code, status.retry_safe), (Code::UNAVAILABLE, false), "{status}: it was read");
        let status = client.call(ECHO, b"x").unwrap_err();
        assert_eq!((status.code, status.retry_safe), (Code::UNAVAILABLE, true), "{status}");
    }
}

#[test]
fn the_first_call_after_a_restart_is_made_again_where_it_was_never_read() {
    for (nth, wait) in WAITS.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let start = || {
            let mut server = Helper::start(&format!("server{nth}"), directory.path());
            assert_eq!(server.answer(), "serves");
            server
        };
        let mut server = start();
        let mut client = endpoint(directory.path()).wait(wait).connect().unwrap();
        for len in [1, 100, 20_000, 1_000_000] {
            assert_eq!(client.call(ECHO, b"x").unwrap(), b"x");
            server.child.kill().unwrap();
            server.child.wait().unwrap();
            server = start();
            assert!(client.call(ECHO, &bytes(len)).expect("nobody read it before") == bytes(len));
        }
    }
}

#[test]
fn a_server_that_dies_of_a_call_is_noticed() {
    for (nth, wait) in WAITS.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Helper::start(&format!("server{nth}"), directory.path());
        assert_eq!(server.answer(), "serves");
        let mut client = endpoint(directory.path()).wait(wait).connect().unwrap();
        let status = client.call("/test.Test/Die", b"").unwrap_err();
        assert_eq!((status.code, status.retry_safe), (Code::UNAVAILABLE, false), "{status}");
    }
}

#[test]
fn a_killed_client_leaves_its_server_and_the_others_at_work() {
    for (nth, wait) in WAITS.into_iter().enumerate() {
        let host = Host::new(wait);
        let mut other = host.client(wait);
        let mut client = Helper::start(&format!("client{nth}"), host.directory.path());
        assert_eq!(client.answer(), "called");
        client.child.kill().unwrap();
        client.child.wait().unwrap();
        let before = Instant::now();
        let open = || {
            let served = inspect::look(&Directory::at(host.directory.path()), LIMIT).unwrap();
            served[0].counters.as_ref().unwrap().links_open
        };
        while open() != 1 {
            assert!(before.elapsed() < LIMIT, "the dead client's link stays open");
            assert_eq!(other.call(ECHO, b"x").unwrap(), b"x");
        }
        assert_eq!(other.call(ECHO, b"x").unwrap(), b"x");
    }
}

#[test]
fn processes_that_say_nothing_keep_nobody_out() {
    let host = Host::new(Wait::Adaptive);
    let directory = Directory::at(host.directory.path());
    let name = "test".parse().unwrap();
    let silent: Vec<_> = (0..300).map(|_| directory.connect(&name).unwrap()).collect();
    let client = endpoint(host.directory.path()).connect_timeout(Duration::from_secs(2)).connect();
    assert_eq!(client.unwrap().call(ECHO, b"x").unwrap(), b"x");
    drop(silent);
}

#[test]
fn a_name_that_is_removed_from_its_directory_is_bound_again() {
    for wait in WAITS {
        let host = Host::new(wait);
        let mut client = host.client(wait);
        std::fs::remove_file(host.directory.path().join("test")).unwrap();
        let begin = Instant::now();
        let mut again = loop {
            match endpoint(host.directory.path()).connect() {
                Ok(client) => break client,
                Err(error) => assert!(begin.elapsed() < LIMIT, "{error}"),
            }
        };
        assert_eq!(again.call(ECHO, b"x").unwrap(), b"x");
        assert_eq!(client.call(ECHO, b"x").unwrap(), b"x");
    }
}

#[test]
fn a_client_moves_to_another_replica() {
    let directory = tempfile::tempdir().unwrap();
    let servers: Vec<_> = (0..2)
        .map(|_| Server::builder().replica(true).directory(directory.path()).bind("notnets:///test").unwrap())
        .collect();
    let stoppers: Vec<_> = servers.iter().map(Server::stopper).collect();
    let threads: Vec<_> =
        servers.into_iter().map(|server| std::thread::spawn(move || server.serve(answer))).collect();
    let mut client = endpoint(directory.path()).wait(Wait::Park).connect().unwrap();
    for (stopper, thread) in stoppers.into_iter().zip(threads) {
        assert_eq!(client.call(ECHO, b"x").unwrap(), b"x");
        stopper.stop();
        thread.join().unwrap();
    }
    assert_eq!(client.call(ECHO, b"x").unwrap_err().code, Code::UNAVAILABLE);
}

#[test]
fn a_successor_takes_the_name_over() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let server = Server::builder().take_over(true).drain_timeout(Duration::from_secs(20));
        let server = server.directory(directory.path()).bind("notnets:///test").unwrap();
        let stopper = server.stopper();
        (stopper, std::thread::spawn(move || server.serve(answer)))
    };
    for wait in WAITS {
        let (_, mut old) = start();
        let mut client = endpoint(directory.path()).wait(wait).connect().unwrap();
        for _ in 0..20 {
            assert_eq!(client.call(ECHO, b"x").unwrap(), b"x");
            let (_, new) = start();
            while !old.is_finished() {
                assert_eq!(client.call(ECHO, b"y").unwrap(), b"y", "no call fails meanwhile");
            }
            std::mem::replace(&mut old, new).join().unwrap();
        }
        let (stopper, last) = start();
        old.join().unwrap();
        stopper.stop();
        last.join().unwrap();
    }
}

#[test]
fn a_server_that_was_not_told_of_its_successor_finds_out() {
    let directory = tempfile::tempdir().unwrap();
    let old = Server::builder().directory(directory.path()).bind("notnets:///test").unwrap();
    let old = std::thread::spawn(move || old.serve(answer));
    let successor = Directory::at(directory.path()).listen(&"successor".parse().unwrap()).unwrap();
    fs::set_permissions(successor.path(), fs::Permissions::from_mode(0o1666)).unwrap();
    fs::rename(successor.path(), directory.path().join("test")).unwrap();
    old.join().unwrap();
}

/// What an observer has seen end: of which side, with which status, and with how many bytes each way.
type Seen = (&'static str, Code, u64, u64);

/// Keeps what it sees.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Seen>>>);

/// Of one side of calls.
struct Side(&'static str, Recorder);

impl Observer for Recorder {
    fn of_channel(&self, target: &str) -> Arc<dyn ClientCalls> {
        assert_eq!(target, "notnets:///test");
        Arc::new(Side("client", self.clone()))
    }

    fn of_server(&self, names: &str) -> Arc<dyn ServerCalls> {
        assert_eq!(names, "notnets:///test");
        Arc::new(Side("server", self.clone()))
    }
}

impl ClientCalls for Side {
    fn begin(&self, call: &mut CallToMake<'_>) -> Arc<dyn Observed> {
        let method = call.method().to_owned();
        call.send_along("x-seen", method);
        Arc::new(Self(self.0, self.1.clone()))
    }
}

impl ServerCalls for Side {
    fn begin(&self, call: &CallToServe<'_>) -> Arc<dyn Observed> {
        assert_eq!(call.metadata("x-seen"), Some(call.method().as_bytes()));
        assert_eq!(call.peer().pid, Some(std::process::id()));
        Arc::new(Self(self.0, self.1.clone()))
    }
}

thread_local! {
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

impl Observed for Side {
    fn within(&self, poll: &mut dyn FnMut()) {
        WITHIN.set(true);
        poll();
        WITHIN.set(false);
    }

    fn end(&self, end: &CallEnd) {
        let seen = (self.0, end.status, end.bytes_sent, end.bytes_received);
        self.1.0.lock().unwrap().push(seen);
    }
}

#[test]
fn calls_are_observed_on_both_sides() {
    let recorder = Recorder::default();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().observer(recorder.clone()).directory(directory.path());
    let server = server.bind("notnets:///test").unwrap();
    let stopper = server.stopper();
    let serving = std::thread::spawn(move || {
        server.serve(|request: &Request<'_>, reply: &mut Reply| {
            assert!(WITHIN.get(), "the handler runs within the context of its call");
            answer(request, reply)
        });
    });
    let mut client = endpoint(directory.path()).observer(recorder.clone()).connect().unwrap();
    client.call(ECHO, &[7; 3]).unwrap();
    // In many pieces.
    let large = bytes(3 << 20);
    assert_eq!(client.call_bytes(&Call::new(ECHO, &large)).unwrap().message, large);
    client.call("/test.Test/Fail", b"").unwrap_err();
    let timeout = Some(Duration::from_millis(20));
    client
        .call_into(&Call { timeout, ..Call::new("/test.Test/Late", b"") }, &mut Response::default())
        .unwrap_err();
    drop(client);
    stopper.stop();
    serving.join().unwrap();
    let of = |side| {
        let seen = recorder.0.lock().unwrap();
        seen.iter().filter(|seen| seen.0 == side).map(|seen| (seen.1, seen.2, seen.3)).collect::<Vec<_>>()
    };
    let large = large.len() as u64 + 5;
    let late = Code::DEADLINE_EXCEEDED;
    assert_eq!(of("client"), [(Code::OK, 8, 8), (Code::OK, large, large), (Code(5), 5, 0), (late, 5, 0)]);
    assert_eq!(of("server"), [(Code::OK, 8, 8), (Code::OK, large, large), (Code(5), 0, 5), (late, 0, 5)]);
}
