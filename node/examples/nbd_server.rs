//! The NBD server on a device without replication: to be compared with other servers.
//!
//! ```text
//! nbd_server SOCKET memory MEBIBYTES
//! nbd_server SOCKET file PATH
//! ```
//!
//! The export is called `disk`. A file is written at once and made durable by a thread of its own,
//! which is the division of labour of the logger.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use node::export::{Answer, Buffers, Device, DeviceError, Exports, Extent, NbdServer};
use node::ports::{BoxFuture, Clock};
use tokio::sync::oneshot;

#[expect(dead_code, reason = "only part of it is needed here")]
#[path = "../tests/nbd/memory_device.rs"]
mod memory_device;

use memory_device::MemoryDevice;

struct TokioClock;

impl Clock for TokioClock {
    fn wall_ns(&self) -> u64 {
        0
    }

    fn mono(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }
}

/// Reads from this length on are done by other threads, while the connection sends.
const ELSEWHERE_BYTES_MIN: u32 = 64 << 10;

type Flushed = oneshot::Sender<Result<(), DeviceError>>;

struct FileDevice {
    file: Arc<File>,
    size: u64,
    flusher: mpsc::Sender<Flushed>,
    buffers: Buffers,
}

impl FileDevice {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = Arc::new(File::options().read(true).write(true).open(path)?);
        let size = file.metadata()?.len();
        let (flusher, wanted) = mpsc::channel();
        let flushed_file = Arc::clone(&file);
        std::thread::spawn(move || flush_for_all(&flushed_file, &wanted));
        let buffers = Buffers::default();
        Ok(FileDevice {
            file,
            size,
            flusher,
            buffers,
        })
    }
}

/// One flush for everybody who waits by then.
fn flush_for_all(file: &File, wanted: &mpsc::Receiver<Flushed>) {
    while let Ok(first) = wanted.recv() {
        let all: Vec<Flushed> = std::iter::once(first).chain(wanted.try_iter()).collect();
        let result = file.sync_data().map_err(DeviceError::from);
        for one in all {
            // A client that is gone does not miss the answer.
            let _ = one.send(result.clone());
        }
    }
}

impl Device for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, off: u64, len: u32) -> Answer<Bytes> {
        let (file, buffers) = (Arc::clone(&self.file), self.buffers.clone());
        let work = move || {
            let mut data = buffers.take(len as usize);
            file.read_exact_at(&mut data, off)?;
            Ok(data.freeze())
        };
        if len < ELSEWHERE_BYTES_MIN {
            return Answer::Now(work());
        }
        Answer::later(async {
            let read = tokio::task::spawn_blocking(work).await;
            read.unwrap_or(Err(DeviceError::ShuttingDown))
        })
    }

    fn write(&self, off: u64, data: Bytes, fua: bool) -> Answer<()> {
        match self.file.write_all_at(&data, off) {
            Ok(()) if fua => self.flush(),
            result => Answer::Now(result.map_err(DeviceError::from)),
        }
    }

    fn flush(&self) -> Answer<()> {
        let (done, flushed) = oneshot::channel();
        if self.flusher.send(done).is_err() {
            return Answer::Now(Err(DeviceError::ShuttingDown));
        }
        Answer::later(async { flushed.await.unwrap_or(Err(DeviceError::ShuttingDown)) })
    }

    fn zero(&self, off: u64, len: u64, fua: bool, _may_trim: bool) -> Answer<()> {
        self.write(off, vec![0; len as usize].into(), fua)
    }

    fn trim(&self, _off: u64, _len: u64, _fua: bool) -> Answer<()> {
        Answer::Now(Ok(()))
    }

    fn cache(&self, _off: u64, _len: u64) -> Answer<()> {
        Answer::Now(Ok(()))
    }

    fn map(&self, _off: u64, len: u64) -> Answer<Vec<Extent>> {
        Answer::Now(Ok(vec![Extent {
            len,
            hole: false,
            zero: false,
        }]))
    }
}

fn device(kind: &str, what: &str) -> anyhow::Result<Arc<dyn Device>> {
    if kind == "file" {
        return Ok(Arc::new(FileDevice::open(Path::new(what))?));
    }
    let mut memory = MemoryDevice::new(what.parse::<usize>()? << 20);
    memory.remembers = false;
    Ok(Arc::new(memory))
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, kind, what] = &arguments[..] else {
        anyhow::bail!("nbd_server SOCKET memory MEBIBYTES | nbd_server SOCKET file PATH");
    };
    let exports = Exports::new();
    exports.add("disk", device(kind, what)?)?;
    let server = NbdServer::new(exports, Arc::new(TokioClock));
    let listening = server.listen_unix(Path::new(socket)).await?;
    println!("ready nbd+unix:///disk?socket={}", listening.address());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
