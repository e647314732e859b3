//! `notnets demo` as a user runs it, only shorter.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const JOURNEYS: [&str; 8] = ["browse", "checkout", "picture", "export", "watch", "cart", "haggle", "mix"];
const TRANSPORTS: [&str; 3] = ["tcp", "uds", "notnets"];

/// A demo that keeps its files in `directory`.
fn demo(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_notnets"));
    command.current_dir(directory).env("TMPDIR", directory).arg("demo");
    command
}

/// The processes that were told of this directory.
fn processes_of(directory: &Path) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(directory)).collect()
}

fn files_in(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap().flatten();
    files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn measures_each_journey_over_each_transport_and_leaves_nothing_behind() {
    let directory = TempDir::new().unwrap();
    let run = demo(directory.path())
        .args(["--json", "--seconds", "0.2", "--rounds", "2", "--report", "report.html"])
        .output()
        .unwrap();
    let progress = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{progress}");
    assert!(progress.contains("round 2 of 2"), "{progress}");

    // One object and nothing else.
    let outcome: Value = serde_json::from_slice(&run.stdout).unwrap();
    let keys: BTreeSet<_> = outcome.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["journeys", "replies_checked", "replies_wrong"]));
    assert_eq!(outcome["replies_wrong"], 0);
    let rows = outcome["journeys"].as_array().unwrap();
    assert_eq!(rows.len(), JOURNEYS.len() * TRANSPORTS.len());
    for transport in TRANSPORTS {
        for journey in JOURNEYS {
            let row = rows.iter().find(|row| row["transport"] == transport && row["journey"] == journey);
            check_row(row.unwrap_or_else(|| panic!("no {journey} over {transport}")));
        }
    }
    // Each journey is walked at least once by each of 4 customers, in the warm-up and in each round.
    let least = 4 * 2 * 2 * rows.len() as u64;
    assert!(outcome["replies_checked"].as_u64().unwrap() >= least, "{outcome}");

    check_report(&directory.path().join("report.html"));
    assert_eq!(processes_of(directory.path()), Vec::<String>::new());
    assert_eq!(files_in(directory.path()), ["report.html"]);
}

fn check_row(row: &Value) {
    let figure = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("no {name} in {row}"));
    assert!(figure("p50_us") > 1.0, "{row}");
    assert!(figure("p50_us") <= figure("p99_us") && figure("p99_us") <= figure("p999_us"), "{row}");
    assert!(figure("calls_per_s") > 1.0, "{row}");
    assert!(figure("cpu_us_per_request") > 1.0, "{row}");
}

/// A page with plots that needs nothing from elsewhere.
fn check_report(path: &Path) {
    let report = fs::read_to_string(path).unwrap();
    let count = |what| report.matches(what).count();
    assert_eq!(count("<svg"), 3 * JOURNEYS.len(), "latency, throughput and CPU of each journey");
    assert!(count("<polyline") >= 2 * JOURNEYS.len());
    for foreign in ["http:", "https:", "<script", "<link", "@import", "url(", "src="] {
        assert_eq!(count(foreign), 0, "{foreign} in the report");
    }
    assert!(!report.contains("NaN"));
}

#[test]
fn prints_a_table_that_says_what_it_was_measured_on() {
    let directory = TempDir::new().unwrap();
    let run = demo(directory.path())
        .args([
            "--seconds",
            "0.1",
            "--rounds",
            "1",
            "--journeys",
            "browse,haggle",
            "--transports",
            "uds,notnets",
        ])
        .output()
        .unwrap();
    let table = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{table}{}", String::from_utf8_lossy(&run.stderr));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for part in [
        kernel.trim(),
        "p99.9 µs",
        "CPU µs/call",
        "browse    Unix socket",
        "haggle    Unix socket",
        "          NotNets ",
        "the stubs that notnets-build generates",
        "How many times better NotNets is",
        " 0 wrong",
    ] {
        assert!(table.contains(part), "no {part} in\n{table}");
    }
    let report = directory.path().join("notnets-demo.html").canonicalize().unwrap();
    assert!(table.trim_end().ends_with(report.to_str().unwrap()), "{table}");
    assert_eq!(processes_of(directory.path()), Vec::<String>::new());
}

#[test]
fn a_killed_demo_takes_its_processes_and_files_along() {
    let directory = TempDir::new().unwrap();
    let mut run = demo(directory.path())
        .args(["--seconds", "600", "--rounds", "6000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("round 1 ") {
        line.clear();
        assert!(progress.read_line(&mut line).unwrap() > 0, "the demo ended by itself");
    }
    assert!(processes_of(directory.path()).len() >= 9);
    run.kill().unwrap();
    run.wait().unwrap();
    // Its processes share its standard error, which ends when the last of them has.
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    assert_eq!(processes_of(directory.path()), Vec::<String>::new());
    assert_eq!(files_in(directory.path()), Vec::<String>::new());
}

#[test]
fn a_report_that_cannot_be_written_is_told_at_once() {
    let directory = TempDir::new().unwrap();
    let run = demo(directory.path()).args(["--report", "no/such/place.html"]).output().unwrap();
    let why = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success());
    assert!(why.contains("no/such/place.html") && why.contains("--report"), "{why}");
    assert!(!why.contains("round"), "before anything was measured: {why}");
}

#[test]
fn lists_may_be_written_as_the_help_shows_their_defaults() {
    let directory = TempDir::new().unwrap();
    for lists in [
        ["--journeys", "browse", "mix", "--transports", "tcp", "notnets"].as_slice(),
        &["--journeys", "browse,mix", "--transports", "tcp,notnets"],
    ] {
        let run = demo(directory.path())
            .args(["--json", "--seconds", "0.1", "--rounds", "1", "--report", "report.html"])
            .args(lists)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let outcome: Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(outcome["journeys"].as_array().unwrap().len(), 4, "{outcome}");
    }
}
