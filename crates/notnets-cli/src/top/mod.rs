//! `notnets top`: what the processes of this host do, at each moment.
//!
//! [`rates`] says what happened between two looks, [`tables`] what of it is shown, [`app`] what keys do to
//! that, [`view`] how it is drawn, and [`screen`] takes turns among them in a terminal.

mod app;
mod rates;
mod screen;
mod tables;
mod view;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use notnets_cli_common::duration;
use tokio::signal::unix::{SignalKind, signal};

use self::app::App;
use self::rates::{Interval, Look};
use crate::failure::Failure;

/// The arguments of the subcommand.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Keys: up and down choose a row, Enter shows more of it and Esc less, Tab goes to the next table,
s sorts by the next column and r the other way round, / filters, q ends.")]
pub struct Args {
    /// How long to count before each look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
    /// Print tables of one interval as text, and end
    #[arg(long)]
    once: bool,
    /// Print a JSON object for each interval
    #[arg(long)]
    json: bool,
    /// Show only rows with this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Say what calls wait for that are open for as long
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    stuck_after: Duration,
}

/// The shortest interval: looks cost something, too.
const SHORTEST: Duration = Duration::from_millis(50);

/// Shows what happens until it is told to end.
///
/// # Errors
/// When there is no terminal to draw in.
pub async fn run(mut args: Args) -> Result<(), Failure> {
    args.interval = args.interval.max(SHORTEST);
    if args.once || args.json {
        return print(&args).await;
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::new("there is no terminal to draw in: give --once or --json"));
    }
    // The terminal has to be as before also after a signal.
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;
    let stop = screen::Stop::default();
    let stopped = stop.clone();
    let mut screen = tokio::task::spawn_blocking(move || screen::run(&args, &stopped));
    let ended = tokio::select! {
        ended = &mut screen => ended,
        _ = terminate.recv() => {
            stop.ask();
            screen.await
        }
    };
    let cannot_draw = |error: io::Error| Failure::new(format!("cannot draw in the terminal: {error}"));
    ended.map_err(|error| cannot_draw(error.into()))?.map_err(cannot_draw)
}

/// Prints intervals, one or until nobody reads.
async fn print(args: &Args) -> Result<(), Failure> {
    let mut earlier = Look::now();
    loop {
        tokio::time::sleep(args.interval).await;
        let look = Look::now();
        let interval = Interval::between(&earlier, &look, args.stuck_after);
        earlier = look;
        let text = if args.json {
            let interval = interval.filtered(&args.filter);
            serde_json::to_string(&interval).expect("plain structs always serialise") + "\n"
        } else {
            App::new(&args.filter).everything(&interval)
        };
        let mut out = io::stdout().lock();
        // A reader that has seen enough (`| head`) is not a failure.
        let is_read = out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok();
        if args.once || !is_read {
            return Ok(());
        }
    }
}
