//! Appending to a log: many records in one write, many writes under one flush.
//!
//! One owner, one thread: the order of [`LogWriter::append`] is the order of the resource's writes.
//! A log is written by the process that created it and by nobody else ever: there is no way to open
//! one for appending again.
//!
//! Manual: "The Transaction Logger". Durable creation: L-A1, L-A9.

use super::ahead::{AheadOptions, ZeroAhead};
use super::chain::{Boundary, LogEnd};
use super::header::{HEADER_BYTES, LogHeader, checksum_seed};
use super::reader::LogFile;
use super::record::{Body, DATA_BYTES_MAX, Encoded, encode, padding_of, payload_of};
use crate::error::{LogError, io_failed, place};
use crate::io::{BlockFile, Fs, OpenHow, write_at};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use tree::LogName;

/// One write to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Lamport time of the write in ns.
    pub stamp_ns: u64,
    /// What it does. Seals are written by [`LogWriter::seal`] only.
    pub body: Body,
}

/// The writing end of one log.
pub struct LogWriter {
    file: Arc<dyn BlockFile>,
    path: Arc<Path>,
    log: LogName,
    seed: u32,
    /// Behind the last appended record.
    appended: Boundary,
    /// Behind the last record that is certainly on the medium.
    durable: LogEnd,
    state: State,
    ahead: ZeroAhead,
}

/// `Open` is left for one of the others and never entered again.
#[derive(Debug)]
enum State {
    /// Takes records.
    Open,
    /// Ended by a seal.
    Sealed,
    /// An append failed and was taken back. What was appended before may still be flushed.
    NoAppend(String),
    /// A flush failed, or a failed append could not be taken back.
    Failed(String),
}

impl LogWriter {
    /// Creates the log file in `dir`. On return the header and the name are on the medium, so the
    /// log may be announced. The remainder of an interrupted creation (no readable header, or no
    /// record yet) is replaced; a log with records never.
    pub fn create(
        fs: &dyn Fs,
        dir: &Path,
        header: &LogHeader,
        ahead: AheadOptions,
    ) -> Result<LogWriter, LogError> {
        let log = header.identity.log.clone();
        let path: Arc<Path> = dir.join(log.to_string()).into();
        remove_remainder(fs, &path)?;
        let file = fs
            .open(&path, OpenHow::CreateNew)
            .map_err(io_failed(&path, "creating the log"))?;
        let file: Arc<dyn BlockFile> = Arc::from(file);
        let bytes = header.encode();
        write_at(&*file, &bytes, 0).map_err(io_failed(&path, "writing the header"))?;
        file.flush()
            .map_err(io_failed(&path, "flushing the header"))?;
        fs.sync_dir(dir)
            .map_err(io_failed(dir, "making the name of a log durable"))?;
        let appended = Boundary::start(&bytes);
        Ok(LogWriter {
            ahead: ZeroAhead::new(file.clone(), path.clone(), ahead),
            durable: known_end(&appended),
            seed: checksum_seed(&bytes),
            state: State::Open,
            file,
            path,
            log,
            appended,
        })
    }

    /// Name of the log.
    pub fn log(&self) -> &LogName {
        &self.log
    }

    /// The log file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Logical length including what is not durable yet.
    pub fn appended_len(&self) -> u64 {
        self.appended.offset
    }

    /// What is on the medium. Only this may leave the host.
    pub fn durable(&self) -> LogEnd {
        self.durable
    }

    /// For the thread that writes zeros ahead.
    pub fn ahead(&self) -> ZeroAhead {
        self.ahead.clone()
    }

    /// Appends all records with one write, in this order; payloads are not copied. Returns the
    /// logical end of each. Nothing is durable before [`LogWriter::flush`]. After a failure none of
    /// them is in the log, and the log takes no more.
    pub fn append(&mut self, records: &[NewRecord]) -> Result<Vec<u64>, LogError> {
        self.must_take_records()?;
        let mut next = self.appended;
        let mut ends = Vec::with_capacity(records.len());
        let mut heads = Vec::with_capacity(records.len());
        for record in records {
            assert_writable(&record.body);
            let nr = next
                .next_nr
                .expect("a writer counts from the first record on");
            let encoded = encode(&record.body, nr, record.stamp_ns, next.offset, self.seed);
            next.step(nr, &parts(&record.body, &encoded));
            ends.push(next.offset);
            heads.push(encoded);
        }
        let slices: Vec<_> = records
            .iter()
            .zip(&heads)
            .flat_map(|(record, encoded)| parts(&record.body, encoded))
            .map(IoSlice::new)
            .collect();
        self.write(&slices, next)?;
        Ok(ends)
    }

    /// Makes everything appended durable. A failure is final for this log.
    pub fn flush(&mut self) -> Result<LogEnd, LogError> {
        self.must_be_flushable()?;
        if self.durable.len < self.appended.offset {
            let flushed = self.file.flush();
            if let Err(e) = flushed {
                self.state = State::Failed(format!("flush: {e}"));
                return Err(io_failed(&self.path, "flushing the log")(e));
            }
            // Zeros go to the same file: a flush that failed there may have been about our bytes.
            self.must_be_flushable()?;
            self.durable = known_end(&self.appended);
        }
        Ok(self.durable)
    }

    /// Ends the log with a seal, cuts off unused zeros and makes all of it durable. Returns the
    /// final end.
    pub fn seal(&mut self, stamp_ns: u64) -> Result<LogEnd, LogError> {
        self.must_take_records()?;
        let LogEnd { len, digest } = known_end(&self.appended);
        let body = Body::Seal { len, digest };
        let nr = self
            .appended
            .next_nr
            .expect("a writer counts from the first record on");
        let encoded = encode(&body, nr, stamp_ns, len, self.seed);
        let mut next = self.appended;
        next.step(nr, &parts(&body, &encoded));
        let slices = parts(&body, &encoded).map(IoSlice::new);
        self.write(&slices, next)?;
        self.state = State::Sealed;
        // Zeros that cannot be cut off cost space and nothing else: readers end at the seal.
        let _ = self.cut_to(next.offset);
        self.flush()
    }

    /// Cuts off unused zeros of a log that ends without a seal. They cost space and nothing else, so a failure is none.
    pub fn cut(&self) {
        if self.appended.offset == self.durable.len {
            let _ = self.cut_to(self.appended.offset);
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>], next: Boundary) -> Result<(), LogError> {
        self.ahead.claim(HEADER_BYTES + next.offset);
        if let Err(e) = self
            .file
            .write_vectored_at(slices, HEADER_BYTES + self.appended.offset)
        {
            self.take_back(&e);
            return Err(io_failed(&self.path, "appending to the log")(e));
        }
        self.appended = next;
        Ok(())
    }

    /// Records of a failed append were never acknowledged. They must not turn up in a recovery
    /// after the application has written elsewhere, so the file is cut. Durable zeros would do as
    /// well, but the space may be what is lacking.
    fn take_back(&mut self, why: &io::Error) {
        let why = format!("append: {why}");
        self.state = match self.cut_to(self.appended.offset) {
            Ok(()) => State::NoAppend(why),
            Err(e) => State::Failed(format!("{why}; taking it back: {e}")),
        };
    }

    fn cut_to(&self, offset: u64) -> io::Result<()> {
        self.ahead
            .close(|| self.file.set_size(HEADER_BYTES + offset))
    }

    fn must_take_records(&self) -> Result<(), LogError> {
        self.must_be_flushable()?;
        match &self.state {
            State::Open => Ok(()),
            State::Sealed => Err(LogError::Sealed {
                at: place(&self.path, &self.log, self.appended.offset),
            }),
            State::NoAppend(why) | State::Failed(why) => Err(self.unusable(why.clone())),
        }
    }

    fn must_be_flushable(&self) -> Result<(), LogError> {
        if let State::Failed(why) = &self.state {
            return Err(self.unusable(why.clone()));
        }
        self.ahead
            .failure()
            .map_or(Ok(()), |why| Err(self.unusable(why)))
    }

    fn unusable(&self, reason: String) -> LogError {
        LogError::Unusable {
            at: place(&self.path, &self.log, self.durable.len),
            reason,
        }
    }
}

/// All bytes of a record, in order.
fn parts<'a>(body: &'a Body, encoded: &'a Encoded) -> [&'a [u8]; 3] {
    let payload = payload_of(body, &encoded.seal);
    [&encoded.head, payload, padding_of(payload.len())]
}

fn assert_writable(body: &Body) {
    match body {
        Body::Data { bytes, .. } => assert!(
            (1..=DATA_BYTES_MAX).contains(&bytes.len()),
            "writes are cut to records of 1 to {DATA_BYTES_MAX} bytes, this has {}",
            bytes.len()
        ),
        Body::Zeroes { len, .. } | Body::Discard { len, .. } => {
            assert!(*len > 0, "an empty range is not logged")
        }
        Body::Mark => {}
        Body::Seal { .. } => unreachable!("a log is sealed by LogWriter::seal"),
    }
    if let Some(range) = body.range() {
        assert!(
            range.end < u64::MAX,
            "no device reaches the end of the numbers"
        );
    }
}

fn known_end(boundary: &Boundary) -> LogEnd {
    boundary
        .end()
        .expect("a writer knows the digest from the file header on")
}

/// A crash while creating a log leaves a file that nobody was told about: remove it. Anything with
/// a record stays.
fn remove_remainder(fs: &dyn Fs, path: &Path) -> Result<(), LogError> {
    match LogFile::open(fs, path, None) {
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        Err(LogError::Header { .. }) => {}
        Err(e) => return Err(e),
        Ok(log) if log.has_records()? => {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(LogError::Io {
                path: path.to_owned(),
                doing: "creating the log",
                source,
            });
        }
        Ok(_) => {}
    }
    fs.remove(path).map_err(io_failed(
        path,
        "removing the remainder of an interrupted creation",
    ))
}
