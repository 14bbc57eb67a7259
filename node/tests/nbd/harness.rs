//! A server without sockets, a client made of bytes, and a clock that is moved by hand.

use node::watch;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use node::export::nbd_wire::{self as wire, Request, chunk, opt, rep};
use node::export::{Exports, NbdServer};
use node::ports::{BoxFuture, Clock};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use crate::memory_device::MemoryDevice;

/// No step of a test takes longer on a loaded machine; whatever does hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub const MIB: usize = 1 << 20;

/// Bounds a wait.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: did not happen within {PATIENCE:?}"),
    }
}

/// Time stands still until it is moved.
pub struct HandClock(watch::Sender<Duration>);

impl HandClock {
    pub fn new() -> Arc<Self> {
        Arc::new(HandClock(watch::Sender::new(Duration::ZERO)))
    }

    pub fn forward(&self, by: Duration) {
        self.0.send_modify(|now| *now += by);
    }
}

impl Clock for HandClock {
    fn wall_ns(&self) -> u64 {
        self.mono().as_nanos() as u64
    }

    fn mono(&self) -> Duration {
        *self.0.borrow()
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        let end = *now.borrow() + pause;
        Box::pin(async move {
            if now.wait_for(|now| *now >= end).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

/// A server with the export `data` of 16 MiB.
pub struct Bench {
    pub exports: Arc<Exports>,
    pub device: MemoryDevice,
    pub clock: Arc<HandClock>,
    pub server: NbdServer,
    stop: watch::Sender<bool>,
}

impl Bench {
    pub fn new() -> Self {
        Bench::with(MemoryDevice::new(16 * MIB))
    }

    pub fn with(device: MemoryDevice) -> Self {
        let exports = Exports::new();
        exports.add("data", Arc::new(device.clone())).unwrap();
        let clock = HandClock::new();
        let server = NbdServer::new(Arc::clone(&exports), Arc::clone(&clock) as Arc<dyn Clock>);
        Bench {
            exports,
            device,
            clock,
            server,
            stop: watch::Sender::new(false),
        }
    }

    /// A connection on which nothing was said yet.
    pub fn connect(&self) -> RawClient {
        let (here, there) = tokio::io::duplex(256 << 10);
        let (server, stop) = (self.server.clone(), self.stop.subscribe());
        let task = tokio::spawn(async move { server.serve(there, "test", stop).await });
        RawClient {
            stream: here,
            task,
            structured: false,
        }
    }

    /// A client that has opened `data`, with simple replies.
    pub async fn open(&self) -> RawClient {
        let mut client = self.connect();
        client.greet().await;
        client.go("data").await;
        client
    }

    /// A client that has opened `data`, with structured replies and `base:allocation`.
    pub async fn open_structured(&self) -> RawClient {
        let mut client = self.connect();
        client.greet().await;
        client.option(opt::STRUCTURED_REPLY, &[]).await;
        client
            .option(
                opt::SET_META_CONTEXT,
                &queries("data", &["base:allocation"]),
            )
            .await;
        client.go("data").await;
        client.structured = true;
        client
    }

    /// Waits until the open count of `data` is `want`.
    pub async fn until_opens(&self, want: u64) {
        let mut changes = self.exports.changes();
        soon("open count", async {
            while self.exports.opens("data") != want {
                changes.changed().await.unwrap();
            }
        })
        .await;
    }

    /// Lets other tasks run until the device has been asked for `count` things, all in all.
    pub async fn until_asked(&self, count: usize) -> Vec<String> {
        let mut calls = Vec::new();
        soon("requests reach the device", async {
            while calls.len() < count {
                tokio::task::yield_now().await;
                calls.extend(self.device.calls());
            }
        })
        .await;
        calls
    }
}

/// Lets every other task go as far as it gets; for tests that nothing more happens.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Data of INFO and GO.
pub fn wants(name: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(name.as_bytes());
    data.extend((infos.len() as u16).to_be_bytes());
    data.extend(infos.iter().flat_map(|info| info.to_be_bytes()));
    data
}

/// Data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub fn queries(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(name.as_bytes());
    data.extend((queries.len() as u32).to_be_bytes());
    for query in queries {
        data.extend((query.len() as u32).to_be_bytes());
        data.extend_from_slice(query.as_bytes());
    }
    data
}

/// An option as bytes.
pub fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = wire::OPTION_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A request as bytes.
pub fn request_bytes(command: u16, flags: u16, cookie: u64, offset: u64, len: u32) -> [u8; 28] {
    Request {
        flags,
        command,
        cookie,
        offset,
        len,
    }
    .encode()
}

/// A client that says exactly what it is told to say.
pub struct RawClient<S = DuplexStream> {
    pub stream: S,
    /// The server's side; ends when the server has let go of the connection.
    pub task: JoinHandle<()>,
    pub structured: bool,
}

/// A reply of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub cookie: u64,
    pub error: u32,
    /// Data of a read, descriptors of a block status, text of an error.
    pub data: Vec<u8>,
}

impl RawClient {
    /// The server is through with this connection, and did not panic.
    pub async fn gone(self) {
        drop(self.stream);
        soon("server lets go", self.task).await.expect("no panic");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    /// Over a connection to a server whose task is somewhere else.
    pub fn over(stream: S) -> Self {
        RawClient {
            stream,
            task: tokio::spawn(async {}),
            structured: false,
        }
    }

    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon("send", async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
    }

    pub async fn try_receive(&mut self, len: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        soon("receive", self.stream.read_exact(&mut bytes)).await?;
        Ok(bytes)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    pub async fn receive(&mut self, len: usize) -> Vec<u8> {
        self.try_receive(len).await.unwrap()
    }

    /// Everything until the server closes.
    pub async fn receive_rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        soon("end of stream", self.stream.read_to_end(&mut bytes))
            .await
            .unwrap();
        bytes
    }

    pub async fn greet(&mut self) {
        assert_eq!(self.receive(18).await, wire::greeting());
        self.send(&(wire::FIXED_NEWSTYLE | wire::NO_ZEROES).to_be_bytes())
            .await;
    }

    /// Sends an option, returns its replies up to and with the last one.
    pub async fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send(&option_bytes(option, data)).await;
        self.option_replies(option).await
    }

    pub async fn option_replies(&mut self, option: u32) -> Vec<(u32, Vec<u8>)> {
        let mut replies = Vec::new();
        loop {
            let header = self.receive(20).await;
            assert_eq!(header[..8], wire::OPTION_REPLY_MAGIC.to_be_bytes());
            assert_eq!(header[8..12], option.to_be_bytes());
            let [kind, len] = [12, 16].map(|at| number(&header[at..at + 4]) as u32);
            let data = self.receive(len as usize).await;
            replies.push((kind, data));
            if kind == rep::ACK || kind >= rep::ERR_UNSUP {
                return replies;
            }
        }
    }

    /// Opens an export; returns size and transmission flags.
    pub async fn go(&mut self, name: &str) -> (u64, u16) {
        let replies = self.option(opt::GO, &wants(name, &[])).await;
        let [(rep::INFO, about), (rep::ACK, _)] = &replies[..] else {
            panic!("GO refused: {replies:?}");
        };
        (number(&about[2..10]), number(&about[10..12]) as u16)
    }

    /// Sends a request with the offset as cookie.
    pub async fn ask(&mut self, command: u16, flags: u16, offset: u64, len: u32, data: &[u8]) {
        self.send(&request_bytes(command, flags, offset, offset, len))
            .await;
        self.send(data).await;
    }

    /// One reply; `data` is the length of the data expected from a simple reply without error.
    pub async fn reply(&mut self, data: usize) -> Reply {
        let magic = number(&self.receive(4).await) as u32;
        if magic == wire::SIMPLE_REPLY_MAGIC {
            let rest = self.receive(12).await;
            let error = number(&rest[..4]) as u32;
            let len = if error == 0 { data } else { 0 };
            return Reply {
                cookie: number(&rest[4..]),
                error,
                data: self.receive(len).await,
            };
        }
        assert_eq!(magic, wire::STRUCTURED_REPLY_MAGIC);
        assert!(
            self.structured,
            "a structured reply that was not negotiated"
        );
        let rest = self.receive(16).await;
        assert_eq!(
            number(&rest[..2]) as u16,
            chunk::DONE,
            "one chunk for each reply"
        );
        let body = self.receive(number(&rest[12..]) as usize).await;
        let cookie = number(&rest[4..12]);
        let (error, data) = match number(&rest[2..4]) as u16 {
            chunk::NONE => (0, &[][..]),
            chunk::OFFSET_DATA => (0, &body[8..]),
            chunk::BLOCK_STATUS => (0, &body[4..]),
            chunk::ERROR => (number(&body[..4]) as u32, &body[6..]),
            other => panic!("chunk of unknown type {other}"),
        };
        Reply {
            cookie,
            error,
            data: data.to_vec(),
        }
    }

    /// Asks and waits for the answer: error number and data.
    pub async fn call(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        len: u32,
        data: &[u8],
    ) -> (u32, Vec<u8>) {
        self.ask(command, flags, offset, len, data).await;
        let expected = if command == wire::cmd::READ {
            len as usize
        } else {
            0
        };
        let reply = self.reply(expected).await;
        assert_eq!(reply.cookie, offset);
        (reply.error, reply.data)
    }
}

/// A big-endian number of up to eight bytes.
pub fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
