//! `--status`: bars for resize, sync, fetch and replay of all members.
//!
//! Manual: "mars-status --status".

use super::report::share;
use crate::view::status_api::{Known, ReplayValue, Res, World, number};

/// Columns of a whole bar.
const BAR_LEN: usize = 99;
/// Columns of the host names.
const NAME_LEN: usize = 20;

/// Both graphs of one resource.
pub fn bars(world: &World<'_>, name: &str) -> String {
    let res = world.res(name);
    let members = res.members();
    let mut text = format!("  -> Cluster Status - Resource resource-{name}\n\n");
    text.push_str(&sizes(&res, &members));
    text.push('\n');
    text.push_str(&logs(&res, &members));
    text
}

fn line(label: &str, bar: &str) -> String {
    format!("\t{label:NAME_LEN$}|{bar}\n")
}

fn sizes(res: &Res<'_>, members: &[&str]) -> String {
    let disk = |host: &&str| number(res.text(&format!("actsize-{host}")));
    let size = number(res.text("size"));
    let largest = members.iter().map(disk).chain([size]).max().unwrap_or(0);
    let mut text = line("Status Resize/Sync", &"#".repeat(BAR_LEN));
    for host in members {
        let synced = number(res.text(&format!("syncstatus-{host}")));
        text.push_str(&line(host, &arrow(disk(host), largest, 'R')));
        text.push_str(&line("", &arrow(synced, largest, 'S')));
    }
    text
}

/// `>>>X`, as long as `part` is of `whole`.
fn arrow(part: u64, whole: u64, tip: char) -> String {
    let len = columns(part, whole, BAR_LEN);
    format!("{}{tip}", ">".repeat(len.saturating_sub(1)))
}

fn columns(part: u64, whole: u64, len: usize) -> usize {
    if whole == 0 {
        return 0;
    }
    (share(part, whole) * len as f64 / 100.0).round() as usize
}

/// One log in the graph.
struct Segment {
    nr: u64,
    bytes: u64,
    columns: usize,
}

fn logs(res: &Res<'_>, members: &[&str]) -> String {
    let segments = segments(res);
    let full: Vec<String> = segments
        .iter()
        .map(|part| "#".repeat(part.columns))
        .collect();
    let names: Vec<String> = segments
        .iter()
        .map(|part| format!("{:09} ", part.nr))
        .collect();
    let mut text = line("Status Replay/Fetch", &full.join("|"));
    text.push_str(&line("Logfile-Version", names.join("|").trim_end()));
    for host in members {
        let replay = ReplayValue::parse(res.text(&format!("replay-{host}")));
        let replayed = |part: &Segment| match replay {
            Some(at) if part.nr < at.nr => part.bytes,
            Some(at) if part.nr == at.nr => at.pos,
            _ => 0,
        };
        let fetched = |part: &Segment| {
            super::history::covered(res, part.nr, host)
                .unwrap_or(0)
                .max(replayed(part))
        };
        text.push_str(&line(host, &position(&segments, replayed, 'R')));
        text.push_str(&line("", &position(&segments, fetched, 'F')));
    }
    text
}

/// The logs of the designated primary, or all when nobody is designated. Every log has at least one column.
fn segments(res: &Res<'_>) -> Vec<Segment> {
    let owner = res.designated_host().unwrap_or("");
    let list: Vec<(u64, u64)> = res
        .logs()
        .numbers()
        .filter_map(|nr| Some((nr, res.logs().len(nr, owner, Known::Everywhere)?)))
        .collect();
    let total = list
        .iter()
        .fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let place = BAR_LEN.saturating_sub(list.len().saturating_sub(1));
    list.into_iter()
        .map(|(nr, bytes)| Segment {
            nr,
            bytes,
            columns: columns(bytes, total, place).max(1),
        })
        .collect()
}

/// `>>>|>>R!!|!!!`: how far along the logs.
fn position(segments: &[Segment], done: impl Fn(&Segment) -> u64, tip: char) -> String {
    let mut bar = String::new();
    let mut pointed = false;
    for (at, part) in segments.iter().enumerate() {
        if at > 0 {
            bar.push('|');
        }
        let complete = done(part) >= part.bytes;
        let last = at + 1 == segments.len();
        if pointed {
            bar.push_str(&"!".repeat(part.columns));
        } else if complete && !last {
            bar.push_str(&">".repeat(part.columns));
        } else {
            let len = columns(done(part), part.bytes, part.columns).clamp(1, part.columns);
            let len = if part.bytes == 0 { part.columns } else { len };
            bar.push_str(&">".repeat(len - 1));
            bar.push(tip);
            bar.push_str(&"!".repeat(part.columns - len));
            pointed = true;
        }
    }
    if bar.is_empty() {
        bar.push(tip);
    }
    bar
}
