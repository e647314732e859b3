//! `notnets agent`: the hosts of a pod as processes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// An agent, killed when it is dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn notnets(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.env("NOTNETS_DIR", directory);
    command
}

fn format(region: &Path) {
    let mut command = notnets(region);
    command.args(["region", "format", "--hosts", "3", "--create", "8M", "--heartbeat", "10ms"]);
    let output = command.args(["--lease", "400ms"]).arg(region).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn agent(directory: &Path, region: &Path, host: &str) -> Agent {
    let mut command = notnets(&directory.join(host));
    command.args(["agent", "--host-id", host, "--region"]).arg(region).stderr(Stdio::piped());
    Agent(command.spawn().unwrap())
}

/// What `notnets region show` says of each host, once it says that.
fn until(region: &Path, expected: &[&str]) {
    let end = Instant::now() + LIMIT;
    loop {
        let output = notnets(region).args(["region", "show"]).arg(region).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let (_, hosts) = shown.split_once("HOST").expect("a table");
        let states: Vec<_> =
            hosts.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        if states == expected {
            return;
        }
        assert!(Instant::now() < end, "{shown}");
    }
}

#[test]
fn hosts_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let region = directory.path().join("region");
    format(&region);
    let first = agent(directory.path(), &region, "0");
    let mut second = agent(directory.path(), &region, "2");
    until(&region, &["running", "never", "running"]);
    // A second one for the same host is refused, and harms nobody.
    let output = notnets(&directory.path().join("other"))
        .args(["agent", "--host-id", "0", "--region"])
        .arg(&region)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("host 0 has an agent already"), "{said}");
    let output = notnets(&directory.path().join("other"))
        .args(["agent", "--host-id", "3", "--region"])
        .arg(&region)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no host 3, the last is 2"), "{said}");
    // One is killed, the other leaves in order.
    drop(first);
    let pid = rustix::process::Pid::from_child(&second.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(second.0.wait().unwrap().success());
    until(&region, &["silent", "never", "left"]);
    assert!(!directory.path().join("2/.pod-pod0").exists(), "it takes its socket along");
    // The killed one finds its place again.
    let _first = agent(directory.path(), &region, "0");
    until(&region, &["running", "never", "left"]);
    let fsck = notnets(&region).args(["region", "fsck"]).arg(&region).output().unwrap();
    assert!(fsck.status.success(), "{fsck:?}");
}
