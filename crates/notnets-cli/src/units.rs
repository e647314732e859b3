//! Numbers with units, for people.

/// A time in microseconds, to three digits.
pub fn micros(us: f64) -> String {
    match us {
        ..9.995 => format!("{us:.2} µs"),
        ..99.95 => format!("{us:.1} µs"),
        ..999.5 => format!("{us:.0} µs"),
        ..9_995.0 => format!("{:.2} ms", us / 1e3),
        ..99_950.0 => format!("{:.1} ms", us / 1e3),
        ..999_500.0 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

/// Bytes, to three digits or so.
pub fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    if size < 1023.5 {
        return format!("{bytes} B");
    }
    let mut unit = "";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if size < 1023.5 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    let digits = if size < 9.95 { 1 } else { 0 };
    format!("{size:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_units() {
        for (size, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (15 << 20, "15 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(size), shown);
        }
    }
}
