//! A server in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::pod;
use crate::transport::{Flavour, Transport};

/// The name under which NotNets servers of the suite are found, each in its
/// own rendezvous directory.
const NOTNETS_NAME: &str = "notnets:///conformance";

/// A running `conformance-server`. Dropping it ends the process.
pub struct ServerProcess {
    child: Child,
    address: String,
    directory: TempDir,
    /// Of the client's host, in a pod.
    _agent: Option<pod::Agent>,
}

impl ServerProcess {
    /// Starts the server and waits until it says that it can be reached.
    pub fn start(program: &Path, transport: Transport, runtime: Flavour) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = match transport {
            Transport::Tcp => "127.0.0.1:0".into(),
            Transport::FromHttp2 => "http://127.0.0.1:0".into(),
            Transport::Uds | Transport::UdsUnlayered | Transport::ToHttp2 => {
                directory.path().join("socket").display().to_string()
            }
            Transport::NotNets | Transport::NotNetsUnlayered => NOTNETS_NAME.into(),
            Transport::PodHardware | Transport::PodSoftware => pod::NAME.into(),
        };
        let agent = pod::agent_of_client(transport, directory.path());
        let mut child = Command::new(program)
            .args(["--transport", &transport.to_string(), "--runtime", &runtime.to_string(), &address])
            .env("NOTNETS_DIR", directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let said = first_line(child.stdout.take().expect("stdout is piped"));
        let Some(address) = said.strip_prefix("READY ") else {
            let _ = child.kill();
            panic!("the {transport} server did not come up ({:?}, it said {said:?})", child.wait());
        };
        Self { address: address.to_owned(), child, directory, _agent: agent }
    }

    /// Where the server can be reached.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The rendezvous directory of the client: the server's, but in a pod.
    pub fn directory(&self) -> PathBuf {
        pod::directory_of_client(self.address(), self.directory.path())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Closing its standard input asks the server to stop, and it does not
        // outlast that by more than its grace.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What the server says first; nothing if it is silent for too long.
fn first_line(stdout: ChildStdout) -> String {
    const PATIENCE: Duration = Duration::from_secs(30);
    let (sender, receiver) = mpsc::channel();
    // Reading has no time limit, so a thread does it. It ends with the process.
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    receiver.recv_timeout(PATIENCE).unwrap_or_default().trim_end().to_owned()
}
