//! Reading a log: record by record, never past the first doubtful byte.
//!
//! How far to read comes from outside, because the file itself does not know: see [`Bound`]. Damage
//! is never skipped; there is no search for a later intact record.

use super::chain::{Boundary, Chain};
use super::header::{HEADER_BYTES, LogHeader, LogIdentity, checksum_seed};
use super::recent::Recent;
use super::record::Record;
use crate::error::{Damage, LogError, io_failed, place};
use crate::io::{BlockFile, Fs, OpenHow, read_full_at};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use tree::{Digest128, LogName};

/// Read at once at least. As much as the record before took, if that was more: the next one is likely to be as long.
const CHUNK_BYTES: usize = 256 << 10;

/// How far a log may be read, and what its end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Every byte below this logical length was promised to be there: whatever is wrong there is
    /// damage.
    Durable(u64),
    /// Nobody remembers the length, as after a crash of the writer. Everything below `at_least` was
    /// promised; behind that the first bytes that are no intact record are the end.
    Tail {
        /// Logical length that is known to have been durable.
        at_least: u64,
    },
}

/// An existing log file, opened for reading.
pub struct LogFile {
    file: Box<dyn BlockFile>,
    path: Arc<Path>,
    header: LogHeader,
    header_bytes: Bytes,
    recent: Arc<Recent>,
}

impl LogFile {
    /// Opens the log, reads its header and compares it with `wanted`.
    pub fn open(
        fs: &dyn Fs,
        path: &Path,
        wanted: Option<&LogIdentity>,
    ) -> Result<LogFile, LogError> {
        let file = fs
            .open(path, OpenHow::Read)
            .map_err(io_failed(path, "opening the log"))?;
        let mut bytes = vec![0; HEADER_BYTES as usize];
        let n =
            read_full_at(&*file, &mut bytes, 0).map_err(io_failed(path, "reading the header"))?;
        bytes.truncate(n);
        let header = LogHeader::decode(&bytes, path)?;
        if let Some(wanted) = wanted {
            header.must_be(wanted, path)?;
        }
        Ok(LogFile {
            file,
            path: path.into(),
            header,
            header_bytes: bytes.into(),
            recent: Arc::default(),
        })
    }

    /// Whoever writes this copy keeps its newest bytes there.
    #[must_use]
    pub fn with_recent(self, recent: Arc<Recent>) -> LogFile {
        LogFile { recent, ..self }
    }

    /// What the file says about itself.
    pub fn header(&self) -> &LogHeader {
        &self.header
    }

    /// The 4096 bytes of the header, as another host needs them for its copy.
    pub fn header_bytes(&self) -> &Bytes {
        &self.header_bytes
    }

    /// Name of the log.
    pub fn log(&self) -> &LogName {
        &self.header.identity.log
    }

    /// In front of the first record.
    pub fn start(&self) -> Boundary {
        Boundary::start(&self.header_bytes)
    }

    /// Fills `bytes` from a logical offset on, for a peer. All of it must be durable.
    pub fn read_raw(&self, bytes: &mut [u8], offset: u64) -> Result<(), LogError> {
        let n = read_full_at(&*self.file, bytes, HEADER_BYTES + offset)
            .map_err(io_failed(&self.path, "reading the log"))?;
        match n == bytes.len() {
            true => Ok(()),
            false => Err(LogError::Short {
                at: place(&self.path, self.log(), offset + n as u64),
                missing: (bytes.len() - n) as u64,
            }),
        }
    }

    /// Reads records from `from` on, which must be a record boundary.
    pub fn records(self: &Arc<Self>, from: Boundary, bound: Bound) -> LogReader {
        let chain = Chain {
            path: self.path.clone(),
            log: self.log().clone(),
            seed: checksum_seed(&self.header_bytes),
            here: from,
            sealed: false,
        };
        LogReader {
            file: self.clone(),
            chain,
            bound,
            chunk: Bytes::new(),
            chunk_at: from.offset,
            usual: 0,
            torn: None,
        }
    }

    /// The running digest at logical length `len`, from the contents of the file (L-A6). `len` must
    /// be a record boundary.
    pub fn digest_at(self: &Arc<Self>, len: u64) -> Result<Digest128, LogError> {
        let mut reader = self.records(self.start(), Bound::Durable(len));
        while reader.next_record()?.is_some() {}
        Ok(reader
            .boundary()
            .digest
            .expect("known from the file header on"))
    }

    /// Whether anything was ever appended.
    pub(super) fn has_records(&self) -> Result<bool, LogError> {
        Ok(self.read(0, 8)?.iter().any(|b| *b != 0))
    }

    /// Fewer bytes than asked for only at the end of the file.
    fn read(&self, offset: u64, len: usize) -> Result<Bytes, LogError> {
        if let Some(bytes) = self.recent.read(offset, len) {
            return Ok(bytes);
        }
        let mut bytes = vec![0; len];
        let n = read_full_at(&*self.file, &mut bytes, HEADER_BYTES + offset)
            .map_err(io_failed(&self.path, "reading the log"))?;
        bytes.truncate(n);
        Ok(bytes.into())
    }
}

/// Walks over the records of a log. The data of a record shares the memory of the chunk it was read
/// with, 256 KiB to a little more than 1 MiB, for as long as anybody keeps it.
pub struct LogReader {
    file: Arc<LogFile>,
    chain: Chain,
    bound: Bound,
    /// Bytes of the file that begin at logical offset `chunk_at`.
    chunk: Bytes,
    chunk_at: u64,
    /// Length of the record before.
    usual: usize,
    torn: Option<LogError>,
}

impl LogReader {
    /// The next record. `None` at the bound, at a seal, and, for [`Bound::Tail`], at the first
    /// bytes that are not an intact record. After an error the reader stays where it is; a
    /// [`LogError::Short`] may be tried again once more bytes are there.
    pub fn next_record(&mut self) -> Result<Option<Record>, LogError> {
        match self.bound {
            Bound::Durable(len) if self.chain.here.offset >= len => Ok(None),
            Bound::Durable(len) => self.read_one(len).map(Some),
            Bound::Tail { .. } if self.chain.sealed || self.torn.is_some() => Ok(None),
            Bound::Tail { at_least } => match self.read_one(u64::MAX) {
                Ok(record) => Ok(Some(record)),
                Err(e @ LogError::Io { .. }) => Err(e),
                Err(e) if self.chain.here.offset < at_least => Err(e),
                Err(e) => {
                    self.torn = Some(e);
                    Ok(None)
                }
            },
        }
    }

    /// Where the next record begins.
    pub fn boundary(&self) -> Boundary {
        self.chain.here
    }

    /// Whether the last record was the seal.
    pub fn sealed(&self) -> bool {
        self.chain.sealed
    }

    /// More bytes have become durable: read on up to there.
    pub fn extend(&mut self, durable: u64) {
        self.bound = Bound::Durable(durable);
    }

    /// Why a [`Bound::Tail`] ended where it did; `None` when it ended cleanly, at a seal or at
    /// unused space.
    pub fn torn(&self) -> Option<&LogError> {
        self.torn.as_ref().filter(|e| !is_clean_end(e))
    }

    /// The record at the boundary; reads on as long as it is incomplete and more of the file is
    /// within `len`.
    fn read_one(&mut self, len: u64) -> Result<Record, LogError> {
        let offset = self.chain.here.offset;
        self.forget_before(offset);
        let head = loop {
            match self.chain.take(&self.chunk) {
                Ok(head) => break head,
                Err(LogError::Short { at, missing }) => {
                    let needed = self.chunk.len() + missing as usize;
                    let want = needed.max(self.usual).max(CHUNK_BYTES);
                    let within = len.saturating_sub(offset).min(want as u64) as usize;
                    let bytes = self.file.read(offset, within.max(self.chunk.len()))?;
                    if bytes.len() <= self.chunk.len() {
                        return Err(LogError::Short { at, missing });
                    }
                    self.chunk = bytes;
                }
                Err(e) => return Err(e),
            }
        };
        self.usual = head.total;
        let body = head.body(&self.chunk.slice(..head.total));
        Ok(Record {
            offset,
            end: self.chain.here.offset,
            nr: head.nr,
            stamp_ns: head.stamp_ns,
            body,
        })
    }

    /// Where a finished walk ended, and what stood there if it was not a clean end.
    pub(super) fn into_end(self) -> (Chain, Option<LogError>) {
        (self.chain, self.torn.filter(|e| !is_clean_end(e)))
    }

    fn forget_before(&mut self, offset: u64) {
        let done = (offset - self.chunk_at).min(self.chunk.len() as u64) as usize;
        self.chunk = self.chunk.slice(done..);
        self.chunk_at = offset;
        self.file.recent.forget_before(offset);
    }
}

/// Unused space looks like zeros or like nothing at all.
fn is_clean_end(e: &LogError) -> bool {
    match e {
        LogError::Damaged { what, .. } => *what == Damage::Zeros,
        LogError::Short { missing, .. } => *missing == super::record::RECORD_HEADER_BYTES as u64,
        _ => false,
    }
}
