//! How amounts, times and progress are written for people. Scripts compare these texts, so every blank counts.
//!
//! Pure functions of their arguments.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex::{Captures, Regex};
use std::sync::LazyLock;

/// One unit: its letter, what it is worth in bytes, how it is printed.
type Unit = (char, f64, &'static str);

const KIB: f64 = 1024.0;
const UNITS: [Unit; 10] = [
    ('T', KIB * KIB * KIB * KIB, "TiB"),
    ('G', KIB * KIB * KIB, "GiB"),
    ('M', KIB * KIB, "MiB"),
    ('K', KIB, "KiB"),
    ('B', 1.0, "B"),
    ('t', 1e12, "TB"),
    ('g', 1e9, "GB"),
    ('m', 1e6, "MB"),
    ('k', 1e3, "KB"),
    ('b', 1.0, "B"),
];

/// A unit is chosen from this multiple of itself on; the two largest only when the number would else get too long.
const CHOSEN_FROM: [f64; 4] = [9.99, 9.99, 1.0, 1.0];

/// All numbers in one common unit, then the unit: `12.500/50.000 GiB`. `unit` is one of `TGMKBtgmkb`; empty lets the
/// largest number decide.
pub fn human_numbers(unit: &str, delim: &str, separator: &str, numbers: &[f64]) -> String {
    let wanted = UNITS.iter().find(|(letter, ..)| unit.starts_with(*letter));
    let (letter, worth, name) = wanted.unwrap_or_else(|| fitting_unit(numbers));
    let texts: Vec<String> = numbers
        .iter()
        .map(|number| {
            if letter.eq_ignore_ascii_case(&'b') {
                format!("{}", number.trunc() as i64)
            } else {
                format!("{:.3}", number / worth)
            }
        })
        .collect();
    format!("{}{separator}{name}", texts.join(delim))
}

fn fitting_unit(numbers: &[f64]) -> &'static Unit {
    let max = numbers.iter().copied().fold(0.0, f64::max);
    let found = UNITS
        .iter()
        .zip(CHOSEN_FROM)
        .find(|((_, worth, _), from)| max >= from * worth);
    found.map_or(&UNITS[4], |(unit, _)| unit)
}

/// `HH:MM:SS`, hours may exceed 99; a negative number is unknown and prints as dashes.
pub fn human_seconds(seconds: f64) -> String {
    if !(0.0..=9e15).contains(&seconds) {
        return "--:--:--".to_owned();
    }
    let seconds = seconds as u64;
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// The longest progress bar that is drawn, in characters.
const BAR_LEN_MAX: f64 = 10_000.0;

/// A bar of about `len` characters: `=` done, `>` the tip, `:` here but not done, `.` missing. Rounds down at every
/// step, so the bar may be shorter than `len`.
pub fn progress(len: f64, min: f64, mid: f64, max: f64) -> String {
    let len = len.clamp(0.0, BAR_LEN_MAX);
    let mid = mid.max(min);
    let max = max.max(mid).max(1.0);
    let mut done = len * min / max;
    let mut bar = format!("[{}", repeat('=', done - 1.0));
    if done < len {
        bar.push('>');
        done += 1.0;
    }
    let here = len * mid / max;
    if done < here {
        bar.push_str(&repeat(':', here - done));
    }
    if here < len {
        bar.push_str(&repeat('.', len - here));
    }
    bar.push(']');
    bar
}

fn repeat(sign: char, times: f64) -> String {
    String::from(sign).repeat(times.max(0.0) as usize)
}

#[expect(
    clippy::unwrap_used,
    reason = "constant pattern, compiled by every test of this file"
)]
static STAMP: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b([0-9]{9,11})(\.[0-9]{9})\b").unwrap());

/// Replaces every time stamp in a text by date and time of day; `with_ns` keeps the nanoseconds behind it.
pub fn readable_stamps(text: &str, zone: &TimeZone, with_ns: bool) -> String {
    let replace = |stamp: &Captures<'_>| {
        let date = stamp[1].parse().ok().and_then(|sec| date(sec, zone));
        match (date, with_ns) {
            (Some(date), true) => format!("{date}{}", &stamp[2]),
            (Some(date), false) => date,
            (None, _) => stamp[0].to_owned(),
        }
    };
    STAMP.replace_all(text, replace).into_owned()
}

/// `YYYY-MM-DD hh:mm:ss` of a number of seconds since 1970.
fn date(sec: i64, zone: &TimeZone) -> Option<String> {
    let time = Timestamp::from_second(sec).ok()?;
    let local = time.to_zoned(zone.clone());
    Some(local.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(unit: &str, list: &[f64]) -> String {
        human_numbers(unit, "/", " ", list)
    }

    #[test]
    fn the_largest_number_chooses_the_unit_for_all() {
        assert_eq!(numbers("", &[0.0, 1024.0]), "0.000/1.000 KiB");
        assert_eq!(
            numbers("", &[5_242_880.0, 21_474_836_480.0]),
            "0.005/20.000 GiB"
        );
        assert_eq!(numbers("", &[3.0, 4.0]), "3/4 B");
        assert_eq!(
            numbers("", &[1_099_511_627_776.0, 1.0]),
            "1024.000/0.000 GiB"
        );
        assert_eq!(numbers("k", &[123_456_789.0]), "123456.789 KB");
    }

    #[test]
    fn unknown_times_print_as_dashes_and_days_as_many_hours() {
        assert_eq!(human_seconds(-1.0), "--:--:--");
        assert_eq!(human_seconds(17.9), "00:00:17");
        assert_eq!(human_seconds(500_000.0), "138:53:20");
    }

    #[test]
    fn the_bar_shows_done_here_and_missing() {
        assert_eq!(
            progress(20.0, 53_428_800.0, 420_430_400.0, 525_288_000.0),
            "[=>::::::::::::...]"
        );
        assert_eq!(progress(20.0, 1.0, 1.0, 1.0), "[===================]");
        assert_eq!(progress(20.0, 1.0, 1.0, 2.0), "[=========>..........]");
        assert_eq!(progress(20.0, 0.0, 0.0, 0.0), "[>....................]");
    }

    #[test]
    fn stamps_become_dates() {
        let text = "1700000000.000000000 bad 17";
        let utc = TimeZone::UTC;
        assert_eq!(
            readable_stamps(text, &utc, true),
            "2023-11-14 22:13:20.000000000 bad 17"
        );
        assert_eq!(
            readable_stamps(text, &utc, false),
            "2023-11-14 22:13:20 bad 17"
        );
    }
}
