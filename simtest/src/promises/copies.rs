//! Nothing but durable bytes leaves a host, and a copy of a log is always a prefix of it (invariants 17
//! and 20).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use storage::log::HEADER_BYTES;
use tree::{LogName, Resource, VersionLink};

use crate::disk::SimFs;
use crate::host::STATE_DIR;
use crate::world::World;

/// What was compared and found equal: by host and file the versions of the copy and of the source, and how much of it.
#[derive(Default)]
pub struct Copies(BTreeMap<(String, PathBuf), Compared>);

type Compared = (Version, Version, usize);

/// Which machine it was, for one may have taken the place of another, and the version of the file there.
type Version = (u64, Option<(u64, u64)>);

impl Copies {
    /// Compares every copy of a log with what its creator would still have after a power cut.
    ///
    /// # Errors
    /// A copy that has more than that, or something else.
    pub fn look(&mut self, w: &World) -> Result<(), String> {
        for (name, host) in &w.hosts {
            for path in host.fs.files_below(Path::new(STATE_DIR)) {
                let Some(log) = log_of(&path).filter(|_| !w.is_damaged(name, &path)) else {
                    continue;
                };
                let creator = log.creator.as_str();
                let Some(source) = w.hosts.get(creator).filter(|_| creator != name) else {
                    continue;
                };
                let holds = holds(w, name, &path, &log);
                let version = |at: &str, fs: &SimFs, durable| {
                    let version = fs.version(&path, durable);
                    (w.forgot(at), version)
                };
                let copy = version(name, &host.fs, false);
                let compared = (copy, version(creator, &source.fs, true), holds);
                let key = (name.clone(), path);
                if self.0.get(&key) == Some(&compared) {
                    continue;
                }
                compare(name, &host.fs, &source.fs, &key.1, (&log, holds))?;
                self.0.insert(key, compared);
            }
        }
        Ok(())
    }
}

fn compare(
    name: &str,
    copies: &SimFs,
    source: &SimFs,
    path: &Path,
    (log, holds): (&LogName, usize),
) -> Result<(), String> {
    let compare = |own: &[u8]| {
        let differs = |copy: &[u8]| first_difference(&copy[..copy.len().min(holds)], own);
        copies.bytes(path, false, differs).flatten()
    };
    let differs = source
        .bytes(path, true, |own| Some((compare(own)?, own.len())))
        .flatten();
    match differs {
        None => Ok(()),
        Some((at, durable)) => Err(format!(
            "{name} holds a byte of {log} at {at} - {HEADER_BYTES} which {} could lose or never wrote (17, 20); durable \
             there: {durable}",
            log.creator
        )),
    }
}

/// So many bytes of its copy are the word of a host: all of them, but after a power cut or a call that failed only
/// what it claims, for the rest may be torn or lost and is repaired by fetching it again.
fn holds(w: &World, name: &str, path: &Path, log: &LogName) -> usize {
    let host = w.host(name);
    let counts = host.fs.counts();
    if counts.cuts == 0 && counts.faults == 0 {
        return usize::MAX;
    }
    let dir = path.parent().and_then(Path::file_name).unwrap_or_default();
    let claim = host.node().and_then(|node| {
        let link = format!("{}/version-{:09}-{name}", dir.display(), log.seq);
        let link: VersionLink = node.keys().read().text(&link)?.parse().ok()?;
        // `invalidate` copies the links of the primary, so the daemon has to count on the copy as well.
        let res = Resource::new(dir.to_str()?.strip_prefix("resource-")?).ok()?;
        let kept = node.hub().local_log(&res, log).filter(|len| *len > 0)?;
        (link.log == *log).then_some(link.len.min(kept) + HEADER_BYTES)
    });
    claim.map_or(0, |len| len as usize)
}

/// The log in this file; `None` for copies that grow aside and for other files.
fn log_of(path: &Path) -> Option<LogName> {
    let dir = path.parent()?.file_name()?.to_str()?;
    dir.starts_with("resource-").then_some(())?;
    path.file_name()?.to_str()?.parse().ok()
}

fn first_difference(copy: &[u8], own: &[u8]) -> Option<usize> {
    let both = copy.len().min(own.len());
    if copy[..both] == own[..both] {
        return (copy.len() > both).then_some(both);
    }
    copy.iter().zip(own).position(|(a, b)| a != b)
}
