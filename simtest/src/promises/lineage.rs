//! Nothing about a split brain is resolved without a command (invariants 16 and 24): the replay position of a host moves
//! along one history, forwards or, after a crash, backwards. To another branch it gets only where somebody has typed a
//! command that throws the replica away, once for each such command.

use std::collections::BTreeMap;

use tree::{Host, LogName, ReplayPos, VersionLink};

use super::fresh::Fresh;
use crate::world::World;

/// Commands after which a replica may begin on another branch.
const RESETS: &[&str] = &["invalidate", "join-resource"];
/// The longest chain of logs that is followed.
const LOGS_MAX: usize = 10_000;

/// Where each log continues another one, and where each replica was.
#[derive(Default)]
pub struct Lineage {
    before: BTreeMap<(String, LogName), (LogName, u64)>,
    at: BTreeMap<(String, String), ReplayPos>,
    jumps: BTreeMap<String, usize>,
}

impl Lineage {
    /// Compares where a host is now with where it was.
    ///
    /// # Errors
    /// A replica that has changed to another branch by itself.
    pub fn look(&mut self, w: &World, fresh: &Fresh) -> Result<(), String> {
        let own = format!("replay-{}", fresh.name);
        for (path, entry) in fresh.entries() {
            let Some((res, rest)) = path.as_str().split_once('/') else {
                continue;
            };
            let Some(text) = entry.text() else { continue };
            if rest.starts_with("version-")
                && let Ok(link) = text.parse::<VersionLink>()
                && let Some((_, pred, len)) = link.pred
            {
                self.before.insert((res.to_owned(), link.log), (pred, len));
            }
        }
        for (path, entry) in fresh.entries() {
            let Some((res, rest)) = path.as_str().split_once('/') else {
                continue;
            };
            if rest == own
                && let Some(Ok(now)) = entry.text().map(str::parse::<ReplayPos>)
            {
                self.moved(w, &fresh.name, res, now)?;
            }
        }
        Ok(())
    }

    fn moved(&mut self, w: &World, name: &str, res: &str, now: ReplayPos) -> Result<(), String> {
        let key = (name.to_owned(), res.to_owned());
        let Some(was) = self.at.insert(key, now.clone()) else {
            return Ok(());
        };
        let own = Host::new(name).is_ok_and(|host| now.log.creator == host);
        if own || self.fits(res, &was, &now) || self.fits(res, &now, &was) {
            return Ok(());
        }
        let typed: usize = RESETS.iter().map(|verb| w.typed_at(name, verb)).sum();
        let jumps = self.jumps.entry(name.to_owned()).or_default();
        *jumps += 1;
        if *jumps > typed {
            return Err(format!(
                "{name}: the replica was at {was} and is at {now}, on another branch, and no command was typed (24)"
            ));
        }
        Ok(())
    }

    /// Is `early` on the way to `late`, as far as anybody knows? *Unknown* fits.
    fn fits(&self, res: &str, early: &ReplayPos, late: &ReplayPos) -> bool {
        let mut log = late.log.clone();
        for _ in 0..LOGS_MAX {
            if log == early.log {
                return true;
            }
            let Some((before, len)) = self.before.get(&(res.to_owned(), log)) else {
                return true;
            };
            if *before == early.log {
                return early.offset <= *len;
            }
            if before.seq < early.log.seq {
                return false;
            }
            log = before.clone();
        }
        true
    }
}
