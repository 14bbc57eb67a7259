//! A small NBD client: what the demo, the benchmarks and the tests write and read through.
//!
//! Fixed newstyle over a unix socket, simple replies, many requests in flight. It shares no code
//! with the server, so that a misreading of the protocol shows up as a disagreement.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, oneshot};

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const INFO_EXPORT: u16 = 0;
const FLAG_FUA: u16 = 1;
const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;
const CMD_TRIM: u16 = 4;
const CMD_WRITE_ZEROES: u16 = 6;
/// Longest option reply accepted; the server's texts are far shorter.
const OPTION_REPLY_BYTES_MAX: u32 = 64 << 10;

/// Why a request over NBD failed.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    /// The socket failed or was closed.
    #[error("connection to the device is gone: {0}")]
    Gone(String),
    /// The server does not offer this device (now).
    #[error("device {name} is not offered here (NBD answer {code:#x}): {text}")]
    NoExport {
        /// Export name asked for.
        name: String,
        /// Answer code of the server.
        code: u32,
        /// Its own words, if any.
        text: String,
    },
    /// The server answered something that is not NBD.
    #[error("unexpected NBD answer: {0}")]
    Protocol(String),
    /// The request itself was refused, with the error number of the NBD protocol.
    #[error("request failed with NBD error {0}")]
    Refused(u32),
}

impl From<std::io::Error> for NbdError {
    fn from(e: std::io::Error) -> Self {
        NbdError::Gone(e.to_string())
    }
}

struct Waiting {
    bytes: usize,
    answer: oneshot::Sender<Result<Bytes, NbdError>>,
}

type Pending = Arc<slots::Slots>;

/// One connection to one device. Clones share it; requests may be made from many tasks at once.
#[derive(Clone)]
pub struct NbdClient {
    shared: Arc<Shared>,
}

struct Shared {
    size: u64,
    cookies: AtomicU64,
    writer: Mutex<OwnedWriteHalf>,
    pending: Pending,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl NbdClient {
    /// Connects to export `name` on the unix socket `socket`.
    pub async fn connect(socket: &Path, name: &str) -> Result<Self, NbdError> {
        let mut stream = UnixStream::connect(socket).await?;
        let size = handshake(&mut stream, name).await?;
        let (reader, writer) = stream.into_split();
        let pending = Pending::default();
        let reader = tokio::spawn(read_replies(reader, pending.clone()));
        let (cookies, writer) = (AtomicU64::new(1), Mutex::new(writer));
        let shared = Arc::new(Shared {
            size,
            cookies,
            writer,
            pending,
            reader,
        });
        Ok(NbdClient { shared })
    }

    /// Size of the device in bytes.
    pub fn size(&self) -> u64 {
        self.shared.size
    }

    /// Reads `len` bytes at `offset`.
    pub async fn read(&self, offset: u64, len: u32) -> Result<Bytes, NbdError> {
        self.request(CMD_READ, 0, offset, len, &[]).await
    }

    /// Writes `data` at `offset`; with `fua` the answer means it is durable.
    pub async fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), NbdError> {
        let len = u32::try_from(data.len())
            .map_err(|_| NbdError::Protocol("write longer than 4 GiB".into()))?;
        let flags = if fua { FLAG_FUA } else { 0 };
        self.request(CMD_WRITE, flags, offset, len, data)
            .await
            .map(drop)
    }

    /// Makes every write answered before durable.
    pub async fn flush(&self) -> Result<(), NbdError> {
        self.request(CMD_FLUSH, 0, 0, 0, &[]).await.map(drop)
    }

    /// Sets `len` bytes at `offset` to zero.
    pub async fn zero(&self, offset: u64, len: u32) -> Result<(), NbdError> {
        self.request(CMD_WRITE_ZEROES, 0, offset, len, &[])
            .await
            .map(drop)
    }

    /// Declares `len` bytes at `offset` unused.
    pub async fn trim(&self, offset: u64, len: u32) -> Result<(), NbdError> {
        self.request(CMD_TRIM, 0, offset, len, &[]).await.map(drop)
    }

    /// Says good-bye and closes.
    pub async fn close(self) -> Result<(), NbdError> {
        let mut writer = self.shared.writer.lock().await;
        writer.write_all(&header(CMD_DISC, 0, 0, 0, 0)).await?;
        writer.shutdown().await?;
        Ok(())
    }

    async fn request(
        &self,
        command: u16,
        flags: u16,
        offset: u64,
        len: u32,
        data: &[u8],
    ) -> Result<Bytes, NbdError> {
        let cookie = self.shared.cookies.fetch_add(1, Ordering::Relaxed);
        let bytes = if command == CMD_READ { len as usize } else { 0 };
        let (answer, result) = oneshot::channel();
        self.shared
            .pending
            .insert(cookie, Waiting { bytes, answer })?;
        {
            let mut writer = self.shared.writer.lock().await;
            writer
                .write_all(&header(command, flags, cookie, offset, len))
                .await?;
            writer.write_all(data).await?;
        }
        result
            .await
            .map_err(|_| NbdError::Gone("closed while waiting for an answer".into()))?
    }
}

fn header(command: u16, flags: u16, cookie: u64, offset: u64, len: u32) -> BytesMut {
    let mut h = BytesMut::with_capacity(28);
    h.put_u32(REQUEST_MAGIC);
    h.put_u16(flags);
    h.put_u16(command);
    h.put_u64(cookie);
    h.put_u64(offset);
    h.put_u32(len);
    h
}

async fn handshake(stream: &mut UnixStream, name: &str) -> Result<u64, NbdError> {
    let (first, second) = (stream.read_u64().await?, stream.read_u64().await?);
    if (first, second) != (NBD_MAGIC, OPTION_MAGIC) {
        return Err(NbdError::Protocol(format!(
            "greeting {first:#x} {second:#x}"
        )));
    }
    let _server_flags = stream.read_u16().await?;
    let mut ask = BytesMut::new();
    ask.put_u32(3); // fixed newstyle, no zeroes
    ask.put_u64(OPTION_MAGIC);
    ask.put_u32(OPT_GO);
    ask.put_u32(name.len() as u32 + 6);
    ask.put_u32(name.len() as u32);
    ask.put_slice(name.as_bytes());
    ask.put_u16(0);
    stream.write_all(&ask).await?;
    let mut size = None;
    loop {
        let (kind, body) = option_reply(stream).await?;
        match kind {
            REP_ACK => return size.ok_or_else(|| NbdError::Protocol("no size told".into())),
            REP_INFO if body.len() >= 12 && body[..2] == INFO_EXPORT.to_be_bytes() => {
                let mut eight = [0; 8];
                eight.copy_from_slice(&body[2..10]);
                size = Some(u64::from_be_bytes(eight));
            }
            REP_INFO => {}
            code => {
                let text = String::from_utf8_lossy(&body).into_owned();
                return Err(NbdError::NoExport {
                    name: name.into(),
                    code,
                    text,
                });
            }
        }
    }
}

async fn option_reply(stream: &mut UnixStream) -> Result<(u32, Vec<u8>), NbdError> {
    let magic = stream.read_u64().await?;
    let _option = stream.read_u32().await?;
    let kind = stream.read_u32().await?;
    let len = stream.read_u32().await?;
    if magic != OPTION_REPLY_MAGIC || len > OPTION_REPLY_BYTES_MAX {
        return Err(NbdError::Protocol(format!(
            "option reply {magic:#x}, {len} bytes"
        )));
    }
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

async fn read_replies(mut reader: OwnedReadHalf, pending: Pending) {
    let why = loop {
        if let Err(e) = read_reply(&mut reader, &pending).await {
            break e;
        }
    };
    pending.close(&why.to_string());
}

async fn read_reply(reader: &mut OwnedReadHalf, pending: &Pending) -> Result<(), NbdError> {
    let magic = reader.read_u32().await?;
    let error = reader.read_u32().await?;
    let cookie = reader.read_u64().await?;
    if magic != REPLY_MAGIC {
        return Err(NbdError::Protocol(format!("reply {magic:#x}")));
    }
    let Some(waiting) = pending.take(cookie) else {
        return Err(NbdError::Protocol(format!(
            "answer to unknown request {cookie}"
        )));
    };
    let result = if error != 0 {
        Err(NbdError::Refused(error))
    } else {
        let mut body = vec![0; waiting.bytes];
        reader.read_exact(&mut body).await?;
        Ok(Bytes::from(body))
    };
    // Whoever asked may have given up waiting; the answer is of no use then.
    let _ = waiting.answer.send(result);
    Ok(())
}

/// Requests waiting for their answer, closed for good when the connection is gone.
mod slots {
    use super::{BTreeMap, NbdError, Waiting};
    use std::sync::{Mutex, PoisonError};

    #[derive(Default)]
    pub struct Slots(Mutex<State>);

    #[derive(Default)]
    struct State {
        waiting: BTreeMap<u64, Waiting>,
        gone: Option<String>,
    }

    impl Slots {
        fn state(&self) -> std::sync::MutexGuard<'_, State> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub fn insert(&self, cookie: u64, waiting: Waiting) -> Result<(), NbdError> {
            let mut state = self.state();
            match &state.gone {
                Some(why) => Err(NbdError::Gone(why.clone())),
                None => {
                    state.waiting.insert(cookie, waiting);
                    Ok(())
                }
            }
        }

        pub fn take(&self, cookie: u64) -> Option<Waiting> {
            self.state().waiting.remove(&cookie)
        }

        pub fn close(&self, why: &str) {
            let mut state = self.state();
            state.gone = Some(why.to_owned());
            state.waiting.clear();
        }
    }
}
