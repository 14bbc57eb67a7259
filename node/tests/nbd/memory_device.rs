//! A device in memory for tests and measurements: it fails and waits as it is told, and remembers
//! what it was asked for.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use node::export::{Answer, Device, DeviceError, Extent};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Granularity of the allocation map in bytes.
pub const BLOCK: u64 = 4096;

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    allocated: BTreeSet<u64>,
    calls: Vec<String>,
    errors: VecDeque<DeviceError>,
}

/// Cloning shares the bytes.
#[derive(Clone)]
pub struct MemoryDevice {
    state: Arc<Mutex<State>>,
    /// With a gate every answer waits for a permit.
    gate: Option<Arc<Semaphore>>,
    pub read_only: bool,
    pub zero_is_fast: bool,
    /// Whether calls are remembered; measurements do without.
    pub remembers: bool,
}

impl MemoryDevice {
    /// All zeroes, nothing allocated.
    pub fn new(size: usize) -> Self {
        let state = State {
            bytes: vec![0; size],
            ..State::default()
        };
        MemoryDevice {
            state: Arc::new(Mutex::new(state)),
            gate: None,
            read_only: false,
            zero_is_fast: false,
            remembers: true,
        }
    }

    /// Answers only as far as the returned gate gives permits.
    pub fn gated(mut self) -> (Self, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        self.gate = Some(Arc::clone(&gate));
        (self, gate)
    }

    /// The next request that reaches the device ends with `error`.
    pub fn fail_next(&self, error: DeviceError) {
        self.state.lock().errors.push_back(error);
    }

    /// What was asked for since the last call of this.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().calls)
    }

    /// A copy of a range.
    pub fn content(&self, off: usize, len: usize) -> Vec<u8> {
        self.state.lock().bytes[off..off + len].to_vec()
    }

    fn answer<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> String,
        work: impl FnOnce(&mut State) -> T,
    ) -> Answer<T> {
        let mut state = self.state.lock();
        if self.remembers {
            state.calls.push(call());
        }
        let result = match state.errors.pop_front() {
            Some(error) => Err(error),
            None => Ok(work(&mut state)),
        };
        drop(state);
        match self.gate.clone() {
            None => Answer::Now(result),
            Some(gate) => Answer::later(async move {
                gate.acquire()
                    .await
                    .expect("the gate is never closed")
                    .forget();
                result
            }),
        }
    }
}

fn blocks(off: u64, len: u64) -> std::ops::Range<u64> {
    off / BLOCK..(off + len).div_ceil(BLOCK)
}

fn range(off: u64, len: u64) -> std::ops::Range<usize> {
    off as usize..(off + len) as usize
}

fn fua_mark(fua: bool) -> &'static str {
    if fua { " fua" } else { "" }
}

impl Device for MemoryDevice {
    fn size(&self) -> u64 {
        self.state.lock().bytes.len() as u64
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn zero_is_fast(&self) -> bool {
        self.zero_is_fast
    }

    fn read(&self, off: u64, len: u32) -> Answer<Bytes> {
        self.answer(
            || format!("read {off}+{len}"),
            |state| Bytes::copy_from_slice(&state.bytes[range(off, len.into())]),
        )
    }

    fn write(&self, off: u64, data: Bytes, fua: bool) -> Answer<()> {
        let len = data.len() as u64;
        self.answer(
            || format!("write {off}+{len}{}", fua_mark(fua)),
            |state| {
                state.bytes[range(off, len)].copy_from_slice(&data);
                state.allocated.extend(blocks(off, len));
            },
        )
    }

    fn flush(&self) -> Answer<()> {
        self.answer(|| "flush".to_owned(), |_| ())
    }

    fn zero(&self, off: u64, len: u64, fua: bool, may_trim: bool) -> Answer<()> {
        let mark = if may_trim { " may trim" } else { "" };
        self.answer(
            || format!("zero {off}+{len}{}{mark}", fua_mark(fua)),
            |state| {
                state.bytes[range(off, len)].fill(0);
                if may_trim {
                    let whole = off.div_ceil(BLOCK)..(off + len) / BLOCK;
                    state.allocated.retain(|block| !whole.contains(block));
                } else {
                    state.allocated.extend(blocks(off, len));
                }
            },
        )
    }

    fn trim(&self, off: u64, len: u64, fua: bool) -> Answer<()> {
        self.answer(
            || format!("trim {off}+{len}{}", fua_mark(fua)),
            |state| {
                let whole = off.div_ceil(BLOCK)..(off + len) / BLOCK;
                for block in whole.clone() {
                    state.bytes[range(block * BLOCK, BLOCK)].fill(0);
                }
                state.allocated.retain(|block| !whole.contains(block));
            },
        )
    }

    fn cache(&self, off: u64, len: u64) -> Answer<()> {
        self.answer(|| format!("cache {off}+{len}"), |_| ())
    }

    fn map(&self, off: u64, len: u64) -> Answer<Vec<Extent>> {
        self.answer(
            || format!("map {off}+{len}"),
            |state| {
                let mut extents = Vec::new();
                let mut at = off;
                while at < off + len {
                    let next = (at / BLOCK + 1) * BLOCK;
                    let hole = !state.allocated.contains(&(at / BLOCK));
                    extents.push(Extent {
                        len: next - at,
                        hole,
                        zero: hole,
                    });
                    at = next;
                }
                extents
            },
        )
    }
}
