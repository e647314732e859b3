//! The README's example is one that is compiled and run.

const README: &str = include_str!("../../README.md");

/// The lines between the first that begins with `from` and the next that begins with `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let after = text.lines().skip_while(|line| !line.starts_with(from)).skip(1);
    after.take_while(|line| !line.starts_with(to)).collect()
}

#[test]
fn the_readmes_example_is_the_quickstart() {
    let compiled = between(include_str!("../src/bin/quickstart.rs"), "// README: begin", "// README: end");
    assert!(!compiled.is_empty());
    assert_eq!(between(README, "// src/main.rs", "```"), compiled);
    let proto: Vec<_> = include_str!("../proto/hello.proto").lines().collect();
    assert_eq!(between(README, "// proto/hello.proto", "```"), proto);
    let build = between(README, "// build.rs", "```").join("\n");
    let compiled = r#"notnets_build::configure().compile_protos(&["proto/hello.proto"], &["proto"])"#;
    assert!(build.contains(compiled) && include_str!("../build.rs").contains(compiled), "{build}");
}

/// What the README tells to depend on is what this package depends on.
#[test]
fn the_readmes_dependencies_are_those_of_the_workspace() {
    let shown = between(README, "# Cargo.toml", "```");
    for dependency in ["prost", "tokio", "tonic", "tonic-prost"] {
        let version = |line: &str| line.split('"').nth(1).map(str::to_owned);
        let find = |lines: &[&str]| {
            let line = lines.iter().find(|line| line.starts_with(&format!("{dependency} =")));
            version(line.unwrap_or_else(|| panic!("no {dependency}"))).expect("a version")
        };
        let workspace: Vec<_> = include_str!("../../Cargo.toml").lines().collect();
        let (shown, used) = (find(&shown), find(&workspace));
        assert!(used.starts_with(&shown), "{dependency}: {shown} in the README, {used} here");
    }
}
