//! The terminal: looks, keys and drawing take turns.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::Args;
use super::app::App;
use super::rates::{Interval, Look};
use super::view::draw;

/// How long a wish to stop may wait.
const TURN: Duration = Duration::from_millis(100);

/// A wish that the screen ends.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn ask(&self) {
        // It is all that is told.
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Draws until a key or `stop` ends it, and leaves the terminal as it was.
///
/// # Errors
/// When the terminal can't be used.
pub fn run(args: &Args, stop: &Stop) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let ended = turns(&mut terminal, args, stop);
    ratatui::try_restore()?;
    ended
}

fn turns(terminal: &mut DefaultTerminal, args: &Args, stop: &Stop) -> io::Result<()> {
    let mut app = App::new(&args.filter);
    let mut look = Look::now();
    let mut interval = Interval::between(&look, &look, args.stuck_after);
    // There are rates soon, if rough ones.
    let mut due = Instant::now() + args.interval.min(Duration::from_millis(250));
    while !stop.is_asked() {
        let page = app.page(&interval);
        terminal.draw(|frame| draw(frame, &page, &app))?;
        let mut wait = due.saturating_duration_since(Instant::now()).min(TURN);
        while event::poll(wait)? {
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && !app.press(key, &interval)
            {
                return Ok(());
            }
            // All that was typed is drawn at once.
            wait = Duration::ZERO;
        }
        if Instant::now() >= due {
            let earlier = std::mem::replace(&mut look, Look::now());
            interval = Interval::between(&earlier, &look, args.stuck_after);
            due = Instant::now() + args.interval;
        }
    }
    Ok(())
}
