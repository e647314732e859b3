//! The log: each example in `docs/operating.md` is a line that a process has written.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use notnets_core::clock;
use notnets_core::link::connect::Connecting;
use notnets_core::link::handshake::Config;
use notnets_core::link::packet::Packet;
use notnets_core::link::rendezvous::Directory;
use notnets_core::link::{Established, Socket};
use notnets_memory::region::Region;
use notnets_pod::survey::{Presence, survey};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::http2_server;

const LIMIT: Duration = Duration::from_secs(20);

/// A process whose log is kept; killed when it is dropped.
struct Logged {
    child: Child,
    log: PathBuf,
}

impl Logged {
    /// Starts `notnets`, and waits until it is ready.
    fn start(directory: &Path, log: &str, arguments: &[&str]) -> Self {
        let log = directory.join(log);
        let mut child = Command::new(env!("CARGO_BIN_EXE_notnets"))
            .args(arguments)
            .env("RUST_LOG", "notnets=debug")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("READY "), "{ready}");
        Self { child, log }
    }

    fn written(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn until_written(&self, text: &str) {
        let end = Instant::now() + LIMIT;
        while !self.written().contains(text) {
            assert!(Instant::now() < end, "`{text}` is not in:\n{}", self.written());
            std::thread::yield_now();
        }
    }

    /// Asks it to stop, and returns its log.
    fn stopped(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.written()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server writes: a client that comes and goes, one that is refused, and one that breaks the protocol.
async fn server(directory: &Path) -> String {
    let names = directory.join("names");
    let http2 = http2_server().await;
    let arguments =
        ["proxy", "--directory", names.to_str().unwrap(), "--listen", "notnets:///inventory", "--to", &http2];
    let server = Logged::start(directory, "server", &arguments);
    let directory = Directory::at(&names);
    let name: notnets_core::name::Name = "inventory".parse().unwrap();
    let socket = Socket::from(directory.connect(&name).unwrap());
    socket.ring();
    server.until_written("a client was refused");
    for breaks in [false, true] {
        let deadline = clock::after(LIMIT);
        let connecting =
            Connecting::new(directory.clone(), name.clone(), Config::default(), "shop/1.0", deadline);
        let link: Box<Established> = connecting.block().unwrap();
        if breaks {
            link.socket.send(&Packet::TakenOver, None).unwrap();
            server.until_written("the client broke the protocol");
        } else {
            drop(link);
            server.until_written("a link has ended");
        }
    }
    server.stopped()
}

/// What the agent of a host writes while another host comes, falls silent, comes again and leaves.
fn agents(directory: &Path) -> String {
    let region = directory.join("region");
    let shown = region.display().to_string();
    let notnets = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_notnets")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let lease = ["--heartbeat", "20ms", "--lease", "400ms"];
    notnets(&[&["region", "format", &shown, "--hosts", "2", "--create", "8M"][..], &lease].concat());
    let hosts = ["0", "1"].map(|host| directory.join(host).display().to_string());
    let arguments = |host: usize| {
        ["agent", "--region", &shown, "--host-id", ["0", "1"][host], "--directory", &hosts[host]]
    };
    let first = Logged::start(directory, "first", &arguments(0));
    let mut second = Logged::start(directory, "second", &arguments(1));
    first.until_written("a host is there");
    second.child.kill().unwrap();
    second.child.wait().unwrap();
    first.until_written("a host is marked dead");
    let second = Logged::start(directory, "second", &arguments(1));
    let end = Instant::now() + LIMIT;
    while survey(&Region::open(&region).unwrap()).hosts[1].presence != Presence::Running {
        assert!(Instant::now() < end);
    }
    while first.written().matches("a host is there").count() < 2 {
        assert!(Instant::now() < end, "{}", first.written());
    }
    notnets(&[&arguments(1)[..], &["--leave"]].concat());
    first.until_written("a host has left");
    let mut said = String::new();
    fs::File::open(&second.log).unwrap().read_to_string(&mut said).unwrap();
    first.stopped() + &said
}

/// A line as it is compared: without its time, and with `N` for what differs from run to run.
fn normal(line: &str) -> String {
    let mut words = line.split_whitespace().peekable();
    words.next_if(|word| word.ends_with('Z') && word.contains('T'));
    let number = |word: &str| {
        let Some((key, value)) = word.split_once('=') else { return word.to_owned() };
        let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
        let is_one = ["life"].contains(&key) || is_number;
        if is_one { format!("{key}=N") } else { word.to_owned() }
    };
    words.map(number).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn each_example_in_the_page_on_operating_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let written = server(directory.path()).await + &agents(directory.path());
    let written: Vec<_> = written.lines().map(normal).collect();
    let page = include_str!("../../../../docs/operating.md");
    let (_, examples) = page.split_once("<!-- log: begin -->").expect("they are marked");
    let (examples, _) = examples.split_once("<!-- log: end -->").expect("they are marked");
    let examples: Vec<_> = examples.lines().filter(|line| line.contains("notnets::")).map(normal).collect();
    assert!(examples.len() >= 12, "{examples:?}");
    for example in examples {
        assert!(written.contains(&example), "nobody has written `{example}`, but:\n{}", written.join("\n"));
    }
}
