//! What an NBD client talks to in the end: a device of bytes.
//!
//! The logger of a primary implements [`Device`]; tests implement it in memory. The server calls
//! its methods in the order in which the requests of one connection arrived and does not wait for
//! one answer before the next call, so a device that fixes its order of writes inside
//! [`Device::write`] (and not in the future it returns) keeps the order of the client.
//!
//! Offsets and lengths are bytes without any alignment: the smallest block we advertise is one
//! byte, see [`BLOCK_MIN`]. The server has checked that every range lies inside the size of the
//! device, that it is not empty, and that a read-only device is never asked to change.
//!
//! Manual: data-path reference section 6 (device front-end), 1.5 (completion point).

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::ports::BoxFuture;

/// Smallest block advertised to clients, in bytes. One, because records of the transaction log and
/// the write buffer address single bytes: every request can be served as it comes, a device whose
/// size is not a multiple of 512 is reachable to its last byte, and clients that never ask for
/// block sizes (older ones, `fio`) cannot run into a refusal they were not told about.
pub const BLOCK_MIN: u32 = 1;

/// Block size that costs least, in bytes: that of the pages below us.
pub const BLOCK_PREFERRED: u32 = 4096;

/// Largest payload of one request, in bytes; the limit a client has to assume if it never asked.
pub const BLOCK_MAX: u32 = 32 << 20;

/// An answer that is there already, or one that will come.
///
/// A device answers [`Answer::Now`] when it can do so without waiting (bytes in memory, a write that is only
/// buffered): this spares an allocation, a task switch and often a system call per request.
pub enum Answer<T> {
    /// The work is done.
    Now(Result<T, DeviceError>),
    /// The work goes on; the future ends with it. Dropping the future must not undo the work.
    Later(BoxFuture<'static, Result<T, DeviceError>>),
}

impl<T> Answer<T> {
    /// Shorthand for an answer computed by `work`.
    pub fn later(work: impl Future<Output = Result<T, DeviceError>> + Send + 'static) -> Self {
        Answer::Later(Box::pin(work))
    }

    /// Waits for the answer, for callers that are async anyway.
    pub async fn wait(self) -> Result<T, DeviceError> {
        match self {
            Answer::Now(done) => done,
            Answer::Later(work) => work.await,
        }
    }
}

/// A stretch of a device whose blocks are all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, at least 1.
    pub len: u64,
    /// Nothing is allocated for it below.
    pub hole: bool,
    /// It reads as zeroes.
    pub zero: bool,
}

/// Why a device did not do what it was asked for. Each kind is one NBD error number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Reading or writing failed below us (EIO).
    #[error("input/output error: {0}")]
    Io(String),
    /// No room for what should be written (ENOSPC).
    #[error("no space left: {0}")]
    NoSpace(String),
    /// The device may only be read (EPERM).
    #[error("the device is read-only")]
    ReadOnly,
    /// The request makes no sense (EINVAL).
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The device is going away and takes no more requests (ESHUTDOWN).
    #[error("the device is shutting down")]
    ShuttingDown,
    /// The request is larger than can be answered at once (EOVERFLOW).
    #[error("request too large: {0}")]
    TooLarge(String),
    /// The device cannot do this, or not in the way asked for (ENOTSUP).
    #[error("not supported: {0}")]
    Unsupported(String),
}

impl DeviceError {
    /// The error number of the NBD protocol.
    pub fn nbd_errno(&self) -> u32 {
        match self {
            DeviceError::ReadOnly => 1,
            DeviceError::Io(_) => 5,
            DeviceError::Invalid(_) => 22,
            DeviceError::NoSpace(_) => 28,
            DeviceError::TooLarge(_) => 75,
            DeviceError::Unsupported(_) => 95,
            DeviceError::ShuttingDown => 108,
        }
    }
}

impl From<std::io::Error> for DeviceError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                DeviceError::NoSpace(error.to_string())
            }
            std::io::ErrorKind::Unsupported => DeviceError::Unsupported(error.to_string()),
            _ => DeviceError::Io(error.to_string()),
        }
    }
}

/// A device of bytes. All methods may be called at any time and from any thread.
///
/// Promises a device has to keep (invariants of the data path):
/// - a read sees every write of the same bytes that was answered before the read was asked for;
/// - `fua` and [`Device::flush`] are answered only when what they cover survives a power cut;
///   a flush covers everything answered before it was asked for, **on whichever connection**
///   (we advertise multi-conn);
/// - every request is answered exactly once; an error concerns this request only.
pub trait Device: Send + Sync {
    /// Size in bytes. A client keeps the size of the moment it connected.
    fn size(&self) -> u64;

    /// Whether every change is refused.
    fn read_only(&self) -> bool {
        false
    }

    /// Whether [`Device::zero`] is always faster than writing the same zeroes.
    fn zero_is_fast(&self) -> bool {
        false
    }

    /// Reads exactly `len` bytes.
    fn read(&self, off: u64, len: u32) -> Answer<Bytes>;

    /// Writes all of `data`; with `fua` it is durable when answered.
    fn write(&self, off: u64, data: Bytes, fua: bool) -> Answer<()>;

    /// Makes every write durable that was answered before this call.
    fn flush(&self) -> Answer<()>;

    /// Makes the range read as zeroes; with `may_trim` it need not stay allocated.
    fn zero(&self, off: u64, len: u64, fua: bool, may_trim: bool) -> Answer<()>;

    /// The client no longer needs these bytes; they may read as anything until written again, but
    /// every replica must then hold the same.
    fn trim(&self, off: u64, len: u64, fua: bool) -> Answer<()>;

    /// The client will read these bytes soon. Answering at once without doing anything is legal.
    fn cache(&self, off: u64, len: u64) -> Answer<()>;

    /// The same device for a caller that has a thread of its own and calls [`Device::help`] after every bunch of
    /// requests, before it waits. `None` if it needs no help.
    fn for_helper(&self) -> Option<Arc<dyn Device>> {
        None
    }

    /// Does on the calling thread, which may block for a moment, what requests wait for. Returns whether it did anything.
    fn help(&self) -> bool {
        false
    }

    /// What the range consists of, from its start on: at least one extent. They may end early
    /// (the client asks again) but not late; the server cuts what sticks out.
    fn map(&self, off: u64, len: u64) -> Answer<Vec<Extent>>;
}
