//! Which operations of a file system does the data path need, and what do they promise?
//!
//! [`Fs`] and [`BlockFile`] are the only way this crate touches logs, disks and small files. The
//! real ones are in `real_fs.rs`; the simulator brings others that tear, forget, fail and fill up.
//! Both traits are kept so small that such an implementation stays readable, and everything that
//! loops, retries or checks lives above them.
//!
//! What a power cut may take away, and what the callers therefore have to ask for:
//! - bytes written or zeroed, holes punched, lengths changed: until [`BlockFile::flush`] of *any*
//!   handle of that file;
//! - names made, renamed or removed: until [`Fs::sync_dir`] of the directory (L-A9: never implied
//!   by flushing the file).

use std::io::{self, IoSlice};
use std::path::Path;

/// Places in files and memory at multiples of it suit every medium that is written past the page cache.
pub const BULK_ALIGN_BYTES: usize = 4096;

/// How [`Fs::open`] opens a file. Every kind but `Read` allows writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenHow {
    /// It must exist; only read.
    Read,
    /// It must exist.
    ReadWrite,
    /// It must not exist yet (`AlreadyExists` otherwise).
    CreateNew,
    /// As it is, or empty when there is none.
    CreateOrOpen,
    /// It must exist, and nobody else may have it open in this way (`WouldBlock` or `ResourceBusy`
    /// otherwise). Regular files are locked, block devices are claimed so that nobody can mount
    /// them. Ends with the handle.
    Exclusive,
}

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// What may still be written, without any reserve for the administrator.
    pub free: u64,
    /// The size of the whole file system.
    pub total: u64,
}

/// What lies below a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes that were written, or whose origin is unknown.
    Data,
    /// Nothing is stored; reads as zeros.
    Hole,
}

/// One stretch of a file with the same [`ExtentKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub at: u64,
    /// Number of bytes, never 0.
    pub len: u64,
    /// Stored or not.
    pub kind: ExtentKind,
}

/// A file system. Paths are absolute. Every error is the operating system's.
pub trait Fs: Send + Sync {
    /// Opens a regular file or a block device. A created file has no durable name before
    /// [`Fs::sync_dir`].
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn BlockFile>>;

    /// Makes a directory and the ones above it, mode 0700. No error when it exists. Not durable
    /// before [`Fs::sync_dir`] of its parent.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names in a directory, sorted, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Gives a file another name; one that had this name is gone, at no moment both or none are
    /// seen.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a regular file. Open handles go on working.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes all names of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Length in bytes of a file or block device; `None` when there is none of this name.
    fn len_of(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Space of the file system that holds `path`.
    fn free_space(&self, path: &Path) -> io::Result<FreeSpace>;
}

/// An open file or block device. Calls may come from several threads; overlapping ones in no
/// particular order.
pub trait BlockFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file (0 beyond it) or when
    /// interrupted. See [`read_full_at`].
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// Fills `buf` if that needs no waiting for a medium, as when all of it is cached. `false`: it would have to wait, or
    /// nobody can tell; ask [`BlockFile::read_at`] where waiting is allowed.
    fn read_cached_at(&self, _buf: &mut [u8], _at: u64) -> bool {
        false
    }

    /// Writes all bytes of `bufs` one behind the other. A failure leaves any part of them written.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], at: u64) -> io::Result<()>;

    /// Like one buffer of [`BlockFile::write_vectored_at`], for much that nobody is going to read from here soon: past
    /// the page cache where that is possible. It is not where `bytes` in memory or `at` do not begin at a multiple of
    /// [`BULK_ALIGN_BYTES`].
    fn write_bulk_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_vectored_at(&[IoSlice::new(bytes)], at)
    }

    /// Makes durable what was written through any handle before the call (`fdatasync`). After a
    /// failure nothing is known about those bytes any more, and a later success says nothing about
    /// them either.
    fn flush(&self) -> io::Result<()>;

    /// Current length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros that occupy no space). Regular files only.
    fn set_size(&self, len: u64) -> io::Result<()>;

    /// Lets the range read as zeros and keeps its space reserved where the file system can do that.
    fn zero_range(&self, at: u64, len: u64) -> io::Result<()>;

    /// Lets the range read as zeros and gives its space back where the file system can do that.
    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()>;

    /// What is stored and what is not within the range, ascending and without gaps. Whoever cannot
    /// tell says `Data`.
    fn map(&self, at: u64, len: u64) -> io::Result<Vec<Extent>>;
}

/// Reads until `buf` is full or the file ends; the number of bytes read.
pub fn read_full_at(file: &dyn BlockFile, buf: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes one buffer.
pub fn write_at(file: &dyn BlockFile, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_vectored_at(&[IoSlice::new(bytes)], at)
}
