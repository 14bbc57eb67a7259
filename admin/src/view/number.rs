//! Numbers as the macro language has them: text that is read as an integer or a floating point number where one is
//! needed, and printed with at most 15 digits.

use std::cmp::Ordering;
use std::fmt;

/// A number of the macro language.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Num {
    /// Fits 64 bits and has no fraction.
    Int(i64),
    /// Everything else.
    Float(f64),
}

impl Num {
    /// Reads the number at the beginning of a text; what follows is ignored, no number at all is 0.
    pub fn parse(text: &str) -> Num {
        let text = text.trim_start();
        let len = number_len(text.as_bytes());
        let text = &text[..len];
        match text.parse::<i64>() {
            Ok(int) => Num::Int(int),
            Err(_) => text.parse::<f64>().map_or(Num::Int(0), Num::from_float),
        }
    }

    /// A float without a fraction becomes an integer, as it prints the same.
    pub fn from_float(value: f64) -> Num {
        if value.fract() == 0.0 && value.abs() < 9e15 {
            Num::Int(value as i64)
        } else {
            Num::Float(value)
        }
    }

    /// A byte count.
    pub fn from_bytes(value: u64) -> Num {
        i64::try_from(value).map_or(Num::Float(value as f64), Num::Int)
    }

    /// The value as floating point number.
    pub fn float(self) -> f64 {
        match self {
            Num::Int(int) => int as f64,
            Num::Float(float) => float,
        }
    }

    /// The value without its fraction, at the ends of the range when it does not fit.
    pub fn int(self) -> i64 {
        match self {
            Num::Int(int) => int,
            Num::Float(float) => float as i64,
        }
    }

    /// The 64 bits of a text that is a number: exact up to the largest unsigned one.
    pub fn bits(text: &str) -> u64 {
        let text = text.trim_start();
        match text[..number_len(text.as_bytes())].parse::<u64>() {
            Ok(bits) => bits,
            Err(_) => Num::parse(text).int() as u64,
        }
    }

    /// Adds, in integers as long as they suffice.
    pub fn add(self, other: Num) -> Num {
        combine(self, other, i64::checked_add, |a, b| a + b)
    }

    /// Subtracts.
    pub fn sub(self, other: Num) -> Num {
        combine(self, other, i64::checked_sub, |a, b| a - b)
    }

    /// Multiplies.
    pub fn mul(self, other: Num) -> Num {
        combine(self, other, i64::checked_mul, |a, b| a * b)
    }

    /// Divides, as floating point; nothing by 0.
    pub fn div(self, other: Num) -> Option<Num> {
        if let (Num::Int(a), Num::Int(b)) = (self, other)
            && b != 0
            && a.checked_rem(b) == Some(0)
        {
            return Some(Num::Int(a / b));
        }
        let divisor = other.float();
        (divisor != 0.0).then(|| Num::from_float(self.float() / divisor))
    }

    /// Remainder with the sign of the divisor; nothing by 0.
    pub fn rem(self, other: Num) -> Option<Num> {
        let (a, b) = (self.int(), other.int());
        let rest = a.checked_rem(b)?;
        Some(Num::Int(if rest != 0 && (rest < 0) != (b < 0) {
            rest + b
        } else {
            rest
        }))
    }

    /// Compares by value.
    pub fn order(self, other: Num) -> Ordering {
        match (self, other) {
            (Num::Int(a), Num::Int(b)) => a.cmp(&b),
            _ => self.float().total_cmp(&other.float()),
        }
    }
}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Num::Int(int) => write!(f, "{int}"),
            Num::Float(float) => f.write_str(&general(*float, 15)),
        }
    }
}

fn combine(
    a: Num,
    b: Num,
    exact: fn(i64, i64) -> Option<i64>,
    approximate: fn(f64, f64) -> f64,
) -> Num {
    if let (Num::Int(x), Num::Int(y)) = (a, b)
        && let Some(sum) = exact(x, y)
    {
        return Num::Int(sum);
    }
    Num::from_float(approximate(a.float(), b.float()))
}

/// How many bytes at the beginning look like a number.
fn number_len(text: &[u8]) -> usize {
    let digits = |from: usize| {
        text[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let whole = digits(sign);
    let mut len = sign + whole;
    let mut fraction = 0;
    if text.get(len) == Some(&b'.') {
        fraction = digits(len + 1);
        if whole + fraction > 0 {
            len += 1 + fraction;
        }
    }
    if whole + fraction == 0 {
        return 0;
    }
    if matches!(text.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let exponent = text
            .get(len + 1 + sign..)
            .map_or(0, |_| digits(len + 1 + sign));
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    len
}

/// The shortest form with at most `precision` digits, as `%g` prints it.
pub fn general(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".to_owned()
        } else if value > 0.0 {
            "Inf".to_owned()
        } else {
            "-Inf".to_owned()
        };
    }
    let precision = precision.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        return format!("{}e{}", trim_zeros(mantissa), exponent_text(exponent));
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// An exponent with sign and at least two digits.
pub fn exponent_text(exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{:02}", exponent.unsigned_abs())
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_with_fifteen_digits_and_no_more() {
        let percent = Num::Float(100.5 * 870_000.0 / 890_000.0);
        assert_eq!(percent.to_string(), "98.2415730337079");
        assert_eq!(Num::parse("1e16").to_string(), "1e+16");
        assert_eq!(Num::Float(0.00001234).to_string(), "1.234e-05");
        assert_eq!(Num::Float(50.25).to_string(), "50.25");
    }

    #[test]
    fn the_number_at_the_beginning_counts() {
        for (text, value) in [
            ("12,34", "12"),
            ("", "0"),
            ("abc", "0"),
            (" 7x", "7"),
            ("-1.50e1z", "-15"),
            ("1e", "1"),
            (".5", "0.5"),
            ("1699999999.000000000", "1699999999"),
        ] {
            assert_eq!(Num::parse(text).to_string(), value, "{text:?}");
        }
    }

    #[test]
    fn integers_stay_exact_and_overflow_into_floats() {
        let big = Num::Int(i64::MAX);
        assert_eq!(big.sub(Num::Int(1)).to_string(), "9223372036854775806");
        assert_eq!(big.add(Num::Int(1)).to_string(), "9.22337203685478e+18");
        assert_eq!(Num::Int(7).div(Num::Int(2)), Some(Num::Float(3.5)));
        assert_eq!(Num::Int(7).div(Num::Int(0)), None);
        assert_eq!(Num::Int(-7).rem(Num::Int(3)), Some(Num::Int(2)));
    }
}
