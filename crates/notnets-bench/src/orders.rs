//! A child process's own side of its pipes: it reads orders as lines of JSON from standard input, and answers
//! with lines of JSON on standard output. [`crate::child`] is the parent's side.
//!
//! The process ends when its input does, which happens however the parent ends, so that no process outlives
//! it.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::bench;

/// Reads the first order. Returns `None` if the input ends before it.
pub fn first<A: DeserializeOwned>() -> Option<A> {
    let mut line = String::new();
    io::stdin().read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    Some(parse(&line))
}

/// Starts a thread that reads orders. `handle` answers those it can answer itself and returns the others,
/// which are passed on.
///
/// When its input ends, the thread ends the process, whatever that is doing, and removes `directory` and
/// what belongs to it: the parent may have been killed.
pub fn listen<A, O>(
    directory: PathBuf,
    handle: impl Fn(A) -> Option<O> + Send + 'static,
) -> mpsc::UnboundedReceiver<O>
where
    A: DeserializeOwned,
    O: Send + 'static,
{
    let (pass_on, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            if let Some(order) = handle(parse(&line)) {
                // A process that only serves does not receive orders.
                let _ = pass_on.send(order);
            }
        }
        // All processes that share the directory remove it at the same time. One that fails leaves it to a
        // faster one.
        let _ = std::fs::remove_dir_all(&directory);
        bench::remove_remains(&directory);
        std::process::exit(0);
    });
    orders
}

/// Reads until the input ends. Whatever is asked meanwhile is ignored.
pub fn wait_for_end() {
    // An input that can't be read has ended, too.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
}

/// Writes one answer. If the parent no longer reads it, the input has ended too, which ends the process.
pub fn answer(what: &impl Serialize) {
    let line = serde_json::to_string(what).expect("numbers and strings");
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn parse<A: DeserializeOwned>(line: &str) -> A {
    serde_json::from_str(line).unwrap_or_else(|error| {
        eprintln!("not something to ask: {line}: {error}");
        std::process::exit(2);
    })
}
