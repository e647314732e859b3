//! A second process for tests: this test binary again, told by a variable which role to play.
//!
//! It takes commands as lines on its standard input, ends at its end of file (so that none outlives the test,
//! however that ends), and answers with lines on its standard error that begin with `@`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};

const ROLE: &str = "NOTNETS_TEST_ROLE";
const DIRECTORY: &str = "NOTNETS_TEST_DIRECTORY";

/// Not `current_exe`, so that it can be run by a uid that may not reach its path.
pub const THIS_BINARY: &str = "/proc/self/exe";

/// The running second process; killed when dropped.
pub struct Helper {
    pub child: Child,
    stdin: Option<ChildStdin>,
    answers: BufReader<ChildStderr>,
}

impl Helper {
    pub fn start(role: &str, directory: &Path) -> Helper {
        Self::spawn(command(THIS_BINARY, &[], role, directory)).expect("the test binary runs")
    }

    /// Runs it for another uid, if one is given.
    pub fn start_as(uid: Option<u32>, role: &str, directory: &Path) -> std::io::Result<Helper> {
        let mut command = command(THIS_BINARY, &[], role, directory);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        Self::spawn(command)
    }

    /// Runs it by another program, which takes the command line after its own arguments.
    pub fn start_by(
        program: &str,
        arguments: &[&str],
        role: &str,
        directory: &Path,
    ) -> std::io::Result<Helper> {
        Self::spawn(command(program, arguments, role, directory))
    }

    fn spawn(mut command: Command) -> std::io::Result<Helper> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stderr.take().expect("is piped"));
        Ok(Helper { stdin: child.stdin.take(), child, answers })
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_ref().expect("is open"), "{line}").expect("the helper reads");
    }

    /// The next answer, or all that it has written if it ended without one.
    pub fn try_answer(&mut self) -> Result<String, String> {
        let mut other = String::new();
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line).expect("is UTF-8") == 0 {
                return Err(other);
            }
            match line.strip_prefix('@') {
                Some(answer) => return Ok(answer.trim_end().into()),
                None => other.push_str(&line),
            }
        }
    }

    pub fn answer(&mut self) -> String {
        self.try_answer().unwrap_or_else(|output| panic!("the helper ended: {output}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(program: &str, arguments: &[&str], role: &str, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).args(["--exact", "helper_process", "--nocapture"]);
    command.env(ROLE, role).env(DIRECTORY, directory);
    command
}

/// In the second process: its role and directory. `None` in a test run.
pub fn role() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(DIRECTORY)?.into()))
}

pub fn say(answer: impl std::fmt::Display) {
    eprintln!("@{answer}");
}

/// The commands, until the test closes the pipe.
pub fn commands() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map_while(Result::ok)
}
