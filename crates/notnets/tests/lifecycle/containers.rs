//! Containers that share only the rendezvous directory: pid, ipc, net and mount namespaces of their
//! own, with nothing of the host's `/tmp` and `/dev/shm`.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::{TempDir, tempdir};
use tonic::Code;

use crate::support::client::Client;
use crate::support::helper::Helper;
use crate::support::{counters, eventually, within};

/// Where the container has the rendezvous directory.
const WITHIN: &str = "/mnt";
const AT_ONCE: Duration = Duration::from_secs(1);

/// Starts a role in a container. `None`, with the reason printed, where that isn't permitted.
fn contained(role: &str, directory: &Path) -> Option<Helper> {
    // `$0` is the directory, the other arguments are the command, whose file may get out of sight.
    let script = format!(
        "mount --bind \"$0\" {WITHIN} && exec 9<\"$1\" && shift \
         && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm \
         && echo @contained >&2 && exec /proc/self/fd/9 \"$@\""
    );
    let namespaces = ["--mount", "--pid", "--ipc", "--net", "--fork", "--kill-child", "--mount-proc", "--"];
    let directory = directory.to_str().expect("is UTF-8");
    let by: Vec<&str> =
        ["unshare"].into_iter().chain(namespaces).chain(["sh", "-c", &script, directory]).collect();
    let mut helper = match Helper::start_by(&by, role, Path::new(WITHIN), "") {
        Ok(helper) => helper,
        Err(error) => {
            println!("skipped: `unshare` doesn't run: {error}");
            return None;
        }
    };
    match helper.try_answer() {
        Ok(answer) => assert_eq!(answer, "contained"),
        Err(output) => {
            println!("skipped: no container can be made here: {output}");
            return None;
        }
    }
    Some(helper)
}

/// Inside it is process 1, outside the child of `unshare`.
fn pid_outside(contained: &Helper) -> u32 {
    let unshare = contained.pid();
    let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    children.trim().parse().expect("it has one child")
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn directory() -> TempDir {
    tempdir().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_a_container() {
    let directory = directory();
    let Some(mut server) = contained("server", directory.path()) else { return };
    server.expect("serving");
    let client = Client::connect(directory.path()).await;
    let who = within(client.text("who", "")).await.unwrap();
    assert!(who.starts_with("None "), "from inside, the caller's pid can't be seen: {who}");
    let large = "x".repeat(1_000_000);
    assert_eq!(within(client.text("echo", large.clone())).await.unwrap(), large);
    let call = tokio::spawn(async move { client.text("hang", "").await.unwrap_err() });
    server.expect("hang began");

    let killed = Instant::now();
    kill(pid_outside(&server));
    let status = within(call).await.unwrap();
    let took = killed.elapsed();
    println!("the call ended {took:?} after the kill");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(took < AT_ONCE, "{took:?}");
    // Somebody else can have the name, inside or out, once all of the process is gone: its links may be
    // closed before its name's socket is.
    server.finish();
    let _server = Helper::server(directory.path(), "");
    let client = Client::connect(directory.path()).await;
    assert_eq!(within(client.text("echo", "x")).await.unwrap(), "x");
}

#[test]
fn a_client_in_a_container() {
    let directory = directory();
    let mut server = Helper::server(directory.path(), "");
    let Some(mut client) = contained("client", directory.path()) else { return };
    client.expect("connected");
    client.tell("who");
    let who = client.answer();
    assert!(who.starts_with(&format!("Some({}) ", pid_outside(&client))), "seen from outside: {who}");
    client.tell("size 1000000");
    client.expect("1000000");
    client.tell("&hang");
    server.expect("hang began");

    let killed = Instant::now();
    kill(pid_outside(&client));
    server.expect("hang is gone");
    let took = killed.elapsed();
    println!("the handler was dropped {took:?} after the kill");
    assert!(took < AT_ONCE, "{took:?}");
    eventually("the link is counted as closed", || counters(directory.path()).links_open == 0);
}

#[test]
fn two_containers() {
    let directory = directory();
    let Some(mut server) = contained("server", directory.path()) else { return };
    server.expect("serving");
    let Some(mut client) = contained("client", directory.path()) else { return };
    client.expect("connected");
    client.tell("size 1000000");
    client.expect("1000000");
    client.tell("&hang");
    server.expect("hang began");
    let killed = Instant::now();
    kill(pid_outside(&server));
    let told = client.answer();
    println!("the call ended {:?} after the kill", killed.elapsed());
    assert!(told.starts_with("Unavailable: "), "{told}");
    assert!(killed.elapsed() < AT_ONCE, "{:?}", killed.elapsed());
    client.tell("echo x");
    let told = client.answer();
    assert!(told.contains("nobody serves the name `lives` in /mnt (chosen by the program)"), "{told}");
    assert!(told.contains("its server has ended"), "{told}");
}
