//! Errors say what is wrong and what to do about it.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use notnets::rpc::{self, Payload, Reply};
use notnets::{Endpoint, Error, Server};
use notnets_core::link::rendezvous::Directory;
use tempfile::tempdir;
use tonic::Code;

use crate::support::NAME;
use crate::support::client::{Client, endpoint};
use crate::support::helper::Helper;
use crate::support::service::Probe;

fn bind(directory: &Path, uri: &str) -> Result<(), Error> {
    Server::builder().directory(directory).add_service(Probe::default()).bind_blocking(uri).map(drop)
}

async fn connect(directory: &Path, uri: &'static str) -> Result<(), Error> {
    Endpoint::from_static(uri).directory(directory).connect().await.map(drop)
}

#[track_caller]
fn says<T>(outcome: Result<T, Error>, parts: &[&str]) {
    let Err(error) = outcome else { panic!("it worked") };
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

#[tokio::test]
async fn no_such_name() {
    let directory = tempdir().unwrap();
    let nowhere = directory.path().join("nowhere");
    let place = format!("nobody serves the name `lives` in {} (chosen by the program)", nowhere.display());
    says(connect(&nowhere, NAME).await, &[&place, "there is no such directory"]);
    let place = format!("nobody serves the name `lives` in {}", directory.path().display());
    says(
        connect(directory.path(), NAME).await,
        &[&place, "there is no such socket, and no other name is served"],
    );
    let _server = Helper::server(directory.path(), "names=cart,inventory");
    let advice = "start its server, or let the program choose the directory of its server";
    says(connect(directory.path(), NAME).await, &[&place, "`cart` and `inventory` are served there", advice]);
    // A call on a lazy channel says the same.
    let client = Client::new(endpoint(directory.path()).connect_lazy());
    let status = client.text("echo", "x").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("`cart` and `inventory` are served there"), "{status:?}");
}

#[test]
fn a_name_in_use() {
    let directory = tempdir().unwrap();
    let server = Helper::server(directory.path(), "");
    let by = format!("the name `lives` is in use by the process with pid {}", server.pid());
    says(bind(directory.path(), NAME), &[&by, "stop it or serve another name"]);
    // Of several names none is taken then.
    let directory_of = directory.path();
    let several = Server::builder().directory(directory_of).add_service(Probe::default());
    says(several.bind_blocking(["notnets:///other", NAME]), &[&by]);
    assert!(!directory_of.join("other").exists());
}

#[tokio::test]
async fn a_path_that_is_too_long() {
    let directory = tempdir().unwrap();
    let long = directory.path().join("d".repeat(100));
    let bytes = format!("{} has {} bytes", long.join("lives").display(), long.as_os_str().len() + 6);
    let advice =
        ["while the path of a Unix socket has at most 107", "let the program choose a shorter directory"];
    says(bind(&long, NAME), &[&bytes, advice[0], advice[1]]);
    says(connect(&long, NAME).await, &[&bytes, advice[0], advice[1]]);
}

#[test]
fn a_directory_without_permission() {
    const NOBODY: u32 = 65534;
    let directory = tempdir().unwrap();
    set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let closed = directory.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    // Nothing is denied to root, so there somebody else has to try.
    let own = rustix::process::geteuid();
    let start = |role| match own.is_root() {
        true => Helper::start_as(NOBODY, role, &closed, ""),
        false => Ok(Helper::start(role, &closed, "")),
    };
    for (mode, role, action) in [(0o555, "server", "create a socket in"), (0o000, "client", "connect to")] {
        set_permissions(&closed, Permissions::from_mode(mode)).unwrap();
        let mut helper = match start(role) {
            Ok(helper) => helper,
            Err(error) => return println!("skipped: can't run as uid {NOBODY}: {error}"),
        };
        let told = helper.answer();
        assert!(told.starts_with(&format!("refused: cannot {action} {}", closed.display())), "{told}");
        assert!(told.contains(": permission denied: "), "{told}");
        let whose = format!("belongs to uid {} and gid", own.as_raw());
        assert!(told.contains(&whose) && told.contains(&format!("with mode {mode:04o}")), "{told}");
        assert!(told.contains("have its owner change that, or let the program choose"), "{told}");
    }
    set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn something_else_in_the_way() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("lives");
    std::fs::write(&file, "precious").unwrap();
    let text = format!("{} is not a socket of NotNets, so it is left alone", file.display());
    says(bind(directory.path(), NAME), &[&text, "remove it or choose another name"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let text = format!("{} is not a directory; let the program choose a directory", file.display());
    says(bind(&file, NAME), &[&text]);
    says(bind(Path::new("/proc/notnets"), NAME), &["cannot create /proc/notnets", "let the program choose"]);
}

#[test]
fn what_is_no_uri_of_ours() {
    let directory = tempdir().unwrap();
    for (uri, part) in [
        (
            "http://localhost:50051",
            "for servers over HTTP/2 use `Channel::named` with the feature http2, or `notnets proxy`",
        ),
        ("unix:/tmp/x", "for others write `notnets:///NAME`"),
        ("inventory", "it has no scheme: write `notnets:///inventory`"),
        ("notnets:inventory", "write `notnets:///inventory`"),
        ("notnets:///", "names no service"),
        ("notnets:///../x", "a name is one"),
    ] {
        says(Endpoint::from_shared(uri), &[uri, part]);
        // Servers speak HTTP/2 as well.
        if !uri.starts_with("http:") && !uri.starts_with("unix:") {
            says(bind(directory.path(), uri), &[uri, part]);
        }
    }
    let tls = bind(directory.path(), "https://localhost:50051");
    if cfg!(feature = "tls") {
        says(tls, &["TLS needs a certificate and its key", "Server::tls_config"]);
    } else {
        says(tls, &["asks for TLS", "write http://HOST:PORT"]);
    }
    says(bind(directory.path(), "ftp://x"), &["`ftp://x` is not a notnets: URI", "unix:/PATH"]);
}

#[tokio::test]
async fn settings_that_can_not_be() {
    let directory = tempdir().unwrap();
    let none: [&str; 0] = [];
    says(
        Server::builder().directory(directory.path()).add_service(Probe::default()).bind_blocking(none),
        &["no name to serve is given"],
    );
    for bytes in [0, u32::MAX] {
        let server = Server::builder().directory(directory.path()).max_metadata_size(bytes);
        says(
            server.add_service(Probe::default()).bind_blocking(NAME),
            &["metadata", &bytes.to_string(), "at most 16777216"],
        );
        let endpoint = endpoint(directory.path()).max_metadata_size(bytes);
        says(endpoint.connect().await, &["metadata", &bytes.to_string(), "at most 16777216"]);
        let status = Client::new(endpoint.connect_lazy()).text("echo", "x").await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    for bytes in [0, 1023] {
        let server = Server::builder().directory(directory.path()).initial_stream_window_size(bytes);
        says(
            server.add_service(Probe::default()).bind_blocking(NAME),
            &["stream window", &bytes.to_string(), "at least 1024"],
        );
    }
}

#[tokio::test]
async fn limits_that_let_no_call_through() {
    let directory = tempdir().unwrap();
    let server = Server::builder().directory(directory.path()).concurrency_limit_per_connection(0);
    let text = "concurrency_limit_per_connection is 0, so that no call could ever be made; set at least 1";
    says(server.add_service(Probe::default()).bind_blocking(NAME), &[text]);
    let endpoint = endpoint(directory.path()).concurrency_limit(0);
    let text = "Endpoint::concurrency_limit is 0, so that no call could ever be made";
    says(endpoint.connect().await, &[text]);
    let status = Client::new(endpoint.connect_lazy()).text("echo", "x").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with(text), "{status:?}");
    // The largest is no limit.
    let server = Server::builder().directory(directory.path()).concurrency_limit_per_connection(usize::MAX);
    let serving = tokio::spawn(server.add_service(Probe::default()).bind(NAME).await.unwrap().serve());
    let unlimited = endpoint.concurrency_limit(usize::MAX);
    assert_eq!(Client::new(unlimited.connect_lazy()).text("echo", "x").await.unwrap(), "x");
    serving.abort();
}

#[test]
fn services_that_could_not_be_called() {
    let directory = tempdir().unwrap();
    let server = || Server::builder().directory(directory.path());
    let echo = || rpc::unary(async |_, message: Payload| Ok(Reply::new(message)));
    let once = || server().add_rpc_service("calc.Calc", echo());
    for name in ["/calc.Calc", "calc.Calc/Add", ""] {
        let text = format!("`{name}` is not the name of a service; write it as `package.Service`");
        says(server().add_rpc_service(name, echo()).bind_blocking(NAME), &[&text]);
    }
    let twice = once().add_rpc_service("calc.Calc", echo());
    says(twice.bind_blocking(NAME), &["the service `calc.Calc` is added twice"]);
    let text = "the service `lives.Probe` is added twice";
    let twice = server().add_service(Probe::default()).add_service(Probe::default());
    says(twice.bind_blocking(NAME), &[text]);
    let both = once().add_service(Probe::default()).add_rpc_service("lives.Probe", echo());
    says(both.bind_blocking(NAME), &[text]);
    assert!(once().add_service(Probe::default()).bind_blocking(NAME).is_ok());
}

#[tokio::test]
async fn a_host_where_a_pod_has_to_be() {
    let directory = tempdir().unwrap();
    let hint = "for a service of this host write `notnets:///calc`";
    let uri = "notnets://localhost/calc";
    says(bind(directory.path(), uri), &["could not serve notnets://localhost/calc: no agent", hint]);
    says(connect(directory.path(), uri).await, &["no link to notnets://localhost/calc: no agent", hint]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_while_it_is_dialled() {
    let directory = tempdir().unwrap();
    let listener = Directory::at(directory.path()).listen(&"lives".parse().unwrap()).unwrap();
    // It takes the connection, and ends without an answer.
    let ends = std::thread::spawn(move || {
        while listener.accept().unwrap().is_none() {
            std::thread::yield_now();
        }
    });
    says(connect(directory.path(), NAME).await, &["nobody serves the name `lives`"]);
    ends.join().unwrap();
}
