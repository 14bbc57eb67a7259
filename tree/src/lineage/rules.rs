//! Which logs and version links does nobody need any more?
//!
//! Manual: "Deletion of old Transaction Logs"; invariant 25.

use std::collections::BTreeSet;

use crate::lineage::Lineage;
use crate::log_name::LogName;
use crate::name::Host;

impl Lineage {
    /// Logs that no member needs any more: all disks have come past them, and they are not the newest. Empty while
    /// the position of any member is unknown. How long a log must be untouched is up to the caller.
    pub fn unneeded_logs(&self) -> Vec<LogName> {
        let newest = self.logs.keys().map(|log| log.seq).max();
        let (Some(limit), Some(newest)) = (self.min_replay_seq(), newest) else {
            return Vec::new();
        };
        let unneeded = self
            .logs
            .keys()
            .filter(|log| log.seq < limit && log.seq < newest);
        unneeded.cloned().collect()
    }

    /// Version links that no member needs any more, as number and host: one more is kept than of the logs,
    /// because each link is proven by the one before.
    pub fn unneeded_versions(&self) -> BTreeSet<(u64, Host)> {
        let limit = self.min_replay_seq().unwrap_or(0).saturating_sub(1);
        let below = self.versions.range(..limit);
        let hosts = below.flat_map(|(seq, links)| links.keys().map(|host| (*seq, host.clone())));
        hosts.collect()
    }

    /// The log number that all disks have reached; `None` while one is unknown or there are no members.
    pub fn min_replay_seq(&self) -> Option<u64> {
        let seqs = self.replays.values().map(|pos| Some(pos.as_ref()?.log.seq));
        seqs.collect::<Option<Vec<u64>>>()?.into_iter().min()
    }
}
