//! Instants in the API's answers.

use anyhow::{Context, Result};

/// Milliseconds since 1970 of an instant in UTC, like `2026-11-30T08:05:09.123Z`.
pub fn unix_ms(text: &str) -> Result<f64> {
    parse(text).with_context(|| format!("{text:?} is not an instant in UTC, like 2026-11-30T08:05:09.123Z"))
}

fn parse(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':');
    let hours: f64 = time.next()?.parse().ok()?;
    let minutes: f64 = time.next()?.parse().ok()?;
    let seconds: f64 = time.next()?.parse().ok()?;
    let days = days_since_1970(year, month, day) as f64;
    Some((((days * 24.0 + hours) * 60.0 + minutes) * 60.0 + seconds) * 1_000.0)
}

/// The year begins in March here, so that the leap day is its last day.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days from the first of March of the year 0 to 1970.
    365 * year + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_milliseconds_since_1970() {
        assert_eq!(unix_ms("1970-01-01T00:00:00Z").unwrap(), 0.0);
        assert_eq!(unix_ms("2000-02-29T12:00:00.5Z").unwrap(), 951_825_600_500.0);
        // Fractions of a second are not exact in binary.
        assert!((unix_ms("2026-11-30T08:05:09.123Z").unwrap() - 1_796_025_909_123.0).abs() < 0.01);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "2026-11-30", "2026-11-30T08:05:09+01:00", "2026-11-30T08:05Z"] {
            assert!(unix_ms(text).is_err(), "{text}");
        }
    }
}
