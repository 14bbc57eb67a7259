//! What can go wrong with logs, disks and the tree store, told so that an operator knows where to
//! look.
//!
//! Whether it helps to wait, and which number of the original's scan codes comes closest, are
//! methods, not guesses.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::{LogName, LogPos};

/// A byte of a log file as people look for it: the file and the logical offset behind its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// The log file.
    pub path: Arc<Path>,
    /// Name of the log and offset in bytes behind the file header.
    pub at: LogPos,
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offset {}", self.path.display(), self.at.offset)
    }
}

/// Why a log could not be read or written any further.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The bytes end inside a record. Normal at the tail of a log that is still being written or
    /// fetched.
    #[error("{at}: the record lacks {missing} more bytes")]
    Short {
        /// Where the record begins.
        at: LogPlace,
        /// How many bytes must arrive before it can be looked at again.
        missing: u64,
    },
    /// All bytes are there, but they are not what was written. Nothing from here on may be applied.
    #[error("{at}: damaged: {what}")]
    Damaged {
        /// Where the record begins.
        at: LogPlace,
        /// What is wrong with it.
        what: Damage,
    },
    /// A record is intact, but records before it are missing or repeated.
    #[error("{at}: record number {found} where number {expected} belongs")]
    Gap {
        /// Where the record begins.
        at: LogPlace,
        /// The number that had to follow.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// The log was finished here; something wanted to go on behind its seal.
    #[error("{at}: the log is sealed, nothing may follow")]
    Sealed {
        /// End of the seal.
        at: LogPlace,
    },
    /// Bytes for another place than the end of the local copy.
    #[error("{at}: the next bytes belong here, but some for offset {found} were offered")]
    Misplaced {
        /// The end of what is here.
        at: LogPlace,
        /// Where the offered bytes belong.
        found: u64,
    },
    /// The header of the file is not one of ours, or not intact. As long as its creation was not
    /// confirmed, this is the remainder of an interrupted one.
    #[error("{path}: no readable log header: {flaw}")]
    Header {
        /// The log file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: HeaderFlaw,
    },
    /// An intact log, but of another cluster, resource, number or creator (L-C13).
    #[error("{path}: another log than expected: its {what} is {found}, not {expected}")]
    Foreign {
        /// The log file.
        path: PathBuf,
        /// Which part of the identity differs.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What the header says.
        found: String,
    },
    /// An earlier write or flush of this log failed; what is on the medium is unknown, so it is
    /// never used again.
    #[error("{at}: not usable since an earlier failure: {reason}")]
    Unusable {
        /// The end of what is certainly durable.
        at: LogPlace,
        /// The earlier failure.
        reason: String,
    },
    /// The operating system refused.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// What is wrong with the bytes of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Zeros where a record was promised.
    #[error("zeros instead of a record")]
    Zeros,
    /// No record begins here.
    #[error("no record begins with {0:08x}")]
    Magic(u32),
    /// A length that no record has, or lengths that do not fit together.
    #[error("implausible length {0}")]
    Length(u64),
    /// Header or contents were changed.
    #[error("checksum is {have:08x} but should be {want:08x}")]
    Checksum {
        /// As computed from the bytes.
        have: u32,
        /// As stored with them.
        want: u32,
    },
    /// Intact, but written for another place of the log.
    #[error("the record belongs to offset {0}")]
    Offset(u64),
    /// Intact, but of a kind this release does not know.
    #[error("unknown kind of record {0}")]
    Kind(u8),
    /// Intact, but compressed in a way this release does not know.
    #[error("unknown compression {0}")]
    Compression(u8),
    /// Intact, but the contents in front of the seal are not those that were sealed.
    #[error("the seal does not belong to the records before it")]
    Seal,
}

/// What is wrong with the header of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFlaw {
    /// The file is shorter than a header.
    #[error("only {0} bytes")]
    Short(u64),
    /// Not a log file.
    #[error("not a log file")]
    Magic,
    /// Written by a newer release.
    #[error("format version {0} is not known to this release")]
    Version(u32),
    /// Changed since it was written.
    #[error("checksum is {have:08x} but should be {want:08x}")]
    Checksum {
        /// As computed from the bytes.
        have: u32,
        /// As stored with them.
        want: u32,
    },
    /// A name in it breaks the rules for names.
    #[error("malformed {0}")]
    Text(&'static str),
}

impl LogError {
    /// Whether the same call may succeed later without anybody doing anything: more bytes may
    /// arrive.
    pub fn waiting_helps(&self) -> bool {
        matches!(self, LogError::Short { .. })
    }

    /// Whether the local bytes are wrong, so that another copy of the log should replace them.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            LogError::Damaged { .. } | LogError::Gap { .. } | LogError::Header { .. }
        )
    }

    /// Whether there was no space left.
    pub fn is_no_space(&self) -> bool {
        matches!(self, LogError::Io { source, .. } if crate::is_no_space(source))
    }

    /// The logical offset the error speaks of.
    pub fn offset(&self) -> Option<u64> {
        match self {
            LogError::Short { at, .. }
            | LogError::Damaged { at, .. }
            | LogError::Gap { at, .. }
            | LogError::Sealed { at }
            | LogError::Misplaced { at, .. }
            | LogError::Unusable { at, .. } => Some(at.at.offset),
            LogError::Header { .. } | LogError::Foreign { .. } | LogError::Io { .. } => None,
        }
    }

    /// The closest of the original's codes for a failed scan, as operators know them from its
    /// reports (they appear negative there).
    pub fn scan_code(&self) -> u32 {
        match self {
            LogError::Short { .. } => 10006,
            LogError::Damaged { what, .. } => what.scan_code(),
            LogError::Gap {
                expected, found, ..
            } if found > expected => 10010,
            LogError::Gap { .. } => 10011,
            LogError::Header {
                flaw: HeaderFlaw::Version(_),
                ..
            } => 10003,
            LogError::Header {
                flaw: HeaderFlaw::Checksum { .. },
                ..
            } => 10101,
            LogError::Header {
                flaw: HeaderFlaw::Short(_),
                ..
            } => 10008,
            LogError::Header { .. } => 10013,
            LogError::Sealed { .. } | LogError::Misplaced { .. } => 10029,
            LogError::Foreign { .. } | LogError::Unusable { .. } | LogError::Io { .. } => 10000,
        }
    }
}

impl Damage {
    fn scan_code(self) -> u32 {
        match self {
            Damage::Zeros => 10002,
            Damage::Magic(_) => 10013,
            Damage::Length(0) => 10004,
            Damage::Length(_) => 10152,
            Damage::Checksum { .. } | Damage::Seal => 10101,
            Damage::Offset(_) => 10012,
            Damage::Kind(_) => 10003,
            Damage::Compression(_) => 10150,
        }
    }
}

/// Where a log stands, for messages about it.
pub(crate) fn place(path: &Arc<Path>, log: &LogName, offset: u64) -> LogPlace {
    LogPlace {
        path: path.clone(),
        at: LogPos {
            log: log.clone(),
            offset,
        },
    }
}

/// Makes a [`LogError::Io`] of the operating system's error.
pub(crate) fn io_failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io {
        path,
        doing,
        source,
    }
}

/// Why the underlying disk could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Somebody else has it open: another daemon, or it is mounted.
    #[error("{path}: in use by somebody else")]
    Busy {
        /// The disk.
        path: PathBuf,
    },
    /// There is none of this name.
    #[error("{path}: no such disk")]
    Absent {
        /// The disk.
        path: PathBuf,
    },
    /// It is smaller than the resource.
    #[error("{path}: has {have} bytes, the resource needs {need}")]
    TooSmall {
        /// The disk.
        path: PathBuf,
        /// Its size in bytes.
        have: u64,
        /// The size of the resource in bytes.
        need: u64,
    },
    /// A range that is not within the resource.
    #[error("{path}: {len} bytes at {at} are not within its {size} bytes")]
    Beyond {
        /// The disk.
        path: PathBuf,
        /// First byte of the range.
        at: u64,
        /// Length of the range.
        len: u64,
        /// Usable size of the disk.
        size: u64,
    },
    /// An earlier flush failed. What was written before it is unknown until the disk is opened
    /// again and replay has passed it.
    #[error("{path}: an earlier flush failed, attach it again")]
    FlushLost {
        /// The disk.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{path}: {doing} {len} bytes at {at}: {source}")]
    Io {
        /// The disk.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// First byte of the range, 0 where there is none.
        at: u64,
        /// Length of the range, 0 where there is none.
        len: u64,
        /// Its answer.
        source: io::Error,
    },
}

/// Why the tree store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{path}: another process has the tree store open")]
    Locked {
        /// Directory of the store.
        path: PathBuf,
    },
    /// The file system is full. Nothing was given up; a [`Reserve`](crate::Reserve) may help, or deleting logs.
    #[error(
        "{path}: no space left for the tree store; a few MiB in its file system are enough to start"
    )]
    Full {
        /// Directory of the store.
        path: PathBuf,
    },
    /// An earlier commit failed; what is on the medium is unknown until the store is opened again.
    #[error("{path}: the tree store is closed since an earlier failure: {reason}")]
    Closed {
        /// Directory of the store.
        path: PathBuf,
        /// The earlier failure.
        reason: String,
    },
    /// The database below failed.
    #[error("{path}: {doing}: {reason}")]
    Database {
        /// Directory of the store.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its answer, or the text of its panic.
        reason: String,
    },
    /// The operating system refused.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        source: io::Error,
    },
}
