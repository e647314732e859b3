//! `notnets completions` and `notnets man`.

use crate::support::World;

#[tokio::test]
async fn completions_and_pages_know_each_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.run(["completions", shell]).await;
        assert_eq!(script.code(), Some(0), "{}", script.err());
        for word in ["agent", "proxy", "--leave", "--expect-server"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.out().contains(word), "{shell}: {word}");
        }
    }
    let directory = world.path("man");
    std::fs::create_dir(&directory).expect("it is new");
    let written = world.run(["man", directory.to_str().expect("UTF-8")]).await;
    assert_eq!(written.code(), Some(0), "{}", written.err());
    for (page, word) in
        [("notnets.1", "proxy"), ("notnets-agent.1", "leave"), ("notnets-region-format.1", "lease")]
    {
        let text = std::fs::read_to_string(directory.join(page)).expect(page);
        assert!(text.contains(word), "{page}");
    }
    let missing = world.run(["man", "/nowhere/man1"]).await;
    assert_eq!(missing.code(), Some(1));
    assert!(missing.err().contains("cannot write pages to /nowhere/man1"), "{}", missing.err());
}

#[tokio::test]
async fn help_is_as_wide_as_the_terminal() {
    let world = World::new();
    for command in ["proxy", "call", "region"] {
        let mut help = world.notnets([command, "--help"]);
        let shown = crate::support::in_time(help.env("COLUMNS", "72").output()).await.expect("it starts");
        let shown = String::from_utf8(shown.stdout).expect("text");
        let longest = shown.lines().max_by_key(|line| line.chars().count()).expect("lines");
        assert!((60..=72).contains(&longest.chars().count()), "{longest}");
    }
}
