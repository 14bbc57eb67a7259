//! A secondary's copy of a log: bytes of a peer go in, intact records come out.
//!
//! Only whole records whose checksum, offset, number and seal are right reach the file, so the copy
//! is always a prefix of the creator's log that ends between two records (invariant 20). The bytes
//! of an incomplete record wait in memory; after a restart they are fetched again.
//!
//! Large batches go past the page cache: fresh pages of it cost more than everything else that is done to fetched
//! bytes. The replayer finds them in [`Recent`] instead.

use super::chain::{Boundary, Chain, LogEnd};
use super::gathered::Gathered;
use super::header::{HEADER_BYTES, LogHeader, LogIdentity, checksum_seed};
use super::recent::Recent;
use super::recover::{Recovered, recover_chain};
use crate::error::{LogError, LogPlace, io_failed};
use crate::io::{BULK_ALIGN_BYTES, BlockFile, Fs, OpenHow, write_at};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use tree::LogName;

/// From here on a batch is written past the page cache. Below, a write to the medium with every flush costs more than
/// the pages.
const BULK_BYTES_MIN: usize = 256 << 10;
const _: () = assert!(BULK_BYTES_MIN >= 4 * BULK_ALIGN_BYTES);

/// The receiving end of one log.
pub struct FetchedLog {
    file: Arc<dyn BlockFile>,
    /// Behind the last verified record. Everything before it is in the file.
    chain: Chain,
    durable: LogEnd,
    /// The beginning of a record whose end has not arrived.
    partial: Gathered,
    recent: Option<Arc<Recent>>,
    failed: Option<String>,
}

/// What has been written to a copy and is to be flushed, so that more can be written meanwhile.
pub struct Unflushed {
    file: Arc<dyn BlockFile>,
    path: Arc<Path>,
    end: LogEnd,
}

impl Unflushed {
    /// What is going to be durable.
    pub fn end(&self) -> LogEnd {
        self.end
    }

    /// Makes everything durable that was written when this was made, and says where that ends. A
    /// failure is final for the copy.
    pub fn flush(&self) -> Result<LogEnd, LogError> {
        let flushed = self.file.flush();
        flushed.map_err(io_failed(&self.path, "flushing the copy"))?;
        Ok(self.end)
    }
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
            file: file.into(),
            chain,
            durable,
            partial: Gathered::default(),
            recent: None,
            failed: None,
        }
    }

    /// Keeps the newest bytes of large batches there as well.
    pub fn keep_recent(&mut self, recent: Arc<Recent>) {
        self.recent = Some(recent);
    }

    /// Nothing large may come for a while: keeps no memory for it.
    pub fn give_up_spare(&mut self) {
        self.partial.forget_lent();
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
        self.must_continue(offset)?;
        if self.partial.is_empty() {
            let done = self.take_records(bytes)?;
            self.partial.extend(&bytes[done..]);
            return Ok(());
        }
        self.partial.extend(bytes);
        self.take_gathered()
    }

    /// The same for pieces that follow each other: all that is whole reaches the file at once.
    pub fn append_all(&mut self, pieces: &[(u64, Bytes)]) -> Result<(), LogError> {
        let bytes = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        if let [(offset, bytes)] = pieces
            && bytes.len() < BULK_BYTES_MIN
        {
            return self.append(*offset, bytes);
        }
        let start = self.chain.here.offset;
        self.partial.place_for(HEADER_BYTES + start, bytes);
        for (offset, bytes) in pieces {
            self.must_continue(*offset)?;
            self.partial.extend(bytes);
        }
        match self.recent.clone().filter(|_| bytes >= BULK_BYTES_MIN) {
            Some(recent) => self.take_and_remember(&recent),
            None => self.take_gathered(),
        }
    }

    /// What is written but not flushed; `None` when everything is durable.
    pub fn unflushed(&self) -> Option<Unflushed> {
        let end = self.chain.here.end().expect("known since the start");
        (self.durable.len < end.len).then(|| Unflushed {
            file: self.file.clone(),
            path: self.chain.path.clone(),
            end,
        })
    }

    /// An [`Unflushed::flush`] has ended well, and this is what it said.
    pub fn note_flushed(&mut self, end: LogEnd) {
        if end.len > self.durable.len {
            self.durable = end;
        }
    }

    /// Makes everything verified durable. A failure is final for this handle; open the copy again.
    pub fn flush(&mut self) -> Result<LogEnd, LogError> {
        self.must_be_usable()?;
        if let Some(unflushed) = self.unflushed() {
            match unflushed.flush() {
                Ok(end) => self.note_flushed(end),
                Err(error) => {
                    self.failed = Some(error.to_string());
                    return Err(error);
                }
            }
        }
        Ok(self.durable)
    }

    fn must_continue(&self, offset: u64) -> Result<(), LogError> {
        self.must_be_usable()?;
        if offset != self.received() {
            let mut at = self.chain.place();
            at.at.offset = self.received();
            return Err(LogError::Misplaced { at, found: offset });
        }
        Ok(())
    }

    /// Takes the records that have become whole.
    fn take_gathered(&mut self) -> Result<(), LogError> {
        let mut gathered = std::mem::take(&mut self.partial);
        let done = self.take_records(gathered.bytes())?;
        gathered.drop_first(done);
        self.partial = gathered;
        Ok(())
    }

    /// The same; [`Recent`] gets the memory they lie in.
    fn take_and_remember(&mut self, recent: &Recent) -> Result<(), LogError> {
        let mut gathered = std::mem::take(&mut self.partial);
        let start = self.chain.here.offset;
        let done = self.take_records(gathered.bytes())?;
        let end = self.chain.here.offset;
        if done > 0 {
            recent.note(start, gathered.lend_first(done, HEADER_BYTES + end));
        }
        self.partial = gathered;
        Ok(())
    }

    /// Verifies as many records as `bytes` hold and writes them; returns their length.
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
        if let Err(e) = self.write(&bytes[..done], start.offset) {
            (self.chain.here, self.chain.sealed) = (start, before);
            return Err(self.fail("writing to the copy", e));
        }
        stopped.map_or(Ok(done), Err)
    }

    /// The whole blocks of much go past the page cache, its edges through it.
    fn write(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        let (file, at) = (&*self.file, HEADER_BYTES + offset);
        if bytes.len() < BULK_BYTES_MIN {
            return write_at(file, bytes, at);
        }
        let edge = (at.next_multiple_of(BULK_ALIGN_BYTES as u64) - at) as usize;
        let whole = (bytes.len() - edge) / BULK_ALIGN_BYTES * BULK_ALIGN_BYTES;
        let (first, rest) = bytes.split_at(edge);
        let (blocks, last) = rest.split_at(whole);
        write_at(file, first, at)?;
        file.write_bulk_at(blocks, at + edge as u64)?;
        write_at(file, last, at + (edge + whole) as u64)
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
