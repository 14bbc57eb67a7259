//! `--history`: what every member knows of every log, and whether they agree.
//!
//! Reads the version keys and logs of one resource. Tags follow their definition: WORK is what goes away by itself,
//! TODO is something wrong, HINT is for a person to decide.
//!
//! Manual: "mars-status --history".

use std::collections::BTreeSet;

use serde::Serialize;

use super::report::{Note, Tag};
use crate::snapshot::Time;
use crate::view::status_api::{
    ReplayValue, Res, parse_log, split_numbered, version_len, version_parts,
};

/// One log number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogVersion {
    /// The number.
    pub nr: u64,
    /// The log itself, while it is here.
    pub log: Option<LogFile>,
    /// What the members know of it, in the order of their names.
    pub nodes: Vec<VersionNode>,
    /// Remarks.
    pub notes: Vec<Note>,
}

/// A log held here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogFile {
    /// Its length in bytes.
    pub bytes: u64,
    /// Who wrote it.
    pub writer: String,
    /// When it was last written, seconds since 1970.
    pub written: u64,
    /// Seconds between the log before and this one.
    pub seconds: u64,
}

/// How far a host has come with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Progress {
    /// At the beginning.
    Waiting,
    /// At the end.
    Complete,
    /// So many bytes are missing.
    Missing(u64),
}

/// Whether the contents agree with those of the node before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verified {
    /// Same check sum.
    Ok,
    /// Another check sum at the same size.
    Failed,
    /// Sizes differ, so check sums cannot be compared.
    Unknown,
}

/// What one member knows of one log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionNode {
    /// The member.
    pub host: String,
    /// Whether it wrote that log.
    pub writer: bool,
    /// Check sum of contents and history.
    pub check: String,
    /// Up to which length.
    pub bytes: u64,
    /// How far that is.
    pub progress: Progress,
    /// Whether it agrees with the others.
    pub verified: Verified,
}

/// Length which `host` knows of log number `nr`.
pub fn covered(res: &Res<'_>, nr: u64, host: &str) -> Option<u64> {
    let key = format!("version-{nr:09}-{host}");
    version_len(version_parts(res.text(&key)).0)
}

/// All log numbers of a resource, oldest first.
pub fn versions(res: &Res<'_>, members: &[&str]) -> Vec<LogVersion> {
    let mut numbers: BTreeSet<u64> = res.logs().files().map(|(nr, _, _)| nr).collect();
    let versions = res.live_with_prefix("version-");
    numbers.extend(
        versions
            .filter_map(|(rest, _)| split_numbered(rest))
            .map(|(nr, _)| nr),
    );
    let mut before: Option<Time> = None;
    numbers
        .into_iter()
        .map(|nr| {
            let version = version(res, members, nr, before);
            before = version.log.as_ref().map(|log| Time::from_secs(log.written));
            version
        })
        .collect()
}

fn version(res: &Res<'_>, members: &[&str], nr: u64, before: Option<Time>) -> LogVersion {
    let file = res.logs().files().find(|(number, _, _)| *number == nr);
    let log = file.map(|(_, writer, bytes)| {
        let stamp = res.stamp(&format!("log-{nr:09}-{writer}"));
        let written = stamp.map_or(0, |time| time.sec);
        LogFile {
            bytes,
            writer: writer.to_owned(),
            written,
            seconds: before.map_or(0, |before| written.saturating_sub(before.sec)),
        }
    });
    let nodes = nodes(res, nr, log.as_ref().map(|log| log.bytes));
    let notes = notes(res, members, nr, log.as_ref(), &nodes);
    LogVersion {
        nr,
        log,
        nodes,
        notes,
    }
}

fn nodes(res: &Res<'_>, nr: u64, log_bytes: Option<u64>) -> Vec<VersionNode> {
    let mut nodes: Vec<VersionNode> = Vec::new();
    let prefix = format!("version-{nr:09}-");
    for (host, item) in res.live_with_prefix(&prefix) {
        let part = version_parts(&item.value).0;
        let mut fields = part.split(',');
        let (check, log) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let bytes = version_len(part).unwrap_or(0);
        let verified = match nodes.last() {
            None => Verified::Ok,
            Some(before) if before.check == check => Verified::Ok,
            Some(before) if before.bytes == bytes => Verified::Failed,
            Some(_) => Verified::Unknown,
        };
        nodes.push(VersionNode {
            host: host.to_owned(),
            writer: parse_log(log).is_some_and(|(_, writer)| writer == host),
            check: check.to_owned(),
            bytes,
            progress: progress(bytes, log_bytes.unwrap_or(bytes)),
            verified,
        });
    }
    // The first has none before it to agree with; only the second can speak for it.
    if let [first, second, ..] = &mut nodes[..]
        && first.check != second.check
    {
        first.verified = Verified::Unknown;
    }
    nodes
}

fn progress(bytes: u64, size: u64) -> Progress {
    match bytes {
        0 => Progress::Waiting,
        _ if bytes < size => Progress::Missing(size - bytes),
        _ => Progress::Complete,
    }
}

fn notes(
    res: &Res<'_>,
    members: &[&str],
    nr: u64,
    log: Option<&LogFile>,
    nodes: &[VersionNode],
) -> Vec<Note> {
    let mut notes = Vec::new();
    if nodes.len() != members.len() {
        let text = format!(
            "Count of Logfiles different = (Cluster has {} Nodes, but only find {} Node)",
            members.len(),
            nodes.len()
        );
        notes.push(Note::new(Tag::Todo, text));
    }
    let same_sizes = nodes.windows(2).all(|pair| pair[0].bytes == pair[1].bytes);
    let same_checks = nodes.windows(2).all(|pair| pair[0].check == pair[1].check);
    match (same_checks, same_sizes) {
        (false, true) => notes.push(Note::new(
            Tag::Todo,
            "Logfiles has not equal Checksums and same size, check for SPLIT-BRAIN",
        )),
        (true, false) => notes.push(Note::new(
            Tag::Todo,
            "Logfiles has not equal size and same Checksums, ups ...",
        )),
        _ => {}
    }
    for name in marked_for_delete(res, nr) {
        let text = format!("LogFile ist marked for delete ({name}).");
        notes.push(Note::new(Tag::Work, text));
    }
    notes.extend(use_of(res, nr, log, nodes, same_sizes && same_checks));
    notes
}

fn marked_for_delete(res: &Res<'_>, nr: u64) -> Vec<String> {
    let prefix = format!("log-{nr:09}-");
    res.with_prefix(&prefix)
        .filter(|(_, item)| !item.is_live())
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Who still needs the log.
fn use_of(
    res: &Res<'_>,
    nr: u64,
    log: Option<&LogFile>,
    nodes: &[VersionNode],
    all_equal: bool,
) -> Option<Note> {
    let replays: Vec<ReplayValue<'_>> = res
        .live_with_prefix("replay-")
        .filter_map(|(_, item)| ReplayValue::parse(&item.value))
        .collect();
    let positions: Vec<u64> = replays.iter().map(|replay| replay.nr).collect();
    if positions.contains(&nr) {
        let len = log.map_or(0, |log| log.bytes);
        let is_behind = |replay: &ReplayValue<'_>| replay.nr == nr && replay.pos < len;
        let busy = replays.iter().any(is_behind)
            || nodes
                .iter()
                .any(|node| matches!(node.progress, Progress::Missing(_)));
        let what = if busy {
            "Replay in progress ..."
        } else {
            "Wait for start replay ..."
        };
        let text = format!("Version are actual and used. {what}");
        return Some(Note::new(Tag::Work, text));
    }
    if log.is_none() {
        return Some(Note::new(
            Tag::Work,
            "Version is deleted the next log-rotate ...",
        ));
    }
    // A log which somebody has still to reach must stay, whatever the members at it say.
    (all_equal && positions.iter().all(|at| *at > nr)).then(|| {
        Note::new(
            Tag::Hint,
            "Logfiles has all equal Sizes and Checksums, can be deleted ...",
        )
    })
}
