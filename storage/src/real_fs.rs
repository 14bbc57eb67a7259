//! The file system of this machine behind the seam of `io.rs`.
//!
//! Plain buffered calls: one `pwritev` and one `fdatasync` per batch were faster than io_uring and
//! than anything asynchronous for what a log does. No call here is retried except an interrupted
//! one and the rest of a short write.

use crate::io::{BULK_ALIGN_BYTES, BlockFile, Extent, ExtentKind, FreeSpace, Fs, OpenHow};
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;

/// Slices in one system call at most (`IOV_MAX` on Linux).
const SLICES_PER_CALL_MAX: usize = 1024;

/// Zeros written by one call where a range cannot be zeroed in another way.
const ZERO_CHUNK_BYTES: u64 = 256 << 10;

/// No block device has larger logical sectors; what it is asked to zero must consist of whole ones.
const DEVICE_ALIGN_BYTES: u64 = 4096;

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn BlockFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match how {
            OpenHow::Read => &mut options,
            OpenHow::ReadWrite => options.write(true),
            OpenHow::CreateNew => options.write(true).create_new(true),
            OpenHow::CreateOrOpen => options.write(true).create(true),
            OpenHow::Exclusive => return open_exclusive(path),
        };
        Ok(Box::new(RealFile::new(options.open(path)?)?))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not text is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn len_of(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(meta) if meta.file_type().is_block_device() => {
                RealFile::new(File::open(path)?)?.size().map(Some)
            }
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn free_space(&self, path: &Path) -> io::Result<FreeSpace> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(FreeSpace {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

/// A block device is claimed from the kernel (`O_EXCL` fails while it is mounted); a file gets a
/// lock.
fn open_exclusive(path: &Path) -> io::Result<Box<dyn BlockFile>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if fs::metadata(path)?.file_type().is_block_device() {
        options.custom_flags(OFlags::EXCL.bits() as i32);
    }
    let file = options.open(path)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Box::new(RealFile::new(file)?))
}

/// An open file or block device of this machine.
struct RealFile {
    file: File,
    is_device: bool,
    /// The same file, for writes past the page cache; opened by the first of them.
    direct: OnceLock<Option<File>>,
}

impl RealFile {
    fn new(file: File) -> io::Result<RealFile> {
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a regular file nor a block device",
            ));
        }
        Ok(RealFile {
            file,
            is_device: kind.is_block_device(),
            direct: OnceLock::new(),
        })
    }

    /// Writes past the page cache and says how much; 0 where that is not possible.
    fn write_direct(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let fits = |place: u64| place.is_multiple_of(BULK_ALIGN_BYTES as u64);
        let all_fit = fits(bytes.as_ptr().addr() as u64) && fits(bytes.len() as u64) && fits(at);
        if self.is_device || bytes.is_empty() || !all_fit {
            return Ok(0);
        }
        let Some(direct) = self.direct.get_or_init(|| open_direct(&self.file)) else {
            return Ok(0);
        };
        match rustix::io::pwrite(direct, bytes, at) {
            Ok(n) => Ok(n),
            // The ordinary way tells whether there is anything else wrong.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::INTR) => Ok(0),
            Err(e) => Err(e.into()),
        }
    }

    /// `fallocate` where the file system can do it, plain zeros elsewhere and at the edges of a
    /// block device.
    fn fallocate_or_zeros(&self, how: FallocateFlags, at: u64, len: u64) -> io::Result<()> {
        let end = at.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        let (start, stop) = match self.is_device {
            true => (
                at.next_multiple_of(DEVICE_ALIGN_BYTES),
                end / DEVICE_ALIGN_BYTES * DEVICE_ALIGN_BYTES,
            ),
            false => (at, end),
        };
        if start >= stop {
            return self.write_zeros(at, len);
        }
        self.write_zeros(at, start - at)?;
        self.write_zeros(stop, end - stop)?;
        match rustix::fs::fallocate(
            &self.file,
            how | FallocateFlags::KEEP_SIZE,
            start,
            stop - start,
        ) {
            Ok(()) => self.extend_to(end),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                self.write_zeros(start, stop - start)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// A range that was zeroed beyond the end becomes part of the file, as if it had been written.
    fn extend_to(&self, end: u64) -> io::Result<()> {
        if !self.is_device && self.file.metadata()?.len() < end {
            self.file.set_len(end)?;
        }
        Ok(())
    }

    fn write_zeros(&self, mut at: u64, mut len: u64) -> io::Result<()> {
        let zeros = vec![0; len.min(ZERO_CHUNK_BYTES) as usize];
        while len > 0 {
            let n = len.min(ZERO_CHUNK_BYTES);
            self.file.write_all_at(&zeros[..n as usize], at)?;
            at += n;
            len -= n;
        }
        Ok(())
    }

    /// The next place at or behind `at` that `SEEK_DATA` or `SEEK_HOLE` finds; `end` when there is
    /// none.
    fn seek(&self, to: SeekFrom, end: u64) -> io::Result<u64> {
        match rustix::fs::seek(&self.file, to) {
            Ok(found) => Ok(found.min(end)),
            Err(Errno::NXIO) => Ok(end),
            Err(e) => Err(e.into()),
        }
    }
}

/// `None` where the file system cannot do without the page cache.
fn open_direct(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .ok()
        .map(File::from)
}

impl BlockFile for RealFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buf, at)
    }

    fn read_cached_at(&self, buf: &mut [u8], at: u64) -> bool {
        let wanted = buf.len();
        let into = &mut [IoSliceMut::new(buf)];
        let read = rustix::io::preadv2(&self.file, into, at, ReadWriteFlags::NOWAIT);
        // Too little, "would block" and "cannot tell" are all the same to the caller.
        read.is_ok_and(|n| n == wanted)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], mut at: u64) -> io::Result<()> {
        let mut all = bufs.to_vec();
        let mut rest = &mut all[..];
        IoSlice::advance_slices(&mut rest, 0); // drops empty ones at the front
        while !rest.is_empty() {
            let now = &rest[..rest.len().min(SLICES_PER_CALL_MAX)];
            match rustix::io::pwritev(&self.file, now, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn write_bulk_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let done = self.write_direct(bytes, at)?;
        self.write_vectored_at(&[IoSlice::new(&bytes[done..])], at + done as u64)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        if self.is_device {
            return Ok(rustix::fs::seek(&self.file, SeekFrom::End(0))?);
        }
        Ok(self.file.metadata()?.len())
    }

    fn set_size(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn zero_range(&self, at: u64, len: u64) -> io::Result<()> {
        self.fallocate_or_zeros(FallocateFlags::ZERO_RANGE, at, len)
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.fallocate_or_zeros(FallocateFlags::PUNCH_HOLE, at, len)
    }

    fn map(&self, at: u64, len: u64) -> io::Result<Vec<Extent>> {
        let end = at.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        if self.is_device {
            return Ok(vec![Extent {
                at,
                len,
                kind: ExtentKind::Data,
            }]);
        }
        let mut extents = Vec::new();
        let mut here = at;
        while here < end {
            let data = self.seek(SeekFrom::Data(here), end)?;
            push_extent(&mut extents, here, data, ExtentKind::Hole);
            here = if data < end {
                self.seek(SeekFrom::Hole(data), end)?
            } else {
                end
            };
            push_extent(&mut extents, data, here, ExtentKind::Data);
        }
        Ok(extents)
    }
}

fn push_extent(extents: &mut Vec<Extent>, at: u64, end: u64, kind: ExtentKind) {
    if end > at {
        extents.push(Extent {
            at,
            len: end - at,
            kind,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{read_full_at, write_at};

    fn in_a_directory(test: impl FnOnce(&Path)) {
        let dir = tempfile::tempdir().unwrap();
        test(dir.path());
    }

    #[test]
    fn more_slices_than_one_call_takes_are_written_in_order() {
        in_a_directory(|dir| {
            let file = RealFs.open(&dir.join("f"), OpenHow::CreateNew).unwrap();
            let bytes: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
            let slices: Vec<_> = bytes.chunks(2).map(IoSlice::new).collect();
            file.write_vectored_at(&slices, 7).unwrap();
            let mut back = vec![0; 5000];
            assert_eq!(read_full_at(&*file, &mut back, 7).unwrap(), 5000);
            assert_eq!(back, bytes);
        });
    }

    #[test]
    fn bulk_is_written_whatever_its_place_and_read_back_with_what_lies_around_it() {
        in_a_directory(|dir| {
            let file = RealFs.open(&dir.join("f"), OpenHow::CreateNew).unwrap();
            let mem: Vec<u8> = (0..40_000u32).map(|i| (i * 7 / 5) as u8).collect();
            let skew = mem.as_ptr().align_offset(BULK_ALIGN_BYTES);
            write_at(&*file, &[9; 4096], 0).unwrap();
            file.write_bulk_at(&mem[skew..skew + 16384], 4096).unwrap();
            file.write_bulk_at(&mem[1..5000], 20480).unwrap();
            file.flush().unwrap();
            let mut back = vec![0; 30_000];
            assert_eq!(read_full_at(&*file, &mut back, 0).unwrap(), 20480 + 4999);
            assert!(back[..4096].iter().all(|b| *b == 9));
            assert_eq!(back[4096..20480], mem[skew..skew + 16384]);
            assert_eq!(back[20480..20480 + 4999], mem[1..5000]);
        });
    }

    #[test]
    fn holes_and_zeroed_ranges_read_as_zeros_and_the_map_tells_them_from_data() {
        in_a_directory(|dir| {
            let file = RealFs.open(&dir.join("f"), OpenHow::CreateNew).unwrap();
            write_at(&*file, &vec![7; 256 << 10], 0).unwrap();
            file.punch_hole(64 << 10, 64 << 10).unwrap();
            file.zero_range(192 << 10, 4 << 10).unwrap();
            let mut back = vec![1; 256 << 10];
            read_full_at(&*file, &mut back, 0).unwrap();
            assert!(back[64 << 10..128 << 10].iter().all(|b| *b == 0));
            assert!(back[192 << 10..196 << 10].iter().all(|b| *b == 0));
            assert_eq!(back[0], 7);
            let map = file.map(0, 256 << 10).unwrap();
            assert_eq!(map.iter().map(|e| e.len).sum::<u64>(), 256 << 10);
            assert!(map.contains(&Extent {
                at: 64 << 10,
                len: 64 << 10,
                kind: ExtentKind::Hole
            }));
        });
    }

    #[test]
    fn a_second_exclusive_open_is_refused_until_the_first_ends() {
        in_a_directory(|dir| {
            let path = dir.join("disk");
            RealFs.open(&path, OpenHow::CreateNew).unwrap();
            let first = RealFs.open(&path, OpenHow::Exclusive).unwrap();
            let second = RealFs.open(&path, OpenHow::Exclusive).err().unwrap();
            assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
            drop(first);
            RealFs.open(&path, OpenHow::Exclusive).unwrap();
        });
    }

    #[test]
    fn names_are_listed_in_order_and_lengths_known() {
        in_a_directory(|dir| {
            for name in ["b", "a", "c"] {
                RealFs
                    .open(&dir.join(name), OpenHow::CreateNew)
                    .unwrap()
                    .set_size(9)
                    .unwrap();
            }
            assert_eq!(RealFs.list(dir).unwrap(), ["a", "b", "c"]);
            assert_eq!(RealFs.len_of(&dir.join("b")).unwrap(), Some(9));
            assert_eq!(RealFs.len_of(&dir.join("d")).unwrap(), None);
            RealFs.sync_dir(dir).unwrap();
            assert!(RealFs.free_space(dir).unwrap().total > 0);
        });
    }
}
