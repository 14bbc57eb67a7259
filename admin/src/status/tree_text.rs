//! The history of a resource as a drawn tree.
//!
//! Manual: "mars-status --history".

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::history::{LogVersion, Progress, Verified, VersionNode};
use super::paint::Paint;
use super::render::{gib, note};

/// The tree below `-> History Replay/Status`. Box characters become `|`, `-`, `+` with `ascii`.
pub fn history(versions: &[LogVersion], ascii: bool, zone: &TimeZone, paint: Paint) -> String {
    let mut text = String::from("   -> History Replay/Status\n");
    for version in versions {
        text.push_str("║\n");
        text.push_str(&heading(version, zone));
        let lines = match &version.log {
            Some(_) => live_nodes(&version.nodes),
            None => deleted_nodes(&version.nodes),
        };
        for line in lines {
            text.push_str(&format!("║       ║                   {line}\n"));
        }
        for (at, remark) in version.notes.iter().enumerate() {
            let last = at + 1 == version.notes.len();
            let branch = if last { '╚' } else { '╠' };
            text.push_str(&format!("║       {branch}═══> {}\n", note(remark, paint)));
        }
    }
    if ascii { plain(&text) } else { text }
}

/// The same with characters that every terminal has.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|sign| match sign {
            '║' => '|',
            '═' => '-',
            '╠' | '╚' | '╔' => '+',
            other => other,
        })
        .collect()
}

fn heading(version: &LogVersion, zone: &TimeZone) -> String {
    let nr = version.nr;
    match &version.log {
        None => format!("╠═══> Vers.{nr:09} ═══> old Version, Logfile is deleted ...\n"),
        Some(log) => format!(
            "╠═══> Vers.{nr:09} ═══> Logfile Size: {} bytes ({}) by {} from {}, include hypothetically {} sec\n",
            log.bytes,
            gib(log.bytes),
            log.writer,
            date(log.written, zone, "%a %b %e %H:%M:%S"),
            log.seconds
        ),
    }
}

/// A number of seconds since 1970 in local time.
pub fn date(seconds: u64, zone: &TimeZone, format: &str) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok());
    time.map_or_else(
        || seconds.to_string(),
        |time| time.to_zoned(zone.clone()).strftime(format).to_string(),
    )
}

fn deleted_nodes(nodes: &[VersionNode]) -> Vec<String> {
    let count = nodes.len();
    nodes
        .iter()
        .enumerate()
        .map(|(at, node)| {
            let branch = if at + 1 == count { '╚' } else { '╠' };
            format!(
                "{branch}═══> Node: {} Check: {} Size: {} bytes ({}) (no longer available logfile)",
                node.host,
                node.check,
                node.bytes,
                gib(node.bytes)
            )
        })
        .collect()
}

/// The writer of the log as the stem, the others above and below it in the order of their names.
fn live_nodes(nodes: &[VersionNode]) -> Vec<String> {
    let Some(stem) = nodes.iter().position(|node| node.writer) else {
        let count = nodes.len();
        let branch = |at| if at + 1 == count { '╚' } else { '╠' };
        let lines = nodes.iter().enumerate();
        return lines
            .map(|(at, node)| format!("{}═══> Secondary {}", branch(at), node_text(node)))
            .collect();
    };
    let above = nodes[..stem].iter().enumerate().map(|(at, node)| {
        let branch = if at == 0 { '╔' } else { '╠' };
        format!("║       {branch}═══> Secondary {}", node_text(node))
    });
    let below = nodes[stem + 1..].iter().enumerate().map(|(at, node)| {
        let branch = if stem + at + 2 == nodes.len() {
            '╚'
        } else {
            '╠'
        };
        format!("        {branch}═══> Secondary {}", node_text(node))
    });
    let primary = format!("╚═══> Primary {}", node_text(&nodes[stem]));
    above.chain([primary]).chain(below).collect()
}

fn node_text(node: &VersionNode) -> String {
    let progress = match node.progress {
        Progress::Waiting => "replay waiting for start".to_owned(),
        Progress::Complete => "replay OK".to_owned(),
        Progress::Missing(bytes) => format!("replay incomplete (Todo {})", gib(bytes)),
    };
    let verified = match node.verified {
        Verified::Ok => ", verify OK",
        Verified::Failed => ", verify failed",
        Verified::Unknown => "",
    };
    format!(
        "Node: {} Check: {}    Size: {} bytes ({}) ---> {progress}{verified}",
        node.host,
        node.check,
        node.bytes,
        gib(node.bytes)
    )
}
