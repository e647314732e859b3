//! The results as a page with plots that needs no other file and no script.

use std::fmt::{Result, Write};

use notnets_cli_common::number::number;

use super::Args;
use super::journeys::Journey;
use super::measure::{Outcome, Row};
use super::table::{about, sides, speed_up};
use crate::latencies::QUANTILES;
use crate::machine::Machine;
use crate::plot::{Bar, Line, STYLE, bars, escape, latency};

/// The whole page.
pub fn render(args: &Args, machine: &Machine, outcome: &Outcome) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, args, machine, outcome);
    page
}

fn write_page(page: &mut String, args: &Args, machine: &Machine, outcome: &Outcome) -> Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>NotNets demo</title>\n<style>\n{}</style></head>\n<body>\n",
        STYLE
    )?;
    write_head(page, args, machine, outcome)?;
    write_comparison(page, args, outcome)?;
    write_panels(
        page,
        args,
        outcome,
        "Latency",
        "The time of a whole journey as the customer sees it, by percentile. Lower is better; both axes are \
         logarithmic, and each step to the right is ten times as rare.",
        latencies,
    )?;
    write_panels(
        page,
        args,
        outcome,
        "Throughput",
        "Journeys per second, all customers together. Longer is better.",
        |rows| figures(rows, |row| row.calls_per_s),
    )?;
    write_panels(
        page,
        args,
        outcome,
        "Processor time",
        "Microseconds of processor time for one journey, over all nine processes: eight services and the customers, \
         who also check the replies. Shorter is better.",
        |rows| figures(rows, |row| row.cpu_us_per_request),
    )?;
    write_figures(page, args, outcome)?;
    writeln!(page, "</body></html>")
}

fn write_head(page: &mut String, args: &Args, machine: &Machine, outcome: &Outcome) -> Result {
    writeln!(page, "<h1>A web shop over {}</h1>", list(args))?;
    writeln!(
        page,
        "<p class=\"soft\">NotNets {} on {}</p>",
        env!("CARGO_PKG_VERSION"),
        escape(&machine.to_string())
    )?;
    writeln!(
        page,
        "<p>Eight services and their customers, nine processes on one host, the same code each time."
    )?;
    for line in about(args) {
        writeln!(page, "{}", escape(&line))?;
    }
    writeln!(page, "</p>")?;
    let checked = number(outcome.replies_checked as f64);
    let wrong = outcome.replies_wrong;
    let class = if wrong == 0 { "" } else { " class=\"wrong\"" };
    writeln!(page, "<p{class}>{checked} replies checked against what they must be, {wrong} wrong.</p>")?;
    write!(page, "<p class=\"legend\">")?;
    for transport in &args.transports {
        write!(page, "<span><i class=\"t-{transport}\"></i>{}</span>", transport.label())?;
    }
    writeln!(page, "</p>")
}

/// "TCP, Unix socket and NotNets"
fn list(args: &Args) -> String {
    let labels: Vec<_> = args.transports.iter().map(|transport| transport.label()).collect();
    match labels.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => labels.concat(),
    }
}

fn write_comparison(page: &mut String, args: &Args, outcome: &Outcome) -> Result {
    let (Some(ours), others) = sides(args) else { return Ok(()) };
    if others.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>How many times better {} is</h2>", ours.label())?;
    writeln!(page, "<p class=\"soft\">Above 1: better. CPU is processor time for one journey.</p>")?;
    writeln!(
        page,
        "<div class=\"wide\"><table><tr><th>journey<th>than<th>p50<th>p99<th>p99.9<th>calls/s<th>CPU</tr>"
    )?;
    for &journey in &args.journeys {
        let Some(ours) = outcome.row(journey, ours) else { continue };
        for (nth, other) in others.iter().filter_map(|other| outcome.row(journey, *other)).enumerate() {
            write_start(page, nth, journey)?;
            write!(page, "<td>{}", other.transport.label())?;
            for times in speed_up(ours, other) {
                let class = if times > 1.0 { " class=\"ours\"" } else { "" };
                write!(page, "<td{class}>{times:.2}×")?;
            }
            writeln!(page, "</tr>")?;
        }
    }
    writeln!(page, "</table></div>")
}

fn write_panels(
    page: &mut String,
    args: &Args,
    outcome: &Outcome,
    title: &str,
    caption: &str,
    plot: impl Fn(&[&Row]) -> String,
) -> Result {
    writeln!(page, "<h2>{title}</h2>\n<p class=\"soft\">{caption}</p>\n<div class=\"panels\">")?;
    for &journey in &args.journeys {
        let rows: Vec<_> = args.transports.iter().filter_map(|of| outcome.row(journey, *of)).collect();
        writeln!(
            page,
            "<figure><h3>{journey}</h3><figcaption>{}</figcaption>{}</figure>",
            escape(journey.describe()),
            plot(&rows)
        )?;
    }
    writeln!(page, "</div>")
}

fn write_figures(page: &mut String, args: &Args, outcome: &Outcome) -> Result {
    writeln!(
        page,
        "<h2>All figures</h2>\n<p class=\"soft\">With fewer than 1,000 journeys in a round, its p99.9 is the \
         slowest of them.</p>\n<div class=\"wide\"><table>"
    )?;
    writeln!(
        page,
        "<tr><th>journey<th>transport<th>p50 µs<th>p99 µs<th>p99.9 µs<th>calls/s<th>CPU µs/call<th>journeys</tr>"
    )?;
    for &journey in &args.journeys {
        let rows = args.transports.iter().filter_map(|of| outcome.row(journey, *of));
        for (nth, row) in rows.enumerate() {
            write_start(page, nth, journey)?;
            write!(page, "<td>{}", row.transport.label())?;
            for figure in [row.p50_us, row.p99_us, row.p999_us, row.calls_per_s, row.cpu_us_per_request] {
                write!(page, "<td>{}", number(figure))?;
            }
            writeln!(page, "<td>{}</tr>", number(row.requests as f64))?;
        }
    }
    writeln!(page, "</table></div>")
}

/// Begins a row; a journey's name stands in its first one.
fn write_start(page: &mut String, nth: usize, journey: Journey) -> Result {
    match nth {
        0 => write!(page, "<tr class=\"first\"><td>{journey}"),
        _ => write!(page, "<tr><td>"),
    }
}

/// How long a journey takes, a line for each row.
fn latencies(rows: &[&Row]) -> String {
    let line = |row: &&Row| Line {
        class: row.transport.class(),
        label: row.transport.label(),
        points: QUANTILES.iter().copied().zip(row.quantiles_us.iter().copied()).collect(),
    };
    latency(&rows.iter().map(line).collect::<Vec<_>>())
}

/// A figure of each row as a bar.
fn figures(rows: &[&Row], figure: impl Fn(&Row) -> f64) -> String {
    let bar =
        |row: &&Row| Bar { class: row.transport.class(), label: row.transport.label(), value: figure(row) };
    bars(&rows.iter().map(bar).collect::<Vec<_>>())
}
