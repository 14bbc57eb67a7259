//! Sizes and durations as the operator writes and reads them.
//!
//! Manual: "Size arguments"; the macro `%human-numbers`.

use crate::view;

/// Multiple every size must be of, in bytes.
pub const SIZE_STEP_BYTES: u64 = 4096;

/// Why a size argument was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SizeError {
    /// Not digits with an optional suffix.
    #[error(
        "Size argument '{0}' must be a number, optionally followed by a suffix [kKmMgGtTpP]. Lowercase = multiples of 1000, \
         Uppercase = multiples of 1024."
    )]
    Syntax(String),
    /// Not a multiple of 4 KiB.
    #[error("Size argument '{0}' must be a multiple of 4096 bytes")]
    Step(String),
}

/// Reads a size: a number (fractions allowed) with an optional suffix, lower case for powers of 1000, upper case for powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let syntax = || SizeError::Syntax(text.to_owned());
    let (number, unit) = match text.char_indices().last() {
        Some((at, suffix)) if suffix.is_ascii_alphabetic() => {
            (&text[..at], unit_bytes(suffix).ok_or_else(syntax)?)
        }
        _ => (text, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(syntax());
    }
    let whole: u128 = whole.parse().map_err(|_| syntax())?;
    let scale = 10u128.pow(fraction.len() as u32);
    let parts = if fraction.is_empty() {
        0
    } else {
        fraction.parse().map_err(|_| syntax())?
    };
    let bytes = whole
        .checked_mul(scale)
        .map(|w| w + parts)
        .and_then(|n| n.checked_mul(u128::from(unit)));
    let bytes = bytes.ok_or_else(syntax)?;
    if bytes % (scale * u128::from(SIZE_STEP_BYTES)) != 0 {
        return Err(SizeError::Step(text.to_owned()));
    }
    u64::try_from(bytes / scale).map_err(|_| syntax())
}

fn unit_bytes(suffix: char) -> Option<u64> {
    let power = "kmgtp".find(suffix.to_ascii_lowercase())? as u32 + 1;
    let base: u64 = if suffix.is_ascii_lowercase() {
        1000
    } else {
        1024
    };
    Some(base.pow(power))
}

/// A number of bytes in the largest fitting unit with three decimals, as `50.000 GiB`; below 1 KiB as `17 B`.
pub fn size(bytes: u64) -> String {
    view::human_numbers("", "/", " ", &[bytes as f64])
}

/// A duration as `HH:MM:SS`; the hours may have more than two digits.
pub fn duration(seconds: u64) -> String {
    view::human_seconds(seconds as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_letters_count_in_thousands_and_capitals_in_1024() {
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert_eq!(parse_size("1.5M"), Ok(3 << 19));
        assert_eq!(parse_size("512k"), Ok(512_000));
        assert_eq!(parse_size("8192"), Ok(8192));
    }

    #[test]
    fn a_size_which_is_no_multiple_of_4096_is_refused() {
        assert_eq!(parse_size("10m"), Err(SizeError::Step("10m".into())));
        assert_eq!(parse_size("4097"), Err(SizeError::Step("4097".into())));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "G",
            "-1",
            "1x",
            "1.2.3",
            "/srv/disk",
            "1e9",
            "99999999999999999999999999999999999999999T",
        ] {
            assert_eq!(
                parse_size(text),
                Err(SizeError::Syntax(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_print_with_three_decimals() {
        assert_eq!(size(50 << 30), "50.000 GiB");
        assert_eq!(size(1 << 30), "1024.000 MiB");
        assert_eq!(size(70_000), "68.359 KiB");
        assert_eq!(size(0), "0 B");
    }

    #[test]
    fn durations_print_hours_even_above_99() {
        assert_eq!(duration(3610), "01:00:10");
        assert_eq!(duration(100 * 3600 + 61), "100:01:01");
    }
}
