//! `notnets bench` as a user runs it, only shorter: that it measures what it says, checks replies, and leaves
//! nothing behind. The figures mean nothing here.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A benchmark that keeps its files in `directory`.
fn bench(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.current_dir(directory).env("TMPDIR", directory).arg("bench");
    command
}

/// The lines of JSON that a benchmark prints.
fn lines(command: &mut Command) -> Vec<Value> {
    let run = command.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    parse(&run.stdout)
}

fn parse(output: &[u8]) -> Vec<Value> {
    let text = str::from_utf8(output).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files_in(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap().flatten();
    files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

/// What every line about a case has.
fn check_row(row: &Value) {
    let figure = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"));
    assert!(figure("p50_us") > 0.0, "{row}");
    assert!(figure("p50_us") <= figure("p99_us") && figure("p99_us") <= figure("p999_us"), "{row}");
    assert!(figure("calls_per_s") > 0.0 && figure("cpu_us_per_call") > 0.0, "{row}");
    let parts = figure("client_cpu_us_per_call") + figure("server_cpu_us_per_call");
    assert!((parts / figure("cpu_us_per_call") - 1.0).abs() < 0.01, "{row}");
    assert!(figure("replies_checked") >= figure("repeats"), "{row}");
    for name in ["case", "transport", "api"] {
        assert!(row[name].is_string(), "no {name} in {row}");
    }
    for name in ["payload", "outstanding", "clients", "links", "neighbours", "quota", "wait"] {
        assert!(row.get(name).is_some(), "no {name} in {row}");
    }
}

#[test]
fn lines_have_costs() {
    let directory = TempDir::new().unwrap();
    let rows = lines(bench(directory.path()).args(["lines", "--json"]));
    assert!(rows.len() >= 7, "{rows:?}");
    for row in rows {
        assert!(row["single_ns"].as_f64() > Some(0.0) && row["run_ns"].as_f64() > Some(0.0), "{row}");
    }
}

#[test]
fn one_case_over_each_transport() {
    let directory = TempDir::new().unwrap();
    let mut command = bench(directory.path());
    command.args(["run", "--json", "--transport", "tcp,uds,notnets", "--wait", "adaptive,park"]);
    command.args(["--outstanding", "4", "--clients", "2", "--links", "3", "--connections", "2"]);
    let rows =
        lines(command.args(["--payload", "0,fleet", "--work", "ask", "--seconds", "0.03", "--repeats", "2"]));
    rows.iter().for_each(check_row);
    let of = |row: &Value| (row["transport"].clone(), row["wait"].clone(), row["payload"].clone());
    let expected: Vec<_> = [json!(0), json!("fleet")]
        .into_iter()
        .flat_map(|payload| {
            [
                ("tcp", Value::Null),
                ("uds", Value::Null),
                ("notnets", "adaptive".into()),
                ("notnets", "park".into()),
            ]
            .map(|(transport, wait)| (transport.into(), wait, payload.clone()))
        })
        .collect();
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), expected);
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

#[test]
fn all_kinds_of_calls() {
    let directory = TempDir::new().unwrap();
    for work in ["echo", "upload", "download", "chat", "chain", "fan-out", "connect", "cancel"] {
        let mut command = bench(directory.path());
        command.args(["run", "--json", "--transport", "uds,notnets", "--work", work, "--outstanding", "2"]);
        let rows = lines(command.args(["--payload", "2k", "--seconds", "0.03", "--repeats", "1"]));
        rows.iter().for_each(check_row);
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row["case"] == work));
    }
    for work in ["burn", "blocked", "blocked-worker"] {
        let mut command = bench(directory.path());
        command.args(["run", "--json", "--transport", "uds,notnets", "--work", work, "--outstanding", "2"]);
        command.args(["--workers", "2", "--burn", "2ms"]);
        let rows = lines(command.args(["--seconds", "0.03", "--repeats", "1"]));
        rows.iter().for_each(check_row);
        assert!(rows.len() == 2 && rows.iter().all(|row| row["case"] == work));
        if work == "burn" {
            assert!(rows.iter().all(|row| row["burn_ms"] == 2.0 && row["p50_us"].as_f64() >= Some(2000.0)));
        }
    }
    for work in ["line", "ring", "socket", "eventfd"] {
        let mut command = bench(directory.path());
        command.args(["run", "--json", "--transport", "floor", "--work", work]);
        let rows = lines(command.args(["--seconds", "0.03", "--repeats", "1"]));
        rows.iter().for_each(check_row);
        assert!(rows.len() == 1 && rows[0]["api"] == "raw" && rows[0]["case"] == work);
    }
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

#[test]
fn an_open_loop_begins_calls_when_they_are_due() {
    let directory = TempDir::new().unwrap();
    let mut command = bench(directory.path());
    command.args(["run", "--json", "--transport", "null,uds,notnets", "--rate", "500", "--clients", "2"]);
    let rows = lines(command.args(["--seconds", "0.4", "--repeats", "1"]));
    rows.iter().for_each(check_row);
    let checked: Vec<_> = rows.iter().map(|row| row["replies_checked"].as_u64().unwrap()).collect();
    // The same for each transport, and about 200 of them.
    assert!(checked.iter().all(|calls| *calls == checked[0]), "{checked:?}");
    assert!((120..300).contains(&checked[0]), "{checked:?}");
}

#[test]
fn neighbours_are_there_for_their_own_case_alone() {
    let directory = TempDir::new().unwrap();
    let mut command = bench(directory.path());
    command.args(["run", "--json", "--transport", "uds,notnets", "--neighbours", "1"]);
    let rows = lines(command.args(["--seconds", "0.2", "--repeats", "2"]));
    rows.iter().for_each(check_row);
    assert!(rows.len() == 2 && rows.iter().all(|row| row["neighbours"] == 1), "{rows:?}");
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

/// Returns the groups of the kernel with that beginning of a name.
fn groups(beginning: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut below = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = below.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(beginning) {
                    found.push(entry.path());
                }
                below.push(entry.path());
            }
        }
    }
    found
}

/// Returns `true` if quotas can't be set here, and prints why.
fn quotas_are_impossible(error: &str) -> bool {
    let reason = error.lines().find(|line| line.contains("no CPU quota can be set"));
    reason.inspect(|reason| println!("skipped: {reason}")).is_some()
}

#[test]
fn servers_and_clients_share_a_quota() {
    let directory = TempDir::new().unwrap();
    let mut command = bench(directory.path());
    command.args(["run", "--json", "--transport", "uds,notnets", "--quota", "0.5", "--links", "1"]);
    let run = command.args(["--outstanding", "8", "--seconds", "0.5", "--repeats", "2"]).output().unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    if quotas_are_impossible(&told) {
        return;
    }
    assert!(run.status.success(), "{told}");
    let rows = parse(&run.stdout);
    rows.iter().for_each(check_row);
    for row in &rows {
        assert_eq!(row["quota"], 0.5);
        // A group's quota is spent in slices of some milliseconds, so that it is a little more at times.
        let cores = row["cpu_us_per_call"].as_f64().unwrap() * row["calls_per_s"].as_f64().unwrap() / 1e6;
        assert!(cores < 0.8 && row["throttled_per_s"].as_f64().unwrap() > 0.0, "{cores} cores: {row}");
    }
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

#[test]
fn a_killed_benchmark_leaves_no_quota() {
    let directory = TempDir::new().unwrap();
    let mut run = bench(directory.path())
        .args(["run", "--quota", "0.5", "--neighbours", "1", "--seconds", "0.01", "--repeats", "100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(run.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("round 2 ") {
        if progress.read_line(&mut told).unwrap() == 0 {
            assert!(quotas_are_impossible(&told), "{told}");
            run.wait().unwrap();
            return;
        }
    }
    let cases = files_in(directory.path());
    assert!(!cases.is_empty() && cases.iter().all(|case| groups(case).len() == 1), "{cases:?}");
    run.kill().unwrap();
    run.wait().unwrap();
    // Its processes share its standard error, which ends when the last of them has.
    progress.read_to_string(&mut told).unwrap();
    assert!(cases.iter().all(|case| groups(case).is_empty()), "{cases:?}: {told}");
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

#[test]
fn goals_have_their_verdicts() {
    let directory = TempDir::new().unwrap();
    let run = bench(directory.path()).args(["ratios", "--smoke", "--json"]).output().unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{told}");
    let goals = parse(&run.stdout);
    let names: BTreeSet<_> = goals.iter().map(|line| line["goal"].as_str().unwrap()).collect();
    let mut expected = vec![
        "core",
        "stubs-p50",
        "p50",
        "p99",
        "stubs-throughput",
        "stubs-cpu",
        "throughput",
        "cpu",
        "open-loop",
        "park",
        "clients",
        "clients-uds",
        "chain",
        "named",
        "replicas",
        "streams",
        "large",
        "large-shared",
        "large-unread",
        "large-small",
        "large-chain",
        "large-pod-hardware",
        "large-pod-software",
        "pod-large-hardware",
        "pod-large-software",
        "pod-stream-hardware",
        "pod-stream-software",
        "pod-memory",
        "pod-tail-hardware",
        "pod-tail-software",
        "pod-clients-hardware",
        "pod-clients-software",
        "pod-null",
        "pod-idle-hardware",
        "pod-idle-software",
        "idle-links",
        "connect",
        "cancel",
        "memory",
        "idle-cpu",
        "neighbours-throughput",
        "neighbours-p99",
        "neighbours-open-loop-p50",
        "neighbours-open-loop-p99",
        "neighbours-16",
        "neighbours-chain",
        "workers-p99",
        "workers-throughput",
        "burn",
        "blocked",
        "blocked-worker",
    ];
    if !quotas_are_impossible(&told) {
        expected.push("quota");
    }
    assert_eq!(goals.len(), expected.len());
    assert_eq!(names, BTreeSet::from_iter(expected));
    for line in &goals {
        assert!(line["reach"].is_number() && line["met"].is_boolean(), "{line}");
        assert!(line["ratio"].is_number(), "{line}");
    }
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

#[test]
fn a_factor_has_a_report_that_needs_nothing_else() {
    let directory = TempDir::new().unwrap();
    let mut command = bench(directory.path());
    command.args(["matrix", "--quick", "--json", "--factors", "floor,waiting,idle", "--seconds", "0.03"]);
    let rows = lines(command.args(["--report", "report.html"]));
    let of = |case: &str| rows.iter().filter(|row| row["case"] == case).count();
    assert_eq!((of("ring"), of("echo"), of("memory"), of("idle")), (1, 6, 3, 3));
    let report = fs::read_to_string(directory.path().join("report.html")).unwrap();
    // Of both factors four figures and each level's latencies, and the two of idle links.
    assert_eq!(report.matches("<svg").count(), 4 + 4 + 4 + 2 + 2);
    for foreign in ["http:", "https:", "<script", "<link", "@import", "url(", "src=", "NaN"] {
        assert!(!report.contains(foreign), "{foreign} in the report");
    }
    assert_eq!(files_in(directory.path()), ["report.html"]);
}

/// Lines that went to servers and to clients for each call.
fn lines_fetched(row: &Value) -> [f64; 2] {
    ["lines_to_servers_per_call", "lines_to_clients_per_call"].map(|name| row[name].as_f64().unwrap())
}

#[test]
fn a_null_round_trip_between_hosts_takes_two_lines_each_way_at_most() {
    let directory = TempDir::new().unwrap();
    let mut command = bench(directory.path());
    command.args([
        "run",
        "--json",
        "--pod",
        "--api",
        "core",
        "--wait",
        "spin",
        "--line-latency",
        "0ns,250ns",
    ]);
    let rows = lines(command.args(["--payload", "0,32,512", "--seconds", "0.1", "--repeats", "1"]));
    rows.iter().for_each(check_row);
    let pods: Vec<_> = rows.iter().map(|row| row["pod"].clone()).collect();
    let pod =
        |coherence: &str, line_ns: u64| json!({ "coherence": coherence, "line_ns": line_ns, "region": null });
    let each = [pod("hardware", 0), pod("software", 0), pod("hardware", 250), pod("software", 250)];
    assert_eq!(pods, [each.clone(), each.clone(), each].concat());
    for row in &rows {
        // A descriptor each way, and for 512 bytes and their prefix of 5 a block of 9 lines. A reader that
        // polls while a descriptor is written fetches it once more. That a slot was written can be noticed
        // only when its turn comes again, so a short run of a busy machine counts too few of them. A writer
        // that loses its core in between is polled once more.
        let block = if row["payload"] == 512 { 9.0 } else { 0.0 };
        let torn = if row["preemptions_per_call"].as_f64().unwrap() < 0.5 { 1.0 } else { 2.0 };
        let lines = block + 0.01..=block + 1.0 + torn;
        assert!(lines_fetched(row).iter().all(|fetched| lines.contains(fetched)), "{row}");
    }
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

#[test]
fn all_kinds_of_calls_between_hosts() {
    let directory = TempDir::new().unwrap();
    for work in ["echo", "ask", "upload", "download", "chat", "chain", "fan-out", "connect", "cancel"] {
        let mut command = bench(directory.path());
        command.args(["run", "--json", "--transport", "uds,notnets", "--pod", "--coherence", "software"]);
        command.args(["--work", work, "--outstanding", "2", "--clients", "2", "--links", "2"]);
        let rows = lines(command.args(["--payload", "2k", "--seconds", "0.03", "--repeats", "1"]));
        rows.iter().for_each(check_row);
        let [uds, pod] = &*rows else { panic!("{rows:?}") };
        assert!(uds["pod"].is_null() && lines_fetched(uds) == [0.0; 2], "{uds}");
        assert!(pod["pod"]["coherence"] == "software" && pod["transport"] == "notnets", "{pod}");
        // Requests of 2 KiB, or replies.
        assert!(lines_fetched(pod).iter().sum::<f64>() > 1.0, "{pod}");
    }
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

#[test]
fn over_a_region_that_was_there_before() {
    let directory = TempDir::new().unwrap();
    let notnets = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
        let run = command.current_dir(directory.path()).args(arguments).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    notnets(&["region", "format", "region", "--create", "24M", "--hosts", "3", "--pod", "rack"]);
    let mut command = bench(directory.path());
    command.args(["run", "--json", "--pod", "--region", "region", "--hosts", "2,0"]);
    let rows = lines(command.args(["--line-latency", "0ns,115ns", "--seconds", "0.03", "--repeats", "1"]));
    rows.iter().for_each(check_row);
    let pod = |line_ns: u64| json!({ "coherence": "software", "line_ns": line_ns, "region": "region" });
    assert_eq!(rows.iter().map(|row| row["pod"].clone()).collect::<Vec<_>>(), [pod(0), pod(115)]);
    // Nobody is left in it, and nothing beside it.
    let shown = notnets(&["region", "show", "region"]);
    assert!(shown.contains("rack") && shown.matches(" left ").count() == 2, "{shown}");
    assert_eq!(files_in(directory.path()), ["region"]);
}

#[test]
fn a_matrix_between_hosts_has_a_report() {
    let directory = TempDir::new().unwrap();
    let mut command = bench(directory.path());
    command.args(["matrix", "--pod", "--quick", "--json", "--factors", "null,outstanding,idle"]);
    command.args(["--line-latency", "0ns,400ns", "--seconds", "0.02"]);
    let all = lines(command.args(["--report", "report.html"]));
    let (resting, rows): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|row| row["case"] == "memory" || row["case"] == "idle");
    rows.iter().for_each(check_row);
    let coherence: Vec<_> = resting.iter().map(|row| row["pod"]["coherence"].as_str()).collect();
    assert_eq!(
        coherence,
        [None, None, Some("hardware"), Some("hardware"), Some("software"), Some("software")]
    );
    let of = |api: &str, line_ns: u64| {
        rows.iter().filter(|row| row["api"] == api && row["pod"]["line_ns"] == line_ns).count()
    };
    // Both coherences at each latency; beside others than latencies at one of them.
    assert_eq!((of("core", 0), of("core", 400), of("tonic", 0), of("tonic", 400)), (2, 2, 8, 0));
    assert_eq!(rows.iter().filter(|row| row["pod"].is_null()).count(), 4, "within one host, for comparison");
    let report = fs::read_to_string(directory.path().join("report.html")).unwrap();
    assert_eq!(report.matches("<svg").count(), 4 + 2 + 4 + 4 + 2);
    assert_eq!(files_in(directory.path()), ["report.html"]);
}

#[cfg(feature = "iceoryx2")]
#[test]
fn iceoryx2_is_measured_beside_our_stubs_and_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    for work in ["echo", "ask"] {
        let mut command = bench(directory.path());
        command.args(["run", "--transport", "notnets,iceoryx2,iceoryx2-event", "--api", "stubs"]);
        command.args(["--payload", "fleet", "--outstanding", "9", "--work", work]);
        let rows = lines(command.args(["--seconds", "0.1", "--repeats", "2", "--json"]));
        let measured: Vec<_> = rows.iter().map(|row| (&row["transport"], &row["api"])).collect();
        let [ours, polling, event] = &measured[..] else { panic!("{measured:?}") };
        assert_eq!(*ours, (&json!("notnets"), &json!("stubs")));
        assert_eq!(*polling, (&json!("iceoryx2"), &json!("raw")));
        assert_eq!(*event, (&json!("iceoryx2-event"), &json!("raw")));
        rows.iter().for_each(check_row);
    }
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
    let remains = files_in(Path::new("/dev/shm"));
    assert!(!remains.iter().any(|name| name.starts_with("notnets-bench-")), "{remains:?}");
}

#[test]
fn what_cannot_be_measured_is_told_at_once() {
    let directory = TempDir::new().unwrap();
    for (arguments, why) in [
        (vec!["run", "--work", "line"], "--transport floor"),
        (vec!["run", "--transport", "null"], "--rate"),
        (vec!["run", "--payload", "9m"], "4m"),
        (vec!["run", "--rate", "0"], "--rate"),
        (vec!["run", "--work", "chat", "--rate", "5"], "--rate"),
        (vec!["run", "--work", "burn", "--rate", "5"], "--rate"),
        (vec!["run", "--work", "burn", "--burn", "11s"], "10 s"),
        (vec!["run", "--work", "blocked"], "--workers"),
        (vec!["run", "--quota", "0"], "0.01"),
        (vec!["run", "--neighbours", "1025"], "1024"),
        (vec!["run", "--api", "core", "--transport", "uds"], "blocking API"),
        (vec!["run", "--api", "core", "--outstanding", "2"], "one call at a time"),
        (vec!["run", "--api", "core", "--work", "chat"], "echo or ask"),
        #[cfg(not(feature = "iceoryx2"))]
        (vec!["run", "--transport", "iceoryx2"], "--features iceoryx2"),
        #[cfg(feature = "iceoryx2")]
        (vec!["run", "--transport", "iceoryx2", "--links", "1"], "--links"),
        #[cfg(feature = "iceoryx2")]
        (vec!["run", "--transport", "iceoryx2-event", "--work", "chat"], "echo or ask"),
        #[cfg(feature = "iceoryx2")]
        (vec!["run", "--transport", "iceoryx2", "--outstanding", "65"], "64 calls"),
        (vec!["run", "--line-latency", "250ns"], "--pod"),
        (vec!["run", "--pod", "--transport", "uds"], "notnets"),
        (vec!["run", "--pod", "--region", "no-such-region"], "no-such-region"),
        (vec!["run", "--pod", "--region", "any", "--hosts", "1,1"], "two numbers"),
        (vec!["run", "--pod", "--region", "any", "--coherence", "software"], "--coherence"),
        (vec!["matrix", "--pod", "--factors", "floor"], "line-latency"),
        (vec!["matrix", "--factors", "weather"], "weather"),
        (vec!["ratios", "--goals", "p50,weather"], "weather"),
        (vec!["matrix", "--report", "no/such/place.html"], "no/such/place.html"),
    ] {
        let run = bench(directory.path()).args(&arguments).output().unwrap();
        let told = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success() && told.contains(why), "{arguments:?}: {told}");
        assert!(!told.contains("round"), "before anything was measured: {told}");
    }
}

#[test]
fn a_killed_benchmark_takes_its_processes_and_files_along() {
    let directory = TempDir::new().unwrap();
    let mut run = bench(directory.path())
        .args(["run", "--transport", "uds,notnets", "--seconds", "0.01", "--repeats", "100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("round 2 ") {
        line.clear();
        assert!(progress.read_line(&mut line).unwrap() > 0, "the benchmark ended by itself");
    }
    run.kill().unwrap();
    run.wait().unwrap();
    // Its processes share its standard error, which ends when the last of them has.
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

/// One of the benchmark's processes.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
        let mut child = command.arg(role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take(), output, child }
    }

    fn ask(&mut self, what: &Value) -> Value {
        writeln!(self.input.as_mut().unwrap(), "{what}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// Every tenth reply of this server is to another call.
#[test]
fn wrong_replies_fail_a_benchmark() {
    let transports = [
        ("uds", "tonic"),
        ("notnets", "tonic"),
        ("notnets", "core"),
        #[cfg(feature = "iceoryx2")]
        ("iceoryx2", "raw"),
        #[cfg(feature = "iceoryx2")]
        ("iceoryx2-event", "raw"),
    ];
    for (transport, api) in transports {
        let directory = TempDir::new().unwrap();
        let mut server = Process::start("bench-server");
        let serve = json!({
            "transport": transport, "api": api, "work": "echo", "wait": "adaptive", "workers": 0, "core": null,
            "directory": directory.path(), "name": "spoiled", "spoil": true
        });
        let address = server.ask(&json!({ "serve": serve }))["ready"].clone();
        let mut client = Process::start("bench-client");
        let connect = json!({
            "transport": transport, "api": api, "wait": "adaptive", "workers": 0, "core": null,
            "directory": directory.path(), "address": address, "connections": 1
        });
        assert_eq!(client.ask(&json!({ "connect": connect })), json!({ "ready": "" }));
        let load = json!({
            "work": "echo", "size": 64, "outstanding": 1, "rate": null, "start": 0, "seconds": 30.0, "seed": 1
        });
        let answer = client.ask(&json!({ "load": load }));
        assert!(answer["failed"].as_str().unwrap().contains("a wrong reply"), "{answer}");
    }
}
