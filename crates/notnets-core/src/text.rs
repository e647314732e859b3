//! Text of a peer, for people.

/// Returns the text with its control characters escaped: a terminal or a log would obey them.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(shown("no bread – 100 %"), "no bread – 100 %");
        assert_eq!(shown("a\u{1b}[31mb\n\u{85}"), "a\\u{1b}[31mb\\n\\u{85}");
    }
}
