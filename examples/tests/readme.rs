//! The README's example is one that is compiled and run.

/// The lines between the first that begins with `from` and the next that begins with `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let after = text.lines().skip_while(|line| !line.starts_with(from)).skip(1);
    after.take_while(|line| !line.starts_with(to)).collect()
}

#[test]
fn the_readmes_example_is_the_greeter() {
    let shown = between(include_str!("../../README.md"), "```rust", "```");
    let compiled = between(include_str!("../src/bin/greeter.rs"), "// README: begin", "// README: end");
    assert!(!compiled.is_empty());
    assert_eq!(shown, compiled);
}
