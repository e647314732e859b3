//! Deadlines: that they end calls, also streams, and reach the handler.

use std::time::{Duration, Instant};

use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::pb::{Chunk, Counters, Nothing, OutputRequest};
use crate::rpc::{assert_alive, counters, faults, keyed, test, wait_for};
use crate::{Observation, Rpc};

const SOON: Duration = Duration::from_millis(100);

/// tonic over HTTP/2 calls a passed deadline `CANCELLED`.
fn assert_timed_out(status: &Status) {
    let code = status.code();
    assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}

/// A unary call and a stream whose handlers never answer.
pub async fn timeout_on_sleeping_server<C: Rpc>(channel: C) -> Observation {
    let mut seen = Observation::new();

    let begun = Instant::now();
    let mut request = keyed("unary", Nothing {});
    request.set_timeout(SOON);
    let status = faults(&channel).sleep(request).await.expect_err("the handler never answers");
    assert!(begun.elapsed() >= SOON, "not before its time");
    assert_timed_out(&status);
    seen.note("unary.code", status.code());

    let mut request = keyed("stream", tokio_stream::pending::<Chunk>());
    request.set_timeout(SOON);
    let status = faults(&channel).sleep_duplex(request).await.expect_err("the handler never answers");
    assert_timed_out(&status);
    seen.note("stream.code", status.code());

    for key in ["unary", "stream"] {
        let found = wait_for(&channel, key, Counters { dropped: 1, ..Default::default() }).await;
        seen.note(format!("{key}.dropped"), found.dropped);
    }
    assert_alive(&channel).await;
    seen
}

/// An upload whose sender pauses for ever.
pub async fn deadline_over_upload<C: Rpc>(channel: C) -> Observation {
    let chunks = tokio_stream::once(Chunk::default()).chain(tokio_stream::pending());
    let mut request = keyed("upload", chunks);
    request.set_timeout(SOON);
    let status = test(&channel).input(request).await.expect_err("the sender never ends");
    assert_timed_out(&status);
    let mut seen = Observation::new();
    seen.note("code", status.code());
    let ended = Counters { ended: 1, request_streams_gone: 1, ..Default::default() };
    let found = wait_for(&channel, "upload", ended).await;
    seen.note("dropped", found.dropped);
    assert_alive(&channel).await;
    seen
}

/// A download that began in time and goes on past its deadline.
pub async fn deadline_over_stream<C: Rpc>(channel: C) -> Observation {
    const CHUNKS: usize = 40;
    let mut request =
        keyed("stream", OutputRequest { sizes: vec![1; CHUNKS], interval_ms: 25, outcome: None });
    request.set_timeout(Duration::from_millis(400));
    let mut stream = test(&channel).output(request).await.expect("a stream").into_inner();
    let mut chunks = 0;
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => chunks += 1,
            Ok(None) => break Code::Ok,
            Err(status) => break status.code(),
        }
    };
    let mut seen = Observation::new();
    seen.note("end", end);
    seen.note("all chunks came", chunks == CHUNKS);
    let ended = match end {
        Code::Ok => Counters { finished: 1, ..Default::default() },
        _ => Counters { dropped: 1, ..Default::default() },
    };
    wait_for(&channel, "stream", ended).await;
    assert_alive(&channel).await;
    seen
}

/// A handler learns how much time is left, and nothing if there is no limit.
pub async fn deadline_reaches_handler<C: Rpc>(channel: C) -> Observation {
    const GIVEN: Duration = Duration::from_secs(3_000);
    let mut request = keyed("given", Nothing {});
    request.set_timeout(GIVEN);
    test(&channel).empty(request).await.expect("a call with a deadline");
    test(&channel).empty(keyed("none", Nothing {})).await.expect("a call without a deadline");

    let given = counters(&channel, "given").await.timeouts;
    let none = counters(&channel, "none").await.timeouts;
    let left = parse(&given[0]);
    assert!(left <= GIVEN && left > GIVEN / 2, "the handler saw {given:?} of {GIVEN:?}");
    assert_eq!(none, [""]);
    let mut seen = Observation::new();
    seen.note("seen by handlers", given.len() + none.len());
    seen
}

/// A `grpc-timeout`: up to eight digits and a unit.
fn parse(timeout: &str) -> Duration {
    let (digits, unit) = timeout.split_at(timeout.len() - 1);
    assert!(digits.len() <= 8, "{timeout:?} has too many digits");
    let number: u64 = digits.parse().expect("digits");
    match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => panic!("{timeout:?} has no unit of time"),
    }
}
