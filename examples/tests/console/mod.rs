//! A shell that does what a page shows, and compares.

mod pattern;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take until it has been printed. Nothing depends on it unless a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// What only looks is run again until it shows what is expected: counters follow by and by.
const LOOKS: [&str; 7] = [
    "notnets ls",
    "notnets inspect",
    "notnets top",
    "notnets health",
    "notnets region show",
    "notnets doctor",
    "curl",
];
/// Where the exporter listens in pages. In tests it takes a free port, which then stands for this one.
const PORT: &str = ":9464";

/// How the names of variables begin that Cargo sets for a test.
const TOLD_TO_TESTS: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];

/// A fenced block of a page; `text` has no line end at its end.
pub struct Block<'a> {
    pub language: &'a str,
    pub text: &'a str,
}

/// The fenced blocks of `page`, in order.
pub fn blocks(page: &str) -> impl Iterator<Item = Block<'_>> {
    let mut fences = page.split("\n```").skip(1);
    std::iter::from_fn(move || {
        let (language, text) = fences.next()?.split_once('\n')?;
        fences.next(); // what follows it
        Some(Block { language, text })
    })
}

/// A shell, and what has been started in it.
pub struct Session {
    shell: Child,
    /// What the shell says when a command has ended.
    ended: Receiver<String>,
    directory: TempDir,
    outputs: TempDir,
    commands: u32,
    port: Option<String>,
    python: bool,
}

impl Session {
    pub fn begin() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        fs::create_dir(directory.path().join("target")).expect("a directory");
        std::os::unix::fs::symlink(repository.join("examples"), directory.path().join("examples"))
            .expect("a link");
        let python = env::var_os("NOTNETS_TEST_PYTHON").map(PathBuf::from);
        let mut places = vec![programs(repository)];
        places.extend(python.iter().filter_map(|python| python.parent()).map(PathBuf::from));
        places.extend(env::split_paths(&env::var_os("PATH").expect("a path")));
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(directory.path())
            .env("PATH", env::join_paths(places).expect("a path"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash");
        let lines = BufReader::new(shell.stdout.take().expect("its output")).lines();
        let (sender, ended) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let outputs = tempfile::tempdir().expect("a directory");
        let mut session =
            Self { shell, ended, directory, outputs, commands: 0, port: None, python: python.is_some() };
        session.say("trap '{ kill -KILL $(jobs -p); wait; } 2>/dev/null' EXIT");
        session
    }

    /// Writes a file that begins with `# NAME`.
    pub fn write(&self, text: &str) {
        let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a name");
        fs::write(self.directory.path().join(name), text).expect("a file");
    }

    /// Runs a block's commands, one after the other.
    pub fn run(&mut self, block: &str) {
        for part in format!("\n{block}").split("\n$ ").skip(1) {
            let continued = |line: &&str| line.starts_with("> ");
            let more: Vec<_> = part.lines().skip(1).take_while(continued).collect();
            let expected: Vec<_> = part.lines().skip(1 + more.len()).map(str::trim_end).collect();
            let mut command = part.lines().next().expect("a command").to_owned();
            for line in more {
                command.push('\n');
                command.push_str(&line[2..]);
            }
            if self.python || !command.contains("python3") {
                self.prints(&command, &expected);
            }
        }
    }

    fn prints(&mut self, command: &str, expected: &[&str]) {
        let since = Instant::now();
        let goes_on = command.ends_with('&');
        let looks = LOOKS.iter().any(|look| command.starts_with(look));
        let mut output = self.execute(command);
        loop {
            let printed = self.read(&output);
            if pattern::matches(expected, &printed) {
                break;
            }
            let wait = goes_on || looks;
            assert!(
                wait && since.elapsed() < PATIENCE,
                "$ {command}\n{printed}\n-- is not what the page shows:\n{}",
                expected.join("\n")
            );
            thread::sleep(Duration::from_millis(10));
            if looks {
                output = self.execute(command);
            }
        }
    }

    /// Runs a command, and returns the file that has its output.
    fn execute(&mut self, command: &str) -> PathBuf {
        self.commands += 1;
        let output = self.outputs.path().join(self.commands.to_string());
        let listens = command.ends_with('&') && command.contains(PORT);
        let port = if listens { ":0" } else { self.port.as_deref().unwrap_or(PORT) };
        let command = command.replace(PORT, port);
        self.say(&format!("{{ {command}\n}} >{} 2>&1 </dev/null\necho ended", output.display()));
        if self.ended.recv_timeout(PATIENCE).is_err() {
            let group = format!("-{}", self.shell.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            panic!("does not end: {command}");
        }
        if listens {
            self.port = Some(self.listening(&output));
        }
        output
    }

    /// The port that the program that has just been started says it listens on.
    fn listening(&self, output: &Path) -> String {
        let since = Instant::now();
        loop {
            let printed = self.read(output);
            if let Some((_, port)) = printed.trim_end().rsplit_once(':').filter(|_| printed.ends_with('\n')) {
                return format!(":{port}");
            }
            assert!(since.elapsed() < PATIENCE, "it does not say where it listens: {printed}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn read(&self, output: &Path) -> String {
        let printed = fs::read_to_string(output).expect("an output");
        match &self.port {
            Some(port) => printed.replace(port.as_str(), PORT),
            None => printed,
        }
    }

    fn say(&mut self, line: &str) {
        let input = self.shell.stdin.as_mut().expect("its input");
        writeln!(input, "{line}").expect("it reads");
    }
}

impl Drop for Session {
    /// Without input the shell ends, and ends what it has started.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Where the programs of this package and the command are, built as they are for the workspace's tests:
/// with an example the features are those of tests, and nothing is built twice.
fn programs(repository: &Path) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_tutorial_server")).parent().expect("a directory").to_owned();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--workspace", "--locked"]);
    build.args(["--bin", "notnets", "--example", "foreign-server"]).current_dir(repository);
    // What Cargo tells a test of its package is a reason to build anew for some build scripts (ring's).
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| TOLD_TO_TESTS.iter().any(|told| name.starts_with(told))) {
            build.env_remove(name);
        }
    }
    assert!(build.status().expect("cargo").success(), "the command does not compile");
    built
}
