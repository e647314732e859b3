//! Who may use `notnets proxy`, and what servers behind it hear of who calls.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{ANY, World, http2_server};

const ECHO: &str = "notnets.probe.Probe/Echo";

/// An id that no process of a test has.
const NOBODY: &str = "70123";

#[tokio::test]
async fn servers_hear_who_calls_and_not_who_says_to_be_somebody() {
    let world = World::new();
    let server = http2_server().await;
    let unix = world.unix("proxy.sock");
    let listen = format!("{ANY},{unix},notnets:///told");
    let told = world.proxy_of(["proxy", "--listen", &listen, "--to", &server, "--forward-caller"]).await;
    let ids =
        format!("uid={};gid={};pid=", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let tcp = told.address.split(' ').find(|address| address.starts_with("127.")).expect("it listens there");
    for (address, expected) in [(tcp, "address=127.0.0.1:"), (&unix, &ids), ("notnets:///told", &ids)] {
        let call = ["call", address, ECHO, "-H", "notnets-caller: uid=0", "-H", "other: stays"];
        let reply = world.run(call).await.json();
        let caller = reply["metadata"]["notnets-caller"].as_str().expect("it is told");
        assert!(caller.starts_with(expected) && !caller.contains("uid=0,"), "{address}: {caller}");
        assert_eq!(reply["metadata"]["other"], "stays");
    }
    // Nor is it passed on where it is not told.
    let silent = world.proxy(ANY, &server).await;
    let reply = world.run(["call", &silent.address, ECHO, "-H", "notnets-caller: uid=0"]).await.json();
    assert!(reply["metadata"]["notnets-caller"].is_null(), "{reply}");
}

#[tokio::test]
async fn a_proxy_admits_whom_it_is_told_to() {
    let world = World::new();
    let server = http2_server().await;
    let unix = world.unix("proxy.sock");
    let to = ["--to", &server, "--listen", &unix, "--socket-mode", "0620"];
    {
        let _proxy = world.proxy_of(["proxy", "--admit", "any"].into_iter().chain(to)).await;
        let file = std::fs::metadata(world.path("proxy.sock")).expect("it is there");
        assert_eq!(file.permissions().mode() & 0o777, 0o620);
        assert_eq!(file.uid(), rustix::process::getuid().as_raw());
        world.run(["call", &unix, ECHO]).await.json();
    }
    // A server's own user is always admitted.
    {
        let _proxy = world.proxy_of(["proxy", "--admit", NOBODY].into_iter().chain(to)).await;
        world.run(["call", &unix, ECHO]).await.json();
    }
    let wrong = world.run(["proxy", "--admit", "root", "--listen", &unix, "--to", &server]).await;
    assert_eq!(wrong.code(), Some(2), "{}", wrong.err());
    // Only root may give a file away.
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can run a process of another uid");
        return;
    }
    let names = world.names();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(names.parent().expect("a directory of the test's own"), open)
        .expect("it is ours");
    {
        let to = ["--to", &server, "--listen", &unix, "--socket-mode", "0666"];
        let _proxy = world.proxy_of(["proxy", "--admit", "gid:70123"].into_iter().chain(to)).await;
        for (gid, code) in [(70_123, 0), (70_124, 64 + 14)] {
            let mut call = world.notnets(["call", &unix, ECHO]);
            let ended = crate::support::in_time(call.uid(70_124).gid(gid).output()).await.expect("it starts");
            assert_eq!(ended.status.code(), Some(code), "{}", String::from_utf8_lossy(&ended.stderr));
        }
    }
    each_listener_admits_its_own(&world, &server).await;
    let mut given = world.notnets(["proxy", "--socket-owner", NOBODY].into_iter().chain(to));
    // Of another user is who owns the socket.
    given.stdout(std::process::Stdio::piped());
    let mut child = given.spawn().expect("it starts");
    let mut out = tokio::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    let ready = tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line);
    crate::support::in_time(ready).await.expect("a line");
    let file = std::fs::metadata(world.path("proxy.sock")).expect("it is there");
    assert_eq!(file.uid().to_string(), NOBODY);
    child.kill().await.expect("it is ours");
}

/// What a file says of a listener's clients counts more than the command line.
async fn each_listener_admits_its_own(world: &World, server: &str) {
    let sockets = ["first.sock", "second.sock"].map(|name| world.unix(name));
    let listener = |listen: &str, admit: &str| {
        let clients = json!({ "admit": admit, "socket_mode": "0666" });
        json!({ "listen": listen, "clients": clients, "routes": [{ "to": server }] })
    };
    let write = |admits: [&str; 2]| {
        let listeners = [listener(&sockets[0], admits[0]), listener(&sockets[1], admits[1])];
        let path = world.path("listeners.json");
        std::fs::write(&path, json!({ "listeners": listeners }).to_string()).expect("writable");
        path
    };
    let path = write(["70124", NOBODY]);
    let arguments = ["proxy", "--admit", "any", "--config", path.to_str().expect("UTF-8")];
    let mut proxy = world.proxy_of(arguments).await;
    let codes = async || {
        let mut codes = Vec::new();
        for socket in &sockets {
            let mut call = world.notnets(["call", socket, ECHO]);
            let ended =
                crate::support::in_time(call.uid(70_124).gid(70_124).output()).await.expect("it starts");
            codes.push(ended.status.code().expect("no signal"));
        }
        codes
    };
    assert_eq!(codes().await, [0, 64 + 14]);
    write([NOBODY, "70124"]);
    proxy.signal(Signal::HUP);
    assert!(proxy.line().await.starts_with("RELOADED"));
    assert_eq!(codes().await, [64 + 14, 0]);
}
