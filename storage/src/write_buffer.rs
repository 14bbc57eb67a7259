//! Which acknowledged writes are not on the disk yet, what does a reader see, and what may be
//! written back next?
//!
//! Pure: no file, no thread. The logger and the replayer feed it records in log order and carry out
//! what it plans.
//!
//! ```text
//! insert ──► fresh ──durable──► settled ──plan──► in flight ──complete──► (gone, the disk has it)
//!            newest version     newest durable    at most one             ◄──failed── back to settled
//!                               version           unit per range
//! ```
//!
//! A byte may be in all three layers at once, as three versions. Readers see the first layer that
//! has it, else the disk. Writeback takes from `settled` only, so nothing reaches the disk before
//! its record is durable (write-ahead, invariant 10), superseded versions are never written, and a
//! block that is rewritten all the time still has a durable version to write.
//!
//! **Replay position.** Each settled piece remembers the oldest record it answers for: its own, or
//! that of a version it has covered. A record is done when no piece answers for it; the position is
//! the end of the longest done prefix (invariants 12, 13). Persist it only after a flush of the
//! disk that began after it was read here.
//!
//! Manual: "The Transaction Logger"; invariants 2, 3, 4, 10, 11, 12, 13, 42.

use crate::interval::{Cut, IntervalMap};
use crate::log::Body;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use tree::LogPos;

/// Memory charged for a record besides its payload, until it is done.
pub const RECORD_OVERHEAD_BYTES: u64 = 256;

/// A zeroed or discarded range counts like this much data in [`WriteBuffer::plan`].
const ZERO_COST_BYTES: u64 = 64 << 10;

/// Where a reader finds a part of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Here; shared, not copied.
    Buffered(Bytes),
    /// All zeros.
    Zero,
    /// On the disk; nothing is pending for it.
    Disk,
}

/// One step of a writeback unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOp {
    /// Adjacent versions, written as one.
    Write {
        /// First byte on the disk.
        at: u64,
        /// One behind the other.
        bytes: Vec<Bytes>,
    },
    /// Reads as zeros, stays allocated.
    Zero {
        /// First byte on the disk.
        at: u64,
        /// Number of bytes.
        len: u64,
    },
    /// Reads as zeros, space given back.
    Trim {
        /// First byte on the disk.
        at: u64,
        /// Number of bytes.
        len: u64,
    },
}

/// Writes that may go to the disk together, ascending by position, none touching another unit in
/// flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// For [`WriteBuffer::complete`] or [`WriteBuffer::failed`]; one of them must follow.
    pub id: u64,
    /// What to do.
    pub ops: Vec<DiskOp>,
}

/// Contents of a piece.
#[derive(Debug, Clone)]
enum Content {
    Data(Bytes),
    Zeroes,
    Discard,
}

/// A version of a piece.
#[derive(Debug, Clone)]
struct Version {
    /// The record that wrote it.
    nr: u64,
    /// The oldest record that is not done before this piece is on the disk.
    oldest: u64,
    content: Content,
}

impl Cut for Version {
    fn cut(&self, range: Range<u64>) -> Version {
        let content = match &self.content {
            Content::Data(bytes) => {
                Content::Data(bytes.slice(range.start as usize..range.end as usize))
            }
            other => other.clone(),
        };
        Version { content, ..*self }
    }
}

/// A record that is not done.
#[derive(Debug)]
struct Pending {
    end: LogPos,
    range: Range<u64>,
    /// Until it is durable; then the settled layer has it.
    fresh: Option<Content>,
    /// Bytes of its range that still keep its payload in memory.
    pinned: u64,
    /// Bytes of settled and flying pieces that answer for it.
    waiting: u64,
    /// Memory charged for its payload.
    payload: u64,
}

/// See the module.
#[derive(Debug)]
pub struct WriteBuffer {
    fresh: IntervalMap<Version>,
    settled: IntervalMap<Version>,
    flying: IntervalMap<Version>,
    units: BTreeMap<u64, Vec<Range<u64>>>,
    next_unit: u64,
    /// Records that are not done, oldest first; the first has number `done`.
    pending: VecDeque<Pending>,
    /// Number of done records.
    done: u64,
    /// Number of durable records.
    durable: u64,
    /// Number of records up to the newest that was ever handed out for writeback.
    planned: u64,
    done_pos: LogPos,
    newest: LogPos,
    /// Where the next sweep over the disk goes on.
    sweep: u64,
    used: u64,
}

impl WriteBuffer {
    /// An empty buffer; everything before `start` is on the disk.
    pub fn new(start: LogPos) -> WriteBuffer {
        WriteBuffer {
            fresh: IntervalMap::new(),
            settled: IntervalMap::new(),
            flying: IntervalMap::new(),
            units: BTreeMap::new(),
            next_unit: 0,
            pending: VecDeque::new(),
            done: 0,
            durable: 0,
            planned: 0,
            done_pos: start.clone(),
            newest: start,
            sweep: 0,
            used: 0,
        }
    }

    /// Adds the record that ends at `end`, behind all earlier ones. Readers see it at once. Returns
    /// its number.
    pub fn insert(&mut self, body: &Body, end: LogPos) -> u64 {
        assert!(
            end > self.newest,
            "records come in log order: {end} after {}",
            self.newest
        );
        let nr = self.done + self.pending.len() as u64;
        let range = body.range().unwrap_or(0..0);
        let fresh = content_of(body);
        assert!(
            fresh.is_none() || !range.is_empty(),
            "a record changes at least one byte"
        );
        let payload = fresh.as_ref().map_or(0, Content::memory);
        if let Some(content) = fresh.clone() {
            self.fresh.carve(range.clone());
            self.fresh.put(
                range.clone(),
                Version {
                    nr,
                    oldest: nr,
                    content,
                },
            );
        }
        self.used += payload + RECORD_OVERHEAD_BYTES;
        self.newest = end.clone();
        let pinned = range.end - range.start;
        self.pending.push_back(Pending {
            end,
            range,
            fresh,
            pinned,
            waiting: 0,
            payload,
        });
        nr
    }

    /// All records up to number `nr` are durable in the log (for a replayer: may be applied). From
    /// now on they may be written back.
    pub fn mark_durable(&mut self, nr: u64) {
        while self.durable <= nr && self.durable < self.done + self.pending.len() as u64 {
            self.settle(self.durable);
            self.durable += 1;
        }
        self.drop_done();
    }

    /// What a reader of `range` has to put together, ascending and without gaps.
    pub fn lookup(&self, range: Range<u64>) -> Vec<(Range<u64>, Source)> {
        let mut found = Vec::new();
        let mut open = vec![range];
        open.retain(|part| !part.is_empty());
        for layer in [&self.fresh, &self.settled, &self.flying] {
            if layer.is_empty() {
                continue;
            }
            for part in std::mem::take(&mut open) {
                found.extend(
                    layer
                        .within(part.clone())
                        .map(|(at, version)| (at, version.content.source())),
                );
                open.extend(layer.gaps(part));
            }
        }
        found.extend(open.into_iter().map(|part| (part, Source::Disk)));
        found.sort_by_key(|(at, _)| at.start);
        found
    }

    /// The next writes for the disk, about `max_bytes` of them, going on where the last plan ended
    /// and beginning again at the low end. `None` when nothing durable is left that no unit in
    /// flight touches.
    pub fn plan(&mut self, max_bytes: u64) -> Option<Unit> {
        let mut starts = self.choose(self.sweep, max_bytes);
        if starts.is_empty() {
            starts = self.choose(0, max_bytes);
        }
        let (mut ops, mut ranges) = (Vec::new(), Vec::with_capacity(starts.len()));
        for start in starts {
            let (range, version) = self
                .settled
                .take(start)
                .expect("chosen among the settled pieces");
            push_op(&mut ops, self.sweep == start, &range, &version.content);
            self.planned = self.planned.max(version.nr + 1);
            self.sweep = range.end;
            self.flying.put(range.clone(), version);
            ranges.push(range);
        }
        if ops.is_empty() {
            return None;
        }
        let id = self.next_unit;
        self.next_unit += 1;
        self.units.insert(id, ranges);
        Some(Unit { id, ops })
    }

    /// The unit has been written to the disk (though not flushed).
    pub fn complete(&mut self, unit: u64) {
        for (range, version) in self.land(unit) {
            self.unpin(version.nr, len(&range));
            self.pending_mut(version.oldest).waiting -= len(&range);
        }
        self.drop_done();
    }

    /// The unit could not be written; any part of it may have been. Its newest versions will be
    /// planned again.
    pub fn failed(&mut self, unit: u64) {
        for (range, version) in self.land(unit) {
            for gap in self.settled.gaps(range.clone()) {
                self.settled.put(
                    gap.clone(),
                    version.cut(gap.start - range.start..gap.end - range.start),
                );
            }
            for (covered, newer) in self.settled.carve(range.clone()) {
                self.put_back(covered, newer, &version);
            }
        }
    }

    /// Where replay would have to begin after a crash: the end of the longest prefix of records
    /// that are on the disk. Never decreases.
    pub fn replay_pos(&self) -> &LogPos {
        &self.done_pos
    }

    /// The end of the newest record of which anything was handed out for writeback: up to here the
    /// disk may hold parts of records.
    pub fn dirty_end(&self) -> &LogPos {
        match self.planned.checked_sub(self.done + 1) {
            Some(index) => &self.pending[index as usize].end,
            None => &self.done_pos,
        }
    }

    /// The end of the newest record.
    pub fn newest(&self) -> &LogPos {
        &self.newest
    }

    /// Memory in use, in bytes: payloads that anything still refers to, and a charge for every
    /// record that is not done.
    pub fn used_bytes(&self) -> u64 {
        self.used
    }

    /// Whether everything inserted is on the disk.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether everything that is durable in the log is on the disk.
    pub fn durable_is_done(&self) -> bool {
        self.settled.is_empty() && self.flying.is_empty()
    }

    /// Number of records that are not done.
    pub fn pending_records(&self) -> usize {
        self.pending.len()
    }

    /// Whether a unit is being written.
    pub fn is_writing_back(&self) -> bool {
        !self.units.is_empty()
    }

    /// Moves a record that has become durable over everything settled before it.
    fn settle(&mut self, nr: u64) {
        let pending = self.pending_mut(nr);
        let range = pending.range.clone();
        let Some(content) = pending.fresh.take() else {
            return;
        };
        let starts: Vec<u64> = self
            .fresh
            .overlapping(range.clone())
            .filter(|(_, version)| version.nr == nr)
            .map(|(piece, _)| piece.start)
            .collect();
        for start in starts {
            self.fresh.take(start);
        }
        let mut oldest = nr;
        for (covered, older) in self.settled.carve(range.clone()) {
            oldest = oldest.min(older.oldest);
            self.unpin(older.nr, len(&covered));
            self.pending_mut(older.oldest).waiting -= len(&covered);
        }
        self.pending_mut(oldest).waiting += len(&range);
        self.settled.put(
            range,
            Version {
                nr,
                oldest,
                content,
            },
        );
    }

    /// First bytes of the settled pieces from `from` on that no unit in flight touches.
    fn choose(&self, from: u64, max_bytes: u64) -> Vec<u64> {
        let mut rest = max_bytes;
        self.settled
            .from(from)
            .filter(|(range, _)| self.flying.is_empty() || !self.flying.touches(range))
            .take_while(|(range, version)| {
                let go_on = rest > 0;
                rest = rest.saturating_sub(version.content.cost(len(range)));
                go_on
            })
            .map(|(range, _)| range.start)
            .collect()
    }

    /// Takes a unit out of flight.
    fn land(&mut self, unit: u64) -> Vec<(Range<u64>, Version)> {
        let ranges = self
            .units
            .remove(&unit)
            .expect("each planned unit ends once");
        ranges
            .into_iter()
            .map(|range| {
                self.flying
                    .take(range.start)
                    .expect("pieces in flight are not changed")
            })
            .collect()
    }

    /// Puts a settled piece into its place again after a failed unit. Where it covers the failed
    /// version, it answers for that too.
    fn put_back(&mut self, range: Range<u64>, mut newer: Version, failed: &Version) {
        if newer.nr != failed.nr {
            let bytes = len(&range);
            self.unpin(failed.nr, bytes);
            self.pending_mut(failed.oldest).waiting -= bytes;
            if failed.oldest < newer.oldest {
                self.pending_mut(newer.oldest).waiting -= bytes;
                self.pending_mut(failed.oldest).waiting += bytes;
                newer.oldest = failed.oldest;
            }
        }
        self.settled.put(range, newer);
    }

    fn pending_mut(&mut self, nr: u64) -> &mut Pending {
        let index = nr
            .checked_sub(self.done)
            .expect("nothing refers to a record that is done");
        &mut self.pending[index as usize]
    }

    fn unpin(&mut self, nr: u64, bytes: u64) {
        let pending = self.pending_mut(nr);
        pending.pinned -= bytes;
        if pending.pinned == 0 {
            let payload = std::mem::take(&mut pending.payload);
            self.used -= payload;
        }
    }

    fn drop_done(&mut self) {
        while self.done < self.durable {
            let Some(first) = self.pending.pop_front_if(|first| first.waiting == 0) else {
                return;
            };
            self.done_pos = first.end;
            self.done += 1;
            self.used -= first.payload + RECORD_OVERHEAD_BYTES;
        }
    }
}

impl Content {
    fn source(&self) -> Source {
        match self {
            Content::Data(bytes) => Source::Buffered(bytes.clone()),
            Content::Zeroes | Content::Discard => Source::Zero,
        }
    }

    fn memory(&self) -> u64 {
        match self {
            Content::Data(bytes) => bytes.len() as u64,
            Content::Zeroes | Content::Discard => 0,
        }
    }

    fn cost(&self, len: u64) -> u64 {
        match self {
            Content::Data(_) => len,
            Content::Zeroes | Content::Discard => len.min(ZERO_COST_BYTES),
        }
    }
}

fn content_of(body: &Body) -> Option<Content> {
    match body {
        Body::Data { bytes, .. } => Some(Content::Data(bytes.clone())),
        Body::Zeroes { .. } => Some(Content::Zeroes),
        Body::Discard { .. } => Some(Content::Discard),
        Body::Mark | Body::Seal { .. } => None,
    }
}

/// Adds a piece to the steps of a unit, to the last one if it is of the same kind and `adjacent`.
fn push_op(ops: &mut Vec<DiskOp>, adjacent: bool, range: &Range<u64>, content: &Content) {
    let (at, more) = (range.start, len(range));
    match (ops.last_mut().filter(|_| adjacent), content) {
        (Some(DiskOp::Write { bytes, .. }), Content::Data(data)) => bytes.push(data.clone()),
        (Some(DiskOp::Zero { len, .. }), Content::Zeroes) => *len += more,
        (Some(DiskOp::Trim { len, .. }), Content::Discard) => *len += more,
        (_, Content::Data(data)) => ops.push(DiskOp::Write {
            at,
            bytes: vec![data.clone()],
        }),
        (_, Content::Zeroes) => ops.push(DiskOp::Zero { at, len: more }),
        (_, Content::Discard) => ops.push(DiskOp::Trim { at, len: more }),
    }
}

fn len(range: &Range<u64>) -> u64 {
    range.end - range.start
}
