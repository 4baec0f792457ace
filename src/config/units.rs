//! Durations (`1h30m`) and sizes (`64MB`) as text. Entry points: [`parse_duration`], [`parse_size`] and their inverses.
//!
//! Invariants: reading what was written gives the same value (property test); an overflow is an error, not a wrap.

use std::time::Duration;

/// Units of a duration in milliseconds, largest first.
const DURATION_UNITS_MS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Units of a size in bytes. Decimal ones are powers of 1000, binary ones of 1024, as IEC 80000-13 has it.
const SIZE_UNITS_BYTES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `15s`, `6h`, `1h30m`, `500ms`: whole numbers with a unit, largest unit first, each at most once. `None` for
/// anything else, also for a number without unit: the reader of the file should not have to guess it.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = DURATION_UNITS_MS.iter();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        // The iterator is not rewound: a unit that was passed cannot come again.
        let (_, unit_ms) = units.by_ref().find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(number.checked_mul(*unit_ms)?)?;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

/// Writes a duration so that [`parse_duration`] reads the same; what is below a millisecond is cut.
pub(super) fn format_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, unit_ms) in DURATION_UNITS_MS {
        // Whole days only when nothing else follows: `24h` reads better than `1d`, `36h` better than `1d12h`.
        if unit == "d" && (!rest_ms.is_multiple_of(unit_ms) || rest_ms <= unit_ms) {
            continue;
        }
        if rest_ms >= unit_ms {
            text.push_str(&format!("{}{unit}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads `64MB`, `4MiB`, `1000` (bytes): one whole number, with or without unit. `None` for anything else.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    if unit.is_empty() {
        return Some(number);
    }
    let (_, unit_bytes) = SIZE_UNITS_BYTES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*unit_bytes)
}

/// Writes a size so that [`parse_size`] reads the same.
pub(super) fn format_size(bytes: u64) -> String {
    let unit =
        SIZE_UNITS_BYTES.iter().find(|(_, unit_bytes)| bytes >= *unit_bytes && bytes.is_multiple_of(*unit_bytes));
    match unit {
        Some((name, unit_bytes)) => format!("{}{name}", bytes / unit_bytes),
        None => format!("{bytes}B"),
    }
}

/// Splits the digits off the front; at least one, and the number fits.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(digits_end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        #[track_caller]
        fn check(text: &str, expected_ms: Option<u64>) {
            assert_eq!(parse_duration(text).map(|duration| duration.as_millis() as u64), expected_ms, "{text:?}");
        }
        check("15s", Some(15_000));
        check("6h", Some(21_600_000));
        check("1h30m", Some(5_400_000));
        check("1d2h3m4s5ms", Some(93_784_005));
        check("500ms", Some(500));
        check("0s", Some(0));
        check("90m", Some(5_400_000));
        check("", None);
        check("15", None);
        check("s", None);
        check("1.5h", None);
        check("-1s", None);
        check("1 h", None);
        check("30m1h", None);
        check("1h1h", None);
        check("1h30", None);
        check("6H", None);
        check("1w", None);
        check("6h ", None);
        check("١s", None);
        check("18446744073709551615ms", Some(u64::MAX));
        check("18446744073709551616ms", None);
        check("18446744073709551615d", None);
        check("213503982334d14h25m51s615ms1ms", None);
    }

    #[test]
    fn durations_are_written_as_people_would() {
        #[track_caller]
        fn check(seconds: u64, expected: &str) {
            assert_eq!(format_duration(Duration::from_secs(seconds)), expected);
        }
        check(0, "0s");
        check(1, "1s");
        check(5_400, "1h30m");
        check(86_400, "24h");
        check(129_600, "36h");
        check(7 * 86_400, "7d");
    }

    #[test]
    fn sizes() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
        check("64MB", Some(64_000_000));
        check("64MiB", Some(67_108_864));
        check("1000", Some(1_000));
        check("1kB", Some(1_000));
        check("1KB", Some(1_000));
        check("1KiB", Some(1_024));
        check("3B", Some(3));
        check("2GiB", Some(2_147_483_648));
        check("", None);
        check("MB", None);
        check("64mb", None);
        check("64 MB", None);
        check("6.4MB", None);
        check("-1", None);
        check("1MB2kB", None);
        check("18446744073709551616", None);
        check("18446744073709551615GB", None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms: u64, bytes: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
