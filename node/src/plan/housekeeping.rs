//! Which logs, links and files does nobody need any more, and what does this host owe the others?
//!
//! Deletes a local log file when its key was deleted and no own worker can need it. The actual
//! primary deletes logs all members have replayed (the part of `marsadm cron` that must not wait
//! for an operator), and version links one log later.
//!
//! Manual: "Deletion of old Transaction Logs"; marsadm reference 8.2; invariant 25.

use tree::{Host, LogName, Path, key};

use super::cursor::{Cursor, Next};
use super::{Ask, Reason, Want, emergency};
use crate::ports::KeyChange;

/// Local log files to remove.
pub fn logs_to_drop(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Vec<LogName> {
    if has_left(ask) {
        return ask.own.logs.keys().cloned().collect();
    }
    let Some(cursor) = cursor else {
        return Vec::new();
    };
    let mut busy = ask.logs_written();
    busy.extend(ask.own.replayer.log());
    let free = |log: &&LogName| !busy.contains(log) && !is_needed(cursor, log);
    let held = ask.own.logs.keys().filter(free);
    let given_up = given_up(ask, cursor);
    held.filter(|log| is_gone(ask, log) || Some(*log) == given_up)
        .cloned()
        .collect()
}

/// The key of this log was deleted, and perhaps even the trace of that.
fn is_gone(ask: &Ask<'_>, log: &LogName) -> bool {
    let lives = ask.lineage.logs().contains_key(log);
    !lives && (ask.seen.log_deleted(log) || is_forgotten(ask, log))
}

/// The oldest log which a secondary keeps for others only, when space is low: one in each round, so that no more go
/// than must (main-loop reference 4.15, level 2).
fn given_up<'a>(ask: &Ask<'a>, cursor: &Cursor) -> Option<&'a LogName> {
    let low = ask.all.space.level >= emergency::LEVEL_GIVES_UP_LOGS;
    let designated = ask.seen.designated_primary().as_ref() == Some(ask.seen.here);
    if !low || designated || ask.own.writes() {
        return None;
    }
    let oldest = ask.own.logs.keys().next()?;
    (oldest.seq < cursor.at.log.seq).then_some(oldest)
}

/// `leave-resource` has deleted the membership of this host, and everybody has stopped.
fn has_left(ask: &Ask<'_>) -> bool {
    let path = key::data(ask.seen.res, ask.seen.here);
    // A key that was never seen may be a tree that is still being restored; only a deletion counts.
    let deleted = ask.seen.tree.get(&path).is_some_and(|e| e.is_tombstone());
    let own = ask.own;
    let idle = !own.writes() && !own.replayer.is_busy() && !own.fetcher.is_busy();
    deleted && idle && own.export.is_none()
}

/// The replica stands in it, or goes on with it next.
fn is_needed(cursor: &Cursor, log: &LogName) -> bool {
    let next = match &cursor.next {
        Next::Ready { log, .. } | Next::After { log, .. } => Some(log),
        _ => None,
    };
    *log == cursor.at.log || next == Some(log)
}

/// The deletion of this log was seen by everybody, so that even its trace is gone.
fn is_forgotten(ask: &Ask<'_>, log: &LogName) -> bool {
    let unknown = ask.seen.tree.get(&key::log(ask.seen.res, log)).is_none();
    unknown && lowest_needed(ask).is_some_and(|seq| log.seq < seq)
}

/// The lowest log number any member still needs; `None` when the position of one of them is missing or
/// cannot be read, or there is none.
fn lowest_needed(ask: &Ask<'_>) -> Option<u64> {
    // A member that has no replay position yet may need anything.
    ask.lineage.min_replay_seq()
}

/// Own logs nobody has written to, beside which the replica has gone on: this host had just begun them when another one was
/// forced to be primary. Two logs with one number would look like a split brain.
pub fn begun_for_nothing(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Vec<KeyChange> {
    let Some(cursor) = cursor else {
        return Vec::new();
    };
    let (seen, at) = (&ask.seen, &cursor.at.log);
    let own = LogName::new(at.seq, seen.here);
    let is_empty = || {
        let local = ask.own.logs.get(&own);
        seen.log_len(&own) == Some(0) && local.is_none_or(|local| local.len == 0)
    };
    let abandoned = *at != own && is_empty() && !ask.logs_written().contains(&&own);
    let path = key::log(seen.res, &own);
    abandoned.then_some((path, None)).into_iter().collect()
}

/// Keys to be stored durably: what may be deleted cluster-wide.
pub fn keys(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Vec<KeyChange> {
    let writes = ask.own.logger.is_busy() && ask.config.delete_logs;
    if cursor.is_none() || !writes {
        return Vec::new();
    }
    let Some(lowest) = lowest_needed(ask) else {
        return Vec::new();
    };
    let last = ask.seen.newest_seq();
    let mut gone: Vec<KeyChange> = Vec::new();
    let below = lowest.min(last);
    for log in ask.seen.logs().filter(|log| log.seq < below) {
        let path = key::log(ask.seen.res, log);
        if !is_old(ask, &path) {
            break;
        }
        gone.push((path, None));
    }
    gone.extend(old_links(ask, lowest));
    gone
}

/// Version links are kept for one log more than the logs themselves: the chain hangs on them.
fn old_links(ask: &Ask<'_>, lowest: u64) -> Vec<KeyChange> {
    let links = ask.lineage.version_links();
    let below = links.filter(|(_, _, link)| link.log.seq + 1 < lowest);
    let paths = below.map(|(seq, host, _)| key::version(ask.seen.res, seq, host));
    let old = paths.filter(|path| is_old(ask, path));
    old.map(|path| (path, None)).collect()
}

/// Was the key last written longer ago than logs are kept?
fn is_old(ask: &Ask<'_>, path: &Path) -> bool {
    let keep = u64::try_from(ask.config.keep_logs.as_nanos()).unwrap_or(u64::MAX);
    let written = ask.seen.tree.get(path).map_or(u64::MAX, |e| e.stamp.ns);
    written.saturating_add(keep) <= ask.all.now_ns
}

/// The highest log number ever used outlives the resource, so that a new one of the same name never
/// meets old logs: raised before the log is begun.
pub fn highest_number(ask: &Ask<'_>, logger: &Want<super::LoggerWant>) -> Option<KeyChange> {
    let seq = logger.job()?.log.seq;
    let known = ask.seen.resource().max_nr().unwrap_or(0);
    (seq > known).then(|| (key::maxnr(ask.seen.res), Some(seq.to_string())))
}

/// Is this host about to be, or already, actual primary? Stored durably before the first record is
/// written, because others may only take the role when it is taken back.
pub fn is_primary(ask: &Ask<'_>, logger_wanted: &Want<super::LoggerWant>) -> bool {
    ask.own.writes() || ask.own.export.is_some() || takes_role(logger_wanted)
}

/// Does this host write, with a log or past it?
fn takes_role(logger: &Want<super::LoggerWant>) -> bool {
    matches!(logger, Want::Run(_) | Want::Rest(Reason::Ceased(_)))
}

/// `is-primary` = 1, before the first record is written.
pub fn role_key(ask: &Ask<'_>, logger: &Want<super::LoggerWant>) -> Option<KeyChange> {
    let begins = takes_role(logger) && !ask.own.writes();
    let known = ask.seen.is_actual_primary(ask.seen.here);
    let path = key::actual(ask.seen.res, ask.seen.here, "is-primary");
    (begins && !known).then(|| (path, Some("1".to_owned())))
}

/// Who may hold the role besides this host, for messages.
pub fn other_primaries(ask: &Ask<'_>) -> Vec<Host> {
    let seen = &ask.seen;
    seen.members()
        .filter(|host| *host != seen.here && seen.is_actual_primary(host))
        .cloned()
        .collect()
}
