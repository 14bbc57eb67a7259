//! Functions of the macro language that compute with numbers and texts.

use regex::{Regex, RegexBuilder};
use std::cmp::Ordering;

use super::errno::errno_text;
use super::eval::{Done, Eval, Stop};
use super::format::{human_numbers, human_seconds, progress};
use super::number::Num;
use super::parse::{Call, without_escapes};
use super::primitive;
use super::sprintf::sprintf;

/// Largest memory in bytes which one pattern may take when compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A regular expression; without options lines count on their own (`m`).
pub fn pattern(text: &str, options: &str) -> Result<Regex, Stop> {
    let has = |option| options.contains(option);
    RegexBuilder::new(text)
        .multi_line(options.is_empty() || has('m'))
        .case_insensitive(has('i'))
        .dot_matches_new_line(has('s'))
        .ignore_whitespace(has('x'))
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| Stop::Fatal(format!("bad regular expression '{text}': {error}")))
}

/// The parts of a text between matches, empty ones at the end left out.
pub fn split(delim: &Regex, text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut parts: Vec<String> = delim.split(text).map(str::to_owned).collect();
    if delim.find(text).is_some_and(|found| found.end() == 0) {
        // An empty match at the very beginning separates nothing, as in Perl.
        parts.remove(0);
    }
    while parts.last().is_some_and(String::is_empty) {
        parts.pop();
    }
    parts
}

/// The number in an operand: what stands before the first comma.
fn operand(text: &str) -> Num {
    Num::parse(text.split(',').next().unwrap_or(""))
}

/// `%<< %>> %& %| %^` on 64 bits, from left to right.
pub fn bitwise(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let args = eval.args(call, 0)?;
    let mut args = args.iter().map(|arg| arg.split(',').next().unwrap_or(""));
    let first = args.next().map_or(0, Num::bits);
    let value = args.fold(first, |value, arg| match call.plain_name() {
        "<<" => shift(value, Num::parse(arg).int()),
        ">>" => shift(value, Num::parse(arg).int().saturating_neg()),
        "&" => value & Num::bits(arg),
        "|" => value | Num::bits(arg),
        _ => value ^ Num::bits(arg),
    });
    out.push_str(&value.to_string());
    Ok(())
}

/// To the left; by a negative number to the right.
fn shift(value: u64, by: i64) -> u64 {
    let count = u32::try_from(by.unsigned_abs()).unwrap_or(u32::MAX);
    let shifted = match by < 0 {
        true => value.checked_shr(count),
        false => value.checked_shl(count),
    };
    shifted.unwrap_or(0)
}

/// `%+ %- %* %/ %%`, from left to right.
pub fn arithmetic(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let args = eval.args(call, 0)?;
    let mut numbers = args.iter().map(|arg| operand(arg));
    let mut value = numbers.next().unwrap_or(Num::Int(0));
    for number in numbers {
        value = combine(call.plain_name(), value, number)
            .ok_or_else(|| Stop::Fatal(format!("division by zero in '%{}'", call.name)))?;
    }
    out.push_str(&value.to_string());
    Ok(())
}

fn combine(name: &str, a: Num, b: Num) -> Option<Num> {
    Some(match name {
        "+" => a.add(b),
        "-" => a.sub(b),
        "*" => a.mul(b),
        "/" => return a.div(b),
        _ => return a.rem(b),
    })
}

/// `%~{a}`: all 64 bits inverted.
pub fn invert(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let arg = eval.arg(call, 0)?;
    let value = Num::bits(arg.split(',').next().unwrap_or(""));
    out.push_str(&(!value).to_string());
    Ok(())
}

/// `%min{a}{b}…`, `%max{a}{b}…`.
pub fn extreme(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let args = eval.args(call, 0)?;
    let numbers = args.iter().map(|arg| operand(arg));
    let found = if call.plain_name() == "min" {
        numbers.min_by(|a, b| a.order(*b))
    } else {
        numbers.max_by(|a, b| a.order(*b))
    };
    if let Some(number) = found {
        out.push_str(&number.to_string());
    }
    Ok(())
}

/// `%< %> %<= %>= %== %!=`: compare as numbers.
pub fn compare_numbers(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let (a, b) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    let order = Num::parse(&a).order(Num::parse(&b));
    yes(out, holds(call.plain_name(), order))
}

/// `%lt %gt %le %ge %eq %ne`: compare as texts.
pub fn compare_texts(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let (a, b) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    yes(out, holds(call.plain_name(), a.cmp(&b)))
}

fn holds(name: &str, order: Ordering) -> bool {
    match name {
        "<" | "lt" => order.is_lt(),
        ">" | "gt" => order.is_gt(),
        "<=" | "le" => order.is_le(),
        ">=" | "ge" => order.is_ge(),
        "==" | "eq" => order.is_eq(),
        _ => order.is_ne(),
    }
}

fn yes(out: &mut String, holds: bool) -> Done {
    if holds {
        out.push('1');
    }
    Ok(())
}

/// `%!{a}`, `%not{a}`.
pub fn not(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let value = eval.arg(call, 0)?;
    yes(out, !super::world::is_true(&value))
}

/// `%match{s}{re}{opts}`, `%=~{…}`.
pub fn matches(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let (text, re) = (eval.arg(call, 0)?, eval.arg(call, 1)?);
    let options = eval.arg(call, 2)?;
    yes(out, pattern(&re, &options)?.is_match(&text))
}

/// `%toupper{t}`, `%tolower{t}`, `%length{t}`.
pub fn on_text(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let text = eval.arg(call, 0)?;
    out.push_str(&match call.plain_name() {
        "toupper" => text.to_uppercase(),
        "tolower" => text.to_lowercase(),
        _ => text.len().to_string(),
    });
    Ok(())
}

/// `%sprintf{fmt}{a}…`: the format is not evaluated, only its escapes are replaced.
pub fn print_format(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let args = eval.args(call, 1)?;
    let (format, _) = without_escapes(&call.args[0].raw);
    out.push_str(&sprintf(&format, &args));
    Ok(())
}

/// `%human-numbers{unit}{delim}{unit-sep}{n}…`.
pub fn numbers(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let args = eval.args(call, 0)?;
    let or = |at: usize, default| {
        let given = args.get(at).map_or("", String::as_str);
        if given.is_empty() { default } else { given }
    };
    let list: Vec<f64> = args.iter().skip(3).map(|n| Num::parse(n).float()).collect();
    out.push_str(&human_numbers(or(0, ""), or(1, "/"), or(2, " "), &list));
    Ok(())
}

/// `%human-seconds{s}`.
pub fn seconds(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let text = eval.arg(call, 0)?;
    let seconds = if text.is_empty() {
        -1.0
    } else {
        Num::parse(&text).float()
    };
    out.push_str(&human_seconds(seconds));
    Ok(())
}

/// Length of a bar when none is given.
const BAR_LEN: f64 = 20.0;

/// `%progress{len}`, `%progress{len}{min}{mid}{max}`.
pub fn bar(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    let mut args = eval.args(call, 0)?;
    if args.len() < 4 {
        let vector = primitive::summary_vector(eval)?;
        args.truncate(1);
        args.extend(vector.split(':').map(str::to_owned));
    }
    let number = |at: usize| args.get(at).map_or(0.0, |text| Num::parse(text).float());
    let len = if args[0].is_empty() {
        BAR_LEN
    } else {
        number(0)
    };
    out.push_str(&progress(len, number(1), number(2), number(3)));
    Ok(())
}

/// `%errno-text{codes}`.
pub fn error_names(eval: &mut Eval<'_>, call: &Call, out: &mut String) -> Done {
    out.push_str(&errno_text(&eval.arg(call, 0)?));
    Ok(())
}
