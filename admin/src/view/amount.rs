//! How far has a replica come, counted in bytes along the chain of transaction logs?
//!
//! Reads the replay position of one host, the logs held here and the version keys of all hosts. All sums are bytes.
//!
//! Manual: "The State of MARS" (fetch, replay, sync); the numbers behind `view-replay-pos` and its relatives.

use std::collections::BTreeMap;

use super::world::{Res, is_true};

/// A replay position as stored: `log-<number>-<origin>,<pos>,<rest>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayValue<'a> {
    /// Name of the log.
    pub log: &'a str,
    /// Its number.
    pub nr: u64,
    /// The host which wrote that log.
    pub origin: &'a str,
    /// Bytes of it that are on the disk.
    pub pos: u64,
    /// Bytes known behind that which may or may not be on the disk.
    pub rest: u64,
}

impl<'a> ReplayValue<'a> {
    /// Reads the stored text; nothing when it has another form.
    pub fn parse(text: &'a str) -> Option<ReplayValue<'a>> {
        let mut fields = text.split(',');
        let log = fields.next()?;
        let pos = fields.next()?.parse().ok()?;
        // A negative rest is a defect of the writer; for sums it is none.
        let rest = fields
            .next()
            .and_then(|rest| rest.parse().ok())
            .unwrap_or(0);
        let (nr, origin) = parse_log(log)?;
        Some(ReplayValue {
            log,
            nr,
            origin,
            pos,
            rest,
        })
    }
}

/// Splits `log-<number>-<origin>`.
pub fn parse_log(name: &str) -> Option<(u64, &str)> {
    split_numbered(name.strip_prefix("log-")?)
}

/// Splits `<number>-<host>`.
pub fn split_numbered(text: &str) -> Option<(u64, &str)> {
    let (nr, host) = text.split_once('-')?;
    if nr.is_empty() || !nr.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((nr.parse().ok()?, host))
}

/// The parts of a version key before and behind the colon, each `<digest>,<log>,<length>`.
pub fn version_parts(value: &str) -> (&str, &str) {
    value.split_once(':').unwrap_or((value, ""))
}

/// The length in one part of a version key.
pub fn version_len(part: &str) -> Option<u64> {
    part.split(',').nth(2)?.parse().ok()
}

/// What is known of one log number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OneLog<'a> {
    files: BTreeMap<&'a str, u64>,
    version_max: Option<u64>,
}

/// Sizes of all logs of one resource, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSizes<'a> {
    logs: BTreeMap<u64, OneLog<'a>>,
}

/// Which knowledge about lengths counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Only the files held by this host.
    Files,
    /// Also what the version keys of all hosts say.
    Everywhere,
}

impl<'a> LogSizes<'a> {
    pub(super) fn collect(res: &Res<'a>) -> LogSizes<'a> {
        let mut logs: BTreeMap<u64, OneLog<'a>> = BTreeMap::new();
        for (rest, item) in res.live_with_prefix("log-") {
            if let (Some((nr, origin)), Ok(len)) = (split_numbered(rest), item.value.parse()) {
                logs.entry(nr).or_default().files.insert(origin, len);
            }
        }
        for (rest, item) in res.live_with_prefix("version-") {
            let len = version_len(version_parts(&item.value).0);
            if let (Some((nr, _)), Some(len)) = (split_numbered(rest), len) {
                let max = &mut logs.entry(nr).or_default().version_max;
                *max = (*max).max(Some(len));
            }
        }
        LogSizes { logs }
    }

    /// The length of log number `nr` as `host` should see it; nothing when nobody knows that log.
    pub fn len(&self, nr: u64, host: &str, known: Known) -> Option<u64> {
        let log = self.logs.get(&nr)?;
        let file = log
            .files
            .get(host)
            .or_else(|| log.files.values().max())
            .copied();
        match known {
            Known::Files => file,
            Known::Everywhere => file.max(log.version_max),
        }
    }

    /// All log numbers anybody knows, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.logs.keys().copied()
    }

    /// All files held here as (number, origin, length), in order.
    pub fn files(&self) -> impl Iterator<Item = (u64, &'a str, u64)> + '_ {
        self.logs.iter().flat_map(|(nr, log)| {
            let files = log.files.iter();
            files.map(move |(origin, len)| (*nr, *origin, *len))
        })
    }

    /// Bytes of all logs held here.
    pub fn occupied(&self) -> u64 {
        total(self.files().map(|(_, _, len)| len))
    }

    /// Bytes of the logs held here whose number is below `limit`, without the last one that exists.
    pub fn below(&self, limit: u64) -> u64 {
        let last = self.files().map(|(nr, _, _)| nr).max().unwrap_or(0);
        let limit = limit.min(last);
        let old = self.files().filter(|(nr, _, _)| *nr < limit);
        total(old.map(|(_, _, len)| len))
    }
}

/// The four ways to look at progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Copying the whole disk.
    Sync,
    /// Bringing logs here.
    Fetch,
    /// Applying the logs that are here.
    Replay,
    /// Fetch and replay together.
    Work,
}

/// The positions of one host in one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// `syncstatus-<host>`.
    pub sync_pos: u64,
    /// `size`.
    pub sync_size: u64,
    /// Bytes applied, summed over the logs that still exist.
    pub replay_pos: u64,
    /// Bytes held here, likewise.
    pub fetch_pos: u64,
    /// Bytes that anybody is known to have, likewise.
    pub fetch_size: u64,
    /// Bytes known behind the replay position.
    pub writeback_rest: u64,
    /// The oldest log held here without a gap up to the one being replayed.
    pub base_nr: u64,
    /// The log being replayed.
    pub replay_nr: u64,
    /// The newest log held here without a gap.
    pub fetch_nr: u64,
    /// The newest log known.
    pub work_nr: u64,
}

impl Amounts {
    pub(super) fn of(res: &Res<'_>, host: &str) -> Amounts {
        let mut amounts = Amounts {
            sync_pos: number(res.text(&format!("syncstatus-{host}"))),
            sync_size: number(res.text("size")),
            ..Amounts::default()
        };
        let Some(replay) = ReplayValue::parse(res.text(&format!("replay-{host}"))) else {
            return amounts;
        };
        let logs = res.logs();
        let back = backward(logs, host, &replay, Known::Everywhere);
        let held = forward(logs, host, &replay, Known::Files);
        let known = forward(logs, host, &replay, Known::Everywhere);
        amounts.replay_pos = back.bytes;
        amounts.fetch_pos = back.bytes.saturating_add(held.bytes);
        amounts.fetch_size = back.bytes.saturating_add(known.bytes);
        amounts.writeback_rest = known.bytes;
        amounts.base_nr = backward(logs, host, &replay, Known::Files).nr;
        amounts.replay_nr = replay.nr;
        amounts.fetch_nr = held.nr;
        amounts.work_nr = known.nr;
        amounts
    }

    /// Where `cursor` stands, in bytes.
    pub fn pos(&self, cursor: Cursor) -> u64 {
        match cursor {
            Cursor::Sync => self.sync_pos,
            Cursor::Fetch => self.fetch_pos,
            Cursor::Replay | Cursor::Work => self.replay_pos,
        }
    }

    /// Where `cursor` has to get, in bytes.
    pub fn size(&self, cursor: Cursor) -> u64 {
        match cursor {
            Cursor::Sync => self.sync_size,
            Cursor::Fetch | Cursor::Work => self.fetch_size,
            Cursor::Replay => self.fetch_pos,
        }
    }

    /// What `cursor` lacks, in bytes.
    pub fn rest(&self, cursor: Cursor) -> u64 {
        self.size(cursor).saturating_sub(self.pos(cursor))
    }
}

/// A sum of log lengths and the last log that went into it.
struct Sum {
    bytes: u64,
    nr: u64,
}

fn backward(logs: &LogSizes<'_>, host: &str, replay: &ReplayValue<'_>, known: Known) -> Sum {
    let mut sum = Sum {
        bytes: replay.pos,
        nr: replay.nr,
    };
    while sum.nr > 1 {
        let Some(len) = logs.len(sum.nr - 1, host, known) else {
            break;
        };
        sum.bytes = sum.bytes.saturating_add(len);
        sum.nr -= 1;
    }
    sum
}

fn forward(logs: &LogSizes<'_>, host: &str, replay: &ReplayValue<'_>, known: Known) -> Sum {
    let here = logs.len(replay.nr, host, known).unwrap_or(0);
    let mut sum = Sum {
        bytes: replay.rest.max(here.saturating_sub(replay.pos)),
        nr: replay.nr,
    };
    while let Some(next) = sum.nr.checked_add(1)
        && let Some(len) = logs.len(next, host, known)
    {
        sum.bytes = sum.bytes.saturating_add(len);
        sum.nr = next;
    }
    sum
}

/// A sum of lengths; those which nobody can have do not overflow it.
fn total(lengths: impl Iterator<Item = u64>) -> u64 {
    lengths.fold(0, u64::saturating_add)
}

/// The stored number at the beginning of a text, without its fraction; anything else counts as 0, as in the original.
pub fn number(text: &str) -> u64 {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..digits].parse().unwrap_or(0)
}

/// Whether the replica of `host` is consistent in itself. With `strict`, what a primary has not written back counts, too.
pub fn is_consistent(res: &Res<'_>, host: &str, strict: bool) -> bool {
    let Some(replay) = ReplayValue::parse(res.text(&format!("replay-{host}"))) else {
        return false;
    };
    let unwritten = strict && res.actual(host, "is-primary") && replay.rest != 0;
    res.amounts(host).rest(Cursor::Sync) == 0 && !unwritten && past_sync(res, host, &replay)
}

/// Replay has passed the position up to which the sync source had written when it was read.
fn past_sync(res: &Res<'_>, host: &str, replay: &ReplayValue<'_>) -> bool {
    match ReplayValue::parse(res.text(&format!("syncpos-{host}"))) {
        Some(sync) => (sync.nr, sync.pos) <= (replay.nr, replay.pos),
        None => true,
    }
}

/// Whether a secondary cannot go on because the log it stands in is not here, or is shorter than its position.
pub fn is_orphan(res: &Res<'_>, host: &str) -> bool {
    if is_true(res.text(&format!("actual-{host}/is-primary"))) {
        return false;
    }
    let Some(replay) = ReplayValue::parse(res.text(&format!("replay-{host}"))) else {
        return true;
    };
    let held = res.text(replay.log);
    held.parse::<u64>().map_or(true, |len| len < replay.pos) || is_before_hole(res, &replay)
}

/// Whether logs with higher numbers exist, but not the next one: a primary has written past its log, or logs were
/// deleted that this replica needed. What is left of the history of somebody who is not primary is no log it needs.
fn is_before_hole(res: &Res<'_>, replay: &ReplayValue<'_>) -> bool {
    let is_behind = |primary: &str| {
        let at = ReplayValue::parse(res.text(&format!("replay-{primary}")));
        at.is_some_and(|at| at.nr > replay.nr)
            || res
                .logs()
                .files()
                .any(|(nr, origin, _)| origin == primary && nr > replay.nr)
    };
    // Also what is not held here: nobody fetches from behind a hole.
    let next = res.logs().numbers().find(|nr| *nr > replay.nr);
    next.is_some_and(|next| next > replay.nr + 1) && res.designated_host().is_none_or(is_behind)
}

/// Bytes of the chain of logs up to a position, counted as `replay-pos` is.
pub fn bytes_up_to(logs: &LogSizes<'_>, host: &str, position: &ReplayValue<'_>) -> u64 {
    backward(logs, host, position, Known::Everywhere).bytes
}
