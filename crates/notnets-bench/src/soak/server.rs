//! A server of the soak: it answers with what it was sent, and notes each call that it executes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use notnets::rpc::{Code, Handler, Method, Request, ServerCall, Status};
use notnets::{Channel, Endpoint, ErrorKind, Server};
use notnets_core::clock::{self, Timestamp};
use tokio::signal::unix::{SignalKind, signal};

use super::content::{Head, Kept, check, message, shared};
use super::ended::Ended;
use crate::Result;
use crate::child::PATIENCE;
use crate::runtime::runtime;
use crate::trust::trust_peer_memory;

/// What names in a pod begin with.
pub const IN_POD: &str = "notnets://soak/";

/// The arguments of the process.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The names and addresses to serve, with commas between them.
    uri: String,
    /// Where executed calls are noted.
    notes: PathBuf,
    /// The name to which some calls are passed on.
    next: String,
    /// Take the name over from the server that has it.
    #[arg(long)]
    take_over: bool,
    /// Serve beside other replicas.
    #[arg(long)]
    replica: bool,
}

/// In the id of a call that another server has passed on.
const PASSED_ON: u64 = 1 << 63;

/// Serves until SIGTERM, until another process takes the name over, or until the input ends.
///
/// # Errors
/// When the name can't be served.
pub fn serve(args: &ServerArgs) -> Result {
    end_with_input();
    runtime(2)?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let echo = Echo {
            executed: notes(&args.notes, "executed")?,
            dropped: Arc::new(notes(&args.notes, "dropped")?),
            kept: Mutex::default(),
            next: Endpoint::new(args.next.as_str())?.connect_lazy(),
        };
        let mut server = Server::builder().take_over(args.take_over).replica(args.replica);
        if args.uri.starts_with(IN_POD) {
            // Between hosts nothing is read in place without.
            server = server.trust_peer_memory(trust_peer_memory());
        }
        let router = server.add_rpc_service("soak.Soak", echo);
        let names: Vec<_> = args.uri.split(',').collect();
        let until = Instant::now() + PATIENCE;
        let bound = loop {
            match router.clone().bind(&names[..]).await {
                // Whoever ends its calls has the name a little longer, and an agent may just have died.
                Err(error)
                    if Instant::now() < until
                        && (error.kind() == ErrorKind::NameInUse || args.uri.starts_with(IN_POD)) =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                bound => break bound?,
            }
        };
        println!("\"ready\"");
        let stop = async {
            terminate.recv().await;
        };
        Ok(bound.serve_with_shutdown(stop).await?)
    })
}

/// However the parent ends, no process outlives it.
pub fn end_with_input() {
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

/// A file of this process's own for ids of calls.
///
/// # Errors
/// When it can't be made.
pub fn notes(directory: &Path, kind: &str) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(format!("{kind}-{}", std::process::id())))
}

/// Notes a call. What was written is there even if the process is killed.
///
/// # Errors
/// When there is no room for it.
pub fn note(file: &File, id: u64) -> io::Result<()> {
    let mut file = file;
    file.write_all(&id.to_le_bytes())
}

type Answered<T = ()> = std::result::Result<T, Status>;

struct Echo {
    executed: File,
    /// Handlers that did not end well.
    dropped: Arc<File>,
    /// Requests in memory of clients that may be dead by now.
    kept: Mutex<Kept>,
    next: Channel,
}

impl Handler for Echo {
    async fn call(&self, call: &mut ServerCall) -> Answered {
        let Some(first) = call.requests.message().await? else {
            return Err(wrong("a call without a request"));
        };
        let first = first.into_bytes();
        let head = check(&first).map_err(wrong)?;
        let is_last = call.method.name() == "Last";
        let id = if is_last { head.id | PASSED_ON } else { head.id };
        note(&self.executed, id).map_err(|error| wrong(error.to_string()))?;
        notnets_core::failpoint!("handler begun");
        let mut running = Running { id, begin: clock::now(), notes: Some(Arc::clone(&self.dropped)) };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(head, first.clone()).map_err(wrong)?;
        let answered = if call.method.name() == "PassOn" {
            pass_on(call, &self.next, first).await
        } else {
            answer(call, head, first).await
        };
        if answered.is_ok() {
            running.notes = None;
        }
        notnets_core::failpoint!("handler ended");
        answered
    }
}

/// A handler at work: notes when it is dropped or fails.
struct Running {
    id: u64,
    begin: Timestamp,
    notes: Option<Arc<File>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(notes) = &self.notes {
            let ended = Ended { id: self.id, name: Ended::NO_NAME, begin: self.begin, end: clock::now() };
            // Without room for notes the call itself has failed.
            let _ = ended.note(notes);
        }
    }
}

/// Passes the request on, and the answer back: neither is copied if it is in shared memory.
async fn pass_on(call: &mut ServerCall, next: &Channel, first: Bytes) -> Answered {
    let request = Request::new(Method::from_static("/soak.Soak/Last"));
    match next.unary_call(request, first).await {
        Ok(answer) => call.responses.send_last(answer.message).await,
        // A new status: this call was executed, whatever became of the other.
        Err(status) => Err(Status::new(status.code(), status.message().to_owned())),
    }
}

async fn answer(call: &mut ServerCall, head: Head, first: Bytes) -> Answered {
    match call.method.name() {
        "Unary" | "Once" | "Last" => call.responses.send_last(first).await,
        "Download" => {
            for number in 0..head.answers {
                let answer = message(Head { number, ..head }, head.size as usize);
                let is_shared = number % 2 == 1;
                let answer = if is_shared { shared(answer) } else { answer.into() };
                call.responses.send(answer).await?;
            }
            Ok(())
        }
        "Upload" => {
            let count = 1 + upload(call, head).await?;
            call.responses.send_last(message(Head { number: count, ..head }, 0)).await
        }
        "Chat" => {
            call.responses.send(first).await?;
            while let Some(next) = call.requests.message().await? {
                call.responses.send(next.into_bytes()).await?;
            }
            Ok(())
        }
        _ => Err(Status::unknown_method(&call.method)),
    }
}

async fn upload(call: &mut ServerCall, first: Head) -> Answered<u64> {
    let mut count = 0;
    while let Some(next) = call.requests.message().await? {
        count += 1;
        let head = check(&next.into_bytes()).map_err(wrong)?;
        if (head.id, head.number) != (first.id, count) {
            return Err(wrong(format!("{head:?} is message {count} of {first:?}")));
        }
    }
    Ok(count)
}

/// A fault that no death explains.
fn wrong(what: impl Into<String>) -> Status {
    Status::new(Code::DATA_LOSS, what.into())
}
