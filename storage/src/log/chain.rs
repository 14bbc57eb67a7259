//! Walking from record to record: running number, running digest, seal. Shared by writer, reader
//! and fetched log.

use super::record::{Flaw, Head, decode_head};
use crate::error::{Damage, LogError, place};
use std::path::Path;
use std::sync::Arc;
use tree::{Digest128, LogName};

/// Records up to this size are copied together before they are hashed: in one piece blake3 is twice
/// as fast as in several odd ones.
const GATHER_BYTES_MAX: usize = 64 << 10;

/// A durable end of a log as version links tell it. Always between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// Logical length in bytes.
    pub len: u64,
    /// Running digest there.
    pub digest: Digest128,
}

/// A place between two records from which reading can go on.
///
/// Whoever starts somewhere in the middle may not know everything: without a digest none is
/// computed and a seal is not compared, without a number the first record is believed (its offset
/// and its checksum still bind it to the place).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    /// Logical offset.
    pub offset: u64,
    /// Running digest of everything before it.
    pub digest: Option<Digest128>,
    /// Running number of the record that follows.
    pub next_nr: Option<u64>,
}

impl Boundary {
    /// In front of the first record of the log with this file header.
    pub fn start(header: &[u8]) -> Boundary {
        Boundary {
            offset: 0,
            digest: Some(truncated(blake3::hash(header))),
            next_nr: Some(1),
        }
    }

    /// Somewhere in the middle, nothing else known.
    pub fn at_offset(offset: u64) -> Boundary {
        Boundary {
            offset,
            digest: None,
            next_nr: None,
        }
    }

    /// At an end that was published earlier.
    pub fn at_end(end: LogEnd) -> Boundary {
        Boundary {
            offset: end.len,
            digest: Some(end.digest),
            next_nr: None,
        }
    }

    /// The end here, if the digest is known.
    pub fn end(&self) -> Option<LogEnd> {
        Some(LogEnd {
            len: self.offset,
            digest: self.digest?,
        })
    }

    /// Steps over a record, given as its parts.
    pub(super) fn step(&mut self, nr: u64, parts: &[&[u8]]) {
        self.offset += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        self.digest = self.digest.map(|before| digest_of(before, parts));
        self.next_nr = Some(nr + 1);
    }
}

/// The running digest behind a record.
fn digest_of(before: Digest128, parts: &[&[u8]]) -> Digest128 {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if bytes <= GATHER_BYTES_MAX {
        let mut all = Vec::with_capacity(before.0.len() + bytes);
        all.extend_from_slice(&before.0);
        parts.iter().for_each(|part| all.extend_from_slice(part));
        return truncated(blake3::hash(&all));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0);
    for part in parts {
        hasher.update(part);
    }
    truncated(hasher.finalize())
}

fn truncated(hash: blake3::Hash) -> Digest128 {
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    Digest128(digest)
}

/// A log as seen by somebody who walks over its records in order and believes nothing.
#[derive(Debug)]
pub(super) struct Chain {
    pub path: Arc<Path>,
    pub log: LogName,
    pub seed: u32,
    pub here: Boundary,
    pub sealed: bool,
}

impl Chain {
    /// Checks the record at the start of `bytes` and steps over it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Head, LogError> {
        if self.sealed {
            return Err(LogError::Sealed { at: self.place() });
        }
        let head =
            decode_head(bytes, self.here.offset, self.seed).map_err(|flaw| self.name(flaw))?;
        if let Some(expected) = self.here.next_nr.filter(|nr| *nr != head.nr) {
            return Err(LogError::Gap {
                at: self.place(),
                expected,
                found: head.nr,
            });
        }
        let record = &bytes[..head.total];
        if let Some((len, digest)) = head.seal(record) {
            if len != self.here.offset || self.here.digest.is_some_and(|here| here != digest) {
                return Err(self.name(Flaw::Damaged(Damage::Seal)));
            }
            self.sealed = true;
        }
        self.here.step(head.nr, &[record]);
        Ok(head)
    }

    /// Where the walk stands, for messages.
    pub fn place(&self) -> crate::error::LogPlace {
        place(&self.path, &self.log, self.here.offset)
    }

    fn name(&self, flaw: Flaw) -> LogError {
        match flaw {
            Flaw::Short(missing) => LogError::Short {
                at: self.place(),
                missing,
            },
            Flaw::Damaged(what) => LogError::Damaged {
                at: self.place(),
                what,
            },
        }
    }
}
