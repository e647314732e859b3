//! The other process: this test binary again, told by variables which role to play.
//!
//! It takes commands as lines on its standard input and ends at its end of file, so that none
//! outlives its test, however that ends. It answers with lines on its standard error that begin
//! with `@`.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use rustix::process::{Pid, Signal, kill_process};

use super::roles::{self, Options};
use super::{LIMIT, eventually};

const ROLE: &str = "NOTNETS_TEST_ROLE";
const OPTIONS: &str = "NOTNETS_TEST_OPTIONS";
const DIRECTORY: &str = "NOTNETS_TEST_DIRECTORY";

/// Not `current_exe`, so that it can be run by a uid that may not reach its path.
const THIS_BINARY: &str = "/proc/self/exe";

/// The running process; killed when dropped.
pub struct Helper {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Helper {
    /// Starts a process in a role. Options are words like `key=value`.
    pub fn start(role: &str, directory: &Path, options: &str) -> Helper {
        Self::spawn(command(&[THIS_BINARY], role, directory, options)).expect("the test binary runs")
    }

    /// A server that has begun to serve.
    pub fn server(directory: &Path, options: &str) -> Helper {
        let mut server = Self::start("server", directory, options);
        server.expect("serving");
        server
    }

    /// A client that has connected.
    pub fn client(directory: &Path, options: &str) -> Helper {
        let mut client = Self::start("client", directory, options);
        client.expect("connected");
        client
    }

    /// Starts it for another uid, which only root may do.
    pub fn start_as(uid: u32, role: &str, directory: &Path, options: &str) -> std::io::Result<Helper> {
        let mut command = command(&[THIS_BINARY], role, directory, options);
        command.uid(uid).gid(uid);
        Self::spawn(command)
    }

    /// Starts it by another program, which is given the path of this binary and its arguments.
    pub fn start_by(by: &[&str], role: &str, directory: &Path, options: &str) -> std::io::Result<Helper> {
        let this_binary = std::env::current_exe()?;
        let this_binary = this_binary.to_str().expect("the path is UTF-8");
        let line: Vec<&str> = by.iter().copied().chain([this_binary]).collect();
        Self::spawn(command(&line, role, directory, options))
    }

    fn spawn(mut command: Command) -> std::io::Result<Helper> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stderr.take().expect("is piped")).lines();
        let (sender, answers) = channel();
        // Reading has no time limit, so a thread does it. It ends with the process.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Helper { stdin: child.stdin.take(), child, answers })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_ref().expect("is open"), "{line}").expect("the helper reads");
    }

    /// The next answer, or all that it has written if it ended without one.
    pub fn try_answer(&mut self) -> Result<String, String> {
        let mut other = String::new();
        loop {
            match self.answers.recv_timeout(LIMIT) {
                Ok(line) => match line.strip_prefix('@') {
                    Some(answer) => return Ok(answer.into()),
                    None => other += &(line + "\n"),
                },
                Err(RecvTimeoutError::Disconnected) => return Err(other),
                Err(RecvTimeoutError::Timeout) => panic!("the helper is silent for {LIMIT:?}: {other}"),
            }
        }
    }

    pub fn answer(&mut self) -> String {
        self.try_answer().unwrap_or_else(|output| panic!("the helper ended: {output}"))
    }

    /// Takes the next answer, which must be this one.
    pub fn expect(&mut self, answer: &str) {
        assert_eq!(self.answer(), answer);
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is our child");
    }

    /// Stops it; all its threads stand still afterwards.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
        let is_stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The name before it may hold anything, but no later parenthesis.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        eventually("it is stopped", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it lives");
            tasks.map_while(Result::ok).all(is_stopped)
        });
    }

    /// `kill -9`; it is dead and reaped afterwards.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Asks a server to stop gracefully.
    pub fn stop(&mut self) {
        self.tell("stop");
    }

    /// Waits for its end, though a child of it may go on with its standard input.
    pub fn wait(&mut self) {
        let stdin = self.stdin.take();
        self.child.wait().expect("it is our child");
        self.stdin = stdin;
    }

    /// Closes its standard input and waits for its end.
    pub fn finish(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.child.wait().expect("it is our child")
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(line: &[&str], role: &str, directory: &Path, options: &str) -> Command {
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).args(["--exact", "helper_process", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(OPTIONS, options).env(DIRECTORY, directory);
    command
}

/// In the other process: plays its role. Does nothing in a test run.
pub fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let options = Options::parse(&std::env::var(OPTIONS).expect("is set with the role"));
    let directory = std::env::var_os(DIRECTORY).expect("is set with the role").into();
    roles::play(&role, directory, &options);
}

/// Forks a child that holds all that it inherited until the test closes our standard input.
pub fn fork_holder() {
    if let fork::Fork::Child = fork::fork().expect("there is room for a process") {
        // Threads that held locks are no more, so nothing here takes one.
        let _ = rustix::io::write(rustix::stdio::stderr(), b"@forked\n");
        while let Ok(1..) = rustix::io::read(rustix::stdio::stdin(), &mut [0; 64]) {}
        let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    }
}

/// Answers the test.
pub fn say(answer: impl Display) {
    eprintln!("@{answer}");
}

/// The commands, as they come. The process ends when the test closes the pipe.
pub fn commands() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        std::process::exit(0);
    });
    receiver
}
