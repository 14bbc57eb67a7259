//! When may a deletion be forgotten, and who has been silent for too long?
//!
//! A tombstone goes when the horizon of every member has passed it: then nobody holds the deleted value any more. A
//! member that has not been heard of for longer than the keep time does not block this; it is *marked* instead, and
//! when it returns with a summary below what was forgotten, its tree is replaced, not merged
//! ([`Knowledge::may_merge_with`], `replacement.rs`).
//!
//! One case is left to the digest trie (`repair.rs`): a command which sets an explicit stamp older than a deletion that
//! only some hosts have forgotten. The others keep the deletion, and both are right by the stamps they hold.
//!
//! Manual: `--keep-backup-hours`, "link-purge". The original forgets by age and lets deleted keys come back.

use std::collections::{BTreeMap, BTreeSet};

use crate::knowledge::Knowledge;
use crate::name::Host;
use crate::path::Path;
use crate::stamp::SECOND_NS;
use crate::summary::Summary;

/// How long a silent member holds deletions back: the original's 168 hours.
pub const KEEP_NS_DEFAULT: u64 = 168 * 3600 * SECOND_NS;
/// A deletion stays so long at least. Members store their horizons only now and then, and a crash sets them back to
/// what is stored: that must not look as if they had been away.
pub const FORGET_AFTER_NS: u64 = 600 * SECOND_NS;
const _: () = assert!(KEEP_NS_DEFAULT > 100 * FORGET_AFTER_NS);
/// Addresses are the root of trust: their deletions stay for the keep time even when everybody has seen them.
const KEPT_LONGER_PREFIX: &str = "ips/";

/// What the members said last about what they have seen.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    members: BTreeMap<Host, Report>,
}

#[derive(Clone, Debug, Default)]
struct Report {
    /// Horizons of the writers whose deletions were held here then. Those of all would be the largest part of the memory of a
    /// node among hundreds of hosts, and most of them never delete anything.
    horizons: Summary,
    /// Monotonic time of this host: no jump of the wall clock makes anybody silent.
    heard_mono_ns: u64,
}

/// What can be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    /// Deletions to forget by [`Knowledge::forget`].
    pub forget: Vec<Path>,
    /// Members not heard of for longer than the keep time: marked.
    pub marked: Vec<Host>,
}

impl Reports {
    /// `host` has just said that it has seen `summary`. What it says of writers whose deletions come here only later is
    /// not kept: those wait until it says so again.
    pub fn heard(&mut self, here: &Knowledge, host: &Host, summary: &Summary, mono_ns: u64) {
        let of_interest = here.deleting_writers();
        let horizons = of_interest.map(|writer| (writer.clone(), summary.horizon(writer)));
        let report = self.members.entry(host.clone()).or_default();
        // A host whose tree was replaced begins again at less: the last word counts, not the greatest.
        report.horizons = Summary(horizons.collect());
        report.heard_mono_ns = mono_ns;
    }

    /// The members of the cluster are these. Others are dropped; the silence of new ones begins now.
    pub fn members_are(&mut self, members: &BTreeSet<Host>, mono_ns: u64) {
        self.members.retain(|host, _| members.contains(host));
        for host in members {
            let new = || Report {
                heard_mono_ns: mono_ns,
                ..Report::default()
            };
            self.members.entry(host.clone()).or_insert_with(new);
        }
    }

    /// What may be forgotten at `now_ns` (nanoseconds of the wall clock), and who is marked at `mono_ns` (of the clock
    /// that [`Reports::heard`] was told).
    pub fn collect(&self, here: &Knowledge, now_ns: u64, mono_ns: u64, keep_ns: u64) -> Collection {
        let is_me = |host: &Host| host == here.me();
        let silent = |report: &Report| mono_ns.saturating_sub(report.heard_mono_ns) > keep_ns;
        let others = self.members.iter().filter(|(host, _)| !is_me(host));
        let (marked, heard): (Vec<_>, Vec<_>) = others.partition(|(_, report)| silent(report));
        let passed_by_all = |writer: &Host, nr: u64| {
            let mut reports = heard.iter().map(|(_, report)| &report.horizons);
            here.summary().horizon(writer) >= nr && reports.all(|r| r.horizon(writer) >= nr)
        };
        let ripe = here.tombstones().filter(|(path, entry)| {
            let is_address = path.as_str().starts_with(KEPT_LONGER_PREFIX);
            let kept_ns = if is_address {
                keep_ns
            } else {
                keep_ns.min(FORGET_AFTER_NS)
            };
            let age = now_ns.saturating_sub(entry.issue.nr);
            age > kept_ns && passed_by_all(&entry.issue.writer, entry.issue.nr)
        });
        Collection {
            forget: ripe.map(|(path, _)| path.clone()).collect(),
            marked: marked.into_iter().map(|(host, _)| host.clone()).collect(),
        }
    }
}
