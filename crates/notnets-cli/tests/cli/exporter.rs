//! `notnets exporter`: what Prometheus gets.

use std::collections::{HashMap, HashSet};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::probe::pb::EchoRequest;
use crate::support::{ANY, World, hanging, http2_server, in_time};

/// The head and the body of an answer.
async fn get(address: &str, request: &str) -> (String, String) {
    in_time(async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an empty line behind the head");
        (head.to_owned(), body.to_owned())
    })
    .await
}

/// What was scraped: values by their series, each parsed.
#[derive(Default)]
struct Scrape {
    kinds: HashMap<String, String>,
    values: Vec<(String, String, f64)>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let mut helped = HashSet::new();
        let mut series = HashSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a name and a text");
                assert!(helped.insert(name) && help.ends_with('.'), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a kind");
                assert!(helped.contains(name) && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
                scrape.kinds.insert(name.to_owned(), kind.to_owned());
            } else {
                let (id, value) = line.rsplit_once(' ').expect("a series and its value");
                assert!(series.insert(id), "twice: {line}");
                let (name, labels) = id.split_once('{').unwrap_or((id, "}"));
                let labels = labels.strip_suffix('}').expect(line);
                let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let of = of.filter(|name| scrape.kinds.get(*name).is_some_and(|kind| kind == "histogram"));
                let kind = &scrape.kinds[of.unwrap_or(name)];
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                scrape.values.push((name.to_owned(), labels.to_owned(), value.parse().expect(line)));
            }
        }
        scrape
    }

    /// The values of a metric, in order, of the series that have all these labels.
    fn of(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        let has = |of: &str| labels.iter().all(|label| of.split(',').any(|of| of == *label));
        let matching = self.values.iter().filter(|(of, with, _)| of == name && has(with));
        matching.map(|(.., value)| *value).collect()
    }
}

#[tokio::test]
async fn processes_are_scraped() {
    let world = World::new();
    let proxy = world.proxy("notnets:///inventory", &http2_server().await).await;
    let mut client = world.client(&proxy.address).await;
    for _ in 0..7 {
        in_time(client.echo(EchoRequest::default())).await.expect("a reply");
    }
    let call = hanging(&mut client).await;

    let exporter = world.proxy_of(["exporter", "--listen", ANY]).await;
    let pid = format!("pid=\"{}\"", proxy.pid());
    let server = [pid.as_str(), "command=\"notnets\"", "role=\"server\"", "name=\"notnets:///inventory\""];
    let of = |more: &[&'static str]| -> Vec<&str> { server.iter().chain(more).copied().collect() };
    let echo = of(&["method=\"/notnets.probe.Probe/Echo\""]);
    let wait = of(&["method=\"/notnets.probe.Probe/Wait\""]);
    let scrape = in_time(async {
        loop {
            let (head, body) = get(&exporter.address, "GET /metrics").await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
            let scrape = Scrape::parse(&body);
            let ended = scrape.of("notnets_calls_ended_total", &echo);
            // Numbers follow what happens by and by.
            if ended == [7.0] && scrape.of("notnets_calls_open", &wait) == [1.0] {
                return scrape;
            }
        }
    })
    .await;
    assert_eq!(scrape.of("notnets_calls_started_total", &echo), [7.0]);
    let buckets = scrape.of("notnets_call_duration_seconds_bucket", &echo);
    assert!(buckets.len() > 10 && buckets.is_sorted(), "{buckets:?}");
    assert_eq!(buckets.last(), Some(&7.0));
    assert_eq!(scrape.of("notnets_call_duration_seconds_count", &echo), [7.0]);
    assert!(scrape.of("notnets_call_duration_seconds_sum", &echo)[0] > 0.0);
    assert!(scrape.of("notnets_oldest_call_age_seconds", &wait)[0] > 0.0);
    assert_eq!(scrape.of("notnets_links_open", &server), [1.0]);
    assert_eq!(scrape.of("notnets_links_total", &server), [1.0]);
    assert_eq!(scrape.of("notnets_process_stopped", &server), [0.0]);
    assert!(scrape.of("notnets_received_frames_total", &server)[0] > 0.0);
    assert!(scrape.of("notnets_received_messages_total", &server)[0] > 0.0);
    let memory = |kind| scrape.of("notnets_memory_bytes", &[&pid, kind]);
    assert!(memory("kind=\"own_segments\"")[0] > 0.0 && memory("kind=\"peer_segments\"")[0] > 0.0);
    // This process is the client, perhaps of other tests' servers, too.
    let own = format!("pid=\"{}\"", std::process::id());
    assert!(scrape.of("notnets_links_open", &[&own, "role=\"client\"", "name=\"\""])[0] >= 1.0);
    assert!(scrape.of("notnets_processes", &[])[0] >= 1.0);
    call.abort();
}

#[tokio::test]
async fn other_requests_are_refused_and_a_signal_ends_it() {
    let world = World::new();
    let exporter = world.proxy_of(["exporter", "--listen", ANY]).await;
    for (request, expected) in [
        ("GET /", "HTTP/1.1 200 OK"),
        ("HEAD /metrics", "HTTP/1.1 200 OK"),
        ("GET /other", "HTTP/1.1 404 Not Found"),
        ("POST /metrics", "HTTP/1.1 405 Method Not Allowed"),
        ("nonsense", "HTTP/1.1 400 Bad Request"),
    ] {
        let (head, body) = get(&exporter.address, request).await;
        assert!(head.starts_with(expected), "{request}: {head}");
        assert_eq!(
            body.is_empty(),
            request.starts_with("HEAD") || request == "nonsense",
            "{request}: {body}"
        );
    }
    exporter.signal(Signal::TERM);
    let (status, said) = exporter.ended().await;
    assert!(status.success() && said.is_empty(), "{status}: {said}");
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_told() {
    let world = World::new();
    let holder = TcpListener::bind(ANY).await.expect("a free port");
    let taken = holder.local_addr().expect("an address").to_string();
    for (address, why) in [(taken.as_str(), "Address already in use"), ("nonsense", "invalid socket address")]
    {
        let ended = world.run(["exporter", "--listen", address]).await;
        assert_eq!(ended.code(), Some(1), "{address}");
        let expected = format!("notnets: cannot listen on {address}: {why}");
        assert!(ended.err().starts_with(&expected), "{}", ended.err());
    }
    drop(holder);
}
