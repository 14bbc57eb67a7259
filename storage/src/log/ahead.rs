//! Zeros written ahead of use, so that a flush of the log need not wait for the file system's own
//! journal.
//!
//! Appending to a file that grows costs a change of its length and of its block list per flush;
//! overwriting zeros that are already on the medium costs neither (1.7 times the writes at depth 1,
//! 6 times at depth 64). The owner of the log calls [`ZeroAhead::step`] on another thread while it
//! goes on appending. Both meet only when the writer has caught up.

use super::header::HEADER_BYTES;
use crate::error::{LogError, io_failed};
use crate::io::BlockFile;
use parking_lot::Mutex;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far ahead zeros are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadOptions {
    /// Zeros kept in front of the writer, in bytes; 0 switches this off. Refilled when less than
    /// half is left.
    pub ahead_bytes: u64,
    /// Written and flushed by one call of [`ZeroAhead::step`]. A flush of the log may have to wait
    /// for that much.
    pub step_bytes: u64,
    /// No zeros beyond this length of the file: where the log will be rotated anyway.
    pub until_bytes: u64,
}

impl Default for AheadOptions {
    fn default() -> AheadOptions {
        AheadOptions {
            ahead_bytes: 64 << 20,
            step_bytes: 4 << 20,
            until_bytes: u64::MAX,
        }
    }
}

/// Writes the zeros. Cheap to clone; all clones belong to one log.
#[derive(Clone)]
pub struct ZeroAhead {
    shared: Arc<Shared>,
}

struct Shared {
    file: Arc<dyn BlockFile>,
    path: Arc<Path>,
    options: AheadOptions,
    /// File offset behind the last append.
    written: AtomicU64,
    /// File offset up to which the writer need not ask. Read without the lock, changed with it.
    zeroed: AtomicU64,
    frontier: Mutex<Frontier>,
}

/// Who may write behind `zeroed`: whoever holds the lock.
struct Frontier {
    /// Text of the first failed flush. It concerns the records too, and only one caller of the
    /// operating system is told.
    failed: Option<String>,
    closed: bool,
}

impl ZeroAhead {
    pub(super) fn new(
        file: Arc<dyn BlockFile>,
        path: Arc<Path>,
        options: AheadOptions,
    ) -> ZeroAhead {
        let frontier = Mutex::new(Frontier {
            failed: None,
            closed: options.ahead_bytes == 0,
        });
        let (written, zeroed) = (AtomicU64::new(HEADER_BYTES), AtomicU64::new(HEADER_BYTES));
        ZeroAhead {
            shared: Arc::new(Shared {
                file,
                path,
                options,
                written,
                zeroed,
                frontier,
            }),
        }
    }

    /// Whether a [`ZeroAhead::step`] is due.
    pub fn is_due(&self) -> bool {
        self.missing() > self.shared.options.ahead_bytes / 2 && !self.shared.frontier.lock().closed
    }

    /// Writes and flushes one step of zeros. `Ok(true)`: call again, more are wanted. A failure to
    /// write (no space, say) harms nobody and only ends the writing ahead; a failure to flush makes
    /// the log unusable, which its writer then reports.
    pub fn step(&self) -> Result<bool, LogError> {
        let shared = &*self.shared;
        let missing = self.missing();
        {
            let mut frontier = shared.frontier.lock();
            if frontier.closed || missing == 0 {
                return Ok(false);
            }
            let from = shared.zeroed.load(Ordering::Acquire);
            let len = missing.min(shared.options.step_bytes.max(1));
            if let Err(e) = write_zeros(&*shared.file, from, len) {
                frontier.closed = true;
                return Err(io_failed(&shared.path, "writing zeros ahead")(e));
            }
            shared.zeroed.store(from + len, Ordering::Release);
        }
        if let Err(e) = shared.file.flush() {
            let mut frontier = shared.frontier.lock();
            frontier.closed = true;
            frontier
                .failed
                .get_or_insert_with(|| format!("flush of zeros ahead: {e}"));
            return Err(io_failed(&shared.path, "flushing zeros ahead")(e));
        }
        Ok(self.missing() > 0)
    }

    /// Bytes lacking to a full stretch of zeros in front of the writer.
    fn missing(&self) -> u64 {
        let shared = &*self.shared;
        let goal = shared
            .written
            .load(Ordering::Relaxed)
            .saturating_add(shared.options.ahead_bytes);
        goal.min(shared.options.until_bytes)
            .saturating_sub(shared.zeroed.load(Ordering::Acquire))
    }

    /// The writer is about to write up to file offset `end`. Returns when nobody writes zeros there
    /// any more.
    pub(super) fn claim(&self, end: u64) {
        let shared = &*self.shared;
        shared.written.store(end, Ordering::Relaxed);
        if end > shared.zeroed.load(Ordering::Acquire) {
            let _frontier = shared.frontier.lock();
            shared.zeroed.fetch_max(end, Ordering::AcqRel);
        }
    }

    /// The writer will not go on behind file offset `end`: no more zeros, and `cut` may shorten the
    /// file undisturbed.
    pub(super) fn close<T>(&self, cut: impl FnOnce() -> T) -> T {
        let mut frontier = self.shared.frontier.lock();
        frontier.closed = true;
        cut()
    }

    /// The first failed flush, if there was one.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.frontier.lock().failed.clone()
    }
}

fn write_zeros(file: &dyn BlockFile, at: u64, len: u64) -> std::io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut slices = Vec::new();
    let mut rest = len;
    while rest > 0 {
        let n = rest.min(ZEROS.len() as u64);
        slices.push(IoSlice::new(&ZEROS[..n as usize]));
        rest -= n;
    }
    file.write_vectored_at(&slices, at)
}
