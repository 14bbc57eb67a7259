//! `--debug`: messages of every resource, and those of the host.
//!
//! Reads status files (`<class>.<channel>.status`), message keys, and what the daemon says of its workers. Every line with a
//! stamp gets a readable time in front.
//!
//! Manual: "mars-status --debug".

use jiff::tz::TimeZone;

use super::environment::Environment;
use super::tree_text::date;
use crate::snapshot::{Item, Kind};
use crate::view::status_api::{World, without_escapes};

/// What the workers of one resource do or why they rest, and its messages.
pub fn of_resource(world: &World<'_>, env: &Environment, name: &str, zone: &TimeZone) -> String {
    let workers = env.workers.get(name).into_iter().flatten();
    let workers: String = workers
        .map(|(worker, state)| format!("{worker} {state}\n"))
        .collect();
    let lines = as_text(&messages(world, name, zone));
    format!("  -> Debug for resource-{name}\n{workers}{lines}")
}

/// The messages of the host.
pub fn of_host(world: &World<'_>, zone: &TimeZone) -> String {
    let lines = as_text(&messages(world, "", zone));
    format!("---> Debug <---\n-> Main-Debug:\n{lines}")
}

fn as_text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The messages of a resource, or of the host for the empty name, with readable times in front.
pub fn messages(world: &World<'_>, name: &str, zone: &TimeZone) -> Vec<String> {
    let dir = match name {
        "" => String::new(),
        name => format!("resource-{name}/"),
    };
    let files = world.snap.with_prefix(&dir).filter(|(path, item)| {
        let name = &path[dir.len()..];
        item.kind == Kind::File && !name.contains('/') && name.ends_with(".status")
    });
    let from_files = files.flat_map(|(_, item)| file_lines(item));
    let prefix = format!("{dir}actual-{}/msg-", world.snap.host);
    let keys: Vec<String> = world
        .snap
        .with_prefix(&prefix)
        .filter(|(_, item)| item.is_live() && item.kind == Kind::Key && item.value != "OK")
        .map(|(path, item)| key_line(&path[prefix.len()..], &item.value))
        .collect();
    from_files
        .chain(keys)
        .map(|line| timed(&line, zone))
        .collect()
}

fn file_lines(item: &Item) -> Vec<String> {
    let text = item.value.strip_prefix("text:").unwrap_or("");
    let (text, _) = without_escapes(text);
    text.lines().map(str::to_owned).collect()
}

/// Stamp, name, text; the second stamp of a message key says nothing new.
fn key_line(name: &str, value: &str) -> String {
    let mut words = value.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(stamp), Some(_), Some(text)) => format!("{stamp} {name}: {text}"),
        _ => format!("{name}: {value}"),
    }
}

/// A line with the time of its leading stamp in front, if it has one.
fn timed(line: &str, zone: &TimeZone) -> String {
    let seconds = line.split(['.', ' ']).next().and_then(|s| s.parse().ok());
    match seconds {
        Some(seconds) => format!("{}: {line}", date(seconds, zone, "%a %b %e %H:%M:%S %Y")),
        None => line.to_owned(),
    }
}
