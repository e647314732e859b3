//! Runs a case over two transports, each with a server process of its own, and
//! compares what was seen.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tonic::transport::Endpoint;

use crate::cases::Case;
use crate::differences::{INTENDED, compare};
use crate::process::ServerProcess;
use crate::server::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::transport::{Flavour, Transport};
use crate::{Observation, Rpc};

/// No case takes nearly as long, also not on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// A transport, and the runtime that drives it in both processes.
pub type Setup = (Transport, Flavour);

/// Runs a case in two setups against servers made by `program`.
///
/// # Panics
/// When an assertion of the case fails, when it does not end in time, or when
/// the observations differ other than intended.
pub fn check<K: Case>(program: &str, reference: Setup, other: Setup) {
    let expected = observe::<K>(program, reference, PATIENCE);
    let seen = observe::<K>(program, other, PATIENCE);
    hold::<K>((reference.0, &expected), (other.0, &seen));
}

/// The same, with a server in the second setup that runs already, on whatever machine it may be.
///
/// # Panics
/// As [`check`] does.
pub fn check_running<K: Case>(program: &str, reference: Setup, other: Setup, server: Running) {
    let expected = observe::<K>(program, reference, server.patience);
    let seen = observe_running::<K>(other, server);
    hold::<K>((reference.0, &expected), (other.0, &seen));
}

/// A server that somebody has started.
#[derive(Debug)]
pub struct Running {
    /// Where it can be reached.
    pub address: String,
    /// Where NotNets finds names.
    pub directory: PathBuf,
    /// No case takes so long, here or in the first setup.
    pub patience: Duration,
}

fn hold<K: Case>(reference: (Transport, &Observation), other: (Transport, &Observation)) {
    let faults = compare(K::NAME, INTENDED, reference, other);
    assert!(
        faults.is_empty(),
        "{} over {} is not what it is over {}:\n  {}",
        K::NAME,
        other.0,
        reference.0,
        faults.join("\n  "),
    );
}

/// Runs a case in one setup, with a server of its own.
fn observe<K: Case>(program: &str, setup: Setup, patience: Duration) -> Observation {
    let server = ServerProcess::start(Path::new(program), setup.0, setup.1);
    let (address, directory) = (server.address().to_owned(), server.directory());
    observe_running::<K>(setup, Running { address, directory, patience })
}

fn observe_running<K: Case>((transport, flavour): Setup, server: Running) -> Observation {
    let Running { address, directory, patience } = server;
    let (sender, receiver) = mpsc::channel();
    // A thread of its own: a case that hangs within one poll, where no timer of
    // its runtime would fire, is noticed all the same.
    let case = thread::Builder::new().name(K::NAME.into());
    let case = case.spawn(move || {
        let runtime = flavour.runtime().expect("a runtime");
        let seen = runtime.block_on(run::<K>(transport, &address, directory));
        // A case is over once it has said what it saw. What it left behind
        // must not hold up its end.
        runtime.shutdown_background();
        let _ = sender.send(seen);
    });
    let case = case.expect("a thread");
    match receiver.recv_timeout(patience) {
        Ok(seen) => {
            // Shown by the test runner if the test fails.
            println!("{} over {transport} ({flavour} runtime): {seen:#?}", K::NAME);
            seen
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            panic!("{} over {transport} ({flavour} runtime) hangs: no end after {patience:?}", K::NAME)
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let cause = case.join().expect_err("the case ended without an observation");
            let cause = match cause.downcast_ref::<&str>() {
                Some(text) => (*text).to_owned(),
                None => cause.downcast_ref().cloned().unwrap_or_else(|| "it says not why".to_owned()),
            };
            panic!("{} over {transport} ({flavour} runtime): {cause}", K::NAME)
        }
    }
}

/// Runs a case over a new channel. `directory` is where NotNets finds names.
async fn run<K: Case>(transport: Transport, address: &str, directory: PathBuf) -> Observation {
    match transport {
        Transport::Tcp | Transport::Uds | Transport::UdsUnlayered | Transport::FromHttp2 => {
            K::run(http2(address).await).await
        }
        Transport::ToHttp2 => {
            let named = notnets::Channel::named("conformance").or("notnets:///conformance").or(address);
            let named = named.settings(|endpoint| endpoint.directory(directory));
            K::run(named.connect().await.expect("the server can be reached")).await
        }
        Transport::NotNets
        | Transport::NotNetsUnlayered
        | Transport::PodHardware
        | Transport::PodSoftware => {
            let endpoint = notnets::Endpoint::from_shared(address).expect("a name").directory(directory);
            K::run(connect(&endpoint).await).await
        }
    }
}

/// Connects as soon as the name has got around in the pod.
async fn connect(endpoint: &notnets::Endpoint) -> notnets::Channel {
    loop {
        match endpoint.connect().await {
            Err(error) if error.kind() == notnets::ErrorKind::NotFound => {
                tokio::task::yield_now().await;
            }
            connected => return connected.expect("the server accepts links"),
        }
    }
}

async fn http2(address: &str) -> impl Rpc {
    Endpoint::from_shared(address.to_owned())
        .expect("the server's address is a URI")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await
        .expect("the server accepts connections")
}
