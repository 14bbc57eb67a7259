//! Equal log and equal length mean equal history: whoever claims to hold a log up to some place names the
//! same digest there, at any time and on any host (invariants 20 and 23), and two logs that continue the
//! same place are only ever made by a command (24, 31).

use std::collections::BTreeMap;

use tree::{Digest128, LogName, VersionLink};

use super::fresh::Fresh;

/// Digest of each place that was ever claimed, and who claimed it first.
#[derive(Default)]
pub struct Chain {
    known: BTreeMap<(String, LogName, u64), (Digest128, String)>,
}

impl Chain {
    /// Compares what a host says now with all that was ever said.
    ///
    /// # Errors
    /// Two claims that cannot both be true.
    pub fn look(&mut self, fresh: &Fresh) -> Result<(), String> {
        let name = &fresh.name;
        for (path, entry) in fresh.entries() {
            let Some((res, rest)) = path.as_str().split_once('/') else {
                continue;
            };
            let Some(text) = entry.text() else { continue };
            if !res.starts_with("resource-") || !rest.starts_with("version-") {
                continue;
            }
            let Ok(link) = text.parse::<VersionLink>() else {
                return Err(format!("{name}: {path} is not a version link: {text}"));
            };
            self.claim(res, &link, &format!("{name}: {path}"))?;
        }
        Ok(())
    }

    fn claim(&mut self, res: &str, link: &VersionLink, who: &str) -> Result<(), String> {
        let here = (link.digest, link.log.clone(), link.len);
        for (digest, log, len) in [Some(here), link.pred.clone()].into_iter().flatten() {
            if digest.is_zero() {
                continue;
            }
            let place = (res.to_owned(), log, len);
            let first = self
                .known
                .entry(place.clone())
                .or_insert_with(|| (digest, who.to_owned()));
            if first.0 != digest {
                return Err(format!(
                    "{who} says {digest} for {}@{}, but {} said {} (23)",
                    place.1, place.2, first.1, first.0
                ));
            }
        }
        Ok(())
    }
}
