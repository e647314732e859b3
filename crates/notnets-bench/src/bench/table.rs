//! Rows as text for a terminal.

use std::fmt::Write;

use notnets_cli_common::number::number;

use super::figures::Row;
use super::pod::Memory;

/// A line for each row.
pub fn render(rows: &[Row]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, rows);
    text
}

fn write(text: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(
        text,
        "{:<14} {:<15} {:<8} {:>8} {:>5} {:>7} {:>8} {:>5} {:>10} {:>5} {:<9}{:>10}{:>10}{:>10}{:>11}{:>10}{:>9}{:>9}{:>9}{:>9}{:>11}{:>8}{:>16}",
        "case",
        "over",
        "wait",
        "payload",
        "open",
        "clients",
        "replicas",
        "links",
        "neighbours",
        "quota",
        "runtime",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "calls/s",
        "CPU µs",
        "client",
        "server",
        "wakes",
        "preempt",
        "throttled",
        "others",
        "lines"
    )?;
    for Row { of, figures, .. } in rows {
        let wait = of.wait.map_or_else(|| "-".to_owned(), |wait| wait.to_string());
        let over = of.way();
        let [to_servers, to_clients] =
            [figures.lines_to_servers_per_call, figures.lines_to_clients_per_call].map(number);
        let lines = of.pod.as_ref().map_or_else(|| "-".to_owned(), |_| format!("{to_servers}+{to_clients}"));
        let quota = of.quota.map_or_else(|| "-".to_owned(), |cores| cores.to_string());
        let throttled =
            of.quota.map_or_else(|| "-".to_owned(), |_| format!("{}/s", number(figures.throttled_per_s)));
        let runtime = match (of.workers, of.pinned) {
            (0, false) => format!("1 × {}", of.connections),
            (0, true) => format!("1 × {} pin", of.connections),
            (workers, false) => format!("{workers}w × {}", of.connections),
            (workers, true) => format!("{workers}w × {} pin", of.connections),
        };
        writeln!(
            text,
            "{:<14} {over:<15} {wait:<8} {:>8} {:>5} {:>7} {:>8} {:>5} {:>10} {quota:>5} {runtime:<9}{:>10}{:>10}{:>10}{:>11}{:>10}{:>9}{:>9}{:>9}{:>9}{throttled:>11}{:>8}{:>16}",
            of.work,
            of.size,
            of.rate.map_or_else(|| of.outstanding.to_string(), |rate| format!("{rate:.0}/s")),
            of.clients,
            if of.replicas > 0 { of.replicas.to_string() } else { "-".to_owned() },
            of.links,
            of.neighbours,
            number(figures.p50_us),
            number(figures.p99_us),
            number(figures.p999_us),
            number(figures.calls_per_s),
            number(figures.cpu_us_per_call),
            number(figures.client_cpu_us_per_call),
            number(figures.server_cpu_us_per_call),
            number(figures.wake_ups_per_call),
            number(figures.preemptions_per_call),
            number(figures.disturbance),
            lines,
        )?;
    }
    let is_model = |row: &Row| row.of.pod.as_ref().is_some_and(|pod| pod.memory != Memory::LOCAL);
    if rows.iter().any(is_model) {
        writeln!(text, "(+nanoseconds of a line, /GB/s: a model of far memory, on top of this machine's)")?;
    }
    Ok(())
}
