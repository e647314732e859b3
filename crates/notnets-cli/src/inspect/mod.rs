//! `notnets inspect`: all that one process has counted, and what is remarkable about it.

mod text;

use std::io::{self, Write};
use std::time::Duration;

use notnets_core::link::rendezvous::Directory;
use notnets_core::name::Name;
use notnets_memory::process::peer_credentials;

use crate::failure::Failure;
use crate::observe::agents;
use crate::observe::processes::{self, Process};
use crate::observe::report::Report;
use crate::place::Place;

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name that is served on this host, or the number of a process. Unless given, all processes of this
    /// host that may be looked into
    #[arg(value_name = "NAME|PID")]
    target: Option<String>,
    /// Print a JSON object for each process, instead of words
    #[arg(long)]
    json: bool,
    /// Say what calls wait for that are open for as many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    stuck_after: f64,
    #[command(flatten)]
    place: Place,
}

/// Prints what the counters of the processes say.
///
/// # Errors
/// When there is no such process, or it may not be looked into.
pub fn run(args: &Args) -> Result<(), Failure> {
    let long = Duration::try_from_secs_f64(args.stuck_after)
        .map_err(|error| Failure::new(format!("--stuck-after {}: {error}", args.stuck_after)))?;
    let targets = targets(args)?;
    let in_a_pod: Vec<_> = targets.iter().map(agents::is_in_a_pod).collect();
    let of_agents = if in_a_pod.contains(&true) { agents::findings() } else { Vec::new() };
    let mut reports: Vec<_> = targets.iter().map(|process| Report::new(process, long)).collect();
    for (report, _) in reports.iter_mut().zip(in_a_pod).filter(|(_, in_a_pod)| *in_a_pod) {
        report.findings.extend_from_slice(&of_agents);
    }
    let mut output = String::new();
    for report in &reports {
        if args.json {
            output += &serde_json::to_string(report).expect("plain structs always serialise");
            output.push('\n');
        } else {
            output += &text::of(report);
        }
    }
    // A reader that has seen enough (`| head`) is not a failure.
    let _ = io::stdout().write_all(output.as_bytes());
    Ok(())
}

fn targets(args: &Args) -> Result<Vec<Process>, Failure> {
    match &args.target {
        Some(target) => find(target, &args.place.directory()),
        None => Ok(processes::all()),
    }
}

/// The processes that are meant: a name may have several replicas.
fn find(target: &str, directory: &Directory) -> Result<Vec<Process>, Failure> {
    if let Ok(pid) = target.parse() {
        return Ok(vec![look(pid)?]);
    }
    let text = target.strip_prefix("notnets:///").unwrap_or(target);
    let name: Name = text.parse().map_err(|error| Failure::new(format!("{target:?} is no name: {error}")))?;
    let addresses = directory.addresses(&name).map_err(|error| Failure::new(error.to_string()))?;
    let mut pids = Vec::new();
    for address in addresses {
        let Ok(socket) = directory.connect(&address) else { continue };
        let server = peer_credentials(&socket).map_err(|error| Failure::new(error.to_string()))?;
        let Some(pid) = server.pid else {
            let why = "its process is in a pid namespace that can't be seen from here";
            return Err(Failure::new(format!("notnets:///{address} is served, but {why}")));
        };
        pids.push(pid);
    }
    pids.sort_unstable();
    pids.dedup();
    if pids.is_empty() {
        return Err(Failure::new(format!("nothing is served as {name} in {directory}: see `notnets ls`")));
    }
    pids.into_iter().map(look).collect()
}

fn look(pid: u32) -> Result<Process, Failure> {
    processes::look(pid).ok_or_else(|| {
        let exists = std::path::Path::new("/proc").join(pid.to_string()).exists();
        let why = if exists {
            "has no counters that you may read: it has no links yet, or belongs to another user (run this as root, then)"
        } else {
            "is not there"
        };
        Failure::new(format!("process {pid} {why}"))
    })
}
