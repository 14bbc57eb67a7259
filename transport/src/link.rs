//! One QUIC connection with a peer whose name is proven: opens, accepts and ends channels on it.
//!
//! A connection is either for state or for bulk (log and sync); the first channel decides. Both sides may open
//! channels on it. Whatever the peer does wrong ends this connection and nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tree::Host;

use crate::channel::{self, Order, ReadEnd, Sender, Shared, Violation, Way};
use crate::counters::{PeerCounters, add};
use crate::frame::{self, Frame, FrameError, Limits};
use crate::line::{CHANNEL_WINDOW_MIN, CHANNELS_MAX, CHUNK_STREAMS_MAX, CONNECTION_BUFFER_BYTES};
use crate::net::{Channel, Class, Incoming, NetError};
use crate::quic::Inner;
use crate::wire;

/// A channel is open after this time, or will not be.
const OPEN_MAX: Duration = Duration::from_secs(5);

/// The first frame of a spine is a few words.
const OPEN: Limits = Limits {
    head_max: 1024,
    body_max: 0,
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The key tree: must not wait for data, whatever happens to it.
    State,
    /// Logs and disks.
    Bulk,
}

impl Kind {
    pub fn of(class: Class) -> Kind {
        match class {
            Class::State => Kind::State,
            Class::Log | Class::Sync => Kind::Bulk,
        }
    }
}

/// Why a connection is ended, as the other side sees it.
pub(crate) mod code {
    use quinn::VarInt;
    pub const SHUTDOWN: VarInt = VarInt::from_u32(0);
    pub const SPARE: VarInt = VarInt::from_u32(1);
    pub const REPLACED: VarInt = VarInt::from_u32(2);
    pub const NOT_A_PEER: VarInt = VarInt::from_u32(3);
    pub const VIOLATION: VarInt = VarInt::from_u32(4);
}

#[derive(Serialize, Deserialize)]
struct Open {
    version: u32,
    class: Class,
    instance: u64,
}

#[derive(Serialize, Deserialize)]
struct Opened {
    version: u32,
    instance: u64,
    #[serde(default)]
    refused: Option<String>,
}

/// One connection.
pub(crate) struct Link {
    pub peer: Host,
    pub is_ours: bool,
    pub born: Instant,
    connection: Connection,
    order: Arc<Order>,
    kind: OnceLock<Kind>,
    /// The running daemon at the other end; 0 until it has said so.
    instance: AtomicU64,
    /// The peer has broken the protocol.
    is_hung_up: AtomicBool,
    channels: Mutex<BTreeMap<u64, Arc<Shared>>>,
    counters: Arc<PeerCounters>,
    net: Arc<Inner>,
}

impl Link {
    pub fn new(
        net: Arc<Inner>,
        peer: Host,
        connection: Connection,
        kind: Option<Kind>,
    ) -> Arc<Link> {
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(CHANNELS_MAX));
        connection.set_max_concurrent_uni_streams(VarInt::from_u32(CHUNK_STREAMS_MAX));
        let link = Link {
            counters: net.counters.of(&peer),
            peer,
            is_ours: kind.is_some(),
            born: Instant::now(),
            connection,
            order: Arc::default(),
            kind: OnceLock::new(),
            instance: AtomicU64::new(0),
            is_hung_up: AtomicBool::new(false),
            channels: Mutex::default(),
            net,
        };
        if let Some(kind) = kind {
            let _ = link.kind.set(kind);
        }
        Arc::new(link)
    }

    pub fn kind(&self) -> Option<Kind> {
        self.kind.get().copied()
    }

    pub fn instance(&self) -> u64 {
        self.instance.load(Ordering::Relaxed)
    }

    pub fn is_alive(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    pub fn is_unused(&self) -> bool {
        self.channels.lock().is_empty()
    }

    pub fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    pub fn close(&self, code: VarInt, why: &str) {
        self.connection.close(code, why.as_bytes());
    }

    /// Serves the connection until it ends.
    pub async fn run(self: Arc<Link>) {
        let channels = async {
            while let Ok((tx, rx)) = self.connection.accept_bi().await {
                tokio::spawn(self.clone().accept_channel(tx, rx));
            }
        };
        let chunks = async {
            while let Ok(chunk) = self.connection.accept_uni().await {
                tokio::spawn(self.clone().take_chunk(chunk));
            }
        };
        tokio::join!(channels, chunks);
        let why = self.lost();
        for channel in self.channels.lock().values() {
            channel.fail(why.clone());
        }
        self.net.forget(&self);
        tracing::info!(peer = %self.peer, %why, "connection ended");
    }

    /// Opens a channel, and waits until the peer has agreed.
    pub async fn open(self: &Arc<Link>, class: Class) -> Result<Channel, NetError> {
        let opening = timeout(OPEN_MAX, self.try_open(class)).await;
        opening.unwrap_or_else(|_| {
            let why = "it does not answer to the opening of a channel";
            self.close(code::REPLACED, why);
            Err(NetError::Lost {
                peer: self.peer.clone(),
                why: why.to_owned(),
            })
        })
    }

    async fn try_open(self: &Arc<Link>, class: Class) -> Result<Channel, NetError> {
        let opened = self.connection.open_bi().await;
        let (mut tx, mut rx) = opened.map_err(|_| self.lost())?;
        let entry = self.enter(&tx, class);
        let open = Open {
            version: wire::VERSION,
            class,
            instance: self.net.instance,
        };
        let frame = Frame::of(&open).map_err(|e| self.broken(e))?;
        let written = frame::write_frame(&mut tx, &frame).await;
        written.map_err(|e| self.broken(e))?;
        let answer = frame::read_frame(&mut rx, OPEN).await;
        let answer = answer.map_err(|e| self.broken(e))?;
        let opened: Opened = frame::from_head(&answer.head).map_err(|e| self.broken(e))?;
        self.meet(opened.instance);
        if let Some(why) = opened.refused {
            add(&self.counters.refused, 1);
            let peer = self.peer.clone();
            return Err(NetError::Lost { peer, why });
        }
        Ok(self.start(entry, tx, rx))
    }

    /// The peer opens a channel.
    async fn accept_channel(self: Arc<Link>, mut tx: SendStream, mut rx: RecvStream) {
        let Ok(open) = timeout(OPEN_MAX, self.read_open(&mut rx)).await else {
            return;
        };
        let open = match open {
            Ok(open) => open,
            Err(end) => return self.end(end),
        };
        self.meet(open.instance);
        // Entered before the answer: chunks may overtake it.
        let entry = self.enter(&tx, open.class);
        let place = self.net.accepted.clone().try_reserve_owned();
        let refused = match (wire::common_version(open.version), &place) {
            (Err(why), _) => Some(why),
            (_, Err(_)) => Some("it is busy".to_owned()),
            (Ok(_), Ok(_)) => None,
        };
        let is_refused = refused.is_some();
        let is_answered = self.write_opened(&mut tx, refused).await.is_ok();
        match place {
            Ok(place) if is_answered && !is_refused => {
                place.send(Incoming {
                    from: self.peer.clone(),
                    class: open.class,
                    channel: self.start(entry, tx, rx),
                });
            }
            _ => {
                add(&self.counters.refused, 1);
                let _ = tx.finish();
            }
        }
    }

    async fn read_open(&self, rx: &mut RecvStream) -> Result<Open, ReadEnd> {
        let first = frame::read_frame(rx, OPEN).await?;
        let open: Open = frame::from_head(&first.head)?;
        if *self.kind.get_or_init(|| Kind::of(open.class)) != Kind::of(open.class) {
            let why = format!("a {} channel on a connection for others", open.class);
            return Err(Violation(why).into());
        }
        Ok(open)
    }

    async fn write_opened(
        &self,
        tx: &mut SendStream,
        refused: Option<String>,
    ) -> Result<(), FrameError> {
        let opened = Opened {
            version: wire::VERSION,
            instance: self.net.instance,
            refused,
        };
        frame::write_frame(tx, &Frame::of(&opened)?).await
    }

    /// A channel in the table, until it ends.
    fn enter(self: &Arc<Link>, spine: &SendStream, class: Class) -> Entry {
        let _ = spine.set_priority(channel::SPINE_PRIORITY);
        let id = VarInt::from(spine.id()).into_inner();
        let mut channels = self.channels.lock();
        let share = CONNECTION_BUFFER_BYTES / (channels.len() as u64 + 1);
        let window = self.net.line().channel_window();
        let shared = Shared::new(
            id,
            self.peer.clone(),
            class,
            window.min(share).max(CHANNEL_WINDOW_MIN),
            self.counters.classes[class as usize].clone(),
        );
        channels.insert(id, shared.clone());
        Entry {
            link: self.clone(),
            shared,
        }
    }

    fn start(self: &Arc<Link>, entry: Entry, tx: SendStream, rx: RecvStream) -> Channel {
        let way = Way {
            connection: self.connection.clone(),
            order: self.order.clone(),
            line: self.net.line(),
            buckets: self.net.buckets.clone(),
        };
        let (channel, sender) = channel::halves(&entry.shared, tx, way);
        tokio::spawn(entry.serve(sender, rx));
        channel
    }

    async fn take_chunk(self: Arc<Link>, mut chunk: RecvStream) {
        let (id, number) = match channel::read_chunk_head(&mut chunk).await {
            Ok(head) => head,
            Err(end) => return self.end(end),
        };
        let found = self.channels.lock().get(&id).cloned();
        let Some(shared) = found else {
            // The channel has ended here while the chunk was under way.
            let _ = chunk.stop(VarInt::from_u32(0));
            return;
        };
        if let Err(end) = channel::read_message(&shared, &mut chunk, number).await {
            self.end(end);
        }
    }

    /// Something could not be read: the peer's fault ends the connection.
    fn end(&self, end: ReadEnd) {
        let ReadEnd::Violation(Violation(why)) = end else {
            return;
        };
        if self.is_hung_up.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(peer = %self.peer, why, "protocol broken");
        add(&self.counters.violations, 1);
        for channel in self.channels.lock().values() {
            channel.fail(NetError::Protocol {
                peer: self.peer.clone(),
                why: why.clone(),
            });
        }
        self.close(code::VIOLATION, &why);
    }

    /// Notes which daemon is at the other end: connections of an earlier one are dead, whatever they look like.
    fn meet(self: &Arc<Link>, instance: u64) {
        if self.instance.swap(instance, Ordering::Relaxed) != instance {
            self.net.met(self);
        }
    }

    fn lost(&self) -> NetError {
        NetError::Lost {
            peer: self.peer.clone(),
            why: match self.connection.close_reason() {
                Some(reason) => reason.to_string(),
                None => "stream ended".to_owned(),
            },
        }
    }

    fn broken(&self, why: impl ToString) -> NetError {
        match self.connection.close_reason() {
            Some(_) => self.lost(),
            None => NetError::Lost {
                peer: self.peer.clone(),
                why: why.to_string(),
            },
        }
    }
}

/// A channel's place in the table of its connection; leaves it when dropped.
struct Entry {
    link: Arc<Link>,
    shared: Arc<Shared>,
}

impl Entry {
    /// Runs a channel until both halves are dropped here, or it breaks.
    async fn serve(self, sender: Sender, mut spine: RecvStream) {
        let reading = async {
            match channel::read_spine(&self.shared, &mut spine).await {
                Ok(()) => self.shared.spine_ended(),
                Err(ReadEnd::Broken) => self.shared.fail(self.link.lost()),
                Err(violation) => self.link.end(violation),
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = sender.run() => {}
            () = reading => {}
        }
        let _ = spine.stop(VarInt::from_u32(0));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.link.channels.lock().remove(&self.shared.id);
        self.link.net.tidy(&self.link.peer);
    }
}
