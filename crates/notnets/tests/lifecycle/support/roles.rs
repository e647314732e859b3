//! What the other process does.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use notnets::{Admission, Bound, Endpoint, Error, Server, SharedBytes, UserLimits, Wait, blocking};
use notnets_core::link::inspect::look;
use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Uri;
use notnets_memory::headroom::headroom;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime, RuntimeFlavor};
use tonic::Status;
use tonic::body::Body;
use tower::util::MapResponseLayer;

use super::client::{Client, endpoint};
use super::helper::{commands, fork_holder, say};
use super::outside::outside;
use super::service::{Probe, Sharer};
use super::{LIMIT, NAME, eventually, trust};

/// Words like `key=value` that change what a role does.
#[derive(Clone, Debug)]
pub struct Options(HashMap<String, String>);

impl Options {
    pub fn parse(text: &str) -> Self {
        let pairs = text.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, "")));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    pub fn get<T: FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> Option<T> {
        self.0.get(key).map(|value| value.parse().expect("the option has the right form"))
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn millis(&self, key: &str) -> Option<Duration> {
        self.get(key).map(Duration::from_millis)
    }

    fn runtime(&self) -> Runtime {
        let mut builder = match self.has("multi") {
            true => Builder::new_multi_thread(),
            false => Builder::new_current_thread(),
        };
        builder.worker_threads(2).enable_all().build().expect("there is room for a runtime")
    }

    fn wait(&self) -> Wait {
        if self.has("park") { Wait::Park } else { Wait::default() }
    }
}

pub fn play(role: &str, directory: PathBuf, options: &Options) {
    match role {
        "server" => options.runtime().block_on(server(&directory, options)),
        "client" => options.runtime().block_on(client(&directory, options)),
        "silent" => silent(&directory, options),
        "forker" => forker(&directory, options),
        "forker_amid_calls" => forker_amid_calls(&directory),
        "bound_before_fork" if options.has("blocking") => bound_before_fork_blocking(&directory),
        "bound_before_fork" => bound_before_fork(&directory),
        "forker_outside" => forker_outside(&directory),
        "sharer" => options.runtime().block_on(sharer(&directory, options)),
        role => panic!("no such role: {role}"),
    }
}

/// Serves payloads that are shared: its own, and those that it is sent.
async fn sharer(directory: &Path, options: &Options) {
    let mut commands = commands();
    let mut server = Server::builder().directory(directory);
    if options.has("trust") {
        server = server.trust_peer_memory(trust());
    }
    if let Some(quota) = options.get("quota") {
        SharedBytes::limit_received(quota);
    }
    let source = options.get::<String>("source").map(|uri| {
        let endpoint = Endpoint::from_shared(uri).expect("it is a name").directory(directory);
        endpoint.trust_peer_memory(trust()).connect_lazy()
    });
    let server = server.add_rpc_service("lives.Sharer", Sharer::new(source));
    let name = options.get::<String>("uri").unwrap_or_else(|| NAME.into());
    let bound = server.bind(name.as_str()).await.expect("it binds");
    tokio::spawn(bound.serve());
    say("serving");
    while commands.recv().await.is_some() {}
}

/// Serves until it is told to stop.
async fn server(directory: &Path, options: &Options) {
    let mut commands = commands();
    let names: Vec<String> = match options.get::<String>("names") {
        None if options.has("uri") => options.get("uri").into_iter().collect(),
        Some(names) => names.split(',').map(|name| format!("notnets:///{name}")).collect(),
        None => vec![NAME.into()],
    };
    if let Some(left) = options.get::<String>("leave") {
        leave_descriptors(&left);
    }
    if let Some(current) = options.get("fsize") {
        let limit = Rlimit { current: Some(current), ..getrlimit(Resource::Fsize) };
        setrlimit(Resource::Fsize, limit).expect("it may be lowered");
    }
    let mut ballast = Vec::new();
    if options.has("wait_to_serve") {
        while let Some(command) = commands.recv().await {
            if !balance(&mut ballast, &command) {
                break;
            }
        }
    }
    let bound = match bind(directory, options, names).await {
        Ok(bound) => bound,
        Err(error) => return say(format_args!("refused: {error}")),
    };
    say("serving");
    let stopped = async {
        while let Some(command) = commands.recv().await {
            if balance(&mut ballast, &command) {
                continue;
            }
            match command.as_str() {
                "stop" => return say("stopping"),
                "fork" => fork_holder(),
                command => match command.strip_prefix("leave ") {
                    Some(left) => leave(left),
                    None => panic!("no such command: {command}"),
                },
            }
        }
    };
    bound.serve_with_shutdown(stopped).await.expect("serves to the end");
    say("stopped");
}

async fn bind(directory: &Path, options: &Options, names: Vec<String>) -> Result<Bound, Error> {
    let server = configure(directory, options);
    if options.has("plain") {
        return server.bind_service(names, tower::service_fn(plain)).await;
    }
    let probe = Probe { max_message: options.get("max_message") };
    if options.has("layered") {
        let layer = MapResponseLayer::new(|mut response: http::Response<Body>| {
            response.headers_mut().insert("x-layer", http::HeaderValue::from_static("was here"));
            response
        });
        return server.layer(layer).add_service(probe).bind(names).await;
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    server.add_service(probe).add_service(health).bind(names).await
}

/// Any tower service: it tells what it was asked.
async fn plain(request: http::Request<Body>) -> Result<http::Response<String>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = format!("{} {}: {}", parts.method, parts.uri, String::from_utf8_lossy(&body));
    let mut response = http::Response::new(text);
    *response.status_mut() = http::StatusCode::CREATED;
    if let Some(said) = parts.headers.get("x-said") {
        response.headers_mut().insert("x-said", said.clone());
    }
    Ok(response)
}

fn configure(directory: &Path, options: &Options) -> Server {
    let mut server = Server::builder()
        .directory(directory)
        .wait(options.wait())
        .keepalive_interval(options.millis("keepalive"))
        .keepalive_timeout(options.millis("keepalive_timeout"))
        .load_shed(options.has("load_shed"))
        .take_over(options.has("take_over"))
        .admission(match options.get::<String>("admit").as_deref() {
            Some("anyone") => Admission::Anyone,
            Some(uid) => Admission::Listed { uids: vec![uid.parse().expect("is a uid")], gids: vec![] },
            None => Admission::SameUser,
        });
    if let Some(timeout) = options.millis("timeout") {
        server = server.timeout(timeout);
    }
    if options.has("replica") {
        server = server.replica(true);
    }
    if let Some(limit) = options.millis("drain") {
        server = server.drain_timeout(limit);
    }
    let limits = UserLimits::default().calls_per_second(options.get("calls_per_second"));
    server = server.user_limits(limits.bytes_per_second(options.get("bytes_per_second")));
    if let Some(links) = options.get("max_links") {
        server = server.max_connections(links);
    }
    if let Some(limit) = options.get("concurrency") {
        server = server.concurrency_limit_per_connection(limit);
    }
    if let Some(age) = options.millis("max_age") {
        server = server.max_connection_age(age);
    }
    if let Some(grace) = options.millis("max_age_grace") {
        server = server.max_connection_age_grace(grace);
    }
    if let Some(bytes) = options.get("max_metadata") {
        server = server.max_metadata_size(bytes);
    }
    server
}

/// Makes calls as it is told: `METHOD REQUEST`, the answer being the reply or status; with `&` before
/// it in a task of its own.
async fn client(directory: &Path, options: &Options) {
    let mut commands = commands();
    let endpoint: Endpoint = match options.get::<String>("uri") {
        Some(uri) => Endpoint::new(uri).expect("is a URI").directory(directory),
        None => endpoint(directory),
    };
    let endpoint = endpoint.wait(options.wait());
    let mut clients = Vec::new();
    for _ in 0..options.get("links").unwrap_or(1) {
        if options.has("lazy") {
            clients.push(Client::new(endpoint.connect_lazy()));
            continue;
        }
        match endpoint.connect().await {
            Ok(channel) => {
                let client = Client::new(channel);
                clients.push(match options.get("max_message") {
                    Some(bytes) => client.max_message(bytes),
                    None => client,
                });
            }
            Err(error) => return say(format_args!("refused: {error}")),
        }
    }
    say("connected");
    let mut ballast = Vec::new();
    while let Some(command) = commands.recv().await {
        if balance(&mut ballast, &command) {
            continue;
        }
        if let Some(left) = command.strip_prefix("leave ") {
            leave(left);
            continue;
        }
        match command.as_str() {
            "fork" => {
                fork_holder();
                continue;
            }
            "look" => {
                let served = look(&Directory::at(directory), LIMIT).expect("a directory");
                let [served] = &*served else { panic!("{served:?}") };
                say(served
                    .counters
                    .as_ref()
                    .map_or_else(|why| format!("nothing: {why}"), |_| "counters".into()));
                continue;
            }
            "new" => {
                clients = vec![Client::new(endpoint.connect_lazy())];
                continue;
            }
            _ => {}
        }
        let (beside, command) = match command.strip_prefix('&') {
            Some(command) => (true, command),
            None => (false, command.as_str()),
        };
        let (method, request) = command.split_once(' ').unwrap_or((command, ""));
        for client in &clients {
            let call = call(client.clone(), method.to_owned(), request.to_owned());
            if beside {
                tokio::spawn(call);
            } else {
                call.await;
            }
        }
    }
}

/// Connects many times and says nothing.
fn silent(directory: &Path, options: &Options) {
    let directory = Directory::at(directory);
    let name = NAME.parse::<Uri>().expect("is a URI").name().clone();
    let connections = options.get("connections").expect("is given");
    let connections: Vec<_> = (0..connections).map_while(|_| directory.connect(&name).ok()).collect();
    say(format_args!("connected {}", connections.len()));
    std::io::stdin().lines().for_each(drop);
}

async fn call(client: Client, method: String, request: String) {
    let mut drains = false;
    let outcome = match method.as_str() {
        // Reads one message, and then none.
        "produce" => match client.stream("produce", Bytes::from(request)).await {
            Ok(mut stream) => {
                let first = stream.message().await;
                say(first.map_or_else(text, |_| "produced".into()));
                return std::future::pending().await;
            }
            Err(status) => Err(status),
        },
        // Reads on to the end, and says how many there were.
        "drain" => match client.stream("produce", Bytes::from(request)).await {
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(_)) if !std::mem::replace(&mut drains, true) => say("drains"),
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok("the end".into()),
                    Err(status) => break Err(status),
                }
            },
            Err(status) => Err(status),
        },
        // A large reply, of which only the length is told.
        "size" => client.text("bytes", request).await.map(|reply| reply.len().to_string()),
        // A large request, of which the server tells the length.
        "upload" => client.text("length", vec![b'x'; request.parse().expect("is a number")]).await,
        method => client.text(method, request).await,
    };
    say(outcome.unwrap_or_else(text));
}

fn text(status: Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Forks while a call is open, and uses its channel in the child.
fn forker(directory: &Path, options: &Options) {
    let runtime = options.runtime();
    let (client, mut produced) = runtime.block_on(async {
        let client = Client::connect(directory).await;
        let mut produced = client.stream("produce", "1000").await.expect("is produced");
        produced.message().await.expect("is produced");
        // Much of what is produced has arrived then, and nobody has taken it.
        for _ in 0..100 {
            client.text("echo", "x").await.expect("is echoed");
        }
        (client, produced)
    });
    let release = hold_workers(&runtime);
    let child = match fork::fork().expect("there is room for a process") {
        fork::Fork::Parent(child) => {
            release.wait();
            child
        }
        fork::Fork::Child => {
            Builder::new_current_thread().enable_all().build().expect("there is room").block_on(async {
                let ended = loop {
                    match produced.message().await {
                        // What had arrived before the fork.
                        Ok(Some(_)) => {}
                        Ok(None) => break "the end".into(),
                        Err(status) => break text(status),
                    }
                };
                say(format_args!("child: {ended}"));
                say(format_args!("child: {}", std::process::id()));
                say(format_args!("child: {}", client.text("who", "").await.unwrap_or_else(text)));
            });
            drop((client, produced));
            say("child: done");
            std::process::exit(0);
        }
    };
    say(format_args!("child ended with {}", fork::waitpid(child).expect("it is our child")));
    runtime.block_on(async {
        for _ in 0..1000 {
            produced.message().await.expect("goes on").expect("goes on");
        }
        say("parent: produced 1000 more");
        say(format_args!("parent: {}", client.text("echo", "still here").await.unwrap_or_else(text)));
    });
}

/// Forks again and again while other threads make calls. Each child uses the channel.
fn forker_amid_calls(directory: &Path) {
    const FORKS: usize = 50;
    let runtime = Builder::new_multi_thread().worker_threads(3).enable_all().build().expect("there is room");
    let client = runtime.block_on(Client::connect(directory));
    for _ in 0..6 {
        let client = client.clone();
        runtime.spawn(async move {
            loop {
                client.text("echo", "x").await.expect("goes on");
            }
        });
    }
    let mut produced = runtime.block_on(client.stream("produce", "10")).expect("is produced");
    for _ in 0..FORKS {
        let child = match fork::fork().expect("there is room for a process") {
            fork::Fork::Parent(child) => child,
            fork::Fork::Child => {
                let runtime = Builder::new_current_thread().enable_all().build().expect("there is room");
                let (ended, called) = runtime.block_on(async {
                    let ended = loop {
                        match produced.message().await {
                            Ok(Some(_)) => {}
                            Ok(None) => break "the end".into(),
                            Err(status) => break text(status),
                        }
                    };
                    (ended, client.text("echo", "child").await.unwrap_or_else(text))
                });
                let right = ended.contains("this process was forked") && called == "child";
                std::process::exit(if right { 0 } else { 1 });
            }
        };
        assert_eq!(fork::waitpid(child).expect("it is our child"), 0);
    }
    say("forked");
}

/// Takes a name, forks, and ends. The child serves it.
fn bound_before_fork(directory: &Path) {
    let server = configure(directory, &Options::parse(""));
    let bound = server.add_service(Probe::default()).bind_blocking([NAME]).expect("binds");
    match fork::fork().expect("there is room for a process") {
        fork::Fork::Parent(_) => std::process::exit(0),
        fork::Fork::Child => {
            say(std::process::id());
            Builder::new_current_thread().enable_all().build().expect("there is room").block_on(async {
                let mut commands = commands();
                let stopped = async { while commands.recv().await.is_some_and(|line| line != "stop") {} };
                bound.serve_with_shutdown(stopped).await.expect("serves to the end");
            });
            say("stopped");
            std::process::exit(0);
        }
    }
}

/// The same, with the blocking API.
fn bound_before_fork_blocking(directory: &Path) {
    let server = blocking::Server::builder().directory(directory).bind(NAME).expect("binds");
    match fork::fork().expect("there is room for a process") {
        fork::Fork::Parent(_) => std::process::exit(0),
        fork::Fork::Child => {
            say(std::process::id());
            let stopper = server.stopper();
            std::thread::spawn(move || {
                std::io::stdin()
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| line != "stop")
                    .for_each(drop);
                stopper.stop();
            });
            server.serve(|_, reply| {
                reply.message.extend_from_slice(std::process::id().to_string().as_bytes());
                Ok(())
            });
            say("stopped");
            std::process::exit(0);
        }
    }
}

/// Forks, and uses in the child a channel that was made outside of any runtime, and another one.
fn forker_outside(directory: &Path) {
    let client = Client::new(endpoint(directory).connect_lazy());
    let call = |client: &Client| outside(client.text("who", "")).unwrap_or_else(text);
    say(format_args!("parent: {}", call(&client)));
    eventually("the channels' thread sleeps", sleeps);
    let child = match fork::fork().expect("there is room for a process") {
        fork::Fork::Parent(child) => child,
        fork::Fork::Child => {
            say(format_args!("child: {}", std::process::id()));
            say(format_args!("child: {}", call(&client)));
            say(format_args!("child: {}", call(&Client::new(endpoint(directory).connect_lazy()))));
            drop(client);
            std::process::exit(0);
        }
    };
    say(format_args!("child ended with {}", fork::waitpid(child).expect("it is our child")));
    say(format_args!("parent: {}", call(&client)));
}

/// Returns `true` if the thread named `notnets` sleeps: a fork would copy the locks that it holds else.
fn sleeps() -> bool {
    std::fs::read_dir("/proc/self/task").expect("is readable").map_while(Result::ok).any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.contains("(notnets) S ")
    })
}

/// Keeps the runtime's workers busy with nothing until somebody waits at what is returned: a fork copies
/// a lock that another thread holds just then, and nobody in the child would ever unlock it.
fn hold_workers(runtime: &Runtime) -> Arc<Barrier> {
    let workers = match runtime.handle().runtime_flavor() {
        RuntimeFlavor::MultiThread => runtime.metrics().num_workers(),
        _ => 0,
    };
    let (held, release) = (Arc::new(Barrier::new(workers + 1)), Arc::new(Barrier::new(workers + 1)));
    for _ in 0..workers {
        let (held, release) = (Arc::clone(&held), Arc::clone(&release));
        runtime.spawn(async move {
            held.wait();
            release.wait();
        });
    }
    held.wait();
    release
}

fn leave(left: &str) {
    leave_descriptors(left);
    say("left");
}

/// Takes what memory there is, or gives it back.
fn balance(ballast: &mut Vec<Vec<u8>>, command: &str) -> bool {
    const STEP: usize = 64 << 10;
    if command == "free" {
        ballast.clear();
        say("freed");
        return true;
    }
    let Some(left) = command.strip_prefix("fill ") else { return false };
    let left: u64 = left.parse().expect("is a number");
    // Each step is touched at once, so that the next look counts it.
    while headroom().bytes().is_some_and(|bytes| bytes > left) {
        ballast.push(vec![1; STEP]);
    }
    say("filled");
    true
}

/// Lowers the limit so that so many more descriptors can be opened, or raises it again.
fn leave_descriptors(left: &str) {
    let limit = getrlimit(Resource::Nofile);
    let set = |current| setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("it may be lowered");
    set(limit.maximum);
    if left == "all" {
        return;
    }
    let left: usize = left.parse().expect("is a number");
    let open = std::fs::read_dir("/proc/self/fd").expect("is readable").map_while(Result::ok);
    let open: HashSet<u64> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The descriptor that this was read through is among them, and free by now.
    let is_free = |fd: &u64| rustix::fs::readlink(format!("/proc/self/fd/{fd}"), Vec::new()).is_err();
    let highest_free = (0..).filter(|fd| !open.contains(fd) || is_free(fd)).nth(left);
    set(highest_free);
}
