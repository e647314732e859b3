//! `notnets doctor`: two of them on a region, each as a host of its own.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn notnets(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.env("NOTNETS_DIR", directory).stdin(Stdio::null());
    command
}

fn region(coherence: &str) -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    let mut format = notnets(directory.path());
    format.args(["region", "format", "--hosts", "3", "--create", "8M", "--heartbeat", "20ms"]);
    // A busy machine stops a process for a while now and then.
    let output = format.args(["--lease", "10s", "--coherence", coherence]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (directory, path)
}

fn doctor(directory: &Path, region: &Path, host: &str) -> Child {
    let mut command = notnets(&directory.join(host));
    command.args(["doctor", "--json", "--host-id", host, "--region"]).arg(region);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn findings(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The finding of a check that contains this.
fn finding<'a>(findings: &'a Value, check: &str, part: &str) -> &'a Value {
    let all = findings["findings"].as_array().unwrap();
    let found = all
        .iter()
        .find(|finding| finding["check"] == check && finding["text"].as_str().unwrap().contains(part));
    found.unwrap_or_else(|| panic!("no {check} with {part:?} in {findings}"))
}

fn fsck(directory: &Path, region: &Path) {
    let output = notnets(directory).args(["region", "fsck"]).arg(region).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn two_doctors_find_that_a_pod_can_work() {
    for (coherence, verdict, level) in
        [("software", "caches may agree by themselves", "note"), ("hardware", "as the region says", "ok")]
    {
        let (directory, region) = region(coherence);
        let doctors = ["2", "0"].map(|host| doctor(directory.path(), &region, host));
        let [second, first] = doctors.map(|doctor| doctor.wait_with_output().unwrap());
        for (output, host, peer) in [(first, 0, 2), (second, 2, 0)] {
            assert!(output.status.success(), "{output:?}");
            let found = findings(&output);
            assert_eq!((&found["host"], &found["peer"]), (&host.into(), &peer.into()));
            assert_eq!(finding(&found, "litmus", "whole and in order")["level"], "ok");
            assert_eq!(finding(&found, "coherence", verdict)["level"], level);
            finding(&found, "order", "of 1000 pairs");
            for figure in ["line_round_trip_ns", "write_gb_per_s", "read_gb_per_s"] {
                assert!(found["figures"][figure].as_f64().unwrap() > 0.0, "{found}");
            }
        }
        fsck(directory.path(), &region);
    }
}

#[test]
fn a_doctor_uses_the_agent_that_runs() {
    let (directory, region) = region("software");
    let mut agent = notnets(&directory.path().join("1"));
    let mut agent = agent.args(["agent", "--host-id", "1", "--region"]).arg(&region).spawn().unwrap();
    while !directory.path().join("1/.pod-pod0").exists() {
        std::thread::yield_now();
    }
    let doctors = ["1", "2"].map(|host| doctor(directory.path(), &region, host));
    let outputs = doctors.map(|doctor| doctor.wait_with_output().unwrap());
    agent.kill().unwrap();
    agent.wait().unwrap();
    for output in outputs {
        assert!(output.status.success(), "{output:?}");
        finding(&findings(&output), "litmus", "whole and in order");
    }
    fsck(directory.path(), &region);
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let (directory, region) = region("software");
    let mut alone = notnets(directory.path());
    alone.args(["doctor", "--json", "--host-id", "0", "--wait", "200ms", "--region"]);
    let output = alone.arg(&region).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found = findings(&output);
    let nobody = finding(&found, "litmus", "no doctor of another host came in time");
    assert!(nobody["level"] == "fault" && nobody["todo"].as_str().unwrap().contains("--host-id"), "{nobody}");

    let output = notnets(directory.path()).args(["doctor", "--region"]).arg(&region).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("was not tried"), "{said}");

    let mut nobody = notnets(directory.path());
    let output = nobody.args(["doctor", "--host-id", "7", "--region"]).arg(&region).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("FAULT   host        the region is for 3 hosts: there is no host 7"), "{said}");

    let plain = directory.path().join("plain");
    std::fs::write(&plain, vec![0; 1 << 20]).unwrap();
    let output = notnets(directory.path()).args(["doctor", "--region"]).arg(&plain).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("notnets region format"), "{said}");
    let output = notnets(directory.path()).args(["doctor", "--region", "/dev/null"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("other than device DAX"), "{said}");
}
