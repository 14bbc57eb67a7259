//! `%sprintf{}`: the conversions of the C library, as far as Perl has them.

use super::number::{Num, exponent_text, general};

/// Widest field and highest precision that is honoured.
const WIDTH_MAX: usize = 10_000;

/// What stands between `%` and the conversion letter.
#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    blank: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// Formats `args` by `format`; missing arguments are empty, superfluous ones ignored.
pub fn sprintf(format: &str, args: &[String]) -> String {
    let mut out = String::new();
    let mut args = args.iter().map(String::as_str);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match conversion(rest, &mut args) {
            Some((text, len)) => {
                out.push_str(&text);
                rest = &rest[len..];
            }
            None => {
                out.push('%');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The result of the conversion at the beginning of `text`, and its length there.
fn conversion<'a>(text: &str, args: &mut impl Iterator<Item = &'a str>) -> Option<(String, usize)> {
    let bytes = text.as_bytes();
    let mut spec = Spec::default();
    let mut at = 1;
    while set_flag(&mut spec, *bytes.get(at)?) {
        at += 1;
    }
    spec.width = size(bytes, &mut at, args, &mut spec.left)?;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let mut negative = false;
        let precision = size(bytes, &mut at, args, &mut negative)?;
        spec.precision = (!negative).then_some(precision);
    }
    while matches!(bytes.get(at), Some(b'l' | b'h' | b'q' | b'L')) {
        at += 1;
    }
    let letter = *bytes.get(at)?;
    if letter == b'%' {
        return Some(("%".to_owned(), at + 1));
    }
    let converted = convert(&spec, letter, || args.next().unwrap_or(""))?;
    Some((converted, at + 1))
}

fn set_flag(spec: &mut Spec, sign: u8) -> bool {
    let flag = match sign {
        b'-' => &mut spec.left,
        b'+' => &mut spec.plus,
        b' ' => &mut spec.blank,
        b'0' => &mut spec.zero,
        b'#' => &mut spec.alternate,
        _ => return false,
    };
    *flag = true;
    true
}

/// A width or precision: digits, or `*` for the next argument.
fn size<'a>(
    bytes: &[u8],
    at: &mut usize,
    args: &mut impl Iterator<Item = &'a str>,
    negative: &mut bool,
) -> Option<usize> {
    if bytes.get(*at) == Some(&b'*') {
        *at += 1;
        let value = Num::parse(args.next().unwrap_or("")).int();
        *negative |= value < 0;
        return Some(usize::try_from(value.unsigned_abs()).ok()?.min(WIDTH_MAX));
    }
    let mut value = 0_usize;
    while let Some(digit) = bytes.get(*at).filter(|b| b.is_ascii_digit()) {
        value = (value * 10 + usize::from(digit - b'0')).min(WIDTH_MAX);
        *at += 1;
    }
    Some(value)
}

fn convert<'a>(spec: &Spec, letter: u8, next: impl FnOnce() -> &'a str) -> Option<String> {
    Some(match letter {
        b's' => text(spec, next()),
        b'c' => {
            let code = u32::try_from(Num::parse(next()).int()).ok();
            let sign = code.and_then(char::from_u32).unwrap_or('\u{fffd}');
            pad(spec, "", &sign.to_string(), false)
        }
        b'd' | b'i' => {
            let value = Num::parse(next()).int();
            let digits = value.unsigned_abs().to_string();
            integer(spec, sign_of(spec, value < 0), digits)
        }
        b'u' | b'x' | b'X' | b'o' | b'b' => {
            let value = Num::parse(next()).int() as u64;
            let (prefix, digits) = unsigned(letter, value);
            let prefix = if spec.alternate && value != 0 {
                prefix
            } else {
                ""
            };
            integer(spec, prefix, digits)
        }
        b'f' | b'F' | b'e' | b'E' | b'g' | b'G' => float(spec, letter, Num::parse(next()).float()),
        _ => return None,
    })
}

fn text(spec: &Spec, text: &str) -> String {
    let kept = spec.precision.unwrap_or(usize::MAX);
    let kept: String = text.chars().take(kept).collect();
    pad(spec, "", &kept, false)
}

/// Prefix and digits of a number without sign.
fn unsigned(letter: u8, value: u64) -> (&'static str, String) {
    match letter {
        b'x' => ("0x", format!("{value:x}")),
        b'X' => ("0X", format!("{value:X}")),
        b'o' => ("0", format!("{value:o}")),
        b'b' => ("0b", format!("{value:b}")),
        _ => ("", value.to_string()),
    }
}

fn float(spec: &Spec, letter: u8, value: f64) -> String {
    let precision = spec.precision.unwrap_or(6);
    let digits = float_digits(letter.to_ascii_lowercase(), value.abs(), precision);
    let digits = if letter.is_ascii_uppercase() {
        digits.to_uppercase()
    } else {
        digits
    };
    pad(spec, sign_of(spec, value < 0.0), &digits, spec.zero)
}

fn sign_of(spec: &Spec, negative: bool) -> &'static str {
    match (negative, spec.plus, spec.blank) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

fn float_digits(letter: u8, value: f64, precision: usize) -> String {
    match letter {
        b'f' => format!("{value:.precision$}"),
        b'e' => {
            let text = format!("{value:.precision$e}");
            match text.split_once('e') {
                Some((mantissa, exponent)) => {
                    format!(
                        "{mantissa}e{}",
                        exponent_text(exponent.parse().unwrap_or(0))
                    )
                }
                None => text,
            }
        }
        _ => general(value, precision),
    }
}

/// An integer; a precision is the least number of digits and switches padding with zeros off.
fn integer(spec: &Spec, prefix: &str, digits: String) -> String {
    let least = spec.precision.unwrap_or(0);
    let digits = format!("{}{digits}", "0".repeat(least.saturating_sub(digits.len())));
    pad(spec, prefix, &digits, spec.zero && spec.precision.is_none())
}

fn pad(spec: &Spec, prefix: &str, body: &str, zeros: bool) -> String {
    let len = prefix.len() + body.chars().count();
    let missing = spec.width.saturating_sub(len);
    if spec.left {
        format!("{prefix}{body}{}", " ".repeat(missing))
    } else if zeros {
        format!("{prefix}{}{body}", "0".repeat(missing))
    } else {
        format!("{}{prefix}{body}", " ".repeat(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, args: &[&str], expected: &str) {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        assert_eq!(sprintf(format, &args), expected, "{format}");
    }

    #[test]
    fn numbers_are_padded_and_rounded_as_in_c() {
        check(
            "%5d|%-5d|%05d|%+d",
            &["42", "42", "42", "42"],
            "   42|42   |00042|+42",
        );
        check(
            "%.2f%%|%8.3f|%e",
            &["25.125", "1.5", "12345.678"],
            "25.12%|   1.500|1.234568e+04",
        );
        check(
            "%x|%#X|%o|%b|%u",
            &["255", "255", "8", "5", "7"],
            "ff|0XFF|10|101|7",
        );
        check("%g|%g", &["0.00001", "1000000"], "1e-05|1e+06");
        check("%05.1f|%.3d", &["-2.25", "7"], "-02.2|007");
    }

    #[test]
    fn texts_are_cut_and_padded() {
        check(
            "[%5s|%-5s|%.2s|%*s]",
            &["ab", "ab", "abcdef", "3", "x"],
            "[   ab|ab   |ab|  x]",
        );
    }

    #[test]
    fn what_is_no_conversion_stays_and_missing_arguments_are_empty() {
        check("7%, %y %s %d", &[], "7%, %y  0");
    }
}
