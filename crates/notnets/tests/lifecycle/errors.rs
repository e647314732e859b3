//! Errors say what is wrong and what to do about it.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
    let advice = "start its server, or set NOTNETS_DIR to the same directory for both processes";
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
        ["while the path of a Unix socket has at most 107", "set NOTNETS_DIR to a shorter directory"];
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
        assert!(told.contains("have its owner change that, or set NOTNETS_DIR"), "{told}");
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
    says(bind(&file, NAME), &["is not a directory", "set NOTNETS_DIR to a directory"]);
}

#[test]
fn what_is_no_uri_of_ours() {
    let directory = tempdir().unwrap();
    for (uri, part) in [
        ("http://localhost:50051", "doesn't fall back to HTTP/2 yet, use tonic::transport::Channel for it"),
        ("unix:/tmp/x", "or write `notnets:///NAME`"),
        ("inventory", "it has no scheme: write `notnets:///inventory`"),
        ("notnets:inventory", "write `notnets:///inventory`"),
        ("notnets:///", "names no service"),
        ("notnets:///../x", "a name is one"),
    ] {
        says(Endpoint::from_shared(uri), &[uri, part]);
        says(bind(directory.path(), uri), &[uri, part]);
    }
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
