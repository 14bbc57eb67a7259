//! State primitives about messages: what the daemon reports in keys, and what lies in status files.
//!
//! A message key is `actual-<host>/msg-<class>-<name>` with the value `OK` or `<stamp> <Lamport stamp> <text>`; classes
//! are err, wrn, inf. Below a resource it concerns that, at the top the whole host.
//!
//! Manual: "The State of MARS" (errors and warnings).

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::errno::errno_text;
use super::eval::{Eval, Stop};
use super::format::readable_stamps;
use super::parse::without_escapes;
use crate::natural;
use crate::snapshot::{Item, Kind, Time};

type Text = Result<String, Stop>;

/// Which messages, and how they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagesOf {
    /// Also those that say OK or are likely to vanish by themselves.
    all: bool,
    /// Times and error numbers for people.
    pretty: bool,
    /// Those of the host instead of those of the resource.
    global: bool,
    /// One class, or every class when empty.
    class: &'static str,
}

/// An error younger than this many seconds is hidden even with `--timeout=0`.
const TRANSIENT_SECONDS_MIN: u64 = 30;

impl MessagesOf {
    /// Every combination.
    pub fn all() -> Vec<MessagesOf> {
        let mut list = Vec::new();
        for class in ["", "err", "wrn", "inf"] {
            for bits in 0..8 {
                list.push(MessagesOf {
                    all: bits & 1 != 0,
                    pretty: bits & 2 != 0,
                    global: bits & 4 != 0,
                    class,
                });
            }
        }
        list
    }

    /// The name of the primitive up to its last word.
    pub fn name(self) -> String {
        let mut name = String::from(if self.all { "all-" } else { "the-" });
        if self.pretty {
            name.push_str("pretty-");
        }
        if self.global {
            name.push_str("global-");
        }
        if !self.class.is_empty() {
            name.push_str(self.class);
            name.push('-');
        }
        name
    }
}

/// The messages, one a line, or the number of lines.
pub fn messages(eval: &Eval<'_>, which: MessagesOf, count: bool) -> String {
    let mut found = stored(eval, which);
    found.retain(|(_, item)| item.is_live() && item.kind == Kind::Key);
    found.retain(|(name, item)| which.all || is_worth_showing(eval, name, &item.value));
    found.sort_by(|a, b| natural::compare(a.0, b.0));
    if count {
        return found.len().to_string();
    }
    found
        .iter()
        .map(|(name, item)| format!("{name}: {}\n", written(eval, which, &item.value)))
        .collect()
}

fn stored<'e>(eval: &Eval<'e>, which: MessagesOf) -> Vec<(&'e str, &'e Item)> {
    let prefix = format!("actual-{}/msg-", eval.var("host"));
    let class = |name: &str| which.class.is_empty() || name.starts_with(which.class);
    let found: Vec<_> = if which.global || eval.var("res").is_empty() {
        let all = eval.world.snap.with_prefix(&prefix);
        all.map(|(path, item)| (&path[prefix.len()..], item))
            .collect()
    } else {
        let res = eval.res();
        let all = res.with_prefix(&prefix);
        all.map(|(path, item)| (&path[prefix.len()..], item))
            .collect()
    };
    found.into_iter().filter(|(name, _)| class(name)).collect()
}

/// Not OK; and of errors only those which have lasted, because many vanish by themselves.
fn is_worth_showing(eval: &Eval<'_>, name: &str, value: &str) -> bool {
    if value.starts_with("OK") {
        return false;
    }
    if !name.starts_with("err") {
        return true;
    }
    let stamp: Option<Time> = value.split_whitespace().next().and_then(|s| s.parse().ok());
    let wait = match eval.var("timeout").parse::<u64>() {
        Ok(0) => TRANSIENT_SECONDS_MIN,
        Ok(seconds) => seconds,
        // Without a bound for waiting there is none for hiding either; the default is taken.
        Err(_) => 600,
    };
    stamp.is_none_or(|stamp| eval.world.age(stamp) >= wait as f64)
}

#[expect(
    clippy::unwrap_used,
    reason = "constant pattern, compiled by the tests of this file"
)]
static ERROR_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"((?:error|status)\s*=\s*-)([0-9]+)\b").unwrap());

fn written(eval: &Eval<'_>, which: MessagesOf, value: &str) -> String {
    if !which.pretty {
        return value.to_owned();
    }
    let text = readable_stamps(value, &eval.here.zone, which.all);
    named_errors(&text)
}

/// Puts the name in the place of every error number.
pub(crate) fn named_errors(text: &str) -> String {
    let name = |found: &Captures<'_>| format!("{}{}", &found[1], errno_text(&found[2]));
    ERROR_NUMBER.replace_all(text, name).into_owned()
}

/// `%get-msg{name}`: as stored.
pub fn raw(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let key = format!(
        "actual-{}/msg-{}",
        eval.var("host"),
        args.first().map_or("", String::as_str)
    );
    Ok(if eval.var("res").is_empty() {
        eval.world.text(&key).to_owned()
    } else {
        eval.res().text(&key).to_owned()
    })
}

/// The contents of the status file of a message class, times readable.
fn status_file(eval: &Eval<'_>, class: &str) -> String {
    let res = eval.res();
    let texts = res
        .live_with_prefix(class)
        .filter(|(rest, item)| item.kind == Kind::File && rest.ends_with(".status"))
        .filter(|(rest, _)| !rest.contains('/'))
        .map(|(_, item)| without_escapes(item.value.strip_prefix("text:").unwrap_or("")).0);
    let text: String = texts.collect();
    readable_stamps(&text, &eval.here.zone, true)
}

fn status_count(eval: &Eval<'_>, class: &str) -> Text {
    Ok(status_file(eval, class).lines().count().to_string())
}

/// Class 4.
pub fn fatal_file(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(status_file(eval, "4."))
}

/// Class 3.
pub fn error_file(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(status_file(eval, "3."))
}

/// Class 2.
pub fn warning_file(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(status_file(eval, "2."))
}

/// Lines of class 4.
pub fn fatal_count(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    status_count(eval, "4.")
}

/// Lines of class 3.
pub fn error_count(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    status_count(eval, "3.")
}

/// Lines of class 2.
pub fn warning_count(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    status_count(eval, "2.")
}

/// The informational status file of the acting host.
pub fn log_status(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let key = format!("logstatus-{}", eval.var("host"));
    Ok(status_file(eval, &key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_in_messages_get_names() {
        assert_eq!(
            named_errors("replay of 'log-000000002-alpha' failed with error = -22"),
            "replay of 'log-000000002-alpha' failed with error = -[EINVAL:Invalid_argument]"
        );
        assert_eq!(named_errors("rest 7-22"), "rest 7-22");
    }
}
