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
        let typed = RESETS.iter().map(|verb| w.typed_at(&fresh.name, verb));
        let typed = typed.sum();
        for (path, entry) in fresh.entries() {
            let Some((res, rest)) = path.as_str().split_once('/') else {
                continue;
            };
            let Some(text) = entry.text() else { continue };
            if rest.starts_with("version-")
                && let Ok(link) = text.parse::<VersionLink>()
            {
                self.note(res, link);
            }
        }
        for (path, entry) in fresh.entries() {
            let Some((res, rest)) = path.as_str().split_once('/') else {
                continue;
            };
            if rest == own
                && let Some(Ok(now)) = entry.text().map(str::parse::<ReplayPos>)
            {
                self.moved(&fresh.name, res, now, typed)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, res: &str, link: VersionLink) {
        if let Some((_, pred, len)) = link.pred {
            self.before.insert((res.to_owned(), link.log), (pred, len));
        }
    }

    /// `typed`: so many commands that throw its replica away were typed at the host.
    fn moved(&mut self, name: &str, res: &str, now: ReplayPos, typed: usize) -> Result<(), String> {
        let key = (name.to_owned(), res.to_owned());
        let Some(was) = self.at.insert(key, now.clone()) else {
            return Ok(());
        };
        let own = Host::new(name).is_ok_and(|host| now.log.creator == host);
        if own || self.fits(res, &was, &now) || self.fits(res, &now, &was) {
            return Ok(());
        }
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
            // Nothing before it can be it.
            if log.seq <= early.log.seq {
                return false;
            }
            let Some((before, len)) = self.before.get(&(res.to_owned(), log)) else {
                return true;
            };
            if *before == early.log {
                return early.offset <= *len;
            }
            log = before.clone();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hosts have gone on from byte 500 of the first log, alpha behind byte 800 of it.
    fn forked() -> Lineage {
        let zeros = "0".repeat(32);
        let link = |log: &str, len| {
            let text = format!("{zeros},{log},0:{zeros},log-000000001-alpha,{len}");
            text.parse().expect("a version link")
        };
        let mut lineage = Lineage::default();
        lineage.note("resource-data", link("log-000000002-alpha", 800));
        lineage.note("resource-data", link("log-000000002-beta", 500));
        lineage
    }

    fn check(positions: &[&str], typed: usize) -> Result<(), String> {
        let mut lineage = forked();
        for at in positions {
            let at = at.parse().expect("a position");
            lineage.moved("gamma", "resource-data", at, typed)?;
        }
        Ok(())
    }

    #[test]
    fn a_replica_changes_to_another_branch_by_command_only() {
        let (common, dead) = ("log-000000001-alpha,500,0", "log-000000001-alpha,700,0");
        let (alpha, beta) = ("log-000000002-alpha,9,0", "log-000000002-beta,9,0");
        assert_eq!(check(&[common, alpha, common, beta], 0), Ok(()));
        assert!(check(&[dead, beta], 0).is_err());
        assert!(check(&[alpha, beta], 0).is_err());
        assert_eq!(check(&[alpha, beta], 1), Ok(()));
        assert!(check(&[alpha, beta, alpha], 1).is_err());
    }
}
