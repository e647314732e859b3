//! Lines on standard output by which a process says to whoever has started it what has become of it.

use std::io::{self, Write};

use serde_json::json;

/// Prints `READY ADDRESS...` or another word with addresses; or an object with `event` and `addresses`.
pub fn announce<'a>(event: &str, addresses: impl IntoIterator<Item = &'a str>, json: bool) {
    let addresses: Vec<_> = addresses.into_iter().collect();
    let line = if json {
        json!({"event": event.to_lowercase(), "addresses": addresses}).to_string()
    } else {
        format!("{event} {}", addresses.join(" "))
    };
    // That process may have closed our output; that is not a reason to stop.
    let _ = writeln!(io::stdout(), "{}", line.trim_end());
}
