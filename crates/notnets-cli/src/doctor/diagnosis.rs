//! The diagnosis that follows from the litmus tests of two hosts.

use notnets_cli_common::number::number;
use notnets_memory::Coherence;

use super::finding::{Figures, Finding, Findings};
use super::litmus_run::{LitmusResult, Outcome};

/// Adds what was found and what to do about it.
pub fn diagnose(outcome: &Outcome, findings: &mut Findings) {
    let Outcome { peer, configured, with_flush, without_flush, figures } = outcome;
    findings.peer = Some(*peer);
    findings.push(with_flush_finding(with_flush));
    findings.push(without_flush_finding(*configured, without_flush));
    findings.push(order(*configured, with_flush, without_flush));
    if with_flush.works() {
        let Figures { line_round_trip_ns, write_gb_per_s, read_gb_per_s } = figures;
        findings.figures = Some(*figures);
        findings.push(Finding::ok(
            "latency",
            format!(
                "a line goes over to host {peer} and back in {} ns: a null call takes no less",
                number(*line_round_trip_ns)
            ),
        ));
        findings.push(Finding::ok(
            "bandwidth",
            format!(
                "this host writes {} GB/s, and reads what host {peer} wrote at {} GB/s",
                number(*write_gb_per_s),
                number(*read_gb_per_s)
            ),
        ));
    }
}

/// Checks that lines which are written back and invalidated arrive.
fn with_flush_finding(with_flush: &LitmusResult) -> Finding {
    if with_flush.works() {
        Finding::ok(
            "litmus",
            format!(
                "with write-back and invalidation all of {} words arrived, whole and in order",
                with_flush.lines.words + with_flush.messages.words
            ),
        )
    } else {
        Finding::fault("litmus", format!("with write-back and invalidation {}", wrong(with_flush))).todo(
            "do not use this memory for a pod: look whether both hosts map the same device at the same offset, \
             with write-back caching, and whether a newer firmware is there",
        )
    }
}

/// Compares whether caches agree by themselves with the configured coherence.
fn without_flush_finding(configured: Coherence, without_flush: &LitmusResult) -> Finding {
    match (configured, without_flush.works()) {
        (Coherence::Hardware, true) => {
            Finding::ok("coherence", "without write-back nothing was stale either, as the region says")
        }
        (Coherence::Software, false) => {
            Finding::ok("coherence", format!("without write-back {}: software is needed, as the region says", wrong(without_flush)))
        }
        (Coherence::Hardware, false) => Finding::fault("coherence", format!(
            "the region says that the hardware keeps it coherent, and without write-back {}",
            wrong(without_flush)
        ))
        .todo("stop the pod, and format the region with `--coherence software`"),
        (Coherence::Software, true) => Finding::note(
            "coherence",
            "without write-back nothing was stale either, so caches may agree by themselves: tests can't prove that",
        )
        .todo(
            "if the hosts are virtual machines of one machine, or the device's vendor promises coherence between \
             hosts, format with `--coherence hardware`: messages take fewer nanoseconds",
        ),
    }
}

/// Reports whether two hosts that store at once and then look can both miss the other's store.
fn order(configured: Coherence, with_flush: &LitmusResult, without_flush: &LitmusResult) -> Finding {
    let result = if configured == Coherence::Software { with_flush } else { without_flush };
    match (result.exchanges, result.unseen) {
        (0, _) => Finding::note("order", "the order of stores and looks was not tried, for stores get lost"),
        (all, 0) => Finding::ok("order", format!("of {all} pairs of stores at once, at least one side saw the other's")),
        (all, unseen) => Finding::note("order", format!(
            "of {all} pairs of stores at once, {unseen} were seen by neither side at first: a pod does not rely on that"
        ))
        .todo("nothing; other programs that use this memory need to know"),
    }
}

fn wrong(result: &LitmusResult) -> String {
    let seen = result.lines.and(result.messages);
    match (seen.is_clean(), result.lost) {
        (true, lost) => format!("{lost} messages were never seen"),
        (false, _) => format!("{} of {} words were old and {} were torn", seen.stale, seen.words, seen.torn),
    }
}

#[cfg(test)]
mod tests {
    use notnets_memory::litmus::Seen;

    use super::*;

    fn result(stale: u64, unseen: u64) -> LitmusResult {
        let lines = Seen { words: 1000, stale, torn: 0 };
        let exchanges = if stale == 0 { 100 } else { 0 };
        LitmusResult { lines, unseen, exchanges, ..LitmusResult::default() }
    }

    fn diagnosed(configured: Coherence, with_flush: LitmusResult, without_flush: LitmusResult) -> Findings {
        let figures = Figures { line_round_trip_ns: 700.0, write_gb_per_s: 5.0, read_gb_per_s: 4.0 };
        let mut findings = Findings::new("/dev/dax0.0".as_ref());
        diagnose(&Outcome { peer: 1, configured, with_flush, without_flush, figures }, &mut findings);
        findings
    }

    #[test]
    fn what_the_region_says_is_compared_with_what_was_found() {
        let clean = result(0, 0);
        let stale = result(7, 0);
        let faults =
            |configured, with_flush, without_flush| diagnosed(configured, with_flush, without_flush).faults();
        assert_eq!(faults(Coherence::Hardware, clean, clean), 0);
        assert_eq!(faults(Coherence::Software, clean, clean), 0);
        assert_eq!(faults(Coherence::Software, clean, stale), 0);
        assert_eq!(faults(Coherence::Hardware, clean, stale), 1);
        assert_eq!(faults(Coherence::Software, stale, stale), 1);
        assert_eq!(faults(Coherence::Hardware, stale, stale), 2);
        let text = diagnosed(Coherence::Hardware, clean, stale).text();
        assert!(text.contains("7 of 1000 words were old") && text.contains("--coherence software"), "{text}");
        let text = diagnosed(Coherence::Software, clean, clean).text();
        assert!(text.contains("tests can't prove that"), "{text}");
        let text = diagnosed(Coherence::Software, result(0, 3), clean).text();
        assert!(text.contains("3 were seen by neither side"), "{text}");
    }

    #[test]
    fn memory_that_loses_messages_has_no_figures() {
        let lost = LitmusResult { lost: 1, ..result(0, 0) };
        let findings = diagnosed(Coherence::Software, lost, lost);
        assert!(findings.figures.is_none() && findings.text().contains("1 messages were never seen"));
    }
}
