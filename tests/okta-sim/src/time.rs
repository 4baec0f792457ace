//! Dates as Okta writes and reads them, without a time zone database.
//!
//! Entry points: `iso_ms`, `iso_seconds`, `parse_iso_ms`, `http_date`. All times are UTC.

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(crate) type UnixMs = i64;

const DAY_S: i64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Year, month (1..=12) and day (1..=31) of a number of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date; the inverse of `civil`.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// `2026-03-04T05:06:07.089Z`.
pub(crate) fn iso_ms(at: UnixMs) -> String {
    let seconds = at.div_euclid(1_000);
    let (year, month, day) = civil(seconds.div_euclid(DAY_S));
    let second_of_day = seconds.rem_euclid(DAY_S);
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    let mut text = String::with_capacity(24);
    push_digits(&mut text, year, 4);
    for (mark, value) in [('-', month), ('-', day), ('T', hour), (':', minute), (':', second)] {
        text.push(mark);
        push_digits(&mut text, value, 2);
    }
    text.push('.');
    push_digits(&mut text, at.rem_euclid(1_000), 3);
    text.push('Z');
    text
}

/// `2026-03-04T05:06:07.000Z`: core objects never carry a fraction other than zero (facts 15.10).
pub(crate) fn iso_seconds(at_s: u32) -> String {
    iso_ms(i64::from(at_s) * 1_000)
}

fn push_digits(text: &mut String, value: i64, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10i64.pow(place) % 10;
        text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
    }
}

/// `Sun, 02 Aug 2026 09:00:22 GMT`, the form of the `Date` header.
pub(crate) fn http_date(at: UnixMs) -> String {
    let seconds = at.div_euclid(1_000);
    let days = seconds.div_euclid(DAY_S);
    let (year, month, day) = civil(days);
    let second_of_day = seconds.rem_euclid(DAY_S);
    let weekday = WEEKDAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)];
    let month_name = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
    let (hour, minute, second) = (second_of_day / 3_600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{weekday}, {day:02} {month_name} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads `2026-03-04T05:06:07.000Z`, with or without a fraction, with `Z` or an offset such as `+02:00`.
/// A date without time is midnight. `None` for anything else.
pub(crate) fn parse_iso_ms(text: &str) -> Option<UnixMs> {
    if !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let mark = |place: usize, wanted: u8| text.as_bytes().get(place) == Some(&wanted);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !mark(4, b'-') || !mark(7, b'-') || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = days_of(year, month, day) * DAY_S;
    if text.len() == 10 {
        return Some(midnight * 1_000);
    }
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !mark(10, b'T') || !mark(13, b':') || !mark(16, b':') || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut fraction_ms = 0;
    if let Some(after_point) = rest.strip_prefix('.') {
        let digits = after_point.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 9 {
            return None;
        }
        let padded = format!("{:0<3}", &after_point[..digits]);
        fraction_ms = padded[..3].parse().ok()?;
        rest = &after_point[digits..];
    }
    let offset_s = match rest {
        "Z" => 0,
        _ => offset_seconds(rest)?,
    };
    Some((midnight + hour * 3_600 + minute * 60 + second - offset_s) * 1_000 + fraction_ms)
}

fn offset_seconds(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 14 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<UnixMs>) {
        assert_eq!(parse_iso_ms(text), expected, "{text}");
    }

    #[test]
    fn dates_are_read() {
        check("1970-01-01T00:00:00.000Z", Some(0));
        check("2026-08-02T09:00:03.511Z", Some(1_785_661_203_511));
        check("2026-08-02T11:00:03.511+02:00", Some(1_785_661_203_511));
        check("2026-08-02T09:00:03Z", Some(1_785_661_203_000));
        check("2026-08-02T09:00:03.5Z", Some(1_785_661_203_500));
        check("2024-02-29", Some(1_709_164_800_000));
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-08-02T09:00",
            "2026-08-02T09:00:03",
            "2026-08-02T09:00:03.Z",
            "2026-08-02T25:00:00Z",
            "２026-08-02",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn dates_are_written() {
        assert_eq!(iso_ms(1_785_661_203_511), "2026-08-02T09:00:03.511Z");
        assert_eq!(iso_seconds(1_709_164_800), "2024-02-29T00:00:00.000Z");
        assert_eq!(http_date(1_785_661_222_000), "Sun, 02 Aug 2026 09:00:22 GMT");
        for days in (-1_000..40_000).step_by(17) {
            let at = days * DAY_S * 1_000;
            assert_eq!(parse_iso_ms(&iso_ms(at)), Some(at));
        }
    }
}
