//! Messages that are written where they are sent from, by both APIs and in both directions.

mod common;

use std::fs;

use bytes::{BufMut, Bytes};
use common::{LIMIT, within};
use notnets::rpc::{Handler, Method, Payload, Request, ServerCall, Status};
use notnets::{Channel, Endpoint, LoanedBytes, Server, blocking};

const NAME: &str = "notnets:///loans";
const SUM: Method = Method::from_static("/test.Test/Sum");
const MAKE: Method = Method::from_static("/test.Test/Make");
const MIB: usize = 1 << 20;

fn message(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u64 / 251 + i as u64 * 7 + number) as u8).collect()
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// Returns `true` if these bytes lie in a segment that this process writes.
fn is_of_own_segment(bytes: &[u8]) -> bool {
    let address = bytes.as_ptr() as usize;
    let contains = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        Some((start..usize::from_str_radix(end, 16).ok()?).contains(&address))
    };
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| contains(line) == Some(true));
    line.is_some_and(|line| line.contains("/memfd:notnets ") && line.contains("rw-s"))
}

/// Answers with the sum of the request's bytes, or with a loan of its own.
struct Test;

impl Handler for Test {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        let request = call.requests.only_message().await?.into_bytes();
        if call.method.name() == "Sum" {
            return call.responses.send_last(sum(&request).to_le_bytes().to_vec()).await;
        }
        let number = u64::from_le_bytes(request[..8].try_into().unwrap());
        let mut loan = call.responses.loan(MIB);
        loan.put_u8(u8::from(loan.is_in_place()));
        loan.put_slice(&message(number, MIB - 1));
        call.responses.send_last(loan).await
    }
}

struct Host {
    directory: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Host {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::builder().directory(directory.path()).add_rpc_service("test.Test", Test);
        let bound = server.bind(NAME).await.unwrap();
        Self { directory, task: tokio::spawn(async { bound.serve().await.unwrap() }) }
    }

    async fn connect(&self) -> Channel {
        Endpoint::from_static(NAME).directory(self.directory.path()).connect().await.unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn call(channel: &Channel, method: Method, message: impl Into<Payload>) -> Bytes {
    let reply = within("a reply", channel.unary_call(Request::new(method), message)).await;
    reply.unwrap().message.into_bytes()
}

fn number(reply: &[u8]) -> u64 {
    u64::from_le_bytes(reply.try_into().unwrap())
}

/// A loan that is memory of the link: until the link has more, they are private.
async fn in_place(channel: &Channel, len: usize) -> LoanedBytes {
    let begun = std::time::Instant::now();
    loop {
        let loan = channel.loan(len);
        if loan.is_in_place() {
            return loan;
        }
        call(channel, SUM, loan).await;
        assert!(begun.elapsed() < LIMIT, "no loan of {len} bytes is in place");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_written_in_place() {
    let host = Host::start().await;
    let channel = host.connect().await;
    for (i, len) in [64 << 10, MIB, 20_000, 300_000, MIB].into_iter().enumerate() {
        let mut loan = in_place(&channel, len).await;
        let sent = message(i as u64, len);
        loan.put_slice(&sent);
        let bytes = loan.freeze();
        assert!(is_of_own_segment(&bytes));
        // The second time it is copied, which is not to be seen.
        for _ in 0..2 {
            assert_eq!(number(&call(&channel, SUM, bytes.clone()).await), sum(&sent), "{len} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_are_written_in_place() {
    let host = Host::start().await;
    let channel = host.connect().await;
    let mut in_place = 0;
    for number in 0..20u64 {
        let reply = call(&channel, MAKE, number.to_le_bytes().to_vec()).await;
        assert!(reply[1..] == message(number, MIB - 1), "reply {number}");
        in_place += u64::from(reply[0]);
    }
    assert!(in_place >= 12, "{in_place} of 20");
}

/// Many at once, held for as long as you like: nobody waits for a loan, and nothing is mixed up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loans_that_are_held_stop_nobody() {
    let host = Host::start().await;
    let channel = host.connect().await;
    let held: Vec<_> = (0..200u64)
        .map(|number| {
            let mut loan = channel.loan(200_000);
            loan.put_slice(&message(number, 200_000));
            loan
        })
        .collect();
    assert_eq!(number(&call(&channel, SUM, message(1, MIB)).await), sum(&message(1, MIB)));
    for (number, loan) in (0..).zip(held) {
        let reply = call(&channel, SUM, loan).await;
        assert_eq!(self::number(&reply), sum(&message(number, 200_000)), "loan {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_link_a_loan_is_private() {
    let host = Host::start().await;
    let lazy = Endpoint::from_static(NAME).directory(host.directory.path()).connect_lazy();
    let mut loan = lazy.loan(MIB);
    assert!(!loan.is_in_place());
    loan.put_slice(&message(3, MIB));
    assert_eq!(number(&call(&lazy, SUM, loan).await), sum(&message(3, MIB)));
    // What was written for a link that has ended goes over the next.
    let mut loan = in_place(&lazy, MIB).await;
    loan.put_slice(&message(4, MIB));
    drop(lazy);
    let other = host.connect().await;
    assert_eq!(number(&call(&other, SUM, loan).await), sum(&message(4, MIB)));
}

#[test]
fn a_blocking_client_writes_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let server = blocking::Server::builder().directory(directory.path()).bind(NAME).unwrap();
    let stopper = server.stopper();
    let serving = std::thread::spawn(move || {
        server.serve(|request, reply| {
            reply.message.extend_from_slice(&sum(request.message).to_le_bytes());
            Ok(())
        });
    });
    let endpoint = blocking::Endpoint::new(NAME).unwrap().directory(directory.path());
    let mut client = endpoint.connect().unwrap();
    let mut in_place = 0;
    for i in 0..30 {
        let mut loan = client.loan(MIB);
        in_place += u64::from(loan.is_in_place());
        loan.put_slice(&message(i, MIB));
        let bytes = loan.freeze();
        let reply = client.call("/test.Test/Sum", &bytes).unwrap();
        assert_eq!(number(&reply), sum(&message(i, MIB)), "request {i}");
    }
    assert!(in_place >= 20, "{in_place} of 30");
    stopper.stop();
    serving.join().unwrap();
}
