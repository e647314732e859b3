//! `notnets soak` for a moment: no call has a wrong outcome, and the seed is printed.

use std::process::Command;

#[test]
fn calls_stay_right_while_processes_die() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    let run = command.env("TMPDIR", directory.path()).args(["soak", "--for", "4s"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.starts_with("--seed ") && out.contains(" calls executed"), "{out}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// The command's tests are built with failpoints.
#[test]
fn processes_die_at_steps_of_the_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.env("TMPDIR", directory.path()).args(["soak", "--at-failpoints", "40"]);
    let run = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.contains(" processes died, ") && out.contains(" failpoints: "), "{out}");
}

#[test]
fn hosts_of_a_pod_join_die_and_return_while_others_call() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    let run = command.env("TMPDIR", directory.path()).args(["soak", "--hosts", "16"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.contains("host 15 has joined") && out.contains("they are back and called again"), "{out}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn no_call_fails_while_servers_take_a_name_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    let run = command.env("TMPDIR", directory.path()).args(["soak", "--replace", "50"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.contains("50 replacements in ") && out.contains("no unary call failed"), "{out}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_server_or_its_successor_may_die_while_both_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.env("TMPDIR", directory.path()).args(["soak", "--replace", "30", "--kill-either"]);
    let run = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.contains("30 replacements in ") && out.contains(" surely not"), "{out}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
