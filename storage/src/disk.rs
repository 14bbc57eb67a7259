//! The underlying disk: where a member keeps its replica.
//!
//! A regular file or a block device, opened by one daemon only. Reads and writes may come from
//! several threads at once; who orders overlapping ones is the write buffer. After a failed flush
//! the disk is lost until it is opened again: what was written before it is unknown, so it neither
//! says "flushed" again nor lets itself be read, and only replay from the last persisted position
//! repairs that.
//!
//! Manual: "The State of MARS" (attach), invariants 11 and 41.

use crate::error::DiskError;
use crate::io::{BlockFile, Extent, Fs, OpenHow, read_full_at};
use crate::write_buffer::DiskOp;
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// An attached disk. Detached by dropping it.
pub struct Disk {
    file: Box<dyn BlockFile>,
    path: PathBuf,
    size: u64,
    flush_lost: AtomicBool,
}

impl Disk {
    /// Opens the disk for this process alone. `size` is that of the resource; a larger disk is used
    /// up to there only. `None` takes all of it.
    pub fn open(fs: &dyn Fs, path: &Path, size: Option<u64>) -> Result<Disk, DiskError> {
        let file = fs
            .open(path, OpenHow::Exclusive)
            .map_err(|source| refused(path, source))?;
        let have = file.size().map_err(|source| refused(path, source))?;
        let need = size.unwrap_or(have);
        if have < need {
            return Err(DiskError::TooSmall {
                path: path.to_owned(),
                have,
                need,
            });
        }
        Ok(Disk {
            file,
            path: path.to_owned(),
            size: need,
            flush_lost: AtomicBool::new(false),
        })
    }

    /// Usable bytes: the size of the resource.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file or device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes the disk has at this moment; more than [`Disk::size`] once somebody has enlarged it.
    pub fn real_size(&self) -> Result<u64, DiskError> {
        self.file
            .size()
            .map_err(|source| self.failed("asking for the size", 0, 0, source))
    }

    /// Uses more of a disk that was enlarged (`marsadm resize`). Never less: the rest could hold
    /// data.
    pub fn grow(&mut self, size: u64) -> Result<(), DiskError> {
        let have = self.real_size()?;
        if have < size {
            return Err(DiskError::TooSmall {
                path: self.path.clone(),
                have,
                need: size,
            });
        }
        self.size = self.size.max(size);
        Ok(())
    }

    /// Fills `buf` from position `at`.
    pub fn read(&self, buf: &mut [u8], at: u64) -> Result<(), DiskError> {
        let len = buf.len() as u64;
        self.must_contain(at, len)?;
        let read = read_full_at(&*self.file, buf, at);
        self.must_not_be_lost()?;
        match read {
            Ok(n) if n == buf.len() => Ok(()),
            Ok(_) => Err(self.failed("reading", at, len, io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.failed("reading", at, len, source)),
        }
    }

    /// Fills `buf` from position `at` if that needs no waiting; see [`BlockFile::read_cached_at`].
    pub fn read_cached(&self, buf: &mut [u8], at: u64) -> bool {
        let within = self.must_contain(at, buf.len() as u64).is_ok();
        within && self.file.read_cached_at(buf, at) && !self.is_lost()
    }

    /// Writes `bufs` one behind the other. Not durable before [`Disk::flush`].
    pub fn write(&self, bufs: &[Bytes], at: u64) -> Result<(), DiskError> {
        let len = bufs.iter().map(|b| b.len() as u64).sum();
        self.must_contain(at, len)?;
        let slices: Vec<_> = bufs.iter().map(|b| IoSlice::new(b)).collect();
        self.file
            .write_vectored_at(&slices, at)
            .map_err(|source| self.failed("writing", at, len, source))
    }

    /// Lets the range read as zeros; its space stays reserved where the disk can do that.
    pub fn zero(&self, at: u64, len: u64) -> Result<(), DiskError> {
        self.must_contain(at, len)?;
        self.file
            .zero_range(at, len)
            .map_err(|source| self.failed("zeroing", at, len, source))
    }

    /// Lets the range read as zeros and gives its space back where the disk can do that.
    pub fn trim(&self, at: u64, len: u64) -> Result<(), DiskError> {
        self.must_contain(at, len)?;
        self.file
            .punch_hole(at, len)
            .map_err(|source| self.failed("discarding", at, len, source))
    }

    /// Does what a writeback unit asks for, in its (ascending) order. A failure leaves any part of
    /// it done.
    pub fn apply(&self, ops: &[DiskOp]) -> Result<(), DiskError> {
        for op in ops {
            match op {
                DiskOp::Write { at, bytes } => self.write(bytes, *at)?,
                DiskOp::Zero { at, len } => self.zero(*at, *len)?,
                DiskOp::Trim { at, len } => self.trim(*at, *len)?,
            }
        }
        Ok(())
    }

    /// Makes everything written before the call durable. To be called before a larger replay
    /// position is persisted.
    pub fn flush(&self) -> Result<(), DiskError> {
        self.must_not_be_lost()?;
        self.file.flush().map_err(|source| {
            self.flush_lost.store(true, Ordering::Release);
            self.failed("flushing", 0, 0, source)
        })
    }

    /// Has a flush failed since it was opened?
    pub fn is_lost(&self) -> bool {
        self.flush_lost.load(Ordering::Acquire)
    }

    fn must_not_be_lost(&self) -> Result<(), DiskError> {
        match self.is_lost() {
            true => Err(DiskError::FlushLost {
                path: self.path.clone(),
            }),
            false => Ok(()),
        }
    }

    /// What is stored and what is not within the range, for block status.
    pub fn map(&self, at: u64, len: u64) -> Result<Vec<Extent>, DiskError> {
        self.must_contain(at, len)?;
        self.file
            .map(at, len)
            .map_err(|source| self.failed("mapping", at, len, source))
    }

    fn must_contain(&self, at: u64, len: u64) -> Result<(), DiskError> {
        match at.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(DiskError::Beyond {
                path: self.path.clone(),
                at,
                len,
                size: self.size,
            }),
        }
    }

    fn failed(&self, doing: &'static str, at: u64, len: u64, source: io::Error) -> DiskError {
        DiskError::Io {
            path: self.path.clone(),
            doing,
            at,
            len,
            source,
        }
    }
}

fn refused(path: &Path, source: io::Error) -> DiskError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy => DiskError::Busy { path },
        io::ErrorKind::NotFound => DiskError::Absent { path },
        _ => DiskError::Io {
            path,
            doing: "opening",
            at: 0,
            len: 0,
            source,
        },
    }
}
