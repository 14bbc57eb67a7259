//! How large is a disk the operator names, and may it be used at all?
//!
//! Underlying disks are block devices or regular files. Only looks; the daemon opens the disk when it attaches it.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

/// Below this many bytes (inclusive) nothing is accepted as an underlying disk.
pub const DISK_BYTES_MIN: u64 = 65536;

/// Why something cannot be an underlying disk.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DiskRefusal {
    /// Not an absolute path.
    #[error("disk '{0}' must be given by an absolute path")]
    Relative(String),
    /// Nothing there.
    #[error("disk '{0}' does not exist")]
    Absent(String),
    /// A directory, a socket or the like.
    #[error("'{0}' is neither a block device nor a regular file")]
    WrongKind(String),
    /// In use by somebody else.
    #[error("disk '{path}' cannot be opened exclusively: {reason}")]
    Busy {
        /// Path of the disk.
        path: String,
        /// What the system said.
        reason: String,
    },
}

/// The size of the disk in bytes. A block device is opened exclusively for that moment.
pub fn size(path: &str) -> Result<u64, DiskRefusal> {
    if !path.starts_with('/') {
        return Err(DiskRefusal::Relative(path.to_owned()));
    }
    let kind = std::fs::metadata(path)
        .map_err(|_| DiskRefusal::Absent(path.to_owned()))?
        .file_type();
    let busy = |e: std::io::Error| DiskRefusal::Busy {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    let mut open = OpenOptions::new();
    open.read(true).write(true);
    if kind.is_block_device() {
        // O_EXCL on a block device fails while it is mounted or otherwise claimed.
        open.custom_flags(rustix::fs::OFlags::EXCL.bits() as i32);
    } else if !kind.is_file() {
        return Err(DiskRefusal::WrongKind(path.to_owned()));
    }
    open.open(path)
        .and_then(|mut disk| disk.seek(SeekFrom::End(0)))
        .map_err(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_file_is_a_disk_of_its_length() {
        let file = tempfile::NamedTempFile::new().expect("a temporary directory");
        file.as_file()
            .set_len(1 << 20)
            .expect("room for a sparse file");
        let path = file.path().to_str().expect("plain path").to_owned();
        assert_eq!(size(&path), Ok(1 << 20));
    }

    #[test]
    fn a_directory_an_absent_file_and_a_relative_path_are_refused() {
        assert_eq!(size("/tmp"), Err(DiskRefusal::WrongKind("/tmp".into())));
        assert_eq!(
            size("/nosuch/disk"),
            Err(DiskRefusal::Absent("/nosuch/disk".into()))
        );
        assert_eq!(size("disk"), Err(DiskRefusal::Relative("disk".into())));
    }
}
