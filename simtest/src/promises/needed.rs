//! No file of a log goes while the replica of its host stands in it (invariant 25).

use std::collections::BTreeMap;

use storage::Layout;
use tree::{LogName, ReplayPos, Resource, key};

use crate::host::STATE_DIR;
use crate::world::World;

/// The logs in which the replicas stood when they were looked at last, and whose files were there.
#[derive(Default)]
pub struct Needed {
    stood: BTreeMap<(String, Resource), (u64, LogName)>,
}

impl Needed {
    /// Looks at the own position and the log files of every running host.
    ///
    /// # Errors
    /// A file that was there, is not there any more, and is the one the replica still stands in.
    pub fn look(&mut self, w: &World) -> Result<(), String> {
        let layout = Layout::new(STATE_DIR);
        for (name, host) in &w.hosts {
            let Some(node) = host.node() else { continue };
            let tree = node.keys().read();
            for res in node.hub().plans().into_keys() {
                let stands = tree
                    .text(key::replay(&res, &host.name).as_str())
                    .and_then(|text| text.parse::<ReplayPos>().ok());
                let member = tree.text(key::data(&res, &host.name).as_str()).is_some();
                let stands = stands.filter(|_| member).map(|at| {
                    let file = layout.log(&res, &at.log);
                    let is_held = host.fs.bytes(&file, false, <[u8]>::len).is_some();
                    (host.starts() + given_up(w), at, is_held)
                });
                self.compare((name.clone(), res), stands)?;
            }
        }
        Ok(())
    }

    /// Where the replica of a member stands, in which life of it, and whether the file is there.
    fn compare(
        &mut self,
        place: (String, Resource),
        stands: Option<(u64, ReplayPos, bool)>,
    ) -> Result<(), String> {
        let Some((start, at, is_held)) = stands else {
            self.stood.remove(&place);
            return Ok(());
        };
        let now = (start, at.log);
        if is_held {
            self.stood.insert(place, now);
        } else if self.stood.get(&place) == Some(&now) {
            return Err(format!(
                "{}: the file of {} has gone while the replica of {} stands in it at {} (25)",
                place.0, now.1, place.1, at.offset
            ));
        }
        Ok(())
    }
}

/// How often replicas were given up by command, after which they may begin again in the same place with nothing.
fn given_up(w: &World) -> u64 {
    let words = ["leave-resource", "invalidate"];
    let typed = |name: &String| {
        words
            .map(|word| w.typed_at(name, word))
            .iter()
            .sum::<usize>()
    };
    w.hosts.keys().map(typed).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stands: &[(u64, &str, bool)]) -> Result<(), String> {
        let mut needed = Needed::default();
        for (start, at, is_held) in stands {
            let place = ("beta".to_owned(), Resource::new("data").expect("a name"));
            let at = at.parse().expect("a position");
            needed.compare(place, Some((*start, at, *is_held)))?;
        }
        Ok(())
    }

    #[test]
    fn a_file_may_go_once_the_replica_stands_in_another_one() {
        let (old, new) = ("log-000000001-alpha,77,0", "log-000000002-alpha,0,0");
        assert_eq!(
            check(&[(1, old, true), (1, new, true), (1, new, true)]),
            Ok(())
        );
        assert!(check(&[(1, old, true), (1, old, false)]).is_err());
        // It was not there yet, or a crash took it.
        assert_eq!(check(&[(1, old, true), (1, new, false)]), Ok(()));
        assert_eq!(check(&[(1, old, true), (2, old, false)]), Ok(()));
    }
}
