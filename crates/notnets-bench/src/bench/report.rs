//! The matrix as a page with plots that needs no other file and no script.

use std::fmt::{Result, Write};

use notnets_cli_common::number::number;

use super::case::{Api, Case, Transport, Wait};
use super::figures::{Figures, Measured, Row};
use super::links::IdleCost;
use super::pod::Coherence;
use super::table;
use crate::latencies::QUANTILES;
use crate::machine::Machine;
use crate::plot::{Bar, Dots, Line, STYLE, bars, escape, latency, levels};

/// The whole page.
pub fn render(machine: &Machine, measured: &[Measured], idle_costs: &[IdleCost]) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, machine, measured, idle_costs);
    page
}

fn write_page(
    page: &mut String,
    machine: &Machine,
    measured: &[Measured],
    idle_costs: &[IdleCost],
) -> Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>NotNets benchmark</title>\n<style>\n{STYLE}</style></head>\n<body>\n<h1>What calls cost</h1>\n"
    )?;
    let version = env!("CARGO_PKG_VERSION");
    writeln!(page, "<p class=\"soft\">NotNets {version} on {}</p>", escape(&machine.to_string()))?;
    writeln!(
        page,
        "<p>One factor at a time around a base case: unary calls with 64 bytes both ways, one open at a time, one \
         client process, one connection, tonic's generated stubs on current-thread runtimes. At each level the \
         transports take turns; figures are medians of the rounds. All replies were checked. Axes of figures are \
         logarithmic.</p>"
    )?;
    write_legend(page)?;
    for one in measured {
        write_factor(page, one)?;
    }
    write_idle(page, idle_costs)?;
    writeln!(page, "</body></html>")
}

fn write_legend(page: &mut String) -> Result {
    write!(page, "<p class=\"legend\">")?;
    for (class, label) in [
        ("t-tcp", "TCP"),
        ("t-uds", "Unix socket"),
        ("t-notnets", "NotNets"),
        ("t-spin", "NotNets, Wait::Spin"),
        ("t-park", "NotNets, Wait::Park"),
        ("t-hardware", "between hosts, hardware coherence"),
        ("t-software", "between hosts, software coherence"),
        ("t-null", "the generator alone"),
        ("t-floor", "floor"),
    ] {
        write!(page, "<span><i class=\"{class}\"></i>{label}</span>")?;
    }
    writeln!(page, "</p>")
}

fn write_factor(page: &mut String, one: &Measured) -> Result {
    let Measured { factor, rows } = one;
    writeln!(page, "<h2>{}</h2>\n<p class=\"soft\">{}.</p>", factor.name, escape(factor.what))?;
    writeln!(page, "<div class=\"panels\">")?;
    let names: Vec<_> = factor.levels.iter().map(|level| escape(&level.name)).collect();
    type Panel = (&'static str, fn(&Figures) -> f64);
    let panels: [Panel; 4] = [
        ("Median latency, µs", |figures| figures.p50_us),
        ("99th percentile, µs", |figures| figures.p99_us),
        ("Calls per second", |figures| figures.calls_per_s),
        ("CPU per call, all processes, µs", |figures| figures.cpu_us_per_call),
    ];
    for (title, figure) in panels {
        let plot = levels(&names, &dots(rows, figure), factor.steady);
        writeln!(page, "<figure><h3>{title}</h3>{plot}</figure>")?;
    }
    for (nth, level) in factor.levels.iter().enumerate() {
        let lines: Vec<_> = rows.iter().filter(|(at, _)| *at == nth).map(|(_, row)| line(row)).collect();
        let title = escape(&level.name);
        let plot = latency(&lines);
        writeln!(page, "<figure><h3>{title}: latency by percentile</h3>{plot}</figure>")?;
    }
    writeln!(page, "</div>")?;
    let rows: Vec<_> = rows.iter().map(|(_, row)| row.clone()).collect();
    let text = escape(&table::render(&rows));
    writeln!(
        page,
        "<details><summary>All figures</summary><div class=\"wide\"><pre>{text}</pre></div></details>"
    )
}

/// A figure of all rows, those of the same kind together.
fn dots(rows: &[(usize, Row)], figure: fn(&Figures) -> f64) -> Vec<Dots<'static>> {
    let mut all: Vec<Dots<'static>> = Vec::new();
    for (level, row) in rows {
        let point = (*level, figure(&row.figures));
        match all.iter_mut().find(|dots| dots.class == class(&row.of)) {
            Some(dots) => dots.points.push(point),
            None => all.push(Dots { class: class(&row.of), label: label(&row.of), points: vec![point] }),
        }
    }
    all
}

fn line(row: &Row) -> Line<'static> {
    let points = QUANTILES.into_iter().zip(row.figures.quantiles_us.iter().copied()).collect();
    Line { class: class(&row.of), label: label(&row.of), points }
}

fn class(case: &Case) -> &'static str {
    let coherence = case.pod.as_ref().map(|pod| pod.coherence);
    match (case.transport, case.wait) {
        _ if coherence == Some(Coherence::Software) => "t-software",
        _ if coherence == Some(Coherence::Hardware) => "t-hardware",
        _ if case.api == Api::Core => "t-core",
        (Transport::NotNets, Some(Wait::Spin)) => "t-spin",
        (Transport::NotNets, Some(Wait::Park)) => "t-park",
        (transport, _) => class_of(transport),
    }
}

fn class_of(transport: Transport) -> &'static str {
    match transport {
        Transport::Floor | Transport::Iceoryx2 | Transport::Iceoryx2Event => "t-floor",
        Transport::Null => "t-null",
        Transport::Tcp => "t-tcp",
        Transport::Uds => "t-uds",
        Transport::Streams => "t-park",
        Transport::NotNets => "t-notnets",
    }
}

fn label(case: &Case) -> &'static str {
    let coherence = case.pod.as_ref().map(|pod| pod.coherence);
    match (case.transport, case.wait) {
        _ if coherence == Some(Coherence::Software) => "pod, software",
        _ if coherence == Some(Coherence::Hardware) => "pod, hardware",
        _ if case.api == Api::Core => "blocking API",
        _ if case.api == Api::Stubs => "own stubs",
        (Transport::NotNets, Some(Wait::Spin)) => "Wait::Spin",
        (Transport::NotNets, Some(Wait::Park)) => "Wait::Park",
        (transport, _) => label_of(transport),
    }
}

fn label_of(transport: Transport) -> &'static str {
    match transport {
        Transport::Floor => "floor",
        Transport::Iceoryx2 => "iceoryx2, polling",
        Transport::Iceoryx2Event => "iceoryx2, event",
        Transport::Null => "generator",
        Transport::Tcp => "TCP",
        Transport::Uds => "Unix socket",
        Transport::Streams => "HTTP/2 over NotNets",
        Transport::NotNets => "NotNets",
    }
}

fn write_idle(page: &mut String, idle_costs: &[IdleCost]) -> Result {
    let Some(first) = idle_costs.first() else { return Ok(()) };
    let links = first.memory.links;
    let seconds = number(first.idle.seconds);
    writeln!(page, "<h2>idle</h2>\n<p class=\"soft\">What {links} links cost that nobody uses.</p>")?;
    writeln!(page, "<div class=\"panels\">")?;
    let bars_of = |value: fn(&IdleCost) -> f64| {
        let bar =
            |one: &IdleCost| Bar { class: class(&one.over), label: label(&one.over), value: value(one) };
        bars(&idle_costs.iter().map(bar).collect::<Vec<_>>())
    };
    let kibibytes = bars_of(|one| one.memory.bytes_per_link / 1024.0);
    let title = "KiB per link: both processes and the kernel";
    writeln!(page, "<figure><h3>{title}</h3>{kibibytes}</figure>")?;
    let wakes = bars_of(|one| one.idle.wake_ups as f64);
    writeln!(page, "<figure><h3>Wake-ups of their server in {seconds} s</h3>{wakes}</figure>")?;
    writeln!(page, "</div>")
}
