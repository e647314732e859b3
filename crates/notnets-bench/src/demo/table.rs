//! The results as text for a terminal.

use std::fmt::Write;

use notnets_cli_common::number::number;

use super::Args;
use super::measure::{Outcome, Row};
use super::transport::Transport;
use crate::machine::Machine;

/// The whole text, with what was measured and on what.
pub fn render(args: &Args, machine: &Machine, outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = header(&mut text, args, machine);
    let _ = figures(&mut text, args, outcome);
    let _ = comparison(&mut text, args, outcome);
    let checked = number(outcome.replies_checked as f64);
    let wrong = outcome.replies_wrong;
    let _ = writeln!(text, "\n{checked} replies checked against what they must be, {wrong} wrong.");
    text
}

fn header(text: &mut String, args: &Args, machine: &Machine) -> std::fmt::Result {
    writeln!(text, "A web shop of eight services and its customers, nine processes on one host")?;
    writeln!(text, "{machine}\n")?;
    for line in about(args) {
        writeln!(text, "  {line}")?;
    }
    writeln!(text)?;
    for journey in &args.journeys {
        writeln!(text, "  {journey:<9} {}", journey.describe())?;
    }
    Ok(())
}

/// How the figures came about, a sentence each.
pub fn about(args: &Args) -> Vec<String> {
    let runtime = match args.workers {
        0 => "tokio's current-thread runtime".to_owned(),
        workers => format!("tokio's multi-thread runtime with {workers} workers"),
    };
    let callers = args.callers;
    let rounds = args.rounds;
    vec![
        format!(
            "{callers} customers at a time, each making one call after the other on one shared connection."
        ),
        format!("Each figure is the median of {rounds} rounds, in which the transports take turns."),
        "Latency is the time of a whole journey as the customer sees it; calls/s counts journeys.".to_owned(),
        "CPU is the processor time of all nine processes, making and checking the replies included."
            .to_owned(),
        format!("Each process uses {runtime}, and keeps memory that it has freed."),
        "All transports have the same clients and services, with the stubs that notnets-build generates: over \
         NotNets their calls go without HTTP."
            .to_owned(),
        "HTTP/2 is tonic's at its best here: windows of 4 MiB, frames of 256 KiB, no Nagle.".to_owned(),
    ]
}

fn figures(text: &mut String, args: &Args, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        text,
        "\n{:<9} {:<12}{:>11}{:>11}{:>11}{:>11}{:>13}",
        "journey", "transport", "p50 µs", "p99 µs", "p99.9 µs", "calls/s", "CPU µs/call"
    )?;
    for &journey in &args.journeys {
        writeln!(text, "{}", "─".repeat(78))?;
        let rows = args.transports.iter().filter_map(|transport| outcome.row(journey, *transport));
        for (nth, row) in rows.enumerate() {
            let name = if nth == 0 { journey.as_str() } else { "" };
            writeln!(
                text,
                "{name:<9} {:<12}{:>11}{:>11}{:>11}{:>11}{:>13}",
                row.transport.label(),
                number(row.p50_us),
                number(row.p99_us),
                number(row.p999_us),
                number(row.calls_per_s),
                number(row.cpu_us_per_request),
            )?;
        }
    }
    Ok(())
}

/// How much better ours is than the others, if it was measured.
fn comparison(text: &mut String, args: &Args, outcome: &Outcome) -> std::fmt::Result {
    let (Some(ours), others) = sides(args) else { return Ok(()) };
    if others.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nHow many times better {} is (above 1: better)", ours.label())?;
    writeln!(
        text,
        "{:<9} {:<18}{:>10}{:>10}{:>10}{:>10}{:>11}",
        "journey", "than", "p50", "p99", "p99.9", "calls/s", "CPU"
    )?;
    for &journey in &args.journeys {
        writeln!(text, "{}", "─".repeat(78))?;
        let rows = others.iter().filter_map(|other| outcome.row(journey, *other));
        for (nth, other) in rows.enumerate() {
            let Some(ours) = outcome.row(journey, ours) else { continue };
            let name = if nth == 0 { journey.as_str() } else { "" };
            let [p50, p99, p999, calls, cpu] = speed_up(ours, other).map(|times| format!("{times:.2}×"));
            let than = other.transport.label();
            writeln!(text, "{name:<9} {than:<18}{p50:>10}{p99:>10}{p999:>10}{calls:>10}{cpu:>11}")?;
        }
    }
    Ok(())
}

/// Ours, and those that it is compared with, of the transports that were measured.
pub fn sides(args: &Args) -> (Option<Transport>, Vec<Transport>) {
    let (ours, others): (Vec<_>, Vec<_>) = args.transports.iter().partition(|transport| transport.is_ours());
    (ours.first().copied(), others)
}

/// How many times better one row is than another: p50, p99, p99.9, calls/s, CPU.
pub fn speed_up(ours: &Row, other: &Row) -> [f64; 5] {
    [
        other.p50_us / ours.p50_us,
        other.p99_us / ours.p99_us,
        other.p999_us / ours.p999_us,
        ours.calls_per_s / other.calls_per_s,
        other.cpu_us_per_request / ours.cpu_us_per_request,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::journeys::Journey;

    #[test]
    fn better_is_above_one() {
        let row = |figure: f64| Row {
            transport: Transport::Tcp,
            journey: Journey::Browse,
            p50_us: figure,
            p99_us: figure,
            p999_us: figure,
            calls_per_s: 1.0 / figure,
            cpu_us_per_request: figure,
            quantiles_us: Vec::new(),
            requests: 1,
        };
        assert_eq!(speed_up(&row(2.0), &row(8.0)), [4.0; 5]);
    }
}
