//! What a peer may have from this host: bytes of logs, and contents of the disk while this host is primary.
//!
//! One [`serve`] per channel a peer has opened. Logs go out as they become durable here, whoever wrote them, so a secondary
//! may feed another one; nothing that is not durable ever leaves (invariant 17, L-C6). Contents of the disk are read
//! through the logger's write buffer and come with the two log positions they lie between. This side keeps nothing per
//! peer but the open channel (L-C1).

mod blocks;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use storage::LogError;
use transport::wire::BODY_BYTES_MAX;
use transport::{Channel, Class, Incoming, Message, NetError};
use tree::{LogName, LogPos, Resource};

use crate::export::Buffers;
use crate::ports::{BoxFuture, Lane, Ports, blocking};
use crate::watch;
use crate::worker::shelf::{LogState, Shelf};

/// Where the contents of a disk are read for a syncer: the logger of the acting primary.
pub trait SyncSource: Send + Sync {
    /// Size of the device in bytes.
    fn size(&self) -> u64;

    /// Place behind the newest write a reader would see now.
    fn newest(&self) -> LogPos;

    /// Contents of the device, as an application would read them.
    fn read(&self, at: u64, len: u32) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Digests of the blocks of a range of the device, of `block` bytes each but the last, as if they were read.
    fn digests(
        &self,
        at: u64,
        len: u64,
        block: u32,
    ) -> BoxFuture<'static, Result<Vec<BlockDigest>, String>>;

    /// Makes everything durable that a reader could have seen until now, and says where that ends.
    fn settle(&self) -> BoxFuture<'static, Result<LogPos, String>>;
}

pub use crate::worker::digests::BlockDigest;
pub(super) use blocks::{DIGEST_BYTES_MAX, parts};

/// What this host has to offer.
pub trait Stock: Send + Sync {
    /// The logs of a resource.
    fn shelf(&self, res: &Resource) -> Option<Arc<Shelf>>;
    /// The device of a resource, while this host is its acting primary.
    fn sync_source(&self, res: &Resource) -> Option<Arc<dyn SyncSource>>;
    /// Where it is counted what syncers of other hosts make this host read, if anybody wants to know.
    fn served(&self) -> Option<Arc<Served>> {
        None
    }
}

/// What the syncers of other hosts make this host read.
#[derive(Debug, Default)]
pub struct Served {
    /// Questions which are being answered.
    pub flying: AtomicU64,
    /// Bytes of devices covered by the answers since the start.
    pub bytes: AtomicU64,
}

/// Serves one channel until the peer goes away. To be spawned for every accepted channel of class log or sync.
pub async fn serve(incoming: Incoming, stock: Arc<dyn Stock>, ports: Ports) {
    let (peer, class) = (incoming.from, incoming.class);
    let ended = match class {
        Class::Log => serve_log(incoming.channel, &*stock, &ports).await,
        Class::Sync => blocks::serve_sync(incoming.channel, stock).await,
        Class::State => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %class, %error, "stopped serving");
    }
}

/// Sends the log that is asked for first.
async fn serve_log(mut channel: Channel, stock: &dyn Stock, ports: &Ports) -> Result<(), NetError> {
    let Message::Subscribe {
        resource,
        log,
        from,
    } = channel.recv().await?
    else {
        return refuse_log(&mut channel, "a log channel begins with a subscription").await;
    };
    let Some(shelf) = stock.shelf(&resource) else {
        return refuse_log(&mut channel, "this host is no member of the resource").await;
    };
    let Some(state) = shelf.watch(&log) else {
        return refuse_log(&mut channel, "this host does not hold that log").await;
    };
    let stream = LogStream {
        resource,
        log,
        shelf,
        state,
        ports: ports.clone(),
        buffers: Buffers::default(),
        at: from,
    };
    match stream.run(&mut channel).await {
        Ok(()) => Ok(()),
        Err(Broken::Net(error)) => Err(error),
        Err(Broken::Here(reason)) => refuse_log(&mut channel, &reason).await,
    }
}

async fn refuse_log(channel: &mut Channel, reason: &str) -> Result<(), NetError> {
    let reason = reason.to_owned();
    channel.send(Message::LogRefused { reason }).await
}

/// One subscription being served.
struct LogStream {
    resource: Resource,
    log: LogName,
    shelf: Arc<Shelf>,
    state: watch::Receiver<LogState>,
    ports: Ports,
    buffers: Buffers,
    /// What was sent up to now.
    at: u64,
}

/// Why a stream ended early.
enum Broken {
    Net(NetError),
    Here(String),
}

impl From<NetError> for Broken {
    fn from(error: NetError) -> Broken {
        Broken::Net(error)
    }
}

impl LogStream {
    async fn run(mut self, channel: &mut Channel) -> Result<(), Broken> {
        let mut state = self.state.borrow_and_update().clone();
        let mut file = self.open().await?;
        self.start(&state, file.header_bytes().clone(), channel)
            .await?;
        loop {
            while self.at < state.usable() {
                let bytes = self.read(&file, state.usable()).await?;
                let offset = self.at;
                self.at += bytes.len() as u64;
                send(channel, Message::LogBytes { offset, bytes }).await?;
            }
            if state.complete() && self.at == state.durable {
                let (len, digest) = (state.durable, state.digest);
                send(channel, Message::LogSealed { len, digest }).await?;
                return listen_only(channel).await;
            }
            self.wait(channel).await?;
            let now = self.state.borrow_and_update().clone();
            if now.incarnation != state.incarnation {
                file = self.open().await?;
            }
            state = now;
        }
    }

    async fn start(
        &mut self,
        state: &LogState,
        header: Bytes,
        channel: &mut Channel,
    ) -> Result<(), Broken> {
        if self.at > state.usable() {
            return Err(Broken::Here(format!(
                "{} ends at {} here, nothing can be sent from {} on",
                self.log,
                state.usable(),
                self.at
            )));
        }
        let start = Message::LogStart {
            header,
            durable: state.usable(),
            sealed: state.complete(),
        };
        send(channel, start).await
    }

    async fn open(&self) -> Result<Arc<storage::LogFile>, Broken> {
        let opened = self.shelf.open_log(&self.log).await;
        opened.map_err(|error| Broken::Here(error.to_string()))
    }

    async fn read(&self, file: &Arc<storage::LogFile>, usable: u64) -> Result<Bytes, Broken> {
        let (file, at) = (file.clone(), self.at);
        let len = (usable - at).min(BODY_BYTES_MAX as u64) as usize;
        let mut bytes = self.buffers.take(len);
        let lane = Lane::Read(self.resource.clone());
        let read = move || {
            file.read_raw(&mut bytes, at)?;
            Ok::<_, LogError>(bytes.freeze())
        };
        match blocking(&*self.ports.exec, &lane, read).await {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(error)) => Err(Broken::Here(error.to_string())),
            None => Err(Broken::Here("the daemon is stopping".to_owned())),
        }
    }

    /// Until there is more to send. Meanwhile no memory is kept.
    async fn wait(&mut self, channel: &mut Channel) -> Result<(), Broken> {
        self.buffers = Buffers::default();
        loop {
            tokio::select! {
                biased;
                changed = self.state.changed() => {
                    return changed.map_err(|_| Broken::Here(format!("{} was deleted", self.log)));
                }
                heard = channel.rx.recv() => note(&heard?),
            }
        }
    }
}

/// Sends, and meanwhile listens, so that two hosts never wait for each other with full queues.
async fn send(channel: &mut Channel, message: Message) -> Result<(), Broken> {
    let mut sending = channel.tx.send(message);
    loop {
        tokio::select! {
            biased;
            sent = &mut sending => return Ok(sent?),
            heard = channel.rx.recv() => note(&heard?),
        }
    }
}

/// All is sent; the channel stays until the peer has made it durable and goes.
async fn listen_only(channel: &mut Channel) -> Result<(), Broken> {
    loop {
        match channel.recv().await {
            Ok(heard) => note(&heard),
            Err(NetError::Closed { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Acknowledgements are for people who look; the peer publishes what counts in the key tree.
fn note(heard: &Message) {
    if let Message::Acked { durable } = heard {
        tracing::trace!(durable, "acknowledged");
    }
}
