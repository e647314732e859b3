//! `notnets ls`: the names served on this host, by whom and since when.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::failure::Failure;

/// What the user gave.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// One name and what its server says of itself.
#[derive(Debug, Serialize)]
pub struct Served {
    /// The name, without `notnets:///`.
    pub name: String,
    /// The server's process.
    pub pid: u32,
    /// The server's user.
    pub uid: u32,
    /// When it began to serve, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Clients connected now.
    pub links: u64,
    /// Calls open now.
    pub open_calls: u64,
    /// Calls so far, the open ones too.
    pub calls: u64,
}

/// Prints what is served.
///
/// # Errors
/// When the rendezvous directory cannot be read.
pub fn run(args: Args) -> Result<(), Failure> {
    let served = served()?;
    let text = if args.json { json(&served) } else { table(&served, SystemTime::now()) };
    // A reader that has seen enough (`| head`) is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn served() -> Result<Vec<Served>, Failure> {
    Err(Failure::new("names cannot be listed: this build of the command speaks HTTP/2 only"))
}

fn json(served: &[Served]) -> String {
    let mut text = serde_json::to_string(served).expect("plain structs always serialise");
    text.push('\n');
    text
}

const HEADINGS: [&str; 7] = ["NAME", "PID", "UID", "SINCE", "LINKS", "OPEN", "CALLS"];

fn table(served: &[Served], now: SystemTime) -> String {
    let rows = served.iter().map(|row| {
        [
            row.name.clone(),
            row.pid.to_string(),
            row.uid.to_string(),
            age(row.since_unix_ms, now),
            row.links.to_string(),
            row.open_calls.to_string(),
            row.calls.to_string(),
        ]
    });
    let rows: Vec<_> = std::iter::once(HEADINGS.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        text += &format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            text += &format!("  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

/// How long ago, in its two largest units.
fn age(since_unix_ms: u64, now: SystemTime) -> String {
    let since = UNIX_EPOCH + Duration::from_millis(since_unix_ms);
    let seconds = now.duration_since(since).unwrap_or_default().as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> [Served; 2] {
        let served = |name: &str, pid, since_unix_ms, calls| Served {
            name: name.to_owned(),
            pid,
            uid: 1000,
            since_unix_ms,
            links: 2,
            open_calls: 0,
            calls,
        };
        [served("inventory", 4711, 0, 123_456), served("cart", 9, 93_600_000, 1)]
    }

    #[test]
    fn columns_line_up() {
        let now = UNIX_EPOCH + Duration::from_secs(93_661);
        let expected = "\
NAME        PID   UID  SINCE  LINKS  OPEN   CALLS
inventory  4711  1000  1d02h      2     0  123456
cart          9  1000  1m01s      2     0       1
";
        assert_eq!(table(&two(), now), expected);
    }

    #[test]
    fn json_is_one_array() {
        let parsed: serde_json::Value = serde_json::from_str(&json(&two())).expect("valid JSON");
        assert_eq!(parsed[0]["name"], "inventory");
        assert_eq!(parsed[1]["calls"], 1);
    }
}
