//! How the lineage of a resource is read from the tree: all of it, or again only what has changed.
//!
//! Both ways must lead to the same ([`Lineage::of`], [`Lineage::renew`]); a property test walks both.

use std::collections::BTreeSet;

use super::{History, Lineage, segment};
use crate::key;
use crate::log_name::LogName;
use crate::name::{Host, Resource};
use crate::path::Path;
use crate::value::number;
use crate::view::{ResourceView, version_of};

/// What a key of a resource says about its logs.
enum Part {
    /// Who is designated.
    Designation,
    /// Who has a disk or a device, and who writes.
    Members,
    /// How far the disk of this host has come; also that it is a member.
    Replay(Host),
    /// Log of this number as this host has it.
    Version(u64, Host),
    /// This log.
    Log(LogName),
}

impl Lineage {
    /// Reads what the tree says about a resource.
    pub fn of(res: &ResourceView<'_>) -> Lineage {
        let mut lineage = Lineage {
            designated: res.designated_primary(),
            logs: res.logs(),
            ..Lineage::default()
        };
        for ((seq, host), link) in res.version_links() {
            lineage.versions.entry(seq).or_default().insert(host, link);
        }
        lineage.read_members(res);
        lineage.renew_histories(lineage.owners());
        lineage
    }

    /// Reads again what the entries under these paths say, which may have changed since it was read. Paths of other keys
    /// and of other resources may be among them.
    pub fn renew<'p>(
        &mut self,
        res: &ResourceView<'_>,
        changed: impl IntoIterator<Item = &'p Path>,
    ) {
        let mut owners = BTreeSet::new();
        let mut members = false;
        for path in changed {
            match part(res.name(), path) {
                None => {}
                Some(Part::Members) => members = true,
                Some(Part::Designation) => {
                    self.designated = res.designated_primary();
                    owners = self.owners();
                }
                Some(Part::Replay(host)) => members |= !self.read_replay(res, &host),
                Some(Part::Version(seq, host)) => {
                    self.read_version(res, seq, &host);
                    owners.insert(host);
                }
                Some(Part::Log(log)) => self.read_log(res, log),
            }
        }
        if members {
            self.read_members(res);
        }
        self.renew_histories(owners);
    }

    /// All hosts with a version link or a history.
    fn owners(&self) -> BTreeSet<Host> {
        let links = self.versions.values().flat_map(|links| links.keys());
        links.chain(self.histories.keys()).cloned().collect()
    }

    fn read_members(&mut self, res: &ResourceView<'_>) {
        self.replays = res.replays();
        self.primaries = self.replays.keys().cloned().collect();
        self.primaries.append(&mut res.with_device());
        self.primaries.retain(|host| res.is_actual_primary(host));
    }

    /// Reads a new position of a member; `false` when it was none, or may be none any more.
    fn read_replay(&mut self, res: &ResourceView<'_>, host: &Host) -> bool {
        let text = res.tree().text(key::replay(res.name(), host).as_str());
        match (text, self.replays.get_mut(host)) {
            (Some(text), Some(known)) => {
                *known = text.parse().ok();
                true
            }
            _ => false,
        }
    }

    fn read_version(&mut self, res: &ResourceView<'_>, seq: u64, host: &Host) {
        let links = self.versions.entry(seq).or_default();
        match res.member(host).version(seq) {
            Some(link) => drop(links.insert(host.clone(), link)),
            None => drop(links.remove(host)),
        }
        if links.is_empty() {
            self.versions.remove(&seq);
        }
    }

    fn read_log(&mut self, res: &ResourceView<'_>, log: LogName) {
        let text = res.tree().text(key::log(res.name(), &log).as_str());
        match text {
            Some(text) => drop(self.logs.insert(log, number(text).unwrap_or(0))),
            None => drop(self.logs.remove(&log)),
        }
    }

    fn renew_histories(&mut self, owners: BTreeSet<Host>) {
        for owner in owners {
            match self.history_by_links(&owner) {
                Some(history) => drop(self.histories.insert(owner, history)),
                None => drop(self.histories.remove(&owner)),
            }
        }
    }

    /// What the links of `owner` say together; `None` without any.
    fn history_by_links(&self, owner: &Host) -> Option<History> {
        let mut history = None;
        for (seq, links) in &self.versions {
            let Some(link) = links.get(owner) else {
                continue;
            };
            let history = history.get_or_insert_with(History::new);
            if link.log.seq == *seq {
                history.insert(*seq, segment(&link.as_pred(), false));
            }
            // What a log continues from is final, whatever the older link says: that one may be lazy.
            if let Some(pred) = &link.pred {
                history.insert(pred.1.seq, segment(pred, true));
            }
        }
        let mut history = history?;
        let newest = history.values().next_back();
        let begun = newest.is_some_and(|last| {
            last.len == 0 && !last.closed && Some(&last.log.creator) != self.designated.as_ref()
        });
        if begun && history.len() > 1 {
            history.pop_last();
        }
        Some(history)
    }
}

/// What the key of this path says about the logs of `res`; `None` when that is nothing. By the same rules as those of
/// [`ResourceView`], which reads many keys at once.
fn part(res: &Resource, path: &Path) -> Option<Part> {
    let below = path.as_str().strip_prefix("resource-")?;
    let name = below.strip_prefix(res.as_str())?.strip_prefix('/')?;
    let host = |stem| name.strip_prefix(stem).map(Host::new);
    if let Some(tail) = name.strip_prefix("version-") {
        let (seq, host) = version_of(tail)?;
        return Some(Part::Version(seq, host));
    }
    if let Some(host) = host("replay-") {
        return host.ok().map(Part::Replay);
    }
    if name.starts_with("log-") {
        return name.parse().ok().map(Part::Log);
    }
    let of_member = name.starts_with("data-") || name.starts_with("device-");
    match name {
        "primary" => Some(Part::Designation),
        _ if of_member || name.ends_with("/is-primary") => Some(Part::Members),
        _ => None,
    }
}
