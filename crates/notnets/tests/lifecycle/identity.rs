//! Who calls whom: the kernel vouches for it, and a server admits whom it is told to.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use notnets::{Admission, Channel, Endpoint, ErrorKind, ExpectedServer, UserLimits, blocking};
use notnets_core::stats::Count;
use rustix::process::{getegid, geteuid};
use tempfile::{TempDir, tempdir};
use tonic::Code;

use crate::support::client::{Client, endpoint};
use crate::support::helper::Helper;
use crate::support::{NAME, counters, within};

const NOBODY: u32 = 65534;

/// A rendezvous directory that all users can reach.
fn public() -> TempDir {
    let directory = tempdir().unwrap();
    set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

/// A client of another uid. `None`, with the reason printed, where this process can't make one.
fn stranger(directory: &TempDir, options: &str) -> Option<Helper> {
    stranger_as("client", directory, options)
}

fn stranger_as(role: &str, directory: &TempDir, options: &str) -> Option<Helper> {
    if !geteuid().is_root() {
        println!("skipped: only root can run a process of another uid");
        return None;
    }
    Helper::start_as(NOBODY, role, directory.path(), options)
        .map_err(|error| println!("skipped: can't run as uid {NOBODY}: {error}"))
        .ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_sees_who_calls() {
    let directory = tempdir().unwrap();
    let _server = Helper::server(directory.path(), "");
    let ours = format!("{} {}", geteuid().as_raw(), getegid().as_raw());
    let agent = concat!("notnets/", env!("CARGO_PKG_VERSION"));
    let client = Client::connect(directory.path()).await;
    let who = within(client.text("who", "")).await.unwrap();
    assert_eq!(who, format!("Some({}) {ours} {agent}", std::process::id()));
    let mut other = Helper::client(directory.path(), "");
    other.tell("who");
    other.expect(&format!("Some({}) {ours} {agent}", other.pid()));
    let endpoint = endpoint(directory.path()).user_agent("tests/1").unwrap();
    let client = Client::new(endpoint.connect().await.unwrap());
    let who = within(client.text("who", "")).await.unwrap();
    assert!(who.ends_with(&format!(" tests/1 {agent}")), "{who}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_uid_is_refused_unless_admitted() {
    let directory = public();
    let own = geteuid().as_raw();
    {
        let _server = Helper::server(directory.path(), "");
        let Some(mut refused) = stranger(&directory, "") else { return };
        let text = format!(
            "uid {NOBODY} is not admitted: the server, of uid {own}, admits its own uid only (see Server::admission)"
        );
        let told = refused.answer();
        assert!(told.starts_with("refused: ") && told.contains(&text), "{told}");
        // The same as the status of a call.
        let Some(mut refused) = stranger(&directory, "lazy") else { return };
        refused.expect("connected");
        refused.tell("echo x");
        let told = refused.answer();
        assert!(
            told.starts_with(&format!("{:?}: ", Code::PermissionDenied)) && told.contains(&text),
            "{told}"
        );
        // And of a look at the counters.
        refused.tell("look");
        let told = refused.answer();
        assert!(told.starts_with("nothing: ") && told.contains(&text), "{told}");
        // Its own uid is admitted all the while.
        let client = Client::connect(directory.path()).await;
        assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
    }
    for admit in ["anyone", &NOBODY.to_string()] {
        let _server = Helper::server(directory.path(), &format!("admit={admit}"));
        let Some(mut admitted) = stranger(&directory, "") else { return };
        admitted.expect("connected");
        admitted.tell("who");
        let who = admitted.answer();
        assert!(who.starts_with(&format!("Some({}) {NOBODY} {NOBODY} ", admitted.pid())), "{who}");
        let client = Client::connect(directory.path()).await;
        assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
    }
    let _server = Helper::server(directory.path(), "admit=12345");
    let Some(mut refused) = stranger(&directory, "") else { return };
    let told = refused.answer();
    assert!(told.contains(&format!("uid {NOBODY} is not admitted")), "{told}");
    assert!(told.contains("admits the uids and gids that it lists"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_say_nothing_take_no_descriptors() {
    let directory = public();
    let mut server = Helper::server(directory.path(), "");
    server.tell("leave 40");
    server.expect("left");
    let Some(mut silent) = stranger_as("silent", &directory, "connections=100") else { return };
    silent.expect("connected 100");
    let endpoint = endpoint(directory.path()).connect_timeout(Duration::from_secs(2));
    let client = Client::new(endpoint.connect().await.unwrap());
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_of_its_own_uid_that_say_nothing_keep_nobody_out() {
    let directory = tempdir().unwrap();
    let mut server = Helper::server(directory.path(), "");
    server.tell("leave 160");
    server.expect("left");
    let mut silent = Helper::start("silent", directory.path(), "connections=400");
    silent.expect("connected 400");
    let endpoint = endpoint(directory.path()).connect_timeout(Duration::from_secs(2));
    let client = Client::new(endpoint.connect().await.unwrap());
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
}

/// In a directory where several users may serve, one takes a name that is free, and waits for calls. It gets
/// none of those that are for another, by either API, also where it says that it is a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_squatter_in_a_shared_directory_gets_no_call() {
    let directory = tempdir().unwrap();
    set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
    let squat = |options: &str| {
        let mut squatter = stranger_as("server", &directory, &format!("admit=anyone {options}"))?;
        squatter.expect("serving");
        Some(squatter)
    };
    {
        let Some(_squatter) = squat("") else { return };
        let text = format!("the server is a process of uid {NOBODY}");
        let status = within(Client::new(endpoint(directory.path()).connect_lazy()).text("pid", "")).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains(&text), "{status:?}");
        let blocking = blocking::Endpoint::new(NAME).unwrap().directory(directory.path());
        let error = blocking.connect().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(&text), "{error}");
        // Who means it says so.
        let nobody = || ExpectedServer::Listed { uids: vec![NOBODY], gids: vec![] };
        blocking.expect_server(nobody()).connect().unwrap();
        let client = Client::new(endpoint(directory.path()).expect_server(nobody()).connect_lazy());
        within(client.text("pid", "")).await.unwrap();
    }
    let replica = Helper::server(directory.path(), "replica");
    let Some(_squatters) = (0..3).map(|_| squat("replica")).collect::<Option<Vec<_>>>() else { return };
    for _ in 0..8 {
        let client = Client::new(endpoint(directory.path()).connect_lazy());
        assert_eq!(within(client.text("pid", "")).await.unwrap(), replica.pid().to_string());
        let named =
            Channel::named("lives").settings(settings_in(&directory)).or(NAME).connect_lazy().unwrap();
        assert_eq!(within(Client::new(named).text("pid", "")).await.unwrap(), replica.pid().to_string());
    }
}

/// Of the users that a server admits, others than its own have as much to the second as it allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_and_bytes_of_another_user_are_limited() {
    let directory = public();
    {
        let _server = Helper::server(directory.path(), "admit=anyone calls_per_second=2");
        let Some(mut limited) = stranger(&directory, "links=2") else { return };
        limited.expect("connected");
        // One on each link.
        limited.tell("echo x");
        assert_eq!([limited.answer(), limited.answer()], ["x", "x"]);
        limited.tell("echo x");
        let text = format!(
            "{:?}: uid {NOBODY} has its 2 calls a second: later calls succeed (Server::user_limits)",
            Code::ResourceExhausted
        );
        assert_eq!([limited.answer(), limited.answer()], [&*text, &*text]);
        let client = Client::connect(directory.path()).await;
        for _ in 0..5 {
            assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x", "the own user has no limit");
        }
        let counters = counters(directory.path());
        let methods = counters.methods();
        let refused = methods.values().flat_map(|method| method.statuses());
        let refused = refused.filter(|(status, _)| *status == "RESOURCE_EXHAUSTED").map(|(_, calls)| calls);
        assert_eq!((refused.sum::<u64>(), counters.counts().of(Count::OverCallRate)), (2, 2));
    }
    // As much as in a second comes at once, and what is beyond is waited for.
    let _server = Helper::server(directory.path(), "admit=anyone bytes_per_second=2000000");
    let Some(mut limited) = stranger(&directory, "") else { return };
    limited.expect("connected");
    let begin = Instant::now();
    limited.tell("upload 2400000");
    limited.expect("2400000");
    // What is under way when they are used up still comes. Without a limit it takes a few milliseconds.
    assert!(begin.elapsed() >= Duration::from_millis(100), "{:?}", begin.elapsed());
    assert!(counters(directory.path()).counts().of(Count::ReadLater) > 0);
}

/// The same of a blocking server.
#[test]
fn a_blocking_server_limits_the_calls_of_another_user() {
    let directory = public();
    let server = blocking::Server::builder().directory(directory.path()).admission(Admission::Anyone);
    let server = server.user_limits(UserLimits::default().calls_per_second(1)).bind(NAME).unwrap();
    let stopper = server.stopper();
    let echo = |request: &blocking::Request<'_>, reply: &mut blocking::Reply| {
        reply.message.extend_from_slice(request.message);
        Ok(())
    };
    let serving = std::thread::spawn(move || server.serve(echo));
    if let Some(mut limited) = stranger(&directory, "") {
        limited.expect("connected");
        limited.tell("echo x");
        limited.expect("x");
        limited.tell("echo x");
        let told = limited.answer();
        let text = format!("{:?}: uid {NOBODY} has its 1 calls a second", Code::ResourceExhausted);
        assert!(told.starts_with(&text), "{told}");
        assert_eq!(counters(directory.path()).counts().of(Count::OverCallRate), 1);
    }
    stopper.stop();
    serving.join().unwrap();
}

/// Settings by which names are looked for in this directory.
fn settings_in(directory: &TempDir) -> impl Fn(Endpoint) -> Endpoint + Send + Sync + 'static {
    let path = directory.path().to_owned();
    move |endpoint| endpoint.directory(&path)
}
