//! Nothing reaches the disk of a primary before it is durable in its log (invariant 10): the disk itself looks, in the moment
//! of each write.
//!
//! An application fills whole units with the number of its change, and no two changes have the same. So what is written to a
//! disk must be found in some log of its host, among the bytes a power cut would leave. Only while the host offers the device:
//! whoever copies a replica writes what was read elsewhere. Not where writes go past the log, nor where a log could not be
//! written: then the disk has to take what the log has not.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::path::Path;
use std::sync::{Arc, Weak};

use node::export::Exports;
use node::node::Hub;
use node::plan::Reason;
use tree::{Resource, key};

use super::State;
use crate::history::UNIT_BYTES;
use crate::host::STATE_DIR;

/// A rotation of eight bytes repeats at least so often in the bytes of one unit.
const STEP_BYTES: usize = UNIT_BYTES as usize - 2 * WORD_BYTES;
const WORD_BYTES: usize = 8;

/// Watches the disks of one host while its node runs.
pub(super) struct WriteAhead {
    exports: Weak<Exports>,
    hub: Weak<Hub>,
    /// Changes that were found in a log.
    known: BTreeSet<u64>,
    /// Some call has failed since the node was started.
    pub failed: bool,
    /// What was written too early.
    pub early: Option<String>,
}

impl WriteAhead {
    pub fn new(hub: &Arc<Hub>, exports: &Arc<Exports>) -> WriteAhead {
        WriteAhead {
            exports: Arc::downgrade(exports),
            hub: Arc::downgrade(hub),
            known: BTreeSet::new(),
            failed: false,
            early: None,
        }
    }

    /// Is everything that is written there now in the log first?
    fn concerns(&self, res: &str) -> bool {
        let (Some(exports), Some(hub)) = (self.exports.upgrade(), self.hub.upgrade()) else {
            return false;
        };
        if self.failed || !exports.names().iter().any(|name| name == res) {
            return false;
        }
        let Ok(res) = Resource::new(res) else {
            return false;
        };
        let lamp = key::actual(&res, hub.here(), "is-emergency");
        let past_log = hub.keys().read().text(lamp.as_str()) == Some("1");
        let plan = hub.plans().remove(&res);
        let ceased = plan.is_some_and(|p| matches!(p.logger.reason(), Some(Reason::Ceased(_))));
        !past_log && !ceased
    }
}

impl State {
    /// Before `bufs` are written to the file at `path`.
    pub(super) fn look_at_log(&mut self, path: &Path, at: u64, bufs: &[IoSlice<'_>]) {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(res) = name.and_then(|name| name.strip_prefix("disk-")) else {
            return;
        };
        let Some(mut watch) = self.write_ahead.take() else {
            return;
        };
        if at.is_multiple_of(UNIT_BYTES) && watch.concerns(res) {
            let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            for unit in bytes.chunks_exact(UNIT_BYTES as usize) {
                let number = word(unit);
                if number == 0 || watch.known.contains(&number) {
                    continue;
                }
                match self.is_in_a_log(res, number) {
                    true => drop(watch.known.insert(number)),
                    false => watch.early = Some(format!("change {number} of {res}")),
                }
            }
        }
        self.write_ahead = Some(watch);
    }

    fn is_in_a_log(&self, res: &str, number: u64) -> bool {
        let dir = Path::new(STATE_DIR).join(format!("resource-{res}"));
        let logs = self.durable_names.iter().rev();
        let mut logs = logs.filter(|(path, _)| path.starts_with(&dir));
        logs.any(|(_, id)| {
            let inode = self.inodes.get(id);
            inode.is_some_and(|inode| is_in(&inode.durable, number))
        })
    }
}

/// Is there a unit of this number? Newest bytes first; units may begin at any byte of a log.
fn is_in(log: &[u8], number: u64) -> bool {
    let rotations: Vec<u64> = (0..WORD_BYTES as u32)
        .map(|bytes| number.rotate_left(8 * bytes))
        .collect();
    let last = log.len().saturating_sub(2 * WORD_BYTES);
    let mut places = (0..=last).rev().step_by(STEP_BYTES);
    places.any(|at| {
        let here = word(&log[at..]);
        here == word(&log[(at + WORD_BYTES).min(log.len())..]) && rotations.contains(&here)
    })
}

/// The first eight bytes; 0 where there are none.
fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::fill;

    #[test]
    fn a_unit_is_found_wherever_it_begins_and_others_are_not() {
        for before in 0..600 {
            let log = [vec![9; before], fill(77, 1), vec![5; 300]].concat();
            assert!(is_in(&log, 77), "behind {before} bytes");
            assert!(!is_in(&log, 78));
        }
        assert!(!is_in(&[], 77));
    }
}
