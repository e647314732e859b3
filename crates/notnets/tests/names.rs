//! Channels that find their servers by a name.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{Running, within};
use notnets::names::{Address, BoxError, Fixed, Pick, Resolve};
use notnets::rpc::{Code, Handler, Method, Request, ServerCall, Status};
use notnets::{Channel, ErrorKind, Server};
use tokio::sync::Notify;

/// A server that can be stopped, and ends at once when it is dropped.
struct Host {
    running: Running,
    served: Arc<Served>,
}

#[derive(Default)]
struct Served {
    id: String,
    calls: AtomicUsize,
    begun: Notify,
    go_on: Notify,
}

impl Host {
    fn serve(directory: &Path, name: &str, id: &str) -> Self {
        let served = Arc::new(Served { id: id.to_owned(), ..Served::default() });
        let server = Server::builder().directory(directory).replica(true);
        let server = server.add_rpc_service("test.Who", Who(Arc::clone(&served)));
        let bound = server.bind_blocking(format!("notnets:///{name}")).unwrap();
        Self { running: Running::start(bound), served }
    }

    fn calls(&self) -> usize {
        self.served.calls.load(Ordering::Relaxed)
    }
}

struct Who(Arc<Served>);

impl Handler for Who {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        match call.method.name() {
            "Are" => call.responses.send_last(self.0.id.clone()).await,
            "Wait" => {
                self.0.begun.notify_one();
                self.0.go_on.notified().await;
                call.responses.send_last(self.0.id.clone()).await
            }
            "Stream" => {
                while let Some(message) = call.requests.message().await? {
                    call.responses.send(message).await?;
                }
                Ok(())
            }
            _ => Err(Status::unknown_method(&call.method)),
        }
    }
}

const ARE: Method = Method::from_static("/test.Who/Are");
const WAIT: Method = Method::from_static("/test.Who/Wait");
const STREAM: Method = Method::from_static("/test.Who/Stream");

async fn ask(channel: &Channel, method: Method) -> Result<String, Status> {
    let reply = within("a call", channel.unary_call(Request::new(method), "")).await?;
    Ok(String::from_utf8(reply.message.into_bytes().to_vec()).unwrap())
}

async fn who(channel: &Channel) -> String {
    ask(channel, ARE).await.unwrap()
}

/// Calls until it is that one that answers, which takes no longer than `most`.
async fn until_it_is(channel: &Channel, id: &str, most: Duration) {
    let begin = Instant::now();
    while ask(channel, ARE).await.map_err(|status| status.is_retry_safe()) != Ok(id.to_owned()) {
        assert!(begin.elapsed() < most, "not {id} within {most:?}");
        tokio::task::yield_now().await;
    }
}

fn lazy(directory: &Path, pick: Pick) -> Channel {
    let directory = directory.to_owned();
    let named = Channel::named("test").pick(pick).settings(|endpoint| endpoint.directory(directory));
    named.connect_lazy().unwrap()
}

/// A look at a directory is a matter of microseconds, but the machine may be busy.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_replica_has_its_turn() {
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = (0..3).map(|n| Host::serve(directory.path(), "test", &n.to_string())).collect();
    let channel = lazy(directory.path(), Pick::RoundRobin);
    // Until all are connected.
    for n in 0..3 {
        until_it_is(&channel, &n.to_string(), SOON).await;
    }
    let before: Vec<_> = hosts.iter().map(Host::calls).collect();
    for _ in 0..30 {
        who(&channel).await;
    }
    let during: Vec<_> = hosts.iter().zip(before).map(|(host, before)| host.calls() - before).collect();
    assert_eq!(during, [10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_replica_gets_fewer_calls() {
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = (0..2).map(|n| Host::serve(directory.path(), "test", &n.to_string())).collect();
    let channel = lazy(directory.path(), Pick::LeastOutstanding);
    for n in 0..2 {
        until_it_is(&channel, &n.to_string(), SOON).await;
    }
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { ask(&channel, WAIT).await }
    });
    let busy = tokio::select! {
        () = hosts[0].served.begun.notified() => 0,
        () = hosts[1].served.begun.notified() => 1,
    };
    for _ in 0..20 {
        assert_eq!(who(&channel).await, (1 - busy).to_string());
    }
    hosts[busy].served.go_on.notify_one();
    assert_eq!(within("waiting", waiting).await.unwrap().unwrap(), busy.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_come_and_go_fail_no_call() {
    let directory = tempfile::tempdir().unwrap();
    let mut hosts: Vec<_> = (0..2).map(|n| Host::serve(directory.path(), "test", &n.to_string())).collect();
    for pick in [Pick::First, Pick::RoundRobin, Pick::LeastOutstanding] {
        let channel = lazy(directory.path(), pick);
        let stop = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (channel, stop) = (channel.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut calls = 0;
                    while stop.load(Ordering::Relaxed) == 0 {
                        who(&channel).await;
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for n in 2..6 {
            let new = Host::serve(directory.path(), "test", &n.to_string());
            if pick != Pick::First {
                while new.calls() == 0 {
                    tokio::task::yield_now().await;
                }
            }
            hosts.push(new);
            hosts.remove(0).running.stop().await;
        }
        stop.store(1, Ordering::Relaxed);
        for caller in callers {
            assert!(within("a caller", caller).await.unwrap() > 0, "{pick:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nearest_place_gets_new_calls_and_streams_end_where_they_began() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_owned();
    let channel = Channel::named("test").local("notnets:///near").or("notnets:///far");
    let channel = channel.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap();
    let far = Host::serve(directory.path(), "far", "far");
    assert_eq!(who(&channel).await, "far");
    let stream = channel.streaming_call(Request::new(STREAM));
    let (mut sender, mut receiver) = within("a stream", stream).await.unwrap();
    sender.send("one").await.unwrap();
    assert_eq!(within("an echo", receiver.message()).await.unwrap().unwrap().into_bytes(), "one");
    for _ in 0..3 {
        let near = Host::serve(directory.path(), "near", "near");
        until_it_is(&channel, "near", SOON).await;
        let far_calls = far.calls();
        for _ in 0..10 {
            assert_eq!(who(&channel).await, "near");
        }
        assert_eq!(far.calls(), far_calls);
        near.running.stop().await;
        assert_eq!(who(&channel).await, "far");
    }
    sender.send("two").await.unwrap();
    assert_eq!(within("an echo", receiver.message()).await.unwrap().unwrap().into_bytes(), "two");
    sender.finish().await.unwrap();
    assert!(within("the end", receiver.message()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_is_left_for_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut hosts: Vec<_> = (0..3).map(|n| Host::serve(directory.path(), "test", &n.to_string())).collect();
    let channel = lazy(directory.path(), Pick::RoundRobin);
    for n in 0..3 {
        until_it_is(&channel, &n.to_string(), SOON).await;
    }
    for left in (1..3).rev() {
        hosts.pop().unwrap().running.kill().await;
        // A call that the server had begun with as it ended has failed.
        let (begin, mut in_a_row) = (Instant::now(), 0);
        while in_a_row < 10 {
            assert!(begin.elapsed() < SOON);
            match ask(&channel, ARE).await {
                Ok(id) if id.parse::<usize>().unwrap() <= left => in_a_row += 1,
                Ok(_) => in_a_row = 0,
                Err(status) => assert_eq!(status.code(), Code::UNAVAILABLE, "{status:?}"),
            }
        }
    }
    hosts.pop().unwrap().running.kill().await;
    let begin = Instant::now();
    let status = loop {
        match ask(&channel, ARE).await {
            Err(status) if status.is_retry_safe() => break status,
            _ => assert!(begin.elapsed() < SOON),
        }
    };
    assert_eq!(status.code(), Code::UNAVAILABLE, "{status:?}");
    let back = Host::serve(directory.path(), "test", "back");
    let begin = Instant::now();
    while ask(&channel, ARE).await.is_err() {
        assert!(begin.elapsed() < SOON);
        tokio::task::yield_now().await;
    }
    assert!(back.calls() > 0);
}

#[tokio::test]
async fn a_directory_need_not_be_there_yet() {
    let above = tempfile::tempdir().unwrap();
    let directory = above.path().join("a").join("b");
    let channel = lazy(&directory, Pick::default());
    let status = ask(&channel, ARE).await.unwrap_err();
    assert_eq!(status.code(), Code::UNAVAILABLE);
    assert_eq!(status.message(), "no server of `test`; at notnets:///test there is none");
    assert!(status.is_retry_safe());
    // In steps, so that each has to be noticed.
    std::fs::create_dir(above.path().join("a")).unwrap();
    assert!(ask(&channel, ARE).await.is_err());
    let _host = Host::serve(&directory, "test", "first");
    let begin = Instant::now();
    while ask(&channel, ARE).await.is_err() {
        assert!(begin.elapsed() < SOON);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_told_in_a_sentence() {
    for (name, target, words, kind) in [
        ("te st", "", "the name `te st` contains ' '", ErrorKind::InvalidConfiguration),
        ("test", "", "the target is empty", ErrorKind::InvalidConfiguration),
        ("test", "ftp://x", "`ftp://x` is not a notnets: URI", ErrorKind::InvalidUri),
    ] {
        let error = Channel::named(name).local(target).connect_lazy().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), kind);
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_owned();
    let named = Channel::named("test").local("notnets:///a, notnets:///b");
    let error = named.settings(|endpoint| endpoint.directory(at)).connect().await.unwrap_err();
    let sentence = "no server of `test`; at notnets:///a there is none; at notnets:///b there is none";
    assert_eq!((error.to_string().as_str(), error.kind()), (sentence, ErrorKind::NotFound));
}

/// Yields what it is sent.
struct Sent(tokio::sync::mpsc::UnboundedReceiver<Result<Vec<Address>, BoxError>>);

impl Resolve for Sent {
    fn poll_servers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Address>, BoxError>> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some(servers)) => Poll::Ready(servers),
            _ => Poll::Pending,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applications_own_resolver_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let _hosts = ["a", "b"].map(|name| Host::serve(directory.path(), name, name));
    let address = |name| Address::new(format!("notnets:///{name}")).unwrap();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let at = directory.path().to_owned();
    let named = Channel::named("test").or_resolved("a list", Sent(receiver));
    let channel = named.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap();
    sender.send(Err("it is not known yet".into())).unwrap();
    let status = ask(&channel, ARE).await.unwrap_err();
    assert_eq!(status.message(), "no server of `test`; at a list: it is not known yet");
    sender.send(Ok(vec![address("a")])).unwrap();
    let begin = Instant::now();
    while ask(&channel, ARE).await.is_err() {
        assert!(begin.elapsed() < SOON);
        tokio::task::yield_now().await;
    }
    assert_eq!(who(&channel).await, "a");
    sender.send(Ok(vec![address("b")])).unwrap();
    until_it_is(&channel, "b", SOON).await;
    // What was known is kept.
    sender.send(Err("it is down".into())).unwrap();
    for _ in 0..10 {
        assert_eq!(who(&channel).await, "b");
    }
    sender.send(Ok(Vec::new())).unwrap();
    let begin = Instant::now();
    let status = loop {
        match ask(&channel, ARE).await {
            Err(status) => break status,
            Ok(_) => assert!(begin.elapsed() < SOON),
        }
    };
    assert_eq!(status.message(), "no server of `test`; at a list there is none");
}

/// As a name of which DNS says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_of_which_nothing_is_heard_keeps_no_call_from_another() {
    let directory = tempfile::tempdir().unwrap();
    let (_silent, receiver) = tokio::sync::mpsc::unbounded_channel();
    let at = directory.path().to_owned();
    let named = Channel::named("test").or_resolved("silence", Sent(receiver)).or("notnets:///test");
    let channel = named.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap();
    let brief = Request::new(ARE).timeout(Duration::from_millis(20));
    let status = within("a call", channel.unary_call(brief, "")).await.unwrap_err();
    assert_eq!(status.code(), Code::DEADLINE_EXCEEDED, "there may be a server yet: {status:?}");
    let _host = Host::serve(directory.path(), "test", "it");
    assert_eq!(who(&channel).await, "it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_keeps_no_call_from_another() {
    let directory = tempfile::tempdir().unwrap();
    // It has taken the name, and does not answer.
    let hangs =
        Server::builder().directory(directory.path()).add_rpc_service("test.Who", Who(Arc::default()));
    let hangs = hangs.bind_blocking("notnets:///hangs").unwrap();
    let _host = Host::serve(directory.path(), "answers", "answers");
    let addresses = ["hangs", "answers"].map(|name| Address::new(format!("notnets:///{name}")).unwrap());
    let at = directory.path().to_owned();
    let named = Channel::named("test").or_resolved("a list", Fixed::new(addresses)).pick(Pick::First);
    let channel = named.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap();
    let begin = Instant::now();
    for _ in 0..10 {
        assert_eq!(who(&channel).await, "answers");
    }
    // The connect timeout is 5 s.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    drop(hangs);
}

#[test]
fn a_channel_of_no_runtime_finds_its_servers_too() {
    let directory = tempfile::tempdir().unwrap();
    let channel = lazy(directory.path(), Pick::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _host = runtime.block_on(async { Host::serve(directory.path(), "test", "it") });
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(until_it_is(&channel, "it", SOON));
}

/// Random numbers of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Counts how often each call was executed.
struct Once(Arc<std::sync::Mutex<HashMap<String, usize>>>);

impl Handler for Once {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        let message = call.requests.only_message().await?.into_bytes();
        let id = String::from_utf8(message.to_vec()).unwrap();
        *self.0.lock().unwrap().entry(id).or_default() += 1;
        if message.len() % 2 == 0 {
            tokio::task::yield_now().await;
        }
        call.responses.send_last(message).await
    }
}

/// A server of one of the places of `chaos`.
struct Chaotic {
    place: usize,
    running: Running,
}

/// Servers appear, stop, are killed and are replaced under load, at three places: replicas in memory, a
/// server that has its name for itself and is taken over, and one over HTTP/2. Each call has one outcome, a
/// right reply or `UNAVAILABLE`, and none is executed twice; one that says it was never executed was not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos() {
    const REPLICAS: usize = 0;
    const SOLE: usize = 1;
    const FAR: usize = 2;
    for seed in 0..6 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let directory = tempfile::tempdir().unwrap();
        let executed: Arc<std::sync::Mutex<HashMap<String, usize>>> = Arc::default();
        let at = directory.path().to_owned();
        let pick = [Pick::First, Pick::RoundRobin, Pick::LeastOutstanding][random.below(3)];
        let far = format!("unix:{}", directory.path().join("far.sock").display());
        let places = ["notnets:///replicas", "notnets:///sole", &far];
        // Calls go by memory and by HTTP/2 in turns, whichever comes first.
        let nearest = random.below(places.len());
        let target = (0..places.len()).map(|n| places[(nearest + n) % places.len()]);
        let target = target.collect::<Vec<_>>().join(", ");
        let channel = Channel::named("test").local(&target).pick(pick);
        let channel = channel.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap();
        let serve = |place: usize| {
            let server = Server::builder().directory(directory.path());
            let server = server.replica(place == REPLICAS).take_over(place == SOLE);
            let server = server.add_rpc_service("test.Once", Once(Arc::clone(&executed)));
            let bound = server.bind_blocking(places[place]).unwrap();
            Chaotic { place, running: Running::start(bound) }
        };
        let mut servers = vec![serve(REPLICAS), serve(SOLE), serve(FAR)];
        let stop = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let (channel, stop) = (channel.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    const ONCE: Method = Method::from_static("/test.Once/Once");
                    let mut failed = HashMap::new();
                    let mut n = 0usize;
                    while stop.load(Ordering::Relaxed) == 0 {
                        let id = format!("{caller}-{n}");
                        n += 1;
                        match within("a call", channel.unary_call(Request::new(ONCE), id.clone())).await {
                            Ok(reply) => assert_eq!(reply.message.into_bytes(), id),
                            Err(status) => {
                                assert_eq!(status.code(), Code::UNAVAILABLE, "{status:?}");
                                failed.insert(id, status.is_retry_safe());
                                tokio::task::yield_now().await;
                            }
                        }
                    }
                    (n, failed)
                })
            })
            .collect();
        for _ in 0..40 {
            match random.below(6) {
                0 if servers.len() < 6 => servers.push(serve(REPLICAS)),
                1 | 2 => {
                    let place = [SOLE, FAR][random.below(2)];
                    let present = servers.iter().position(|server| server.place == place);
                    match present {
                        None => servers.push(serve(place)),
                        // Nobody tells the old one: its successor does.
                        Some(old) if place == SOLE => {
                            let old = std::mem::replace(&mut servers[old], serve(place));
                            within("being replaced", old.running.ended()).await;
                        }
                        Some(_) => {}
                    }
                }
                3 | 4 if servers.len() > 1 => {
                    let server = servers.swap_remove(random.below(servers.len()));
                    server.running.stop().await;
                }
                _ if servers.len() > 1 => {
                    let server = servers.swap_remove(random.below(servers.len()));
                    server.running.kill().await;
                }
                _ => {}
            }
            let before = executed.lock().unwrap().len();
            within("calls go on", async {
                while executed.lock().unwrap().len() < before + 20 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        stop.store(1, Ordering::Relaxed);
        let (mut calls, mut unavailable) = (0, 0);
        for caller in callers {
            let (n, failed) = within("a caller", caller).await.unwrap();
            let executed = executed.lock().unwrap();
            assert!(executed.values().all(|times| *times == 1), "a call was executed twice");
            for (id, is_safe) in &failed {
                assert!(!(*is_safe && executed.contains_key(id)), "{id} was executed");
            }
            calls += n;
            unavailable += failed.len();
        }
        println!("{calls} calls, {unavailable} of them unavailable");
        assert!(executed.lock().unwrap().len() >= calls - unavailable);
    }
}

/// Replaces a file as a whole, as those do that configure programs.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routes_file_says_where_servers_are_and_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let _hosts = ["a", "b", "test"].map(|name| Host::serve(directory.path(), name, name));
    let files = tempfile::tempdir().unwrap();
    let routes = files.path().join("routes.json");
    std::fs::write(&routes, r#"{"test": "notnets:///a"}"#).unwrap();
    let make = || {
        let at = directory.path().to_owned();
        let named = Channel::named("test").routes(&routes).settings(|endpoint| endpoint.directory(at));
        named.connect_lazy().unwrap()
    };
    let channels = [make(), make()];
    for channel in &channels {
        assert_eq!(who(channel).await, "a");
    }
    for (text, id) in [
        (r#"{"test": ["notnets:///none", "notnets:///b"]}"#, "b"),
        (r#"{"test": "notnets:///a, notnets:///b"}"#, "a"),
        (r#"{"test": "notnets:///b"}"#, "b"),
        (r#"{"*": "notnets:///a"}"#, "a"),
        (r#"{"*": "notnets:///{name}"}"#, "test"),
        (r#"{"test": "notnets:///b"}"#, "b"),
        ("{}", "test"),
    ] {
        replace(&routes, text);
        for channel in &channels {
            until_it_is(channel, id, SOON).await;
        }
        // What can't be understood has no effect.
        for wrong in ["", "{", r#"{"test": 1}"#, r#"{"test": "ftp://x"}"#] {
            std::fs::write(&routes, wrong).unwrap();
            assert_eq!(who(&channels[0]).await, id);
        }
        std::fs::remove_file(&routes).unwrap();
        assert_eq!(who(&channels[1]).await, id);
    }
}

#[tokio::test]
async fn places_in_the_program_count_more_than_a_routes_file() {
    let directory = tempfile::tempdir().unwrap();
    let _host = Host::serve(directory.path(), "a", "a");
    let at = directory.path().to_owned();
    // It is not even read.
    let named = Channel::named("test").routes("/nowhere/routes.json").local("notnets:///a");
    let channel = named.settings(|endpoint| endpoint.directory(at)).connect_lazy().unwrap();
    assert_eq!(who(&channel).await, "a");
}

#[test]
fn a_routes_file_that_can_not_be_used_is_told() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("routes.json");
    let refused = || {
        let error = Channel::named("test").routes(&path).connect_lazy().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        error.to_string()
    };
    let shown = path.display();
    let missing = format!("cannot read the routes file {shown}: No such file or directory (os error 2)");
    assert_eq!(refused(), format!("{missing}; see NOTNETS_ROUTES"));
    std::fs::write(&path, r#"{"test": "ftp://x"}"#).unwrap();
    let sentence = refused();
    assert!(sentence.starts_with(&format!("the routes file {shown} is not valid: `test`: `ftp://x`")));
    std::fs::write(&path, r#"{"test": "notnets:///a"}"#).unwrap();
    drop(Channel::named("test").routes(&path).connect_lazy().unwrap());
}

/// Runs itself again with the variable: a process can't change its own environment.
#[test]
fn the_environment_names_the_routes_file() {
    const TEST: &str = "the_environment_names_the_routes_file";
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let inside = runtime.enter();
    if std::env::var_os("NOTNETS_ROUTES").is_some() {
        let channel = Channel::named("inventory").connect_lazy().unwrap();
        assert_eq!(runtime.block_on(who(&channel)), "elsewhere");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let _host = Host::serve(directory.path(), "elsewhere", "elsewhere");
    let routes = directory.path().join("routes.json");
    std::fs::write(&routes, r#"{"inventory": "notnets:///elsewhere"}"#).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", TEST]).env("NOTNETS_ROUTES", &routes).env("NOTNETS_DIR", directory.path());
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    drop(inside);
}
