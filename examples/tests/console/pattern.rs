//! Whether what was printed is what a page shows.

/// Anything: in a line, or alone on one.
const ANYTHING: &str = "…";

/// Returns `true` if the lines of `printed` are `expected`, the width of spaces aside.
pub fn matches(expected: &[&str], printed: &str) -> bool {
    let expected: Vec<_> = expected.iter().map(|line| single_spaced(line)).collect();
    let printed: Vec<_> = printed.lines().map(single_spaced).collect();
    lines_match(&expected, &printed)
}

fn single_spaced(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lines_match(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == ANYTHING => {
            (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]))
        }
        Some((first, rest)) => printed
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others)),
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    match expected.split_once(ANYTHING) {
        None => expected == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| line_matches(after, rest)))
        }),
    }
}
