//! The underlying disk of one resource on this host, as its workers share it.
//!
//! Attaching opens it, and dropping the last [`Arc`] of it detaches: jobs carry one, so a disk is free exactly when no
//! worker can touch it any more. All changes and flushes run on [`Lane::Disk`], one after the other; that
//! alone keeps replay and sync from writing the same bytes at the same time.
//!
//! What is left to decide between the two is age: a block which the syncer has asked for may arrive after replay has
//! brought something newer to the same place. While it waits, the syncer *watches* the range; of the block only those
//! bytes are written to which replay has brought nothing from behind the position up to which the source had included
//! everything. For each byte the newer one stays, so nothing has to be asked for twice, however hot the block.
//!
//! Data-path invariants 33 and 35; design, section 5 (syncer).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use storage::{Disk, DiskError, DiskOp, Extent};
use tokio::sync::oneshot;
use tree::{LogPos, Resource};

use crate::export::Buffers;
use crate::ports::{BoxFuture, Lane, Ports, blocking};
use crate::worker::digests::{BlockDigest, digests_of};

/// An attached disk.
pub struct Replica {
    res: Resource,
    path: PathBuf,
    ports: Ports,
    disk: RwLock<Disk>,
    watched: Mutex<Watched>,
    /// For what is read.
    buffers: Buffers,
}

/// Ranges the syncer has asked the source for.
#[derive(Default)]
struct Watched {
    next_id: u64,
    ranges: BTreeMap<u64, WatchedRange>,
}

struct WatchedRange {
    range: Range<u64>,
    /// What replay has brought to it since, in the order it came, and the end of the newest record in each.
    brought: Vec<(Range<u64>, LogPos)>,
}

/// Notes what replay brings to one range, until dropped.
pub struct RangeWatch {
    replica: Arc<Replica>,
    id: u64,
}

/// Why the disk could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The disk itself.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The daemon is going down.
    #[error("the daemon is stopping")]
    Stopping,
}

impl Replica {
    /// Attaches the disk at `path` for `size` bytes.
    ///
    /// # Errors
    /// When it is missing, too small, or in use by somebody else.
    pub async fn attach(
        res: Resource,
        path: &Path,
        size: u64,
        ports: Ports,
    ) -> Result<Arc<Replica>, ReplicaError> {
        let (fs, place) = (ports.fs.clone(), path.to_owned());
        let open = move || Disk::open(&*fs, &place, Some(size));
        let disk = blocking(&*ports.exec, &Lane::Disk(res.clone()), open)
            .await
            .ok_or(ReplicaError::Stopping)??;
        Ok(Arc::new(Replica {
            res,
            path: path.to_owned(),
            ports,
            disk: RwLock::new(disk),
            watched: Mutex::default(),
            buffers: Buffers::default(),
        }))
    }

    /// The file or block device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has a flush failed? Then nothing can be read or made durable until the disk is attached again.
    pub fn is_lost(&self) -> bool {
        self.disk.read().is_lost()
    }

    /// Usable bytes: the size of the resource.
    pub fn size(&self) -> u64 {
        self.disk.read().size()
    }

    /// Bytes the disk has at this moment.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn real_size(self: &Arc<Self>) -> Result<u64, ReplicaError> {
        self.on(self.read_lane(), Disk::real_size).await
    }

    /// Uses more of a disk that is large enough.
    ///
    /// # Errors
    /// When it is not.
    pub async fn grow(self: &Arc<Self>, size: u64) -> Result<(), ReplicaError> {
        let this = self.clone();
        let grow = move || this.disk.write().grow(size);
        let done = blocking(&*self.ports.exec, &self.disk_lane(), grow).await;
        Ok(done.ok_or(ReplicaError::Stopping)??)
    }

    /// Reads `len` bytes at `at`.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn read(self: &Arc<Self>, at: u64, len: usize) -> Result<Bytes, ReplicaError> {
        self.read_mixed(len, move |bytes, disk| disk.read(bytes, at))
            .await
    }

    /// Reads without any waiting, on the thread that asks; `None` when that is not possible.
    pub(super) fn read_cached(&self, at: u64, len: usize) -> Option<Bytes> {
        let disk = self.disk.try_read()?;
        let mut bytes = self.buffers.take(len);
        disk.read_cached(&mut bytes, at).then(|| bytes.freeze())
    }

    /// Fills a buffer of `len` bytes from several places: every byte, it may hold those of an earlier read.
    pub(super) async fn read_mixed(
        self: &Arc<Self>,
        len: usize,
        fill: impl FnOnce(&mut [u8], &Disk) -> Result<(), DiskError> + Send + 'static,
    ) -> Result<Bytes, ReplicaError> {
        let mut bytes = self.buffers.take(len);
        self.on(self.read_lane(), move |disk| {
            fill(&mut bytes, disk)?;
            Ok(bytes.freeze())
        })
        .await
    }

    /// Digests of the blocks of a range, `block` bytes each but the last.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) async fn digests(
        self: &Arc<Self>,
        at: u64,
        len: u64,
        block: u32,
    ) -> Result<Vec<BlockDigest>, ReplicaError> {
        self.digests_mixed(at, len, block, |disk, piece, at| disk.read(piece, at))
            .await
    }

    /// The same of contents from several places: `fill` gets one piece after the other and where it begins.
    pub(super) async fn digests_mixed(
        self: &Arc<Self>,
        at: u64,
        len: u64,
        block: u32,
        fill: impl Fn(&Disk, &mut [u8], u64) -> Result<(), DiskError> + Send + 'static,
    ) -> Result<Vec<BlockDigest>, ReplicaError> {
        self.on(self.read_lane(), move |disk| {
            digests_of(at, len, block, |piece, at| fill(disk, piece, at))
        })
        .await
    }

    /// What is stored and what is not.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn map(self: &Arc<Self>, at: u64, len: u64) -> Result<Vec<Extent>, ReplicaError> {
        self.on(self.read_lane(), move |disk| disk.map(at, len))
            .await
    }

    /// Makes everything durable that was written before.
    ///
    /// # Errors
    /// What the disk says; a failed flush is final until it is attached again.
    pub async fn flush(self: &Arc<Self>) -> Result<(), ReplicaError> {
        self.on(self.disk_lane(), Disk::flush).await
    }

    /// Writes what the logger or the replayer brings; `newest` is the end of the newest record in it.
    ///
    /// # Errors
    /// What the disk says; any part may be written then.
    pub(super) async fn apply(
        self: &Arc<Self>,
        ops: Vec<DiskOp>,
        newest: LogPos,
    ) -> Result<(), ReplicaError> {
        let this = self.clone();
        self.on(self.disk_lane(), move |disk| {
            this.watched.lock().note(&ops, &newest);
            disk.apply(&ops)
        })
        .await
    }

    /// Writes what no log has. Nobody syncs to a disk that is written so. The order of these calls is the order of the
    /// writes, whenever the future is waited for.
    ///
    /// # Errors
    /// What the disk says; any part may be written then.
    pub(super) fn write_past_log(
        self: &Arc<Self>,
        ops: Vec<DiskOp>,
    ) -> BoxFuture<'static, Result<(), ReplicaError>> {
        let (this, (tell, told)) = (self.clone(), oneshot::channel());
        let job = Box::new(move || {
            // Nobody may be waiting any more.
            let _ = tell.send(this.disk.read().apply(&ops));
        });
        let running = self.ports.exec.run(&self.disk_lane(), job);
        Box::pin(async move {
            running.await;
            Ok(told.await.map_err(|_| ReplicaError::Stopping)??)
        })
    }

    /// Begins to watch a range. To be called before the source is asked for it.
    pub(super) fn watch(self: &Arc<Self>, range: Range<u64>) -> RangeWatch {
        let mut watched = self.watched.lock();
        let id = watched.next_id;
        watched.next_id += 1;
        let brought = Vec::new();
        watched.ranges.insert(id, WatchedRange { range, brought });
        RangeWatch {
            replica: self.clone(),
            id,
        }
    }

    /// Writes a block of the watched range which contains everything up to `not_before`, except where replay has
    /// brought something newer.
    ///
    /// # Errors
    /// What the disk says; any part may be written then.
    pub(super) async fn place(
        self: &Arc<Self>,
        watch: &RangeWatch,
        at: u64,
        bytes: Bytes,
        not_before: LogPos,
    ) -> Result<(), ReplicaError> {
        let (this, id) = (self.clone(), watch.id);
        self.on(self.disk_lane(), move |disk| {
            let range = at..at + bytes.len() as u64;
            let missing = this.watched.lock().still_missing(id, range, &not_before);
            for part in missing {
                let (from, to) = ((part.start - at) as usize, (part.end - at) as usize);
                disk.write(&[bytes.slice(from..to)], part.start)?;
            }
            Ok(())
        })
        .await
    }

    fn disk_lane(&self) -> Lane {
        Lane::Disk(self.res.clone())
    }

    fn read_lane(&self) -> Lane {
        Lane::Read(self.res.clone())
    }

    async fn on<T: Send + 'static>(
        self: &Arc<Self>,
        lane: Lane,
        work: impl FnOnce(&Disk) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, ReplicaError> {
        let this = self.clone();
        let done = blocking(&*self.ports.exec, &lane, move || work(&this.disk.read())).await;
        Ok(done.ok_or(ReplicaError::Stopping)??)
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replica({} on {})", self.res, self.path.display())
    }
}

impl Drop for RangeWatch {
    fn drop(&mut self) {
        self.replica.watched.lock().ranges.remove(&self.id);
    }
}

impl Watched {
    fn note(&mut self, ops: &[DiskOp], newest: &LogPos) {
        for watched in self.ranges.values_mut() {
            for range in ops.iter().map(range_of) {
                if range.start < watched.range.end && watched.range.start < range.end {
                    watched.note(range, newest);
                }
            }
        }
    }

    /// The parts of `range` to which replay has brought nothing from behind `not_before`, ascending.
    fn still_missing(&self, id: u64, range: Range<u64>, not_before: &LogPos) -> Vec<Range<u64>> {
        // The syncer has given up meanwhile: the block is no longer wanted.
        let Some(watched) = self.ranges.get(&id) else {
            return Vec::new();
        };
        assert!(
            watched.range.start <= range.start && range.end <= watched.range.end,
            "a block at {range:?} was not asked for"
        );
        let newer = watched.brought.iter().filter(|(_, at)| at > not_before);
        newer.fold(vec![range], |rest, (brought, _)| {
            rest.into_iter()
                .flat_map(|part| without(part, brought))
                .collect()
        })
    }
}

impl WatchedRange {
    fn note(&mut self, range: Range<u64>, newest: &LogPos) {
        // A hot block comes again and again: its range is kept once.
        match self.brought.iter_mut().find(|(known, _)| *known == range) {
            Some((_, at)) => *at = at.clone().max(newest.clone()),
            None => self.brought.push((range, newest.clone())),
        }
    }
}

/// `part` without what it shares with `hole`: up to two rests.
fn without(part: Range<u64>, hole: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let before = part.start..part.end.min(hole.start);
    let behind = part.start.max(hole.end)..part.end;
    [before, behind]
        .into_iter()
        .filter(|rest| rest.start < rest.end)
}

fn range_of(op: &DiskOp) -> Range<u64> {
    match op {
        DiskOp::Write { at, bytes } => *at..*at + bytes.iter().map(|b| b.len() as u64).sum::<u64>(),
        DiskOp::Zero { at, len } | DiskOp::Trim { at, len } => *at..*at + *len,
    }
}

#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is meant"
)]
mod tests {
    use super::*;

    fn pos(offset: u64) -> LogPos {
        let log: tree::LogName = "log-000000001-alpha".parse().expect("a good name");
        log.at(offset)
    }

    fn check_missing(brought: &[(Range<u64>, u64)], not_before: u64, expected: &[Range<u64>]) {
        let mut watched = Watched::default();
        let range = 100..200;
        watched.ranges.insert(
            7,
            WatchedRange {
                range,
                brought: Vec::new(),
            },
        );
        for (range, at) in brought {
            let (at_byte, len) = (range.start, range.end - range.start);
            watched.note(&[DiskOp::Zero { at: at_byte, len }], &pos(*at));
        }
        let missing = watched.still_missing(7, 100..200, &pos(not_before));
        assert_eq!(missing, expected);
    }

    #[test]
    fn what_replay_brought_from_before_the_block_was_read_is_written_over() {
        check_missing(&[(100..200, 10), (120..130, 20)], 20, &[100..200]);
    }

    #[test]
    fn newer_bytes_from_replay_stay_and_the_rest_of_the_block_is_written() {
        check_missing(&[(90..110, 30), (150..160, 21)], 20, &[110..150, 160..200]);
    }

    #[test]
    fn a_block_that_replay_has_renewed_completely_is_not_written_at_all() {
        check_missing(&[(0..150, 30), (150..300, 31)], 20, &[]);
    }

    #[test]
    fn a_range_that_comes_again_counts_with_its_newest_position() {
        check_missing(&[(120..130, 10), (120..130, 25)], 20, &[100..120, 130..200]);
    }

    #[test]
    fn what_lies_elsewhere_does_not_matter() {
        check_missing(&[(0..100, 30), (200..300, 30)], 20, &[100..200]);
    }
}
