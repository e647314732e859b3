//! Payloads of peers that are trusted are read where they are, and those of others are copied.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes};
use common::{LIMIT, within};
use notnets::rpc::{Handler, Method, Payload, Request, ServerCall, Status};
use notnets::{Channel, Endpoint, Server, SharedBytes, TrustPeerMemory, blocking};

const NAME: &str = "notnets:///trusted";
const KEEP: Method = Method::from_static("/test.Test/Keep");
/// Is answered with nothing.
const TAKE: Method = Method::from_static("/test.Test/Take");
const KIB: usize = 1 << 10;

/// All peers are this test, in this process or another.
#[expect(unsafe_code, reason = "the token has no other constructor")]
fn trust() -> TrustPeerMemory {
    // SAFETY: no peer writes to a block that it has lent, and nothing forks.
    unsafe { TrustPeerMemory::new() }
}

/// Keeps the requests, piece by piece, and answers with them if it is asked to.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Vec<Bytes>>>>);

impl Keeper {
    fn kept(&self) -> Vec<Vec<Bytes>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Handler for Keeper {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        let message = call.requests.only_message().await?;
        self.0.lock().unwrap().push(pieces(message.clone()));
        let reply = if call.method.name() == "Keep" { message } else { Payload::new() };
        call.responses.send_last(reply).await
    }
}

fn pieces(mut message: Payload) -> Vec<Bytes> {
    let next = || {
        let len = message.chunk().len();
        (len > 0).then(|| message.copy_to_bytes(len))
    };
    std::iter::from_fn(next).collect()
}

/// Bytes that differ by the message and by their place in it.
fn message(number: usize, len: usize) -> Bytes {
    (0..len).map(|i| (i / 251 + i * 7 + number) as u8).collect::<Vec<_>>().into()
}

/// A file that this process has mapped.
struct Mapping {
    range: Range<usize>,
    line: String,
}

impl Mapping {
    fn all() -> Vec<Self> {
        let parse = |line: &str| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
            Some(Self { range, line: line.to_owned() })
        };
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter_map(parse).collect()
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        Self::all().into_iter().find(|mapping| mapping.range.contains(&(bytes.as_ptr() as usize)))
    }

    /// Returns `true` if it is a segment of a peer's, which this process can only read.
    fn is_of_peer(&self) -> bool {
        self.line.contains("/memfd:notnets ") && self.line.contains("r--s")
    }

    /// The file, which is told apart from all others by its inode.
    fn file(&self) -> &str {
        self.line.split_whitespace().nth(4).unwrap()
    }
}

fn is_lent(bytes: &[u8]) -> bool {
    Mapping::of(bytes).is_some_and(|mapping| mapping.is_of_peer())
}

/// Waits until this process has a file mapped no more.
fn unmapped(file: &str) {
    let begun = std::time::Instant::now();
    while Mapping::all().iter().any(|mapping| mapping.file() == file) {
        assert!(begun.elapsed() < LIMIT, "it is still mapped after {LIMIT:?}");
        std::thread::yield_now();
    }
}

struct Host {
    directory: tempfile::TempDir,
    keeper: Keeper,
    task: tokio::task::JoinHandle<()>,
}

impl Host {
    async fn start(server: Server) -> Self {
        let (directory, keeper) = (tempfile::tempdir().unwrap(), Keeper::default());
        let server = server.directory(directory.path()).add_rpc_service("test.Test", keeper.clone());
        let bound = server.bind(NAME).await.unwrap();
        Self { directory, keeper, task: tokio::spawn(async { bound.serve().await.unwrap() }) }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_static(NAME).directory(self.directory.path())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn call(channel: &Channel, message: Bytes) -> Payload {
    within("a reply", channel.unary_call(Request::new(KEEP), message)).await.unwrap().message
}

#[tokio::test]
async fn without_the_token_everything_is_copied() {
    let host = Host::start(Server::builder()).await;
    let channel = host.endpoint().connect().await.unwrap();
    for len in [20 * KIB, 60 * KIB, 700 * KIB] {
        let reply = call(&channel, message(1, len)).await;
        assert!(pieces(reply).iter().chain(&host.keeper.kept()[0]).all(|piece| !is_lent(piece)));
    }
}

/// Each side by itself: a request at the server, a reply at the client.
#[tokio::test]
async fn with_the_token_what_is_large_is_read_where_it_is() {
    for (server, client) in [(true, false), (false, true)] {
        let with = Server::builder().trust_peer_memory(trust());
        let host = Host::start(if server { with } else { Server::builder() }).await;
        let endpoint = host.endpoint();
        let endpoint = if client { endpoint.trust_peer_memory(trust()) } else { endpoint };
        let channel = endpoint.connect().await.unwrap();
        // The first large one asks for blocks of that size.
        call(&channel, message(0, 700 * KIB)).await;
        host.keeper.kept();
        for len in [1, 10 * KIB, 20 * KIB, 60 * KIB, 700 * KIB] {
            let sent = message(len, len);
            let reply = pieces(call(&channel, sent.clone()).await);
            let kept = host.keeper.kept().remove(0);
            assert!(reply.concat() == sent && kept.concat() == sent, "{len} bytes");
            let lent = |pieces: &[Bytes]| -> usize {
                pieces.iter().filter(|piece| is_lent(piece)).map(Bytes::len).sum()
            };
            let (at_server, at_client) = (lent(&kept), lent(&reply));
            // What is left at the end of a message may be little, and is copied.
            let least = len.saturating_sub(16 * KIB);
            assert!(
                at_server >= if server { least } else { 0 } && at_client >= if client { least } else { 0 }
            );
            assert!(server || at_server == 0, "{at_server} of {len} bytes");
            assert!(client || at_client == 0, "{at_client} of {len} bytes");
            assert!(len > 16 * KIB || at_server + at_client == 0, "to copy it costs less");
        }
    }
}

/// A handler that never gives anything back keeps no sender waiting: what is too much for it is copied.
#[tokio::test]
async fn a_holder_starves_nobody() {
    let host = Host::start(Server::builder().trust_peer_memory(trust())).await;
    let channel = host.endpoint().connect().await.unwrap();
    let sizes = [17 * KIB, 60 * KIB, 300 * KIB, KIB, 64 * KIB];
    for i in 0..400 {
        let sent = message(i, sizes[i % sizes.len()]);
        assert!(call(&channel, sent.clone()).await.into_bytes() == sent, "message {i}");
    }
    let kept = host.keeper.kept();
    for (i, pieces) in kept.iter().enumerate() {
        assert!(pieces.concat() == message(i, sizes[i % sizes.len()]), "message {i} has changed");
    }
    let lent = kept.iter().flatten().filter(|piece| is_lent(piece)).count();
    let copied = kept.iter().flatten().filter(|piece| piece.len() >= 16 * KIB && !is_lent(piece)).count();
    assert!(lent >= 10 && copied >= 100, "{lent} held, {copied} copied");
    // Let go of on another thread, it can be held again.
    std::thread::spawn(move || drop(kept)).join().unwrap();
    call(&channel, message(0, 60 * KIB)).await;
    call(&channel, message(0, 60 * KIB)).await;
    assert!(host.keeper.kept().iter().flatten().any(|piece| is_lent(piece)));
}

/// By the blocking API a request is read where it is for as long as its handler runs.
#[test]
fn a_blocking_server_reads_in_place() {
    for trusts in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let builder = blocking::Server::builder().directory(directory.path());
        let builder = if trusts { builder.trust_peer_memory(trust()) } else { builder };
        let server = builder.bind(NAME).unwrap();
        let stopper = server.stopper();
        let serving = std::thread::spawn(move || {
            server.serve(|request, reply| {
                reply.message.push(is_lent(request.message).into());
                reply.message.extend_from_slice(request.message);
                Ok(())
            });
        });
        let endpoint = blocking::Endpoint::new(NAME).unwrap().directory(directory.path());
        let mut client = endpoint.connect().unwrap();
        let mut any = false;
        for i in 0..200 {
            let sent = message(i, 40 * KIB);
            let reply = client.call("/test.Test/Look", &sent).unwrap();
            assert!(reply[1..] == sent, "request {i}");
            any |= reply[0] == 1;
        }
        assert_eq!(any, trusts);
        stopper.stop();
        serving.join().unwrap();
    }
}

/// By the blocking API messages can be kept, on both sides, without being copied.
#[test]
fn blocking_peers_keep_what_they_are_sent() {
    let directory = tempfile::tempdir().unwrap();
    let builder = blocking::Server::builder().directory(directory.path());
    let server = builder.trust_peer_memory(trust()).bind(NAME).unwrap();
    let stopper = server.stopper();
    let kept = Arc::<Mutex<Vec<Bytes>>>::default();
    let keeps = Arc::clone(&kept);
    let serving = std::thread::spawn(move || {
        server.serve(|request, reply| {
            let kept = request.to_bytes();
            assert_eq!(kept, request.message);
            // It goes back as it came, or in a loan of the client's link.
            if request.method.ends_with("Keep") {
                reply.bytes = Some(kept.clone());
            } else {
                let mut loan = request.loan(request.message.len());
                loan.put_slice(request.message);
                reply.bytes = Some(loan.freeze());
            }
            keeps.lock().unwrap().push(kept);
            Ok(())
        });
    });
    let endpoint = blocking::Endpoint::new(NAME).unwrap().directory(directory.path());
    let mut client = endpoint.trust_peer_memory(trust()).connect().unwrap();
    for len in [0, 1, 10 * KIB, 40 * KIB, 300 * KIB, 700 * KIB] {
        for method in ["/test.Test/Keep", "/test.Test/Loan"] {
            // The first large ones ask for more blocks, and go on without them until the peer has answered.
            for round in 0.. {
                let sent = message(len + round, len);
                let response = client.call_bytes(&blocking::Call::new(method, &sent)).unwrap();
                assert!(response.message == sent, "{len} bytes in round {round}");
                let kept = kept.lock().unwrap().pop().unwrap();
                assert!(kept == sent, "{len} bytes in round {round}");
                // Of larger ones the blocks may not lie one behind the other.
                let is_enough = len != 40 * KIB || (is_lent(&kept) && is_lent(&response.message));
                if round >= 5 && is_enough {
                    break;
                }
                assert!(round < 1000, "{len} bytes by {method} are never lent");
            }
        }
    }
    let shared: Bytes = SharedBytes::copy_from(&message(1, 300 * KIB)).unwrap().into();
    for _ in 0..2 {
        let response = client.call_bytes(&blocking::Call::new("/test.Test/Keep", &shared)).unwrap();
        let kept = kept.lock().unwrap().pop().unwrap();
        assert!(SharedBytes::holds(&kept) && SharedBytes::holds(&response.message));
        assert!(kept == shared && response.message == shared);
    }
    stopper.stop();
    serving.join().unwrap();
}

/// A client in a process of its own. It reads numbers of messages and their sizes, and `shared` or `forget`
/// for bytes in sealed memory.
struct Other {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

const DIRECTORY: &str = "NOTNETS_TEST_TRUSTED";

impl Other {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", "other_process", "--nocapture", "--test-threads=1"]);
        command.env(DIRECTORY, directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    /// Tells it what to do, and waits until it has.
    fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
        let done = self.stdout.by_ref().lines().map_while(Result::ok).any(|said| said.ends_with("@done"));
        assert!(done, "the other process has failed");
    }

    fn end(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Not a test by itself: the other process of the tests.
#[test]
fn other_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let channel =
        runtime.block_on(Endpoint::from_static(NAME).directory(directory).connect()).expect("a server");
    let mut shared = None;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some((number, len)) => {
                let sent = message(number.parse().unwrap(), len.parse().unwrap());
                assert!(runtime.block_on(call(&channel, sent.clone())).into_bytes() == sent);
            }
            None if line == "shared" => {
                let made: Bytes = SharedBytes::copy_from(&message(5, 200 * KIB)).unwrap().into();
                shared = Some(made.clone());
                runtime.block_on(channel.unary_call(Request::new(TAKE), made)).unwrap();
            }
            None => drop(shared.take()),
        }
        println!("@done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_outlive_their_link_and_their_process() {
    let host = Host::start(Server::builder().trust_peer_memory(trust())).await;
    let mut other = Other::start(host.directory.path());
    let sizes = [64 * KIB, 20 * KIB, 60 * KIB, 500 * KIB, 30 * KIB];
    for (i, size) in sizes.iter().enumerate() {
        other.tell(&format!("{i} {size}"));
    }
    other.end();
    let kept = host.keeper.kept();
    let lent = kept.iter().flatten().find(|piece| is_lent(piece)).expect("some are held");
    let file = Mapping::of(lent).unwrap().file().to_owned();
    // A new link, over which nothing is put where the other's memory was.
    let mut next = Other::start(host.directory.path());
    for (i, size) in sizes.iter().enumerate() {
        next.tell(&format!("{} {size}", i + 100));
    }
    for (i, size) in sizes.iter().enumerate() {
        assert!(kept[i].concat() == message(i, *size), "message {i} has changed");
    }
    next.end();
    std::thread::spawn(move || drop(kept)).join().unwrap();
    unmapped(&file);
}

/// Nothing happens on the link any more but that its peer lets go of what it has shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_let_go_of_is_told_while_the_link_is_idle() {
    let host = Host::start(Server::builder()).await;
    let mut other = Other::start(host.directory.path());
    other.tell("shared");
    let kept = host.keeper.kept();
    assert!(kept[0].concat() == message(5, 200 * KIB) && SharedBytes::holds(&kept[0][0]));
    let file = Mapping::of(&kept[0][0]).unwrap().file().to_owned();
    drop(kept);
    assert!(Mapping::all().iter().any(|mapping| mapping.file() == file), "the peer may refer to it again");
    other.tell("forget");
    unmapped(&file);
    other.end();
}
