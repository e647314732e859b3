//! `notnets region`: making the memory of a pod, and looking at it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use notnets_memory::OwnMemory;
use notnets_memory::region::Region;
use notnets_pod::table::{
    Control, EndedBy, ExtentEntry, ExtentState, HostIncarnation, HostRecord, HostState, Hosts, PeerRecord,
};

fn region(arguments: &[&str], path: &Path) -> Output {
    let (first, rest) = arguments.split_first().expect("a subcommand");
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.arg("region").arg(first).arg(path).args(rest).output().expect("it runs")
}

fn succeeds(arguments: &[&str], path: &Path) -> String {
    let output = region(arguments, path);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(arguments: &[&str], path: &Path) -> String {
    let output = region(arguments, path);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_region_is_formatted_shown_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    let format = ["format", "--hosts", "3", "--pod", "pod7", "--create", "8M", "--heartbeat", "10ms"];
    let said = succeeds(&format, &path);
    assert!(said.contains("pod         pod7\n"), "{said}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "whoever may open it may write all of it");
    let shown = succeeds(&["show"], &path);
    assert!(shown.starts_with(&said), "{shown}");
    assert_eq!(shown.matches("never").count(), 3, "{shown}");
    assert!(succeeds(&["fsck"], &path).contains("in order"));
    let object = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    let shown = object(succeeds(&["show", "--json"], &path));
    assert_eq!((&shown["pod"], &shown["hosts"], &shown["faults"]), (&"pod7".into(), &3.into(), &0.into()));
    assert_eq!((&shown["coherence"], &shown["by_host"][2]["state"]), (&"software".into(), &"never".into()));
    assert_eq!(object(succeeds(&["fsck", "--json"], &path))["faults"], serde_json::json!([]));
    // A process entry's place: behind the host's line and two for each host.
    let bytes = std::fs::read(&path).unwrap();
    let control = 4096;
    let spoilt = [&bytes[..control + 7 * 64], b"?", &bytes[control + 7 * 64 + 1..]].concat();
    std::fs::write(&path, spoilt).unwrap();
    let output = region(&["fsck"], &path);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("host 0: process entry 0 can't be read: its memory is damaged"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let output = region(&["fsck", "--json"], &path);
    assert_eq!(output.status.code(), Some(1));
    let faults = object(String::from_utf8(output.stdout).unwrap())["faults"].clone();
    assert_eq!(faults.as_array().map(Vec::len), Some(1), "{faults}");
    let error = object(String::from_utf8(output.stderr).unwrap());
    assert!(error["error"]["message"].as_str().unwrap().ends_with("has 1 faults"), "{error}");
}

/// Host 0 keeps extents of processes that have ended: one for host 1, which is silent, and one for itself.
#[test]
fn what_is_lost_and_to_whom_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    succeeds(&["format", "--hosts", "2", "--create", "8M", "--extent", "64K", "--heartbeat", "10ms"], &path);
    let region = Region::open(&path).unwrap();
    let (layout, uuid) = (*region.layout(), region.superblock().uuid);
    let write = |host: u16, write: &dyn Fn(&Control<OwnMemory>)| {
        let control = layout.control(host.into());
        write(&Control::of_own(region.own(control).unwrap().carve(control.len()), layout, uuid, host));
    };
    let record = |host| HostRecord {
        incarnation: HostIncarnation([host, 7]),
        process_epoch: 9,
        state: HostState::Running,
        ..HostRecord::default()
    };
    let mut exposed = Hosts::default();
    exposed.insert(1);
    let kept = ExtentEntry { state: ExtentState::Kept, process: 3, generation: 5, ..ExtentEntry::default() };
    write(0, &|control| {
        control.set_host(&record(0));
        control.set_extent(2, &ExtentEntry { exposed, released_at_epoch: 9, ..kept });
        control.set_extent(4, &ExtentEntry { payloads: true, ..kept });
        control.set_peer(0, &PeerRecord { claims: 1 << 4, ..PeerRecord::default() });
    });
    write(1, &|control| {
        control.set_host(&record(1));
        control
            .set_peer(0, &PeerRecord { known: HostIncarnation([0, 7]), seen_epoch: 8, ..Default::default() });
    });
    let said = succeeds(&["fsck"], &path);
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "host 0: extent 2 (64 KiB) of process 3 (generation 5) is lost: host 1 (silent) has seen process \
             epoch 8, and not 9",
            "host 0: extent 4 (64 KiB) of process 3 (generation 5) is lost: host 0 (silent) reads payloads there",
            "128 KiB in 2 extents are lost until those hosts are there again",
            &format!("{} is in order", path.display()),
        ]
    );
    let object = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    let expected = serde_json::json!([{
        "host": 0, "extent": 2, "bytes": 65536, "lost": true, "payloads": false, "process": 3, "generation": 5,
        "held_for": [{"who": "reader", "host": 1, "state": "silent", "epoch": 9, "seen": 8}],
    }, {
        "host": 0, "extent": 4, "bytes": 65536, "lost": true, "payloads": true, "process": 3, "generation": 5,
        "held_for": [{"who": "claim", "host": 0, "state": "silent"}],
    }]);
    assert_eq!(object(succeeds(&["fsck", "--json"], &path))["held"], expected);
    assert_eq!(object(succeeds(&["show", "--json"], &path))["by_host"][0]["held"], expected);
}

#[test]
fn who_has_marked_a_host_dead_and_why_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    succeeds(&["format", "--create", "8M", "--hosts", "3", "--heartbeat", "10ms"], &path);
    let region = Region::open(&path).unwrap();
    let (layout, uuid) = (*region.layout(), region.superblock().uuid);
    let host = |host: u16, said: &[(u16, PeerRecord)]| {
        let control = layout.control(host.into());
        let control = Control::of_own(region.own(control).unwrap().carve(control.len()), layout, uuid, host);
        let (incarnation, state) = (life(host), HostState::Running);
        control.set_host(&HostRecord { incarnation, state, ..HostRecord::default() });
        said.iter().for_each(|(of, record)| control.set_peer(*of, record));
    };
    let dead = |dead, ended_by| PeerRecord { dead, ended_by, ..PeerRecord::default() };
    let former = PeerRecord { known: life(2), ..dead(life(9), EndedBy::Starvation) };
    host(0, &[(1, dead(life(1), EndedBy::Starvation)), (2, PeerRecord { known: life(7), ..former })]);
    host(1, &[(0, dead(life(0), EndedBy::Silence)), (2, former)]);
    host(2, &[(0, dead(life(0), EndedBy::Silence)), (1, dead(life(1), EndedBy::Silence))]);
    let said = succeeds(&["show"], &path);
    let findings: Vec<_> = said.lines().filter(|line| line.starts_with('!')).collect();
    let begins = [
        "! host 0: marked dead by host 1, host 2, as its heart does not beat, and there was no sign of its proc",
        "! host 1: marked dead by host 0, as its agent does not run though its processes do: give the agent a p",
        "! host 2: its heart does not beat, for which others mark it dead after 2000 ms: see there whether its a",
    ];
    assert!(findings.iter().zip(begins).all(|(said, begins)| said.starts_with(begins)), "{said}");
    assert_eq!(findings.len(), begins.len());
}

/// A life of a host.
fn life(number: u16) -> HostIncarnation {
    HostIncarnation([number.into(), 7])
}

#[test]
fn options_are_taken_from_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.args(["region", "format", "--pod", "pod8"]).arg(&path);
    // What the command line says goes first; what has no value is yes or no.
    let variables = [("HOSTS", "2"), ("POD", "pod9"), ("CREATE", "8M"), ("JSON", "yes")];
    command.envs(variables.map(|(option, value)| (format!("NOTNETS_REGION_FORMAT_{option}"), value)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let division: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&division["hosts"], &division["pod"]), (&2.into(), &"pod8".into()));
    let output = command.env("NOTNETS_REGION_FORMAT_HOSTS", "many").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn what_looks_used_is_not_formatted_unless_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    let format = ["format", "--hosts", "2"];
    let force = ["format", "--hosts", "2", "--force", "--heartbeat", "10ms"];
    let mut data = vec![0; 4 << 20];
    data[77] = 1;
    std::fs::write(&path, data).unwrap();
    assert!(fails(&["show"], &path).contains("is not formatted as a region"));
    let refused = fails(&format, &path);
    assert!(refused.contains("byte 77 is not zero") && refused.contains("--force"), "{refused}");
    succeeds(&force, &path);
    let refused = fails(&format, &path);
    assert!(refused.contains("already a region, of the pod pod0"), "{refused}");
    succeeds(&force, &path);
}

#[test]
fn what_cannot_hold_a_region_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let format = ["format", "--hosts", "2"];
    assert!(fails(&format, &file("none")).contains("No such file"));
    assert!(fails(&format, Path::new("/dev/zero")).contains("other than device DAX"));
    assert!(fails(&format, directory.path()).contains("is a directory"));
    std::fs::File::create(file("holes")).unwrap().set_len(8 << 20).unwrap();
    assert!(fails(&format, &file("holes")).contains("fallocate -l 8388608"));
    let small = ["format", "--hosts", "2", "--create", "64K"];
    let refused = fails(&small, &file("small"));
    assert!(refused.contains("has no room for its control area"), "{refused}");
    let lease = ["format", "--hosts", "2", "--create", "8M", "--lease", "200ms"];
    assert!(fails(&lease, &file("lease")).contains("heartbeat and lease"));
}
