//! Durations as users write them: `250ms`, `2s`, `1.5m`.

use std::time::Duration;

/// The units, those first whose name is another's end.
const UNITS: [(&str, f64); 6] =
    [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Parses a number with a unit; without one it counts seconds.
///
/// # Errors
/// When it is not a duration, with the forms that are.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, seconds)| Some((text.strip_suffix(name)?, *seconds)))
        .unwrap_or((text, 1.0));
    number
        .parse()
        .ok()
        .and_then(|number: f64| Duration::try_from_secs_f64(number * unit).ok())
        .ok_or_else(|| "not a duration: write for example 250ms, 2s, 1.5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        for (text, milliseconds) in
            [("250ms", 250), ("2s", 2000), ("2", 2000), ("1.5m", 90_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse("115ns"), Ok(Duration::from_nanos(115)));
        assert_eq!(parse("50us"), Ok(Duration::from_micros(50)));
        for text in ["", "s", "-1s", "soon", "1d", "inf"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
