//! Which indicators should this host publish, so that `view` can be computed from the tree alone?
//!
//! Compares what is true with what the tree says and returns the differences only. Progress of
//! logs, replay and sync is published by the workers themselves; here are the lamps (`is-…`), the
//! figures and the messages.
//!
//! Manual: "The State of MARS"; main-loop reference 3.2, 3.6, 3.7.

use std::time::Duration;

use tree::{Entry, Host, Path, Tree, key};

use super::cursor::{self, Cursor};
use super::{Ask, Reason, ResourcePlan, doubt, emergency, housekeeping, word};
use crate::facts::{Facts, ResourceFacts, Slot};
use crate::job::{Ended, LoggerProgress};
use crate::ports::KeyChange;

/// An indicator is written again at this age even if it has not changed: commands that need to
/// know the role of a host for sure ask for a fresh `is-primary` (marsadm reference 5.5).
const ROLE_REFRESH_NS: u64 = 20 * tree::stamp::SECOND_NS;

/// A rotation that takes longer is shown (`--window` of marsadm).
const ROTATION_STALLED_AFTER: Duration = Duration::from_secs(60);

/// Error number published for a damaged log (EBADMSG).
const CODE_DAMAGED: i32 = -74;

/// Error number published for a failed disk (EIO).
const CODE_IO: i32 = -5;

/// Error number published while it is not known what the disk is (ESTALE).
const CODE_STRANGE: i32 = -116;

/// Version of the layout of the tree.
const TREE_VERSION: &str = "0.1";

/// Feature version, strategy version, and the mask of digests and compressions: CRC32C.
const FEATURES: &str = "4,5,0x00040000";

/// The digest in use, as a flag.
const USED_DIGEST: &str = "0x00040000";

/// Collects what differs from the keys of one folder. They are read at once: to look for each of them in the tree takes
/// many times as long.
struct Differences<'a> {
    /// The path of the key with this name.
    path: &'a dyn Fn(&'static str) -> Path,
    /// What the folder holds, by name.
    held: Vec<(&'a str, &'a Entry)>,
    changes: Vec<KeyChange>,
}

impl<'a> Differences<'a> {
    fn new(tree: &'a Tree, folder: &'a str, path: &'a dyn Fn(&'static str) -> Path) -> Self {
        let held = tree.range(folder);
        let held = held.map(|(path, entry)| (&path.as_str()[folder.len()..], entry));
        Differences {
            path,
            held: held.collect(),
            changes: Vec::new(),
        }
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        let place = self.held.binary_search_by(|(held, _)| (*held).cmp(name));
        place.ok().map(|place| self.held[place].1)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.entry(name)?.text()
    }

    fn set(&mut self, name: &'static str, text: impl AsRef<str> + Into<String>) {
        if self.text(name) != Some(text.as_ref()) {
            self.put(name, text);
        }
    }

    /// A figure nobody needs to see while it is zero.
    fn set_unless_zero(&mut self, name: &'static str, number: i64) {
        if number != 0 || self.text(name).is_some() {
            self.set(name, number.to_string());
        }
    }

    fn put(&mut self, name: &'static str, text: impl Into<String>) {
        self.changes.push(((self.path)(name), Some(text.into())));
    }
}

/// The indicators of one resource that have to be written.
pub fn indicators(ask: &Ask<'_>, plan: &ResourcePlan, cursor: Option<&Cursor>) -> Vec<KeyChange> {
    let seen = &ask.seen;
    if !seen.is_member(seen.here) {
        return Vec::new();
    }
    let folder = key::actual_folder(seen.res, seen.here);
    let path = |name| key::actual(seen.res, seen.here, name);
    let mut out = Differences::new(seen.tree, &folder, &path);
    lamps(ask, plan, &mut out);
    figures(ask, cursor, &mut out);
    messages(ask, plan, cursor, &mut out);
    out.changes
}

fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

fn lamps(ask: &Ask<'_>, plan: &ResourcePlan, out: &mut Differences<'_>) {
    let own = ask.own;
    let open = own.export.is_some_and(|export| !export.closing);
    out.set("is-attached", flag(own.disk_bytes.is_some()));
    out.set("is-replaying", flag(own.replayer.is_busy()));
    out.set("is-copying", flag(own.fetcher.is_busy()));
    out.set("is-syncing", flag(own.syncer.is_busy()));
    out.set("if-on", flag(open));
    let ceased = matches!(plan.logger.reason(), Some(Reason::Ceased(_)));
    let scarce = emergency::must_cease(ask).is_some();
    out.set("has-emergency", flag(scarce || ceased));
    let broken = ceased || emergency::is_broken(ask);
    out.set("is-emergency", flag(broken));
    let primary = flag(housekeeping::is_primary(ask, &plan.logger));
    let stale = out.entry("is-primary").is_none_or(|entry| {
        entry.stamp.ns.saturating_add(ROLE_REFRESH_NS) <= ask.all.now_ns
            || entry.text() != Some(primary)
    });
    if stale {
        out.put("is-primary", primary);
    }
    // A host that has lost what it wrote cannot say that others have all of it.
    if !plan.in_doubt {
        let writes = housekeeping::is_primary(ask, &plan.logger);
        out.set("knows-primary", word::own(ask, writes));
    }
}

fn figures(ask: &Ask<'_>, cursor: Option<&Cursor>, out: &mut Differences<'_>) {
    let own = ask.own;
    let opens = own.export.map_or(0, |export| export.opens);
    out.set("open-count", opens.to_string());
    let failing = failing_disk(ask.own).is_some();
    let at_worker = match (doubt::stands(ask), failing) {
        (true, _) => CODE_STRANGE,
        (false, true) => CODE_IO,
        (false, false) => 0,
    };
    let disk_error = own.disk_error.as_ref().map_or(at_worker, |(code, _)| *code);
    out.set("disk-error", disk_error.to_string());
    out.set("replay-code", replay_code(ask, cursor).to_string());
    for (name, number) in rates(own) {
        out.set_unless_zero(name, number);
    }
    if own.device.moved_ns > 0 {
        let moved = tree::ns_to_text(own.device.moved_ns);
        out.set("if-completion-stamp", moved);
    }
    if let Some(bytes) = own.disk_bytes {
        let (path, text) = (key::actsize(ask.seen.res, ask.seen.here), bytes.to_string());
        if ask.seen.tree.text(path.as_str()) != Some(text.as_str()) {
            out.changes.push((path, Some(text)));
        }
    }
}

/// Figures about throughput and about what applications wait for.
fn rates(own: &ResourceFacts) -> [(&'static str, i64); 10] {
    let number = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
    let rates = &own.rates;
    [
        ("ops-replay_rate", number(rates.replay_ops)),
        ("amount-replay_rate", number(rates.replay_kib)),
        ("ops-file_rate", number(rates.fetch_ops)),
        ("amount-file_rate", number(rates.fetch_kib)),
        ("ops-sync_rate", number(rates.sync_ops)),
        ("amount-sync_rate", number(rates.sync_kib)),
        ("ops-if_rate", number(rates.device_ops)),
        ("amount-if_rate", number(rates.device_kib)),
        ("if-flying", number(own.device.flying)),
        ("if-state", -i64::from(own.device.error)),
    ]
}

/// What the disk says that cannot be opened, or that refused the worker which uses it or used it last: everybody must
/// know why this host does not get on (requirements L-D1 and L-D9).
fn failing_disk(own: &ResourceFacts) -> Option<String> {
    fn of<P>(slot: &Slot<P>) -> Option<String> {
        match slot.last() {
            Some(Ended::DiskFailed(error)) => Some(error.clone()),
            _ => None,
        }
    }
    let closed = own.disk_error.as_ref().map(|(_, text)| text.clone());
    let logger = own.logger.progress();
    closed
        .or_else(|| logger.and_then(|progress| progress.disk_error.clone()))
        .or_else(|| of(&own.logger))
        .or_else(|| of(&own.replayer))
        .or_else(|| of(&own.syncer))
}

/// 0 running or waiting for more, 1 everything applied, 2 incomplete, negative damaged.
fn replay_code(ask: &Ask<'_>, cursor: Option<&Cursor>) -> i32 {
    let own = ask.own;
    if own.logger.is_busy() {
        // How replay ended before is of no concern any more.
        return 0;
    }
    match own.replayer.last() {
        Some(Ended::Damaged { .. }) => return CODE_DAMAGED,
        Some(Ended::DiskFailed(_) | Ended::LogFailed(_)) => return CODE_IO,
        _ => {}
    }
    let damaged = cursor.is_some_and(|at| at.local.as_ref().is_some_and(|l| l.damaged.is_some()));
    if damaged {
        return CODE_DAMAGED;
    }
    if own.replayer.is_busy() {
        return 0;
    }
    match cursor {
        Some(cursor) if cursor.is_applied() && cursor.local.is_some() => 1,
        _ => 2,
    }
}

/// What is wrong with the logs here. How replay ended before is of no concern to a primary.
fn damage(ask: &Ask<'_>, plan: &ResourcePlan) -> Option<String> {
    if ask.own.logger.is_busy() {
        return None;
    }
    let ended = ask.own.replayer.last();
    let ended = ended.filter(|ended| matches!(ended, Ended::Damaged { .. }));
    let reasons = [plan.logger.reason(), plan.replayer.reason()];
    let mut reasons = reasons.into_iter().flatten();
    let reason = reasons.find(|r| matches!(r, Reason::Lost { .. } | Reason::Damaged(_)));
    reason
        .map(ToString::to_string)
        .or_else(|| ended.map(ToString::to_string))
}

/// Messages for people, each under a fixed name; `OK` when the condition has ceased.
fn messages(
    ask: &Ask<'_>,
    plan: &ResourcePlan,
    cursor: Option<&Cursor>,
    out: &mut Differences<'_>,
) {
    say(
        ask,
        out,
        "msg-err-splitbrain-detected",
        split_brain(ask, cursor),
    );
    let hole = plan
        .fetcher
        .reason()
        .filter(|r| matches!(r, Reason::Hole { .. }));
    say(
        ask,
        out,
        "msg-err-log-not-contiguous",
        hole.map(ToString::to_string),
    );
    say(ask, out, "msg-err-replay-stop", damage(ask, plan));
    let ceased = plan
        .logger
        .reason()
        .filter(|r| matches!(r, Reason::Ceased(_)));
    say(
        ask,
        out,
        "msg-err-emergency",
        ceased.map(ToString::to_string),
    );
    let level = ask.all.space.level;
    let low = (level >= 1).then(|| Reason::SpaceLow(level).to_string());
    say(ask, out, "msg-wrn-space-low", low);
    let logger = ask.own.logger.progress();
    let of_logger = |what: fn(&LoggerProgress) -> &Option<String>| {
        logger.and_then(|progress| what(progress).clone())
    };
    let strange = plan.in_doubt.then(|| Reason::FormerLife.to_string());
    let disk = strange.or_else(|| failing_disk(ask.own));
    say(ask, out, "msg-err-disk", disk);
    let lost_log = match ask.own.logger.last() {
        Some(Ended::LogFailed(error)) => Some(error.clone()),
        _ => of_logger(|p| &p.log_error),
    };
    say(ask, out, "msg-err-log", lost_log);
    // A step of a rotation that does not become durable must be seen (requirement L-A5).
    say(ask, out, "msg-err-keys", of_logger(|p| &p.keys_error));
    let rotating = logger.and_then(|progress| progress.rotating.as_ref());
    let stalled = rotating.filter(|(_, since)| *since + ROTATION_STALLED_AFTER <= ask.all.mono);
    let stalled = stalled.map(|(log, _)| format!("rotation into {log} does not become durable"));
    say(ask, out, "msg-wrn-rotation-stalled", stalled);
}

/// What every member can see from the version links, whether it is concerned itself or not.
fn split_brain(ask: &Ask<'_>, cursor: Option<&Cursor>) -> Option<String> {
    if let Some(own) = cursor::fork_of(cursor) {
        return Some(own.to_string());
    }
    let split = ask.lineage.split_brain()?;
    let fork = split.forks.first()?;
    let (a, b) = &fork.hosts;
    Some(match &fork.after {
        Some(place) => format!("split brain between {a} and {b} after {place}"),
        None => format!("split brain between {a} and {b}"),
    })
}

/// Sets one message, keeping the stamps of its first occurrence.
fn say(ask: &Ask<'_>, out: &mut Differences<'_>, name: &'static str, text: Option<String>) {
    let shown = out.text(name);
    match text {
        None if shown.is_some_and(|old| old != "OK") => out.set(name, "OK"),
        None => {}
        Some(text) => {
            let same = shown.and_then(|old| old.splitn(3, ' ').nth(2)) == Some(text.as_str());
            if !same {
                let stamp = tree::ns_to_text(ask.all.now_ns);
                out.set(name, format!("{stamp} {stamp} {text}"));
            }
        }
    }
}

/// The indicators of the host itself that have to be written. The heartbeat is not among them.
pub fn of_host(tree: &Tree, facts: &Facts, here: &Host) -> Vec<KeyChange> {
    let folder = key::host_actual_folder(here);
    let path = |name| key::host_actual(here, name);
    let mut out = Differences::new(tree, &folder, &path);
    let mut set = |name, text: String| out.set(name, text);
    const GIB: u64 = 1 << 30;
    set("alive", flag(!facts.stopping).to_owned());
    set("tree", TREE_VERSION.to_owned());
    set("features", FEATURES.to_owned());
    set("usable", FEATURES.to_owned());
    set(
        "buildtag",
        concat!("mars-", env!("CARGO_PKG_VERSION")).to_owned(),
    );
    set("used-log-digest", USED_DIGEST.to_owned());
    set("used-net-digest", USED_DIGEST.to_owned());
    set("used-log-compression", "0".to_owned());
    set("used-net-compression", "0".to_owned());
    set("emergency", facts.space.level.to_string());
    set("rest-space", (facts.space.rest / GIB).to_string());
    set("total-space", (facts.space.total / GIB).to_string());
    out.changes
}
