//! What has been written, what of it is durable, who waits for what, and what should be done next?
//!
//! The state all parts of one logger share, behind one short lock. Pure: it reads no clock, starts nothing and waits for
//! nobody; it is told the time, and answers with what to do. The order in which [`Core::offer`] is called is the
//! order of the resource's writes, for ever and on every host.
//!
//! ```text
//! offer ─► ordered, readable ──batch──► in the log, flushed ──unit──► on the disk
//!          (acknowledged)               (waiters woken)               (replay position rises)
//! ```
//!
//! Data-path invariants 1, 2, 9, 42.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use storage::log::DATA_BYTES_MAX;
use storage::{Body, DiskOp, NewRecord, Source, Unit, WriteBuffer};
use tokio::sync::oneshot;
use tree::{Digest128, LogName, LogPos, ReplayPos};

use crate::export::DeviceError;
use crate::job::{Completion, LoggerLimits};

/// So many bytes are worth a batch of their own, even when nobody asks for durability.
const BATCH_BYTES: u64 = 4 << 20;

/// Bytes of records written with one call, when more have come during the batch before.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// Larger batches are not written by the thread of a client: it has more to do than to wait for the medium.
const CLAIM_BYTES_MAX: u64 = 256 << 10;

/// Records moved to the part of the buffer that may be written back, under one hold of the lock: requests wait for it.
const SETTLE_RECORDS_MAX: u64 = 64;

/// Bytes of one writeback unit. Bounds what a flush of the disk has to wait for.
const UNIT_BYTES_MAX: u64 = 4 << 20;

/// Without new writes for this time the application is considered idle, and writeback has the disk for itself.
const QUIET: Duration = Duration::from_millis(100);

/// What became of a request that could not be answered at once.
pub(super) type Waiting = oneshot::Receiver<Result<(), DeviceError>>;
pub(in crate::worker) type Teller = oneshot::Sender<Result<(), DeviceError>>;

/// See the module.
pub(super) struct Core {
    pub buffer: WriteBuffer,
    limits: LoggerLimits,
    /// Size of the device in bytes.
    pub size: u64,
    pub gate: Gate,
    /// Where the next record goes.
    tail: LogPos,
    queue: VecDeque<Item>,
    queued_bytes: u64,
    queued_since: Option<Duration>,
    /// How many of the queued items are seals.
    queued_seals: usize,
    /// The log ends behind what is queued, without a seal.
    end_asked: bool,
    log_task: LogTask,
    /// Records ordered so far.
    ordered: u64,
    /// Records on the medium.
    durable: u64,
    /// Of these, the ones that may be written back.
    settled: u64,
    waiters: VecDeque<Waiter>,
    /// Requests that found the buffer full, in their order.
    held: VecDeque<Held>,
    last_stamp: u64,
    last_write: Duration,
    /// Since when the replay position has not been at the newest record.
    behind_since: Option<Duration>,
    /// Writeback goes on, however busy the application is, until the replay position is here.
    sweep_until: Option<LogPos>,
    /// Finished logs which the replay position has not left yet, oldest first.
    closed: VecDeque<(LogName, u64)>,
    /// The log being written.
    pub current: LogName,
    pub written_bytes: u64,
    pub written_back_bytes: u64,
}

/// May requests come in? Left to right, never back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Yes.
    Open,
    /// No more changes; reads go on. The log is being released.
    Closing,
    /// The log cannot be written: requests go on until the buffer is full, nothing becomes durable any more. What
    /// was durable before goes on to the disk.
    Lost,
    /// The same, and no more changes. What the log could not take is left over for whoever comes next.
    Abandoned,
    /// Nothing at all: the disk may belong to somebody else by now.
    Closed,
}

/// What the task that writes the log is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogTask {
    /// It will look again by itself.
    Busy,
    /// It looks again when its timer ends; only urgent things are worth a call.
    Dozes,
    /// It looks again when called.
    Sleeps,
    /// Another thread writes the log, see [`Core::claim`]; the task meanwhile dozes, or sleeps.
    Elsewhere { dozes: bool },
}

/// One thing the log has to take, in order.
#[derive(Debug)]
enum Item {
    Record(NewRecord),
    /// End this log; go on with the next one, if there is one.
    Seal {
        next: Option<LogName>,
    },
}

struct Waiter {
    /// Number of records that must be durable.
    until: u64,
    tell: Teller,
}

struct Held {
    bodies: Vec<Body>,
    durably: bool,
    tell: Teller,
}

/// Requests which a log that was lost has not taken: acknowledged ones nobody asked to be durable, and those who wait.
pub struct Rest {
    /// What has to be done to the disk, in this order.
    pub(in crate::worker) ops: Vec<DiskOp>,
    /// Who waits until all of it is durable.
    pub(in crate::worker) tell: Vec<Teller>,
}

/// What the log should do next.
#[derive(Debug)]
pub(super) enum LogWork {
    /// Append these and flush; afterwards this many records are durable.
    Batch { records: Vec<NewRecord>, until: u64 },
    /// Seal the log; afterwards this many records are durable.
    Seal {
        next: Option<LogName>,
        stamp_ns: u64,
        until: u64,
    },
    /// Nothing is queued any more: the log ends where it is.
    End,
    /// Nothing before this moment, unless somebody calls.
    Sleep(Option<Duration>),
}

/// What writeback should do next.
#[derive(Debug)]
pub(super) enum DiskWork {
    /// Write this; the end of the newest record that is on the disk then.
    Write { unit: Unit, newest: LogPos },
    /// Nothing before this moment, unless somebody calls.
    Sleep(Option<Duration>),
}

impl Core {
    pub fn new(log: &LogName, size: u64, limits: LoggerLimits) -> Core {
        Core {
            buffer: WriteBuffer::new(log.at(0)),
            limits,
            size,
            gate: Gate::Open,
            tail: log.at(0),
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued_since: None,
            queued_seals: 0,
            end_asked: false,
            log_task: LogTask::Busy,
            ordered: 0,
            durable: 0,
            settled: 0,
            waiters: VecDeque::new(),
            held: VecDeque::new(),
            last_stamp: 0,
            last_write: Duration::ZERO,
            behind_since: None,
            sweep_until: None,
            closed: VecDeque::new(),
            current: log.clone(),
            written_bytes: 0,
            written_back_bytes: 0,
        }
    }

    /// A change of the device. `None`: it is ordered and readable, and that is all that was asked for.
    pub fn offer(
        &mut self,
        bodies: Vec<Body>,
        fua: bool,
        now: Duration,
        wall_ns: u64,
    ) -> Result<Option<Waiting>, DeviceError> {
        self.must_take_changes()?;
        let durably = match self.limits.completion {
            Completion::Ordered => false,
            Completion::Asked => fua,
            Completion::Durable => true,
        };
        let (tell, answer) = oneshot::channel();
        if self.is_full() || !self.held.is_empty() {
            self.held.push_back(Held {
                bodies,
                durably,
                tell,
            });
            return Ok(Some(answer));
        }
        self.order(bodies, now, wall_ns);
        if durably {
            self.tell_when_durable(tell);
            return Ok(Some(answer));
        }
        Ok(None)
    }

    /// `None`: everything acknowledged is durable already.
    pub fn flush(&mut self) -> Result<Option<Waiting>, DeviceError> {
        if self.gate == Gate::Closed {
            return Err(DeviceError::ShuttingDown);
        }
        if self.durable == self.ordered {
            return Ok(None);
        }
        let (tell, answer) = oneshot::channel();
        self.tell_when_durable(tell);
        Ok(Some(answer))
    }

    /// Requests that were held and now fit. Returns whether any was let in.
    pub fn admit(&mut self, now: Duration, wall_ns: u64) -> bool {
        let mut any = false;
        // Behind the last seal nothing comes any more; who is held then is left over.
        while matches!(self.gate, Gate::Open | Gate::Lost) && !self.is_full() {
            let Some(held) = self.held.pop_front() else {
                break;
            };
            any = true;
            self.order(held.bodies, now, wall_ns);
            match held.durably {
                true => self.tell_when_durable(held.tell),
                // The client may be gone.
                false => drop(held.tell.send(Ok(()))),
            }
        }
        any
    }

    /// Everything from here on goes to `next`, as soon as the log has got there.
    pub fn rotate(&mut self, next: LogName, now: Duration) {
        self.push_seal(Some(next.clone()), now);
        self.tail = next.at(0);
    }

    /// No more changes; the log ends here, with a seal or without. Doing so again changes nothing.
    pub fn close(&mut self, seal: bool, now: Duration) {
        match (&self.gate, seal) {
            (Gate::Open, true) => {
                self.gate = Gate::Closing;
                self.push_seal(None, now);
            }
            (Gate::Open, false) => {
                self.gate = Gate::Closing;
                self.end_asked = true;
            }
            (Gate::Lost, _) => self.gate = Gate::Abandoned,
            (Gate::Closing | Gate::Abandoned | Gate::Closed, _) => {}
        }
    }

    /// The log takes no more: what it has not taken is left over. Everything durable must be on the disk.
    pub fn take_rest(&mut self) -> Rest {
        let parts = self.buffer.lookup(0..self.size);
        let mut ops: Vec<DiskOp> = parts.into_iter().filter_map(op_of_part).collect();
        let mut tell = Vec::new();
        for held in std::mem::take(&mut self.held) {
            ops.extend(held.bodies.into_iter().filter_map(op_of_body));
            tell.push(held.tell);
        }
        tell.extend(
            std::mem::take(&mut self.waiters)
                .into_iter()
                .map(|w| w.tell),
        );
        Rest { ops, tell }
    }

    /// Is everything durable on the disk?
    pub fn is_settled(&self) -> bool {
        let nothing_flies = !self.buffer.is_writing_back();
        nothing_flies && self.buffer.durable_is_done()
    }

    /// Lets the calling thread write a batch that somebody waits for, in place of the task that writes the log: no
    /// change of threads then lies between a request and its flush. `None`: there is none, or it is too large, or
    /// the task is at it already. The records, and how many are durable after them; [`Core::unclaim`] must follow.
    pub fn claim(&mut self, now: Duration) -> Option<(Vec<NewRecord>, u64)> {
        let dozes = match self.log_task {
            LogTask::Dozes => true,
            LogTask::Sleeps => false,
            LogTask::Busy | LogTask::Elsewhere { .. } => return None,
        };
        let fits = self.queued_seals == 0 && (1..=CLAIM_BYTES_MAX).contains(&self.queued_bytes);
        if !fits || self.waiters.is_empty() || self.gate != Gate::Open {
            return None;
        }
        let LogWork::Batch { records, until } = self.take_batch(now) else {
            return None;
        };
        self.log_task = LogTask::Elsewhere { dozes };
        Some((records, until))
    }

    /// The thread that had claimed a batch is through with it.
    pub fn unclaim(&mut self) {
        if let LogTask::Elsewhere { dozes } = self.log_task {
            self.log_task = match dozes {
                true => LogTask::Dozes,
                false => LogTask::Sleeps,
            };
        }
    }

    /// Whether a thread is between [`Core::claim`] and [`Core::unclaim`].
    pub fn is_claimed(&self) -> bool {
        matches!(self.log_task, LogTask::Elsewhere { .. })
    }

    /// What the log should do now. After [`LogWork::Sleep`] it waits for [`Core::must_wake_log`].
    pub fn log_work(&mut self, now: Duration, wall_ns: u64) -> LogWork {
        if self.is_claimed() {
            self.log_task = LogTask::Elsewhere { dozes: false };
            return LogWork::Sleep(None);
        }
        let lost = matches!(self.gate, Gate::Lost | Gate::Abandoned);
        let Some(since) = self.queued_since.filter(|_| !lost) else {
            if !lost && std::mem::take(&mut self.end_asked) {
                self.log_task = LogTask::Busy;
                return LogWork::End;
            }
            self.log_task = LogTask::Sleeps;
            return LogWork::Sleep(None);
        };
        let due = since + self.limits.unflushed_max;
        if !self.is_urgent() && now < due {
            self.log_task = LogTask::Dozes;
            return LogWork::Sleep(Some(due));
        }
        self.log_task = LogTask::Busy;
        match self.queue.front() {
            Some(Item::Seal { .. }) => self.take_seal(now, wall_ns),
            _ => self.take_batch(now),
        }
    }

    /// Whether the task that writes the log has to be called after what was done here. Says so once.
    pub fn must_wake_log(&mut self) -> bool {
        let wake = match self.log_task {
            // Whoever has claimed asks when he is through.
            LogTask::Busy | LogTask::Elsewhere { .. } => false,
            LogTask::Dozes => self.is_urgent(),
            LogTask::Sleeps => self.queued_since.is_some() || self.end_asked,
        };
        if wake {
            self.log_task = LogTask::Busy;
        }
        wake
    }

    /// The first `until` records are on the medium: whoever waited for that is told. [`Core::settle`] must follow.
    pub fn note_durable(&mut self, until: u64) {
        self.durable = self.durable.max(until);
        while let Some(waiter) = self.waiters.pop_front_if(|waiter| waiter.until <= until) {
            // The client may be gone.
            let _ = waiter.tell.send(Ok(()));
        }
    }

    /// Lets writeback have the next durable records, some at a time. Returns whether there are more.
    pub fn settle(&mut self, now: Duration) -> bool {
        if self.settled < self.durable {
            self.settled = self.durable.min(self.settled + SETTLE_RECORDS_MAX);
            self.buffer.mark_durable(self.settled - 1);
            self.note_replay_pos(now);
        }
        self.settled < self.durable
    }

    /// This log has its final length.
    pub fn note_sealed(&mut self, log: &LogName, len: u64) {
        self.closed.push_back((log.clone(), len));
    }

    /// What follows the sealed log exists, and peers may know it.
    pub fn note_successor(&mut self, next: &LogName) {
        self.current = next.clone();
    }

    /// Nothing works any more, not even reading. Whoever waits is told so.
    pub fn shut(&mut self) {
        self.refuse_all(&DeviceError::ShuttingDown);
        self.gate = Gate::Closed;
    }

    /// The log cannot be written any more. Whoever asked for durability goes on waiting (invariant 40): the disk may
    /// still be able to give it, past the log.
    pub fn lose(&mut self) {
        self.gate = match self.gate {
            Gate::Open | Gate::Lost => Gate::Lost,
            Gate::Closing | Gate::Abandoned => Gate::Abandoned,
            Gate::Closed => Gate::Closed,
        };
    }

    /// What writeback should do now.
    pub fn disk_work(&mut self, now: Duration) -> DiskWork {
        if self.buffer.is_empty() || self.gate == Gate::Closed {
            return DiskWork::Sleep(None);
        }
        self.start_sweep_if_due(now);
        let quiet_at = match self.queue.is_empty() {
            true => self.last_write + QUIET,
            // The log is busy, and somebody may wait for it: the disks are its own.
            false => now + QUIET,
        };
        let ends = self.gate != Gate::Open;
        let eager = ends || self.sweep_until.is_some() || now >= quiet_at;
        if !eager {
            return DiskWork::Sleep(Some(quiet_at));
        }
        match self.buffer.plan(UNIT_BYTES_MAX) {
            Some(unit) => {
                let newest = self.buffer.dirty_end().clone();
                DiskWork::Write { unit, newest }
            }
            // Whatever is left is not durable yet; the log calls when it is.
            None => DiskWork::Sleep(None),
        }
    }

    /// A unit is on the disk.
    pub fn unit_written(&mut self, unit: u64, bytes: u64, now: Duration) {
        self.buffer.complete(unit);
        self.written_back_bytes += bytes;
        self.note_replay_pos(now);
    }

    /// What a crash now would leave to be replayed.
    pub fn replay_pos(&self) -> ReplayPos {
        let (done, dirty_end) = (self.buffer.replay_pos(), self.buffer.dirty_end());
        let len_of = |log: &LogName| {
            self.closed
                .iter()
                .find(|(name, _)| name == log)
                .map(|c| c.1)
        };
        let mut clean = done.clone();
        // Behind the last record of a finished log is the first one of the next.
        while let Some(nr) = self
            .closed
            .iter()
            .position(|c| c.0 == clean.log && c.1 == clean.offset)
        {
            let next = self.closed.get(nr + 1).map_or(&self.current, |c| &c.0);
            if *next == clean.log {
                break;
            }
            clean = next.at(0);
        }
        let dirty = match dirty_end.log == clean.log {
            true => dirty_end.offset.saturating_sub(clean.offset),
            false if dirty_end.log < clean.log => 0,
            false => len_of(&clean.log).map_or(0, |len| len - clean.offset),
        };
        ReplayPos {
            log: clean.log,
            offset: clean.offset,
            dirty,
        }
    }

    /// Place behind the newest write a reader would see.
    pub fn newest(&self) -> LogPos {
        self.tail.clone()
    }

    fn must_take_changes(&self) -> Result<(), DeviceError> {
        match &self.gate {
            Gate::Open | Gate::Lost => Ok(()),
            Gate::Closing | Gate::Abandoned | Gate::Closed => Err(DeviceError::ShuttingDown),
        }
    }

    fn is_full(&self) -> bool {
        self.buffer.used_bytes() >= self.limits.buffer_bytes_max
    }

    fn order(&mut self, bodies: Vec<Body>, now: Duration, wall_ns: u64) {
        for body in bodies {
            let stamp_ns = self.stamp(wall_ns);
            self.written_bytes += body.range().map_or(0, |range| range.end - range.start);
            self.insert(&body);
            self.push(Item::Record(NewRecord { stamp_ns, body }), now);
        }
        self.last_write = now;
        self.behind_since.get_or_insert(now);
    }

    fn insert(&mut self, body: &Body) {
        self.tail.offset += body.record_bytes();
        self.queued_bytes += body.record_bytes();
        self.buffer.insert(body, self.tail.clone());
        self.ordered += 1;
    }

    fn push(&mut self, item: Item, now: Duration) {
        self.queued_seals += usize::from(matches!(item, Item::Seal { .. }));
        self.queue.push_back(item);
        self.queued_since.get_or_insert(now);
    }

    /// A seal is a record like the others, so that the replay position gets behind it.
    fn push_seal(&mut self, next: Option<LogName>, now: Duration) {
        self.insert(&seal_body());
        self.push(Item::Seal { next }, now);
        self.behind_since.get_or_insert(now);
    }

    /// Stamps rise from record to record even where the clock does not.
    fn stamp(&mut self, wall_ns: u64) -> u64 {
        self.last_stamp = wall_ns.max(self.last_stamp + 1);
        self.last_stamp
    }

    fn tell_when_durable(&mut self, tell: Teller) {
        self.waiters.push_back(Waiter {
            until: self.ordered,
            tell,
        });
    }

    fn refuse_all(&mut self, error: &DeviceError) {
        for waiter in std::mem::take(&mut self.waiters) {
            let _ = waiter.tell.send(Err(error.clone()));
        }
        for held in std::mem::take(&mut self.held) {
            let _ = held.tell.send(Err(error.clone()));
        }
    }

    /// Is there a reason not to wait for more to come?
    fn is_urgent(&self) -> bool {
        !self.waiters.is_empty()
            || !self.held.is_empty()
            || self.queued_bytes >= BATCH_BYTES
            || self.queued_seals > 0
            || self.end_asked
    }

    fn take_seal(&mut self, now: Duration, wall_ns: u64) -> LogWork {
        let Some(Item::Seal { next }) = self.queue.pop_front() else {
            unreachable!("the caller has seen a seal in front");
        };
        self.queued_seals -= 1;
        self.queued_bytes -= seal_body().record_bytes();
        self.queued_since = (!self.queue.is_empty()).then_some(now);
        let (stamp_ns, until) = (self.stamp(wall_ns), self.handed_over());
        LogWork::Seal {
            next,
            stamp_ns,
            until,
        }
    }

    fn take_batch(&mut self, now: Duration) -> LogWork {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES_MAX {
            match self
                .queue
                .pop_front_if(|item| matches!(item, Item::Record(_)))
            {
                Some(Item::Record(record)) => {
                    bytes += record.body.record_bytes();
                    records.push(record);
                }
                _ => break,
            }
        }
        self.queued_bytes -= bytes;
        self.queued_since = (!self.queue.is_empty()).then_some(now);
        let until = self.handed_over();
        LogWork::Batch { records, until }
    }

    /// Records that are no longer queued.
    fn handed_over(&self) -> u64 {
        self.ordered - self.queue.len() as u64
    }

    fn start_sweep_if_due(&mut self, now: Duration) {
        if self.sweep_until.is_some() {
            return;
        }
        let old = self
            .behind_since
            .is_some_and(|since| now >= since + self.limits.writeback_age_max);
        let half_full = self.buffer.used_bytes() >= self.limits.buffer_bytes_max / 2;
        if old || half_full {
            self.sweep_until = Some(self.buffer.newest().clone());
        }
    }

    fn note_replay_pos(&mut self, now: Duration) {
        let pos = self.buffer.replay_pos();
        if self.sweep_until.as_ref().is_some_and(|until| pos >= until) {
            self.sweep_until = None;
            self.behind_since = Some(now);
        }
        if self.buffer.is_empty() {
            self.behind_since = None;
        }
        while self.closed.front().is_some_and(|(log, _)| *log < pos.log) {
            self.closed.pop_front();
        }
    }
}

fn op_of_part((range, source): (Range<u64>, Source)) -> Option<DiskOp> {
    let (at, len) = (range.start, range.end - range.start);
    match source {
        Source::Disk => None,
        Source::Zero => Some(DiskOp::Zero { at, len }),
        Source::Buffered(bytes) => {
            let bytes = vec![bytes];
            Some(DiskOp::Write { at, bytes })
        }
    }
}

fn op_of_body(body: Body) -> Option<DiskOp> {
    match body {
        Body::Data { at, bytes } => {
            let bytes = vec![bytes];
            Some(DiskOp::Write { at, bytes })
        }
        Body::Zeroes { at, len } => Some(DiskOp::Zero { at, len }),
        Body::Discard { at, len } => Some(DiskOp::Trim { at, len }),
        Body::Mark | Body::Seal { .. } => None,
    }
}

/// A seal for the count of bytes; the log fills in length and digest.
fn seal_body() -> Body {
    Body::Seal {
        len: 0,
        digest: Digest128::ZERO,
    }
}

/// A write as records. Large ones become several, so one request is not atomic beyond [`DATA_BYTES_MAX`], as on any disk.
pub(super) fn data_bodies(at: u64, data: &Bytes) -> Vec<Body> {
    let pieces = (0..data.len()).step_by(DATA_BYTES_MAX);
    pieces
        .map(|from| Body::Data {
            at: at + from as u64,
            bytes: data.slice(from..data.len().min(from + DATA_BYTES_MAX)),
        })
        .collect()
}
