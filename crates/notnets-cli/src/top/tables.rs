//! The tables of an interval: of processes, links, methods and open calls.

use std::cmp::Ordering;

use super::rates::{Activity, Calls, Interval, LinkRates, MethodRates, OpenCall, ProcessRates};
use crate::observe::findings::seconds;
use crate::table::{Side, table, width};
use crate::units::{bytes, micros};

/// A table.
#[derive(Debug)]
pub struct Table {
    pub title: String,
    pub headings: &'static [&'static str],
    pub rows: Vec<Row>,
    /// The column by which it is sorted unless another one is chosen.
    pub busiest: usize,
}

/// A row, and what it is about.
#[derive(Debug)]
pub struct Row {
    pub of: Subject,
    pub cells: Vec<Cell>,
}

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Process(u32),
    Link { pid: u32, role: &'static str, name: String, link: u64 },
    Method { pid: u32, role: &'static str, name: String, method: String },
    OpenCall(usize),
}

/// A text, or a number and how it is shown.
#[derive(Clone, Debug)]
pub enum Cell {
    Text(String),
    Number(f64, String),
}

pub fn processes(interval: &Interval) -> Table {
    let rows = interval.processes.iter().map(|process| {
        // How long calls take is what matters to its clients, if it has any.
        let main = if process.served.links > 0 { &process.served } else { &process.called };
        let links = process.served.links.saturating_add(process.called.links);
        let parked = process.served.links_parked + process.called.links_parked;
        let open = process.served.calls.open.saturating_add(process.called.calls.open);
        let failed = process.served.calls.failed_per_second + process.called.calls.failed_per_second;
        Row {
            of: Subject::Process(process.pid),
            cells: vec![
                Cell::Text(format!("{} {}", process.command, process.names.join(" ")).trim_end().to_owned()),
                count(process.pid.into()),
                Cell::Text(if process.stopped { "stopped" } else { "runs" }.to_owned()),
                count(links),
                count(parked),
                rate(process.served.calls.calls_per_second),
                rate(process.called.calls.calls_per_second),
                rate(failed),
                time(main.calls.p50_us),
                time(main.calls.p99_us),
                count(open),
                size(process.mapped_bytes),
                count(process.findings.len() as u64),
            ],
        }
    });
    Table {
        title: "processes".to_owned(),
        headings: &[
            "PROCESS", "PID", "STATE", "LINKS", "PARKED", "SERVED/s", "CALLED/s", "FAILED/s", "P50", "P99",
            "OPEN", "MEMORY", "FINDINGS",
        ],
        rows: rows.collect(),
        busiest: 5,
    }
}

pub fn links(process: &ProcessRates) -> Table {
    let rows = process.links.iter().map(|link| {
        let mut cells = vec![
            Cell::Text(ends(process, link)),
            Cell::Text(link.transport.clone()),
            Cell::Text(if link.parked { "parked" } else { "polling" }.to_owned()),
        ];
        cells.extend(of_calls(&link.activity.calls));
        cells.extend(of_data(&link.activity));
        Row { of: subject(process, link), cells }
    });
    Table {
        title: "links".to_owned(),
        headings: &[
            "LINK",
            "BY",
            "STATE",
            "CALLS/s",
            "FAILED/s",
            "P50",
            "P99",
            "OPEN",
            "SENT/s",
            "RECEIVED/s",
            "WAITS/s",
            "VAIN/s",
            "RINGS/s",
            "MEMORY",
        ],
        rows: rows.collect(),
        busiest: 3,
    }
}

/// The methods of a process, or of one of its links.
pub fn methods(pid: u32, methods: &[MethodRates]) -> Table {
    let rows = methods.iter().map(|method| {
        let role = if method.role == "client" { "called" } else { "served" };
        let mut cells = vec![Cell::Text(method.method.clone()), Cell::Text(role.to_owned())];
        cells.extend(of_calls(&method.calls));
        let (role, name, method) = (method.role, method.name.clone(), method.method.clone());
        Row { of: Subject::Method { pid, role, name, method }, cells }
    });
    Table {
        title: "methods".to_owned(),
        headings: &["METHOD", "ROLE", "CALLS/s", "FAILED/s", "P50", "P99", "OPEN"],
        rows: rows.collect(),
        busiest: 2,
    }
}

pub fn open_calls(calls: &[OpenCall]) -> Table {
    let rows = calls.iter().enumerate().map(|(place, call)| Row {
        of: Subject::OpenCall(place),
        cells: vec![
            Cell::Text(call.method.clone()),
            time(Some(call.age_seconds * 1e6)),
            Cell::Text(call.waits_for.to_owned()),
        ],
    });
    let headings = &["OPEN CALL", "AGE", "WAITS FOR"];
    Table { title: "open calls".to_owned(), headings, rows: rows.collect(), busiest: 1 }
}

/// What a row of a link is about.
fn subject(process: &ProcessRates, link: &LinkRates) -> Subject {
    Subject::Link { pid: process.pid, role: link.role, name: link.name.clone(), link: link.link }
}

/// Finds the link that a row is about.
pub fn find_link<'a>(process: &'a ProcessRates, of: &Subject) -> Option<&'a LinkRates> {
    process.links.iter().find(|link| subject(process, link) == *of)
}

/// Both ends of a link.
fn ends(process: &ProcessRates, link: &LinkRates) -> String {
    let peer = match link.peer_pid {
        Some(pid) if link.peer_command.is_empty() => format!("process {pid}"),
        Some(pid) => format!("{} {pid}", link.peer_command),
        None if link.target.is_empty() => "?".to_owned(),
        None => link.target.clone(),
    };
    let number = link.link;
    match link.role {
        "server" => format!("{number}: {} <- {peer}", link.name),
        _ => format!("{number}: {} -> {peer}", process.command),
    }
}

fn of_calls(calls: &Calls) -> [Cell; 5] {
    [
        rate(calls.calls_per_second),
        rate(calls.failed_per_second),
        time(calls.p50_us),
        time(calls.p99_us),
        count(calls.open),
    ]
}

fn of_data(activity: &Activity) -> [Cell; 6] {
    [
        size(activity.sent_bytes_per_second as u64),
        size(activity.received_bytes_per_second as u64),
        rate(activity.waits_per_second),
        rate(activity.polls_in_vain_per_second),
        rate(activity.doorbells_per_second),
        size(activity.memory_bytes),
    ]
}

fn count(count: u64) -> Cell {
    Cell::Number(count as f64, count.to_string())
}

fn rate(rate: f64) -> Cell {
    let digits = if rate == 0.0 || rate >= 9.95 { 0 } else { 1 };
    Cell::Number(rate, format!("{rate:.digits$}"))
}

fn time(us: Option<f64>) -> Cell {
    Cell::Number(us.unwrap_or(-1.0), us.map_or_else(|| "-".to_owned(), micros))
}

fn size(size: u64) -> Cell {
    Cell::Number(size as f64, bytes(size))
}

impl Table {
    /// Leaves only rows with this text in one of their cells.
    pub fn filter(&mut self, text: &str) {
        let text = text.to_lowercase();
        self.rows.retain(|row| row.cells.iter().any(|cell| cell.text().to_lowercase().contains(&text)));
    }

    /// Sorts by a column: numbers the largest first, texts by the alphabet; or the other way round.
    pub fn sort(&mut self, column: usize, is_reversed: bool) {
        self.rows.sort_by(|a, b| {
            let order = match (a.cells.get(column), b.cells.get(column)) {
                (Some(a), Some(b)) => a.order(b),
                _ => Ordering::Equal,
            };
            if is_reversed { order.reverse() } else { order }
        });
    }

    /// As plain text.
    pub fn text(&self) -> String {
        let mut sides = vec![Side::Right; self.headings.len()];
        sides[0] = Side::Left;
        let rows = self.rows.iter().map(|row| row.cells.iter().map(|cell| cell.text().to_owned()).collect());
        table(self.headings, &sides, &rows.collect::<Vec<_>>(), width())
    }
}

impl Cell {
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(_, text) => text,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a, _), Self::Number(b, _)) => b.total_cmp(a),
            _ => self.text().cmp(other.text()),
        }
    }
}

/// How long an interval was, for a title.
pub fn heading(interval: &Interval) -> String {
    let processes = interval.processes.len();
    let length = std::time::Duration::try_from_secs_f64(interval.seconds).unwrap_or_default();
    format!("notnets top: {processes} processes, of the last {}", seconds(length))
}
