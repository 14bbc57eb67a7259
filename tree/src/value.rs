//! Typed values and their stored text.
//!
//! Every type here prints exactly the text form of the original and reads back exactly what it prints.
//! Reading garbage is an error that says what was found and what was expected; it never panics.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest128;
use crate::log_name::{LogName, LogPos, parse_number};

/// A stored text does not have the form its key demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected {expected}")]
pub struct ValueError {
    /// The stored text, shortened where it is long.
    pub found: String,
    /// The form that was expected, with an example.
    pub expected: &'static str,
}

impl ValueError {
    /// An error about `found`, of which only the beginning is kept.
    pub fn new(found: &str, expected: &'static str) -> ValueError {
        let mut found = found.to_owned();
        if let Some((end, _)) = found.char_indices().nth(100) {
            found.truncate(end);
            found.push('…');
        }
        ValueError { found, expected }
    }
}

/// How far a member's disk has come: everything of `log` below `offset` is on it, and of the `dirty` bytes behind
/// that some may be. Text: `log-000000001-alpha,<offset>,<dirty>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplayPos {
    /// The log.
    pub log: LogName,
    /// Everything before it is on the disk.
    pub offset: u64,
    /// Bytes behind `offset` which may be on the disk in part; 0 means the disk is a state of the past.
    pub dirty: u64,
}

impl ReplayPos {
    /// Up to where the disk holds everything.
    pub fn clean(&self) -> LogPos {
        self.log.at(self.offset)
    }

    /// Up to where the disk may hold something.
    pub fn dirty_end(&self) -> LogPos {
        self.log.at(self.offset.saturating_add(self.dirty))
    }
}

impl fmt::Display for ReplayPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.log, self.offset, self.dirty)
    }
}

impl FromStr for ReplayPos {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parse = || {
            let mut parts = text.split(',');
            let log = parts.next()?.parse().ok()?;
            let offset = parse_number(parts.next()?)?;
            let dirty = parse_number(parts.next()?)?;
            offset.checked_add(dirty)?;
            let end = parts.next().is_none();
            end.then_some(ReplayPos { log, offset, dirty })
        };
        parse().ok_or_else(|| {
            ValueError::new(text, "a replay position like log-000000001-alpha,4096,0")
        })
    }
}

/// What one host knows about one log, chained to the log before: digest of the contents up to `len`, and the same of
/// the predecessor. Text: `<32 hex>,log-000000002-alpha,<len>:<32 hex>,log-000000001-alpha,<len>`, the part behind
/// the colon empty where there is no predecessor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionLink {
    /// Chained digest at `len`.
    pub digest: Digest128,
    /// The log.
    pub log: LogName,
    /// Durable bytes of it at that host, at a record boundary.
    pub len: u64,
    /// The same three of the log before, at its end.
    pub pred: Option<(Digest128, LogName, u64)>,
}

impl VersionLink {
    /// How far the host had this log.
    pub fn end(&self) -> LogPos {
        self.log.at(self.len)
    }

    /// The part before the colon, which the successor repeats behind its colon.
    pub fn as_pred(&self) -> (Digest128, LogName, u64) {
        (self.digest, self.log.clone(), self.len)
    }
}

impl fmt::Display for VersionLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}:", self.digest, self.log, self.len)?;
        match &self.pred {
            Some((digest, log, len)) => write!(f, "{digest},{log},{len}"),
            None => Ok(()),
        }
    }
}

impl FromStr for VersionLink {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parse = || {
            let (own, before) = text.split_once(':')?;
            let (digest, log, len) = parse_link(own)?;
            let pred = match before {
                "" => None,
                before => Some(parse_link(before)?),
            };
            Some(VersionLink {
                digest,
                log,
                len,
                pred,
            })
        };
        parse().ok_or_else(|| {
            let expected = "a version link like <32 hex>,log-000000002-alpha,4096:<32 hex>,log-000000001-alpha,512";
            ValueError::new(text, expected)
        })
    }
}

fn parse_link(text: &str) -> Option<(Digest128, LogName, u64)> {
    let mut parts = text.split(',');
    let digest = parts.next()?.parse().ok()?;
    let log = parts.next()?.parse().ok()?;
    let len = parse_number(parts.next()?)?;
    let end = parts.next().is_none();
    end.then_some((digest, log, len))
}
