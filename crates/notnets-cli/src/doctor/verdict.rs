//! What follows from what two hosts tried.

use notnets_cli_common::number::number;
use notnets_memory::Coherence;

use super::finding::{Figures, Finding, Findings};
use super::trial::{Outcome, Tried};

/// Says what was found, and what to do.
pub fn judge(outcome: &Outcome, findings: &mut Findings) {
    let Outcome { peer, said, kept, plain, figures } = outcome;
    findings.peer = Some(*peer);
    findings.push(kept_finding(kept));
    findings.push(plain_finding(*said, plain));
    findings.push(order(*said, kept, plain));
    if kept.works() {
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

/// Lines that are written back and invalidated have to arrive.
fn kept_finding(kept: &Tried) -> Finding {
    match kept.works() {
        true => Finding::ok("litmus", format!(
            "with write-back and invalidation all of {} words arrived, whole and in order",
            kept.lines.words + kept.messages.words
        )),
        false => Finding::fault("litmus", format!("with write-back and invalidation {}", wrong(kept))).todo(
            "do not use this memory for a pod: look whether both hosts map the same device at the same offset, \
             with write-back caching, and whether a newer firmware is there",
        ),
    }
}

/// Whether caches agree by themselves, beside what the superblock says.
fn plain_finding(said: Coherence, plain: &Tried) -> Finding {
    match (said, plain.works()) {
        (Coherence::Hardware, true) => {
            Finding::ok("coherence", "without write-back nothing was stale either, as the region says")
        }
        (Coherence::Software, false) => {
            Finding::ok("coherence", format!("without write-back {}: software is needed, as the region says", wrong(plain)))
        }
        (Coherence::Hardware, false) => Finding::fault("coherence", format!(
            "the region says that the hardware keeps it coherent, and without write-back {}",
            wrong(plain)
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

/// Each of two stores before a look at the other's.
fn order(said: Coherence, kept: &Tried, plain: &Tried) -> Finding {
    let tried = if said == Coherence::Software { kept } else { plain };
    match (tried.exchanges, tried.unseen) {
        (0, _) => Finding::note("order", "the order of stores and looks was not tried, for stores get lost"),
        (all, 0) => Finding::ok("order", format!("of {all} pairs of stores at once, at least one side saw the other's")),
        (all, unseen) => Finding::note("order", format!(
            "of {all} pairs of stores at once, {unseen} were seen by neither side at first: a pod does not rely on that"
        ))
        .todo("nothing; other programs that use this memory need to know"),
    }
}

fn wrong(tried: &Tried) -> String {
    let seen = tried.lines.and(tried.messages);
    match (seen.is_clean(), tried.lost) {
        (true, lost) => format!("{lost} messages were never seen"),
        (false, _) => format!("{} of {} words were old and {} were torn", seen.stale, seen.words, seen.torn),
    }
}

#[cfg(test)]
mod tests {
    use notnets_memory::litmus::Seen;

    use super::*;

    fn tried(stale: u64, unseen: u64) -> Tried {
        let lines = Seen { words: 1000, stale, torn: 0 };
        let exchanges = if stale == 0 { 100 } else { 0 };
        Tried { lines, unseen, exchanges, ..Tried::default() }
    }

    fn judged(said: Coherence, kept: Tried, plain: Tried) -> Findings {
        let figures = Figures { line_round_trip_ns: 700.0, write_gb_per_s: 5.0, read_gb_per_s: 4.0 };
        let mut findings = Findings::new("/dev/dax0.0".as_ref());
        judge(&Outcome { peer: 1, said, kept, plain, figures }, &mut findings);
        findings
    }

    #[test]
    fn what_the_region_says_is_compared_with_what_was_found() {
        let (clean, stale) = (tried(0, 0), tried(7, 0));
        let faults = |said, kept, plain| judged(said, kept, plain).faults();
        assert_eq!(faults(Coherence::Hardware, clean, clean), 0);
        assert_eq!(faults(Coherence::Software, clean, clean), 0);
        assert_eq!(faults(Coherence::Software, clean, stale), 0);
        assert_eq!(faults(Coherence::Hardware, clean, stale), 1);
        assert_eq!(faults(Coherence::Software, stale, stale), 1);
        assert_eq!(faults(Coherence::Hardware, stale, stale), 2);
        let text = judged(Coherence::Hardware, clean, stale).text();
        assert!(text.contains("7 of 1000 words were old") && text.contains("--coherence software"), "{text}");
        let text = judged(Coherence::Software, clean, clean).text();
        assert!(text.contains("tests can't prove that"), "{text}");
        let text = judged(Coherence::Software, tried(0, 3), clean).text();
        assert!(text.contains("3 were seen by neither side"), "{text}");
    }

    #[test]
    fn memory_that_loses_messages_has_no_figures() {
        let lost = Tried { lost: 1, ..tried(0, 0) };
        let findings = judged(Coherence::Software, lost, lost);
        assert!(findings.figures.is_none() && findings.text().contains("1 messages were never seen"));
    }
}
