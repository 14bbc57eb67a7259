//! The device as applications and syncers see it.
//!
//! Reads put together what the write buffer has and what the disk has. The look into the buffer comes first: a piece leaves it
//! only when the disk has it, so what is not found there is on the disk (invariants 2 and 3).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Body, DiskError, ExtentKind, Source};
use tree::LogPos;

use super::Shared;
use super::core::{Core, Gate, Waiting, data_bodies};
use crate::export::{Answer, Device, DeviceError, Extent};
use crate::ports::BoxFuture;
use crate::worker::source::{BlockDigest, SyncSource};

/// Reads up to this size are answered at once when the disk has them cached: two changes of thread cost more than
/// copying. Larger ones are worth a thread of their own.
const READ_AT_ONCE_BYTES_MAX: u32 = 128 << 10;

/// See the module.
pub(super) struct LoggerDevice {
    shared: Arc<Shared>,
    /// The caller calls [`Device::help`] after every bunch of requests; it wakes whom they need.
    helped: bool,
}

type Parts = Vec<(Range<u64>, Source)>;

impl LoggerDevice {
    /// For callers that only ask.
    pub fn new(shared: Arc<Shared>) -> LoggerDevice {
        LoggerDevice {
            shared,
            helped: false,
        }
    }

    fn change(&self, bodies: Vec<Body>, fua: bool) -> Answer<()> {
        let (now, wall_ns) = (self.shared.now(), self.shared.wall_ns());
        self.ask(|core| core.offer(bodies, fua, now, wall_ns))
    }

    fn ask(
        &self,
        ask: impl FnOnce(&mut Core) -> Result<Option<Waiting>, DeviceError>,
    ) -> Answer<()> {
        let mut core = self.shared.core.lock();
        let asked = ask(&mut core);
        let wake = !self.helped && core.must_wake_log();
        drop(core);
        self.shared.wake_log(wake);
        answer(asked)
    }
}

impl Device for LoggerDevice {
    fn size(&self) -> u64 {
        self.shared.core.lock().size
    }

    fn zero_is_fast(&self) -> bool {
        // A record of 64 bytes, whatever the length.
        true
    }

    fn read(&self, off: u64, len: u32) -> Answer<Bytes> {
        let parts = match self.shared.look_up(off, len.into()) {
            Ok(parts) => parts,
            Err(error) => return Answer::Now(Err(error)),
        };
        if let [(_, Source::Buffered(bytes))] = &parts[..] {
            return Answer::Now(Ok(bytes.clone()));
        }
        if parts.iter().all(|(_, source)| *source != Source::Disk) {
            return Answer::Now(Ok(assemble(off, len, &parts)));
        }
        if let ([(_, Source::Disk)], true) = (&parts[..], len <= READ_AT_ONCE_BYTES_MAX)
            && let Some(bytes) = self.shared.replica.read_cached(off, len as usize)
        {
            return Answer::Now(Ok(bytes));
        }
        let shared = self.shared.clone();
        Answer::later(async move { shared.read_through(off, len, parts).await })
    }

    fn write(&self, off: u64, data: Bytes, fua: bool) -> Answer<()> {
        self.change(data_bodies(off, &data), fua)
    }

    fn flush(&self) -> Answer<()> {
        self.ask(Core::flush)
    }

    fn for_helper(&self) -> Option<Arc<dyn Device>> {
        let shared = self.shared.clone();
        Some(Arc::new(LoggerDevice {
            shared,
            helped: true,
        }))
    }

    fn help(&self) -> bool {
        self.shared.write_here()
    }

    fn zero(&self, off: u64, len: u64, fua: bool, may_trim: bool) -> Answer<()> {
        let body = match may_trim {
            true => Body::Discard { at: off, len },
            false => Body::Zeroes { at: off, len },
        };
        self.change(vec![body], fua)
    }

    fn trim(&self, off: u64, len: u64, fua: bool) -> Answer<()> {
        self.change(vec![Body::Discard { at: off, len }], fua)
    }

    fn cache(&self, _off: u64, _len: u64) -> Answer<()> {
        Answer::Now(Ok(()))
    }

    fn map(&self, off: u64, len: u64) -> Answer<Vec<Extent>> {
        let parts = match self.shared.look_up(off, len) {
            Ok(parts) => parts,
            Err(error) => return Answer::Now(Err(error)),
        };
        let shared = self.shared.clone();
        Answer::later(async move { shared.map(parts).await })
    }
}

impl SyncSource for LoggerDevice {
    fn size(&self) -> u64 {
        Device::size(self)
    }

    fn newest(&self) -> LogPos {
        self.shared.core.lock().newest()
    }

    fn read(&self, at: u64, len: u32) -> BoxFuture<'static, Result<Bytes, String>> {
        let reading = Device::read(self, at, len);
        Box::pin(async move { reading.wait().await.map_err(|error| error.to_string()) })
    }

    fn digests(
        &self,
        at: u64,
        len: u64,
        block: u32,
    ) -> BoxFuture<'static, Result<Vec<BlockDigest>, String>> {
        let (parts, shared) = (self.shared.look_up(at, len), self.shared.clone());
        Box::pin(async move {
            let parts = parts.map_err(|error| error.to_string())?;
            let fill =
                move |disk: &storage::Disk, piece: &mut [u8], at| fill(piece, at, &parts, disk);
            let digests = shared.replica.digests_mixed(at, len, block, fill).await;
            digests.map_err(|error| error.to_string())
        })
    }

    fn settle(&self) -> BoxFuture<'static, Result<LogPos, String>> {
        let newest = self.newest();
        let flushing = self.flush();
        Box::pin(async move {
            flushing.wait().await.map_err(|error| error.to_string())?;
            Ok(newest)
        })
    }
}

impl Shared {
    fn look_up(&self, off: u64, len: u64) -> Result<Parts, DeviceError> {
        let core = self.core.lock();
        if core.gate == Gate::Closed {
            return Err(DeviceError::ShuttingDown);
        }
        Ok(core.buffer.lookup(off..off + len))
    }

    async fn read_through(&self, off: u64, len: u32, parts: Parts) -> Result<Bytes, DeviceError> {
        if let [(_, Source::Disk)] = &parts[..] {
            return self.replica.read(off, len as usize).await.map_err(failed);
        }
        let fill = move |buf: &mut [u8], disk: &storage::Disk| fill(buf, off, &parts, disk);
        self.replica
            .read_mixed(len as usize, fill)
            .await
            .map_err(failed)
    }

    async fn map(&self, parts: Parts) -> Result<Vec<Extent>, DeviceError> {
        let mut extents = Vec::with_capacity(parts.len());
        for (range, source) in parts {
            let len = range.end - range.start;
            let (hole, zero) = match source {
                Source::Buffered(_) => (false, false),
                Source::Zero => (false, true),
                Source::Disk => {
                    let below = self.replica.map(range.start, len).await.map_err(failed)?;
                    extents.extend(below.iter().map(|extent| {
                        let hole = extent.kind == ExtentKind::Hole;
                        Extent {
                            len: extent.len,
                            hole,
                            zero: hole,
                        }
                    }));
                    continue;
                }
            };
            extents.push(Extent { len, hole, zero });
        }
        Ok(extents)
    }
}

/// Fills `buf`, which begins at `off`, from what was found for a range around it.
fn fill(buf: &mut [u8], off: u64, parts: &Parts, disk: &storage::Disk) -> Result<(), DiskError> {
    let end = off + buf.len() as u64;
    let first = parts.partition_point(|(range, _)| range.end <= off);
    for (range, source) in parts[first..]
        .iter()
        .take_while(|(range, _)| range.start < end)
    {
        let (from, to) = (range.start.max(off), range.end.min(end));
        let part = &mut buf[(from - off) as usize..(to - off) as usize];
        match source {
            Source::Disk => disk.read(part, from)?,
            Source::Buffered(bytes) => {
                let bytes = &bytes[(from - range.start) as usize..];
                part.copy_from_slice(&bytes[..part.len()]);
            }
            Source::Zero => part.fill(0),
        }
    }
    Ok(())
}

fn assemble(off: u64, len: u32, parts: &Parts) -> Bytes {
    let mut buf = vec![0; len as usize];
    for (range, source) in parts {
        if let Source::Buffered(bytes) = source {
            buf[(range.start - off) as usize..(range.end - off) as usize].copy_from_slice(bytes);
        }
    }
    buf.into()
}

fn answer(asked: Result<Option<Waiting>, DeviceError>) -> Answer<()> {
    match asked {
        Ok(None) => Answer::Now(Ok(())),
        Err(error) => Answer::Now(Err(error)),
        Ok(Some(waiting)) => Answer::later(async move {
            // The logger was dropped like in a crash: whoever waits must not believe in durability.
            waiting.await.unwrap_or(Err(DeviceError::ShuttingDown))
        }),
    }
}

fn failed(error: crate::worker::replica::ReplicaError) -> DeviceError {
    DeviceError::Io(error.to_string())
}
