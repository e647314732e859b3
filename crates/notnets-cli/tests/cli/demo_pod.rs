//! `notnets demo serve` and `notnets demo visit`: the shop on two hosts of a pod.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn notnets(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.env("NOTNETS_DIR", directory).env("TMPDIR", directory).stdin(Stdio::null());
    command
}

/// A part of a host, killed when it is dropped.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Part {
    /// Starts services on a host, and waits until all can be reached.
    fn serve(directory: &Path, services: &[&str]) -> Self {
        let mut command = notnets(directory);
        command.args(["demo", "serve", "--pod", "pod0"]).args(services);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let part = Self(child);
        let ready: Vec<_> = lines.take(services.len()).map(Result::unwrap).collect();
        let wanted = services.iter().map(|service| format!("READY notnets://pod0/{service}"));
        assert_eq!(ready, wanted.collect::<Vec<_>>());
        part
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

/// Each call crosses from one host to the other: a checkout four times.
const FIRST: [&str; 4] = ["fraud", "inventory", "orders", "catalogue"];
const SECOND: [&str; 4] = ["payments", "pricing", "reviews", "storefront"];

#[test]
fn a_shop_on_two_hosts_has_customers() {
    let directory = tempfile::tempdir().unwrap();
    let region = directory.path().join("region");
    let mut format = notnets(directory.path());
    format.args(["region", "format", "--hosts", "2", "--create", "64M", "--heartbeat", "20ms"]);
    let output = format.args(["--lease", "10s"]).arg(&region).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let hosts = ["0", "1"].map(|host| directory.path().join(host));
    let agents = ["0", "1"].map(|host| {
        let mut command = notnets(&directory.path().join(host));
        Part(command.args(["agent", "--host-id", host, "--region"]).arg(&region).spawn().unwrap())
    });
    for host in &hosts {
        while !host.join(".pod-pod0").exists() {
            std::thread::yield_now();
        }
    }
    // Those that ask may be there before those that they ask.
    let second = Part::serve(&hosts[1], &SECOND);
    let first = Part::serve(&hosts[0], &FIRST);

    let visit = || {
        let mut command = notnets(&hosts[0]);
        command.args(["demo", "visit", "--pod", "pod0", "--seconds", "0.05", "--callers", "2"]);
        command.output().unwrap()
    };
    let output = visit();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for journey in ["browse", "checkout", "picture", "export", "watch", "cart", "haggle", "mix"] {
        let line = said.lines().find(|line| line.starts_with(journey)).unwrap_or_else(|| panic!("{said}"));
        let walked: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(walked >= 2, "each customer walks it once at least: {said}");
    }
    assert!(said.trim_end().ends_with(" replies checked against what they must be, 0 wrong."), "{said}");

    // Without a part of the shop the customers say what they miss.
    first.stop();
    let output = visit();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && why.contains("Unavailable"), "{output:?}");
    second.stop();
    drop(agents);
    let fsck = notnets(directory.path()).args(["region", "fsck"]).arg(&region).output().unwrap();
    assert!(fsck.status.success(), "{fsck:?}");
}
