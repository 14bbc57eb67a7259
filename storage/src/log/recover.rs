//! What is left of a log after its writer, or the fetcher of this copy, has died.
//!
//! The last intact record is the end; what follows is a torn write and is cut off, never applied. A
//! log whose durable length is known must reach it: anything less is damage, not a tail.

use super::chain::{Boundary, Chain, LogEnd};
use super::header::{HEADER_BYTES, LogIdentity};
use super::reader::{Bound, LogFile};
use crate::error::{LogError, io_failed};
use crate::io::{Fs, OpenHow};
use std::path::Path;
use std::sync::Arc;

/// A log as it was found, cut to its last intact record and durable up to there.
#[derive(Debug)]
pub struct Recovered {
    /// The end of the last intact record.
    pub end: LogEnd,
    /// Whether that record is the seal.
    pub sealed: bool,
    /// Running number of the record that would follow; unknown when no record was read.
    pub next_nr: Option<u64>,
    /// What stood behind the end; `None` when the log ended cleanly.
    pub torn: Option<LogError>,
}

/// Finds the end of a log, removes what is behind it and flushes the rest: bytes of a killed
/// process may be readable without being durable. `known` is an end that was published earlier;
/// what lies before it is not read again. At least `at_least` bytes must be intact, else the error
/// names the first damaged place and the file stays as it is.
pub fn recover(
    fs: &dyn Fs,
    path: &Path,
    wanted: &LogIdentity,
    known: Option<LogEnd>,
    at_least: u64,
) -> Result<Recovered, LogError> {
    let (recovered, _) = recover_chain(fs, path, wanted, known, at_least)?;
    Ok(recovered)
}

/// As [`recover`], with what it takes to go on from there.
pub(super) fn recover_chain(
    fs: &dyn Fs,
    path: &Path,
    wanted: &LogIdentity,
    known: Option<LogEnd>,
    at_least: u64,
) -> Result<(Recovered, Chain), LogError> {
    let log = Arc::new(LogFile::open(fs, path, Some(wanted))?);
    let from = known.map_or_else(|| log.start(), Boundary::at_end);
    must_reach(&log, from.offset)?;
    let mut reader = log.records(from, Bound::Tail { at_least });
    while reader.next_record()?.is_some() {}
    let (chain, torn) = reader.into_end();
    let end = chain
        .here
        .end()
        .expect("both ways to begin know the digest");
    cut(fs, path, end.len)?;
    Ok((
        Recovered {
            end,
            sealed: chain.sealed,
            next_nr: chain.here.next_nr,
            torn,
        },
        chain,
    ))
}

/// What lies before a known end is not read, but its absence would show in the length of the file.
fn must_reach(log: &LogFile, len: u64) -> Result<(), LogError> {
    if len == 0 {
        return Ok(());
    }
    log.read_raw(&mut [0], len - 1)
}

fn cut(fs: &dyn Fs, path: &Path, len: u64) -> Result<(), LogError> {
    let file = fs
        .open(path, OpenHow::ReadWrite)
        .map_err(io_failed(path, "opening the log"))?;
    file.set_size(HEADER_BYTES + len)
        .map_err(io_failed(path, "cutting off a torn tail"))?;
    file.flush().map_err(io_failed(path, "flushing the log"))
}
