//! `notnets ls`: the names served on this host, by whom and since when; and the pods that it is in.

mod payloads;
mod pods;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use notnets_cli_common::duration;
use notnets_core::link::inspect::{self, look};
use notnets_core::link::rendezvous::{Directory, Origin};
use notnets_core::stats::Snapshot;
use serde::Serialize;

use crate::failure::Failure;
use crate::place::Place;
use crate::table::{age, aligned, known};

/// The arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  notnets ls --filter cart
  notnets ls --watch --interval 500ms")]
pub struct Args {
    /// Print one JSON object instead of tables; with --watch, one for each look
    #[arg(long)]
    json: bool,
    /// List only names with this text
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// List again and again, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// How long to wait before each further look
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    interval: Duration,
    #[command(flatten)]
    place: Place,
}

/// One name, with its server's counters.
#[derive(Debug, Serialize)]
pub struct Served {
    /// The name, without `notnets:///`.
    pub name: String,
    /// The replica that this server is of the name, if it is one of several.
    pub replica: Option<String>,
    /// The server's process.
    /// `None` when it is in a pid namespace that can't be seen from here.
    pub pid: Option<u32>,
    /// The server's user.
    pub uid: u32,
    /// When it began to serve, in seconds since 1970. `None`, like the rest, if the server does not report
    /// it.
    pub since: Option<u64>,
    /// Links that are open now.
    pub links: Option<u64>,
    /// Calls so far, the open ones too.
    pub calls: Option<u64>,
    /// Connections that got no link, by reason.
    pub refused: Option<BTreeMap<&'static str, u64>>,
    /// How large payloads went and came, by the names of their kinds, and the bytes of further segments.
    #[serde(flatten)]
    pub memory: payloads::Memory,
}

impl Served {
    /// The name, with the replica's number if there may be several.
    fn address(&self) -> String {
        self.replica.as_ref().map_or_else(|| self.name.clone(), |replica| format!("{}@{replica}", self.name))
    }
}

/// Everything that is listed.
#[derive(Debug, Serialize)]
struct Listed {
    /// The directory that was looked into.
    directory: PathBuf,
    /// What made it that one: `NOTNETS_DIR`, `XDG_RUNTIME_DIR`, `default` or `--directory`.
    directory_from: &'static str,
    names: Vec<Served>,
    pods: Vec<pods::Pod>,
}

/// The time that a server or an agent is given to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints what is served.
///
/// # Errors
/// When the rendezvous directory cannot be read.
pub async fn run(args: Args) -> Result<(), Failure> {
    let directory = args.place.directory();
    // Over what was there before, if that is a terminal.
    let clear = if args.watch && !args.json && io::stdout().is_terminal() { CLEAR } else { "" };
    loop {
        let mut listed = Listed {
            directory: directory.path().to_owned(),
            directory_from: origin(&directory),
            names: served(&directory)?,
            pods: pods::look(&directory)?,
        };
        let is_nothing = listed.names.is_empty() && listed.pods.is_empty();
        listed.filter(&args.filter);
        let text = if args.json {
            json(&listed)
        } else {
            format!("{clear}names in {}\n\n{}", place(&directory), tables(&listed, SystemTime::now()))
        };
        if is_nothing && !args.json {
            nothing(&directory)?;
        }
        // A reader that has seen enough (`| head`) is not a failure.
        let mut out = io::stdout().lock();
        let is_read = out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok();
        drop(out);
        if is_nothing && args.json {
            nothing(&directory)?;
        }
        if !args.watch || !is_read {
            return Ok(());
        }
        tokio::time::sleep(args.interval).await;
    }
}

/// Lets a terminal forget what it shows.
const CLEAR: &str = "\x1b[H\x1b[2J";

fn origin(directory: &Directory) -> &'static str {
    match directory.origin() {
        Origin::Variable => "NOTNETS_DIR",
        Origin::XdgRuntimeDir => "XDG_RUNTIME_DIR",
        Origin::Default => "default",
        Origin::Program => "--directory",
    }
}

/// A directory and why it is that one, in the words of the command line.
fn place(directory: &Directory) -> String {
    match directory.origin() {
        Origin::Program => format!("{} (from --directory)", directory.path().display()),
        _ => directory.to_string(),
    }
}

impl Listed {
    fn filter(&mut self, text: &str) {
        self.names.retain(|served| served.name.contains(text));
        self.pods.iter_mut().for_each(|pod| pod.filter(text));
    }
}

/// Says where nothing was found.
///
/// # Errors
/// When there is no such directory, although it was asked for.
fn nothing(directory: &Directory) -> Result<(), Failure> {
    let advice = "set NOTNETS_DIR to the directory that the servers use";
    if directory.path().exists() {
        eprintln!("notnets: nothing is served in {}; if that is the wrong place, {advice}", place(directory));
    } else if directory.origin() == Origin::Variable {
        return Err(Failure::new(format!("there is no directory {}: {advice}", place(directory))));
    } else {
        eprintln!(
            "notnets: nothing is served in {}, which does not exist; perhaps {advice}",
            place(directory)
        );
    }
    Ok(())
}

fn served(directory: &Directory) -> Result<Vec<Served>, Failure> {
    let seen = look(directory, PATIENCE).map_err(|error| Failure::new(error.to_string()))?;
    let row = |seen: inspect::Served| {
        let unknown =
            |reason| eprintln!("notnets: {} is served, but gives no counters: {reason}", seen.address);
        if let Some(why) = &seen.silent {
            eprintln!("notnets: {}: {why}; its counters were read in its process", seen.address);
        }
        let counters = seen.counters.map_err(unknown).ok();
        Served {
            name: seen.name.to_string(),
            replica: seen.address.replica_number().map(str::to_owned),
            pid: seen.server.pid,
            uid: seen.server.uid,
            since: counters.as_ref().map(|counters| counters.since),
            links: counters.as_ref().map(|counters| counters.links_open),
            calls: counters.as_ref().map(Snapshot::calls),
            refused: counters.as_ref().map(|counters| counters.refused.present().collect()),
            memory: payloads::Memory::new(counters.as_ref()),
        }
    };
    Ok(seen.into_iter().map(row).collect())
}

fn json(listed: &Listed) -> String {
    let mut text = serde_json::to_string(listed).expect("plain structs always serialise");
    text.push('\n');
    text
}

fn tables(listed: &Listed, now: SystemTime) -> String {
    table(&listed.names, now)
        + &refusals(&listed.names)
        + &payloads::table(&listed.names)
        + &pods::table(&listed.pods)
}

const HEADINGS: [&str; 6] = ["NAME", "PID", "UID", "SINCE", "LINKS", "CALLS"];

fn table(served: &[Served], now: SystemTime) -> String {
    let rows = served.iter().map(|row| {
        [
            row.address(),
            known(row.pid),
            row.uid.to_string(),
            row.since.map_or_else(|| known(None::<u64>), |since| age(since, now)),
            known(row.links),
            known(row.calls),
        ]
    });
    aligned(HEADINGS, rows)
}

/// A table of the servers that have refused connections.
fn refusals(served: &[Served]) -> String {
    let rows = served.iter().flat_map(|row| {
        let reasons = row.refused.iter().flatten();
        reasons.map(|(reason, times)| [row.address(), reason.replace('_', " "), times.to_string()])
    });
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return String::new();
    }
    format!("\n{}", aligned(["NAME", "REFUSED", "TIMES"], rows))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn two() -> Vec<Served> {
        let served = |name: &str, replica: Option<&str>, pid, since, calls| Served {
            name: name.to_owned(),
            replica: replica.map(str::to_owned),
            pid,
            uid: 1000,
            since: Some(since),
            links: Some(2),
            calls,
            refused: None,
            memory: payloads::Memory::default(),
        };
        let inventory = served("inventory", None, Some(4711), 0, Some(123_456));
        vec![inventory, served("cart", Some("00001f3a"), None, 93_600, None)]
    }

    #[test]
    fn columns_line_up() {
        let now = UNIX_EPOCH + Duration::from_secs(93_661);
        let expected = "\
NAME            PID   UID  SINCE  LINKS   CALLS
inventory      4711  1000  1d02h      2  123456
cart@00001f3a     ?  1000  1m01s      2       ?
";
        assert_eq!(table(&two(), now), expected);
    }

    #[test]
    fn refused_connections_are_listed_by_reason() {
        let mut served = two();
        assert_eq!(refusals(&served), "");
        served[0].refused = Some([("not_admitted", 12), ("no_hello", 3)].into());
        let expected = "
NAME            REFUSED  TIMES
inventory      no hello      3
inventory  not admitted     12
";
        assert_eq!(refusals(&served), expected);
    }

    #[test]
    fn json_is_one_object() {
        let listed = Listed {
            directory: "/run/notnets".into(),
            directory_from: "default",
            names: two(),
            pods: Vec::new(),
        };
        let parsed: serde_json::Value = serde_json::from_str(&json(&listed)).expect("valid JSON");
        assert_eq!(parsed["directory"], "/run/notnets");
        assert_eq!(parsed["names"][0]["name"], "inventory");
        assert_eq!(parsed["names"][0]["calls"], 123_456);
        assert!(parsed["names"][0]["replica"].is_null());
        assert_eq!(
            (&parsed["names"][1]["name"], &parsed["names"][1]["replica"]),
            (&"cart".into(), &"00001f3a".into())
        );
        assert!(parsed["names"][1]["calls"].is_null());
        assert_eq!(parsed["pods"], serde_json::json!([]));
    }
}
