//! The commands that pages of `docs/` show are run, and print what is shown.
//!
//! The `console` blocks of a page are one session of a shell, in a directory of its own. A line that begins
//! with `$ ` is a command, `> ` continues it, and what follows is its output. There `…` is anything,
//! alone on a line any lines. A command that ends with `&` goes on, and its output is awaited. A `python`
//! block is a file, named in its first line; Python runs where `NOTNETS_TEST_PYTHON` says that it has grpcio
//! (`ci/foreign-clients`).

mod console;

use console::{Session, blocks};

/// Runs a page's commands.
fn run(page: &str) {
    let mut session = Session::begin();
    for block in blocks(page) {
        match block.language {
            "console" => session.run(block.text),
            "python" => session.write(block.text),
            _ => {}
        }
    }
}

#[test]
fn tutorial() {
    let page = include_str!("../../docs/tutorial.md");
    run(page);
    // The programs that it shows are those that it runs.
    let programs =
        [include_str!("../src/bin/tutorial_server.rs"), include_str!("../src/bin/tutorial_client.rs")];
    for program in programs {
        assert!(
            blocks(page).any(|block| block.language == "rust" && block.text == program.trim_end()),
            "{program}"
        );
    }
}

#[test]
fn runbook() {
    run(include_str!("../../docs/runbook.md"));
}
