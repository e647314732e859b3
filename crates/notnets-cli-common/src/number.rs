//! Figures: their medians, and texts for people.

/// Returns the value in the middle, or between the two in the middle. The median of no values is 0.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Formats a figure with three digits or to the unit, and with separated thousands.
pub fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats bytes in the largest unit that loses nothing.
pub fn bytes(count: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(shift, _)| count >= 1 << shift && count.is_multiple_of(1 << shift));
    match unit {
        Some((shift, name)) => format!("{} {name}", count >> shift),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_every_digit() {
        let texts = [0, 1023, 4096, 6 << 20, (1 << 20) + 1, 3 << 40].map(bytes);
        assert_eq!(texts, ["0 bytes", "1023 bytes", "4 KiB", "6 MiB", "1048577 bytes", "3 TiB"]);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), 3.0);
    }

    #[test]
    fn numbers() {
        let texts = [1.234, 12.34, 123.4, 1234.5, 1_234_567.0].map(number);
        assert_eq!(texts, ["1.23", "12.3", "123", "1,234", "1,234,567"]);
    }
}
