//! A report in words.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use notnets_core::stats::{Count, Counts};

use crate::observe::findings::seconds;
use crate::observe::report::{End, Link, Method, Open, Report, Sums, Times, method_name};
use crate::table::{age, aligned};
use crate::units::{bytes, micros};

/// All of a report.
pub fn of(report: &Report) -> String {
    let mut text = format!("process {} ({})", report.pid, report.command);
    if let Some(uid) = report.uid {
        write!(text, ", user {uid}").expect("strings take everything");
    }
    text.push('\n');
    for finding in &report.findings {
        text += &format!("  ! {finding}\n");
    }
    let memory = report.memory.iter().filter(|(_, size)| **size > 0);
    let memory: Vec<_> =
        memory.map(|(kind, size)| format!("{} {}", bytes(*size), kind.replace('_', " "))).collect();
    if !memory.is_empty() {
        text += &format!("  shared memory: {}\n", memory.join(", "));
    }
    for server in &report.servers {
        text += &format!("\nserves {}, for {}\n", server.names, age(server.since, SystemTime::now()));
        end(server, &mut text);
    }
    if let Some(clients) = &report.clients {
        text += &format!("\ncalls others, for {}\n", age(clients.since, SystemTime::now()));
        end(clients, &mut text);
    }
    text
}

fn end(end: &End, text: &mut String) {
    let closed = end.links_total - end.links_open.min(end.links_total);
    *text += &format!("  links: {} open, {closed} closed", end.links_open);
    for (count, what) in [(end.links_broken, "broke the protocol"), (end.links_unlisted, "not listed")] {
        if count > 0 {
            *text += &format!(", {count} {what}");
        }
    }
    text.push('\n');
    for (reason, times) in &end.refused {
        *text += &format!("  refused: {times} {}\n", reason.replace('_', " "));
    }
    sums(&end.counts, text);
    if !end.methods.is_empty() {
        text.push('\n');
        *text += &indented(&methods(&end.methods));
    }
    for link in &end.links {
        link_in_words(link, text);
    }
}

fn sums(Sums(counts): &Sums, text: &mut String) {
    *text += &format!(
        "  messages: {} sent, {} received\n",
        counts.of(Count::MessagesSent),
        counts.of(Count::MessagesReceived)
    );
    *text += &format!(
        "  data: {} bytes in {} frames sent, {} bytes in {} frames received\n",
        counts.of(Count::BytesSent),
        counts.of(Count::FramesSent),
        counts.of(Count::BytesReceived),
        counts.of(Count::FramesReceived)
    );
    *text += &format!(
        "  waking: {} doorbells rung, {} received, polled in vain {} times, slept {} times for {} in all\n",
        counts.of(Count::DoorbellsRung),
        counts.of(Count::DoorbellsReceived),
        counts.of(Count::PollsInVain),
        counts.of(Count::Parks),
        seconds(Duration::try_from_secs_f64(counts.parked_seconds).unwrap_or_default())
    );
    let counted = |counts: &Counts, count| Some(counts.of(count)).filter(|times| *times > 0);
    let waits = [
        (Count::NoRoom, "for room"),
        (Count::NoStreamCredit, "for credit of a stream"),
        (Count::NoLinkCredit, "for credit of a link"),
        (Count::NoStream, "for one of the calls that may be open"),
    ];
    let waits = waits.into_iter();
    let waits: Vec<_> =
        waits.filter_map(|(count, what)| Some(format!("{} {what}", counted(counts, count)?))).collect();
    if !waits.is_empty() {
        *text += &format!("  waits to send: {}\n", waits.join(", "));
    }
    let ends = [
        (Count::Unanswered, "calls without an answer"),
        (Count::Refused, "requests refused"),
        (Count::OverCallRate, "calls over their users' calls a second"),
        (Count::OverByteRate, "calls over their users' bytes a second"),
        (Count::ReadLater, "reads put off by their users' bytes a second"),
    ];
    for (count, what) in ends {
        if let Some(times) = counted(counts, count) {
            *text += &format!("  {what}: {times}\n");
        }
    }
    for (kind, tally) in counts.payloads.present() {
        let (kind, frames, bytes) = (kind.name().replace('_', " "), tally.frames, tally.bytes);
        *text += &format!("  large payloads {kind}: {bytes} bytes in {frames} frames\n");
    }
}

const METHOD_HEADINGS: [&str; 8] = ["METHOD", "CALLS", "OPEN", "FAILED", "MEAN", "P50", "P99", "MAX"];

fn methods(methods: &[Method]) -> String {
    let rows = methods.iter().map(|method| {
        let failed: u64 =
            method.ended.iter().filter(|(status, _)| **status != "OK").map(|(_, calls)| calls).sum();
        let time = |of: fn(&Times) -> f64| {
            method.times.as_ref().map_or_else(|| "-".to_owned(), |times| micros(of(times)))
        };
        [
            method_name(&method.method),
            method.started.to_string(),
            method.open.to_string(),
            failed.to_string(),
            time(|times| times.mean_us),
            time(|times| times.p50_us),
            time(|times| times.p99_us),
            time(|times| times.max_us),
        ]
    });
    aligned(METHOD_HEADINGS, rows)
}

fn link_in_words(link: &Link, text: &mut String) {
    let mut peer = link
        .peer_pid
        .map_or_else(|| "a process that can't be seen".to_owned(), |pid| format!("process {pid}"));
    if let Some(command) = &link.peer_command {
        peer += &format!(" ({command})");
    }
    let state = match link.parked_seconds {
        None => "awake".to_owned(),
        Some(parked) => {
            format!("asleep for {}", seconds(Duration::try_from_secs_f64(parked).unwrap_or_default()))
        }
    };
    let since = age(link.since, SystemTime::now());
    *text += &format!(
        "\n  link {} with {peer}, user {}, by {}, for {since}: {state}\n",
        link.link, link.peer_uid, link.transport
    );
    if !link.target.is_empty() {
        *text += &format!("    {}\n", link.target);
    }
    let mut sums_text = String::new();
    sums(&link.counts, &mut sums_text);
    *text += &indented(&sums_text);
    let segments = [(link.segments_offered, "this side's"), (link.segments_mapped, "the peer's")];
    for (bytes, whose) in segments.into_iter().filter(|(bytes, _)| *bytes > 0) {
        *text += &format!("    further segments, {whose}: {bytes} bytes\n");
    }
    if link.blocks_out > 0 {
        let (blocks, held) = (link.blocks_out, bytes(link.bytes_out));
        *text += &format!("    blocks that the peer had when the link slept last: {blocks}, of {held}\n");
    }
    if let Some(failure) = &link.last_failure {
        *text += &format!("    last failure: {failure}\n");
    }
    if !link.open.is_empty() {
        *text += &indented(&indented(&open(&link.open)));
    }
}

fn open(calls: &[Open]) -> String {
    let rows = calls.iter().map(|call| {
        [
            method_name(&call.method),
            micros(call.age_seconds * 1e6),
            call.left_seconds.map_or_else(|| "none".to_owned(), |left| format!("in {left:.1} s")),
            call.waits_for.to_owned(),
        ]
    });
    aligned(["OPEN CALL", "AGE", "DEADLINE", "WAITS FOR"], rows)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}
