//! Nothing but durable bytes leaves a host, and a copy of a log is always a prefix of it (invariants 17
//! and 20).

use std::path::Path;

use storage::log::HEADER_BYTES;
use tree::{LogName, VersionLink};

use crate::host::STATE_DIR;
use crate::world::World;

/// Compares every copy of a log with what its creator would still have after a power cut.
///
/// # Errors
/// A copy that has more than that, or something else.
pub fn look(w: &World) -> Result<(), String> {
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
            let compare = |own: &[u8]| {
                let differs = |copy: &[u8]| first_difference(&copy[..copy.len().min(holds)], own);
                host.fs.bytes(&path, false, differs).flatten()
            };
            let differs = source
                .fs
                .bytes(&path, true, |own| Some((compare(own)?, own.len())))
                .flatten();
            if let Some((at, durable)) = differs {
                return Err(format!(
                    "{name} holds a byte of {log} at {at} - {HEADER_BYTES} which {creator} could lose or never wrote \
                     (17, 20); durable there: {}",
                    durable
                ));
            }
        }
    }
    Ok(())
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
        (link.log == *log).then_some(link.len + HEADER_BYTES)
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
