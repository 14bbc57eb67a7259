//! The write buffer against the plainest thing that could be right: an array of bytes.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use bytes::Bytes;
use proptest::prelude::*;
use std::ops::Range;
use storage::write_buffer::RECORD_OVERHEAD_BYTES;
use storage::{Body, DiskOp, Source, Unit, WriteBuffer};
use tree::{Host, LogName, LogPos};

/// Bytes of the simulated device.
const SIZE: usize = 48;
/// What a byte holds before the first write.
const BLANK: u8 = 255;

fn pos(offset: u64) -> LogPos {
    LogName::new(1, &Host::new("alpha").unwrap()).at(offset)
}

fn data(at: u64, text: &str) -> Body {
    Body::Data {
        at,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// A buffer with these writes, the first `durable` of them durable.
fn buffer(writes: &[(u64, &str)], durable: usize) -> WriteBuffer {
    let mut buffer = WriteBuffer::new(pos(0));
    for (i, (at, text)) in writes.iter().enumerate() {
        buffer.insert(&data(*at, text), pos(100 * (i as u64 + 1)));
    }
    for nr in 0..durable {
        buffer.mark_durable(nr as u64);
    }
    buffer
}

fn plan(buffer: &mut WriteBuffer) -> Option<Unit> {
    buffer.plan(1 << 20)
}

/// The steps of a plan as text: position and contents of each.
fn check_plan(buffer: &mut WriteBuffer, expected: &str) -> u64 {
    let unit = plan(buffer).expect("something to write back");
    let mut text = String::new();
    for op in &unit.ops {
        match op {
            DiskOp::Write { at, bytes } => text.push_str(&format!(
                "{at}:{} ",
                String::from_utf8_lossy(&bytes.concat())
            )),
            DiskOp::Zero { at, len } => text.push_str(&format!("{at}:zero {len} ")),
            DiskOp::Trim { at, len } => text.push_str(&format!("{at}:trim {len} ")),
        }
    }
    assert_eq!(text.trim(), expected);
    unit.id
}

#[test]
fn a_reader_sees_the_newest_write_before_it_is_durable_and_the_disk_elsewhere() {
    let buffer = buffer(&[(0, "aaaa"), (2, "bbbb")], 1);
    let seen = buffer.lookup(0..8);
    let expected = [
        (0..2, Source::Buffered(Bytes::from_static(b"aa"))),
        (2..6, Source::Buffered(Bytes::from_static(b"bbbb"))),
        (6..8, Source::Disk),
    ];
    assert_eq!(seen, expected);
    assert_eq!(buffer.lookup(3..3), []);
}

#[test]
fn nothing_is_written_back_before_its_record_is_durable() {
    let mut buffer = buffer(&[(0, "aaaa"), (8, "bbbb")], 0);
    assert_eq!(plan(&mut buffer), None);
    buffer.mark_durable(0);
    check_plan(&mut buffer, "0:aaaa");
    assert_eq!(plan(&mut buffer), None);
}

#[test]
fn a_block_that_is_always_rewritten_still_gets_its_durable_version_written_back() {
    let mut buffer = buffer(&[(0, "aaaa"), (0, "bbbb")], 1);
    let unit = check_plan(&mut buffer, "0:aaaa");
    buffer.complete(unit);
    assert_eq!(*buffer.replay_pos(), pos(100));
}

#[test]
fn adjacent_writes_become_one_step_and_superseded_ones_none() {
    let writes = [(4, "bbbb"), (0, "aaaa"), (5, "xx"), (20, "cc")];
    check_plan(&mut buffer(&writes, 4), "0:aaaabxxb 20:cc");
}

#[test]
fn the_replay_position_is_the_end_of_the_completed_prefix() {
    let mut buffer = buffer(&[(30, "a"), (20, "b"), (10, "c")], 0);
    let mut units = Vec::new();
    for nr in 0..3 {
        buffer.mark_durable(nr);
        units.push(plan(&mut buffer).unwrap().id);
    }
    for (unit, expected) in [(units[2], 0), (units[1], 0), (units[0], 300)] {
        buffer.complete(unit);
        assert_eq!(*buffer.replay_pos(), pos(expected));
    }
    assert!(buffer.is_empty());
    assert_eq!(buffer.used_bytes(), 0);
}

#[test]
fn a_write_over_one_in_flight_waits_for_it() {
    let mut buffer = buffer(&[(0, "aaaa"), (2, "bbbb")], 1);
    let unit = check_plan(&mut buffer, "0:aaaa");
    buffer.mark_durable(1);
    assert_eq!(plan(&mut buffer), None);
    buffer.complete(unit);
    check_plan(&mut buffer, "2:bbbb");
}

#[test]
fn a_failed_unit_is_planned_again_in_its_newest_version_and_holds_the_position() {
    let mut buffer = buffer(&[(0, "aaaa"), (2, "bb")], 1);
    let unit = check_plan(&mut buffer, "0:aaaa");
    buffer.mark_durable(1);
    buffer.failed(unit);
    assert_eq!(*buffer.replay_pos(), pos(0));
    let unit = check_plan(&mut buffer, "0:aabb");
    buffer.complete(unit);
    assert_eq!(*buffer.replay_pos(), pos(200));
}

#[test]
fn marks_move_the_position_without_a_write() {
    let mut buffer = buffer(&[(0, "a")], 1);
    buffer.insert(&Body::Mark, pos(200));
    let unit = check_plan(&mut buffer, "0:a");
    buffer.complete(unit);
    assert_eq!(*buffer.replay_pos(), pos(100));
    buffer.mark_durable(1);
    assert_eq!(*buffer.replay_pos(), pos(200));
}

#[test]
fn zeroes_and_discards_of_any_length_cost_no_payload_memory_and_are_cut_by_later_writes() {
    let mut buffer = WriteBuffer::new(pos(0));
    let all = Body::Discard {
        at: 0,
        len: 1 << 50,
    };
    let some = Body::Zeroes { at: 8, len: 8 };
    buffer.insert(&all, pos(1));
    buffer.insert(&some, pos(2));
    buffer.insert(&data(10, "x"), pos(3));
    assert_eq!(buffer.used_bytes(), 3 * RECORD_OVERHEAD_BYTES + 1);
    buffer.mark_durable(2);
    check_plan(
        &mut buffer,
        "0:trim 8 8:zero 2 10:x 11:zero 5 16:trim 1125899906842608",
    );
}

#[test]
fn a_sweep_goes_on_where_the_last_one_ended_and_then_begins_again() {
    let mut buffer = buffer(&[(0, "aaaa"), (10, "bbbb"), (20, "cccc")], 3);
    for expected in [0, 10] {
        let unit = buffer.plan(1).unwrap();
        assert!(matches!(unit.ops[..], [DiskOp::Write { at, .. }] if at == expected));
        buffer.complete(unit.id);
    }
    buffer.insert(&data(0, "dddd"), pos(400));
    buffer.mark_durable(3);
    check_plan(&mut buffer, "20:cccc");
    check_plan(&mut buffer, "0:dddd");
}

/// What the random test does next. Numbers are taken modulo what exists.
#[derive(Debug, Clone)]
enum Do {
    Write {
        kind: u8,
        at: usize,
        len: usize,
    },
    Durable(u64),
    Plan(u64),
    Complete(usize),
    /// Some steps of a unit reach the disk, then it fails.
    Fail(usize, usize),
    /// The disk is flushed and the position that was true before is persisted.
    FlushDisk,
    /// Power is cut: each unflushed byte may or may not have reached the medium.
    Crash(u64),
}

fn what_to_do() -> impl Strategy<Value = Do> {
    prop_oneof![
        6 => (0u8..6, 0..SIZE, 1usize..12).prop_map(|(kind, at, len)| Do::Write { kind, at, len }),
        4 => (0u64..6).prop_map(Do::Durable),
        4 => (1u64..40).prop_map(Do::Plan),
        4 => (0usize..8).prop_map(Do::Complete),
        1 => ((0usize..8), (0usize..6)).prop_map(|(unit, steps)| Do::Fail(unit, steps)),
        1 => Just(Do::FlushDisk),
        1 => any::<u64>().prop_map(Do::Crash),
    ]
}

/// The buffer under test and everything that must be true about it.
struct Model {
    buffer: WriteBuffer,
    /// All records; the end of record i is i + 1.
    log: Vec<Body>,
    durable: usize,
    /// What the disk answers, and what is on its medium for sure.
    disk: [u8; SIZE],
    medium: [u8; SIZE],
    /// For each byte all that was written to it since the last flush.
    unflushed: Vec<Vec<u8>>,
    units: Vec<Unit>,
    persisted: usize,
    last_pos: u64,
}

impl Model {
    fn new() -> Model {
        Model {
            buffer: WriteBuffer::new(pos(0)),
            log: Vec::new(),
            durable: 0,
            disk: [BLANK; SIZE],
            medium: [BLANK; SIZE],
            unflushed: vec![Vec::new(); SIZE],
            units: Vec::new(),
            persisted: 0,
            last_pos: 0,
        }
    }

    fn step(&mut self, what: &Do) {
        match what {
            Do::Write { kind, at, len } => self.write(*kind, *at, *len),
            Do::Durable(more) => self.mark_durable(self.durable as u64 + more),
            Do::Plan(bytes) => self.plan(*bytes),
            Do::Complete(unit) => {
                if let Some(unit) = self.choose_unit(*unit) {
                    unit.ops.iter().for_each(|op| self.apply(op));
                    self.buffer.complete(unit.id);
                }
            }
            Do::Fail(unit, steps) => {
                if let Some(unit) = self.choose_unit(*unit) {
                    unit.ops.iter().take(*steps).for_each(|op| self.apply(op));
                    self.buffer.failed(unit.id);
                }
            }
            Do::FlushDisk => {
                let pos = self.buffer.replay_pos().offset as usize;
                self.medium = self.disk;
                self.unflushed.iter_mut().for_each(Vec::clear);
                self.persisted = pos;
            }
            Do::Crash(seed) => self.check_recovery_after_a_crash(*seed),
        }
        self.check();
    }

    /// The contents of a write name its record, so that versions can be told apart.
    fn write(&mut self, kind: u8, at: usize, len: usize) {
        let (nr, len) = (self.log.len(), len.min(SIZE - at));
        if nr + 1 >= usize::from(BLANK) {
            return;
        }
        let body = match kind {
            0 => Body::Zeroes {
                at: at as u64,
                len: len as u64,
            },
            1 => Body::Discard {
                at: at as u64,
                len: len as u64,
            },
            2 if at.is_multiple_of(5) => Body::Mark,
            _ => data_of(at, vec![nr as u8 + 1; len]),
        };
        assert_eq!(self.buffer.insert(&body, pos(nr as u64 + 1)), nr as u64);
        self.log.push(body);
    }

    fn mark_durable(&mut self, nr: u64) {
        self.buffer.mark_durable(nr);
        self.durable = self.durable.max((nr as usize + 1).min(self.log.len()));
    }

    fn plan(&mut self, bytes: u64) {
        let Some(unit) = self.buffer.plan(bytes) else {
            return;
        };
        let ranges: Vec<_> = unit.ops.iter().map(range_of).collect();
        assert!(
            ranges.windows(2).all(|pair| pair[0].end <= pair[1].start),
            "sorted: {unit:?}"
        );
        for other in self.units.iter().flat_map(|unit| &unit.ops).map(range_of) {
            let apart = |range: &Range<u64>| range.end <= other.start || other.end <= range.start;
            assert!(
                ranges.iter().all(apart),
                "one in flight per range: {unit:?}"
            );
        }
        self.units.push(unit);
    }

    fn choose_unit(&mut self, index: usize) -> Option<Unit> {
        let n = self.units.len();
        (n > 0).then(|| self.units.remove(index % n))
    }

    fn apply(&mut self, op: &DiskOp) {
        let range = range_of(op);
        for (i, at) in (range.start as usize..range.end as usize).enumerate() {
            let new = match op {
                DiskOp::Write { bytes, .. } => bytes.concat()[i],
                DiskOp::Zero { .. } | DiskOp::Trim { .. } => 0,
            };
            let old = self.disk[at];
            let regress = new != 0 && old != BLANK && new < old;
            assert!(!regress, "byte {at} goes back from record {old} to {new}");
            self.disk[at] = new;
            self.unflushed[at].push(new);
        }
    }

    fn check(&mut self) {
        let mut seen = [BLANK; SIZE];
        for (range, source) in self.buffer.lookup(0..SIZE as u64) {
            let range = range.start as usize..range.end as usize;
            match source {
                Source::Buffered(bytes) => seen[range].copy_from_slice(&bytes),
                Source::Zero => seen[range].fill(0),
                Source::Disk => seen[range.clone()].copy_from_slice(&self.disk[range]),
            }
        }
        assert_eq!(seen, image(&self.log), "a reader sees every write at once");
        let at = self.buffer.replay_pos().offset;
        assert!(
            at >= self.last_pos && at <= self.durable as u64,
            "position {at}"
        );
        self.last_pos = at;
        assert!(self.buffer.dirty_end().offset >= at);
        let done = image(&self.log[..at as usize]);
        for (have, want) in self.disk.into_iter().zip(done) {
            let there = want == BLANK || have == 0 || (have != BLANK && have >= want);
            assert!(
                there,
                "the disk has record {have}, below {at} it needs {want}"
            );
        }
        for byte in self.disk {
            let begun = byte == BLANK || u64::from(byte) <= self.buffer.dirty_end().offset;
            assert!(begun, "record {byte} is on the disk behind the dirty end");
        }
    }

    /// After a cut at any moment replay from the persisted position gives the durable prefix, with
    /// nothing of later records.
    fn check_recovery_after_a_crash(&self, mut seed: u64) {
        let mut left = self.medium;
        for (at, byte) in left.iter_mut().enumerate() {
            // What is in flight may have arrived, too.
            let mut may = self.unflushed[at].clone();
            may.extend(
                self.units
                    .iter()
                    .flat_map(|unit| &unit.ops)
                    .filter_map(|op| byte_of(op, at)),
            );
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let choice = (seed >> 33) as usize % (may.len() + 1);
            if choice > 0 {
                *byte = may[choice - 1];
            }
        }
        for body in &self.log[self.persisted..self.durable] {
            paint(&mut left, body);
        }
        assert_eq!(left, image(&self.log[..self.durable]));
    }

    fn drain(&mut self) {
        self.mark_durable(self.log.len() as u64);
        for _ in 0..500 {
            self.step(&Do::Plan(7));
            self.step(&Do::Complete(0));
        }
        assert!(self.buffer.is_empty() && !self.buffer.is_writing_back());
        assert_eq!(self.buffer.used_bytes(), 0);
        assert_eq!(self.buffer.replay_pos(), self.buffer.newest());
        assert_eq!(self.disk, image(&self.log));
    }
}

fn data_of(at: usize, bytes: Vec<u8>) -> Body {
    Body::Data {
        at: at as u64,
        bytes: bytes.into(),
    }
}

fn range_of(op: &DiskOp) -> Range<u64> {
    match op {
        DiskOp::Write { at, bytes } => *at..*at + bytes.concat().len() as u64,
        DiskOp::Zero { at, len } | DiskOp::Trim { at, len } => *at..*at + *len,
    }
}

fn byte_of(op: &DiskOp, at: usize) -> Option<u8> {
    let range = range_of(op);
    let index = (at as u64)
        .checked_sub(range.start)
        .filter(|_| (at as u64) < range.end)?;
    match op {
        DiskOp::Write { bytes, .. } => Some(bytes.concat()[index as usize]),
        DiskOp::Zero { .. } | DiskOp::Trim { .. } => Some(0),
    }
}

fn image(log: &[Body]) -> [u8; SIZE] {
    let mut image = [BLANK; SIZE];
    log.iter().for_each(|body| paint(&mut image, body));
    image
}

fn paint(image: &mut [u8; SIZE], body: &Body) {
    let Some(range) = body.range() else { return };
    let part = &mut image[range.start as usize..range.end as usize];
    match body {
        Body::Data { bytes, .. } => part.copy_from_slice(bytes),
        _ => part.fill(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_buffer_behaves_like_an_array_of_bytes(
        steps in prop::collection::vec(what_to_do(), 1..160),
    ) {
        let mut model = Model::new();
        for what in &steps {
            model.step(what);
        }
        for seed in 0..8 {
            model.step(&Do::Crash(seed));
        }
        model.drain();
    }
}
