//! A secondary's copy of a log: bytes of a peer go in, intact records come out.
//!
//! Only whole records whose checksum, offset, number and seal are right reach the file, so the copy
//! is always a prefix of the creator's log that ends between two records (invariant 20). The bytes
//! of an incomplete record wait in memory; after a restart they are fetched again.

use super::chain::{Boundary, Chain, LogEnd};
use super::header::{HEADER_BYTES, LogHeader, LogIdentity, checksum_seed};
use super::recover::{Recovered, recover_chain};
use crate::error::{LogError, LogPlace, io_failed};
use crate::io::{BlockFile, Fs, OpenHow, write_at};
use std::path::Path;
use tree::LogName;

/// The receiving end of one log.
pub struct FetchedLog {
    file: Box<dyn BlockFile>,
    /// Behind the last verified record. Everything before it is in the file.
    chain: Chain,
    durable: LogEnd,
    /// The beginning of a record whose end has not arrived.
    partial: Vec<u8>,
    failed: Option<String>,
}

impl FetchedLog {
    /// Begins a copy in `dir` with the header a peer has sent, which must be that of `wanted`. A
    /// file of this name is replaced: ask [`FetchedLog::open`] first. On return the empty copy and
    /// its name are durable.
    pub fn create(
        fs: &dyn Fs,
        dir: &Path,
        header: &[u8],
        wanted: &LogIdentity,
    ) -> Result<FetchedLog, LogError> {
        let path = dir.join(wanted.log.to_string());
        LogHeader::decode(header, &path)?.must_be(wanted, &path)?;
        let header = &header[..HEADER_BYTES as usize];
        let file = fs
            .open(&path, OpenHow::CreateOrOpen)
            .map_err(io_failed(&path, "creating the copy"))?;
        file.set_size(0)
            .map_err(io_failed(&path, "emptying an earlier copy"))?;
        write_at(&*file, header, 0).map_err(io_failed(&path, "writing the header"))?;
        file.flush()
            .map_err(io_failed(&path, "flushing the header"))?;
        fs.sync_dir(dir)
            .map_err(io_failed(dir, "making the name of a log durable"))?;
        let chain = Chain {
            path: path.into(),
            log: wanted.log.clone(),
            seed: checksum_seed(header),
            here: Boundary::start(header),
            sealed: false,
        };
        Ok(FetchedLog::at(file, chain))
    }

    /// Goes on with a copy. `known` is the end that was published for it, so that only what follows
    /// is read again; `None` reads all. A torn tail is dropped.
    pub fn open(
        fs: &dyn Fs,
        dir: &Path,
        wanted: &LogIdentity,
        known: Option<LogEnd>,
    ) -> Result<(FetchedLog, Recovered), LogError> {
        let path = dir.join(wanted.log.to_string());
        let at_least = known.map_or(0, |end| end.len);
        let (recovered, chain) = recover_chain(fs, &path, wanted, known, at_least)?;
        let file = fs
            .open(&path, OpenHow::ReadWrite)
            .map_err(io_failed(&path, "opening the copy"))?;
        Ok((FetchedLog::at(file, chain), recovered))
    }

    fn at(file: Box<dyn BlockFile>, chain: Chain) -> FetchedLog {
        let durable = chain
            .here
            .end()
            .expect("a copy knows the digest from its header or its published end");
        FetchedLog {
            file,
            chain,
            durable,
            partial: Vec::new(),
            failed: None,
        }
    }

    /// Name of the log.
    pub fn log(&self) -> &LogName {
        &self.chain.log
    }

    /// The logical offset of the next byte to be received.
    pub fn received(&self) -> u64 {
        self.chain.here.offset + self.partial.len() as u64
    }

    /// What is whole, intact and on the medium: what may be published and replayed.
    pub fn durable(&self) -> LogEnd {
        self.durable
    }

    /// Whether the seal has been verified: nothing more will come.
    pub fn sealed(&self) -> bool {
        self.chain.sealed
    }

    /// Takes bytes for logical offset `offset`, which must be [`FetchedLog::received`]. Intact
    /// records before a damaged one are kept; the damaged one and everything behind it is refused,
    /// and the error names its place.
    pub fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<(), LogError> {
        self.must_be_usable()?;
        if offset != self.received() {
            let mut at = self.chain.place();
            at.at.offset = self.received();
            return Err(LogError::Misplaced { at, found: offset });
        }
        if self.partial.is_empty() {
            let done = self.take_records(bytes)?;
            self.partial.extend_from_slice(&bytes[done..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        let done = self.take_records(&joined)?;
        joined.drain(..done);
        self.partial = joined;
        Ok(())
    }

    /// Makes everything verified durable. A failure is final for this handle; open the copy again.
    pub fn flush(&mut self) -> Result<LogEnd, LogError> {
        self.must_be_usable()?;
        if self.durable.len < self.chain.here.offset {
            let flushed = self.file.flush();
            flushed.map_err(|e| self.fail("flushing the copy", e))?;
            self.durable = self.chain.here.end().expect("known since the start");
        }
        Ok(self.durable)
    }

    /// Verifies as many records as `bytes` hold and writes them with one call; returns their
    /// length.
    fn take_records(&mut self, bytes: &[u8]) -> Result<usize, LogError> {
        let (start, before) = (self.chain.here, self.chain.sealed);
        let mut done = 0;
        let stopped = loop {
            if done == bytes.len() {
                break None;
            }
            match self.chain.take(&bytes[done..]) {
                Ok(head) => done += head.total,
                Err(LogError::Short { .. }) => break None,
                Err(e) => break Some(e),
            }
        };
        if let Err(e) = write_at(&*self.file, &bytes[..done], HEADER_BYTES + start.offset) {
            (self.chain.here, self.chain.sealed) = (start, before);
            return Err(self.fail("writing to the copy", e));
        }
        stopped.map_or(Ok(done), Err)
    }

    fn must_be_usable(&self) -> Result<(), LogError> {
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(LogError::Unusable {
                at: self.durable_place(),
                reason: reason.clone(),
            }),
        }
    }

    fn fail(&mut self, doing: &'static str, e: std::io::Error) -> LogError {
        self.failed = Some(format!("{doing}: {e}"));
        io_failed(&self.chain.path, doing)(e)
    }

    fn durable_place(&self) -> LogPlace {
        let mut at = self.chain.place();
        at.at.offset = self.durable.len;
        at
    }
}
