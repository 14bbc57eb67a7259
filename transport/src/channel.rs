//! One channel on a QUIC connection: order, credit, and the two halves its users hold.
//!
//! Both directions share one bidirectional stream, the *spine*. Small messages travel on it; a large one gets
//! a stream of its own, a *chunk*, so that a burst of loss never holds up more than it hit and never makes too many gaps
//! in one stream (`line.rs`). Every message has a number, and the receiver delivers in their order.
//!
//! ```text
//! spine, first frame:   Open →      ← Opened
//! spine afterwards:     kind u8 | number u64 | frame if kind is Message
//!                       Message: number of this message     End:  messages sent in all
//!                       Credit:  bytes allowed in all       Gone: nobody receives any more
//! chunk:                channel u64 | number u64 | frame
//! ```
//!
//! **Credit.** A sender never has more bytes under way than the receiver has allowed, and the receiver allows as much
//! as it is ready to keep. So whatever arrives is read at once, a consumer that stands still stops only its own channel,
//! and whoever sends without credit breaks the protocol and is hung up on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, RecvStream, SendStream};
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc};
use tree::Host;

use crate::bucket::Buckets;
use crate::buffers::Buffers;
use crate::counters::ClassCounters;
use crate::frame::{self, FrameError};
use crate::line::Line;
use crate::net::{BoxFuture, Channel, ChannelRx, ChannelTx, Class, NetError};
use crate::wire::{self, Message};

/// Messages from here on get a stream of their own. Below, opening one costs more than it gains.
const CHUNK_BYTES_MIN: usize = 32 << 10;

/// What a message costs besides its bytes, so that credit also bounds their number.
const MESSAGE_COST: u64 = 256;

/// Messages that wait between a user and the sender's task; the credit does the rest.
const QUEUE_MESSAGES: usize = 4;

const KIND_MESSAGE: u8 = 0;
const KIND_CREDIT: u8 = 1;
const KIND_END: u8 = 2;
const KIND_GONE: u8 = 3;

/// What both halves, the sender's task and the readers share.
pub(crate) struct Shared {
    pub id: u64,
    pub peer: Host,
    pub class: Class,
    window: u64,
    counters: Arc<ClassCounters>,
    /// For what is received.
    buffers: Buffers,
    state: Mutex<State>,
    /// A message can be delivered, or never will be.
    arrived: Notify,
    /// The sender's task has something to do.
    work: Notify,
}

#[derive(Default)]
struct State {
    /// Receiving: messages that came before their turn.
    waiting: BTreeMap<u64, (Message, u64)>,
    next: u64,
    /// Bytes that arrived or are arriving, were delivered, and were allowed, since the beginning.
    arrived_cost: u64,
    delivered_cost: u64,
    granted: u64,
    /// How many messages the peer sends in all, once it has said so.
    end: Option<u64>,
    receiver_dropped: bool,

    /// Sending: bytes sent and allowed since the beginning.
    sent_cost: u64,
    allowed: u64,
    /// Bytes of chunks that are not acknowledged.
    held: u64,
    peer_gone: bool,
    grant_due: bool,

    failed: Option<NetError>,
}

/// A peer did what it must not; the connection has to end.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub String);

/// Why reading a spine or a chunk ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadEnd {
    /// The connection has to end.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The stream ended or broke; the connection says why.
    #[error("stream ended")]
    Broken,
}

impl From<FrameError> for ReadEnd {
    fn from(e: FrameError) -> ReadEnd {
        match e {
            FrameError::Closed | FrameError::Io(_) => ReadEnd::Broken,
            e @ (FrameError::TooLong { .. } | FrameError::Garbled(_)) => {
                ReadEnd::Violation(Violation(e.to_string()))
            }
        }
    }
}

impl From<std::io::Error> for ReadEnd {
    fn from(_: std::io::Error) -> ReadEnd {
        ReadEnd::Broken
    }
}

impl Shared {
    pub fn new(
        id: u64,
        peer: Host,
        class: Class,
        window: u64,
        counters: Arc<ClassCounters>,
    ) -> Arc<Shared> {
        let state = State {
            grant_due: true,
            ..State::default()
        };
        Arc::new(Shared {
            id,
            peer,
            class,
            window,
            counters,
            buffers: Buffers::default(),
            state: Mutex::new(state),
            arrived: Notify::new(),
            work: Notify::new(),
        })
    }

    /// Ends the channel; what has arrived in order is still delivered.
    pub fn fail(&self, why: NetError) {
        self.state.lock().failed.get_or_insert(why);
        self.wake();
    }

    fn wake(&self) {
        self.arrived.notify_one();
        self.work.notify_one();
    }

    /// Room for an arriving message, before its bytes are read.
    fn reserve(&self, cost: u64) -> Result<(), Violation> {
        let mut state = self.state.lock();
        if state.arrived_cost + cost > state.granted {
            return Err(Violation(format!(
                "{} bytes sent on a {} channel, but only {} were allowed",
                state.arrived_cost + cost,
                self.class,
                state.granted
            )));
        }
        state.arrived_cost += cost;
        Ok(())
    }

    /// Takes in an arrived message.
    fn put(&self, number: u64, message: Message, cost: u64) -> Result<(), Violation> {
        if message.class() != self.class {
            return Err(Violation(format!(
                "a {} message on a {} channel",
                message.class(),
                self.class
            )));
        }
        let mut state = self.state.lock();
        let past_end = state.end.is_some_and(|end| number >= end);
        if number < state.next || past_end || state.waiting.contains_key(&number) {
            return Err(Violation(format!("message {number} out of order")));
        }
        self.counters.received(cost - MESSAGE_COST);
        if !state.receiver_dropped {
            state.waiting.insert(number, (message, cost));
        }
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    fn set_end(&self, count: u64) -> Result<(), Violation> {
        let mut state = self.state.lock();
        let beyond = state
            .waiting
            .last_key_value()
            .is_some_and(|(n, _)| *n >= count);
        if state.end.is_some() || count < state.next || beyond {
            return Err(Violation(format!(
                "end after {count} messages, but more came"
            )));
        }
        state.end = Some(count);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next message in order, if it is there; what comes after the last one is an error.
    fn deliver(&self) -> Option<Result<Message, NetError>> {
        let mut state = self.state.lock();
        let next = state.next;
        if let Some((message, cost)) = state.waiting.remove(&next) {
            state.next += 1;
            state.delivered_cost += cost;
            let left = state.granted - state.delivered_cost;
            if left <= self.window - self.window / 4 && !state.grant_due {
                state.grant_due = true;
                self.work.notify_one();
            }
            return Some(Ok(message));
        }
        if state.end == Some(state.next) {
            let peer = self.peer.clone();
            return Some(Err(NetError::Closed { peer }));
        }
        state.failed.clone().map(Err)
    }

    /// What is allowed in all, when it is time to say so.
    fn due_grant(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if !std::mem::take(&mut state.grant_due) || state.receiver_dropped {
            return None;
        }
        state.granted = state.delivered_cost + self.window;
        Some(state.granted)
    }

    fn allow(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.allowed = state.allowed.max(bytes);
        drop(state);
        self.work.notify_one();
    }

    /// Nobody at the peer receives any more.
    fn peer_gone(&self) {
        let mut state = self.state.lock();
        state.peer_gone = true;
        drop(state);
        self.work.notify_one();
    }

    /// The connection has no more use for so many bytes.
    fn let_go(&self, bytes: u64) {
        self.state.lock().held -= bytes;
        self.work.notify_one();
    }

    /// Takes credit for a message if there is enough, and `room` in the connection.
    fn take_credit(&self, cost: u64, room: u64) -> Result<bool, NetError> {
        let mut state = self.state.lock();
        if let Some(why) = &state.failed {
            return Err(why.clone());
        }
        if state.peer_gone {
            let peer = self.peer.clone();
            return Err(NetError::Closed { peer });
        }
        let is_full = state.held > 0 && state.held + cost > room;
        if is_full || state.sent_cost + cost > state.allowed {
            return Ok(false);
        }
        state.sent_cost += cost;
        Ok(true)
    }

    fn error(&self) -> NetError {
        let state = self.state.lock();
        state.failed.clone().unwrap_or_else(|| NetError::Closed {
            peer: self.peer.clone(),
        })
    }

    fn takes_messages(&self) -> bool {
        let state = self.state.lock();
        state.failed.is_none() && !state.peer_gone
    }

    /// The peer has finished the spine: it sends and receives no more. Chunks may still be under way.
    pub fn spine_ended(&self) {
        let is_announced = self.state.lock().end.is_some();
        if !is_announced {
            let peer = self.peer.clone();
            self.fail(NetError::Closed { peer });
        }
        self.peer_gone();
    }

    fn is_failed(&self) -> bool {
        self.state.lock().failed.is_some()
    }
}

/// The halves for the user, and the sender's task to be spawned.
pub(crate) fn halves(shared: &Arc<Shared>, spine: SendStream, way: Way) -> (Channel, Sender) {
    let (queue, taken) = mpsc::channel(QUEUE_MESSAGES);
    let sender = Sender {
        shared: shared.clone(),
        spine,
        way,
        queue: taken,
        sent: 0,
    };
    let channel = Channel {
        tx: Box::new(Tx {
            shared: shared.clone(),
            queue,
        }),
        rx: Box::new(Rx {
            shared: shared.clone(),
        }),
    };
    (channel, sender)
}

struct Tx {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
}

impl ChannelTx for Tx {
    fn send(&mut self, message: Message) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(async move {
            match self.queue.reserve().await {
                Ok(place) if self.shared.takes_messages() => {
                    place.send(message);
                    Ok(())
                }
                _ => Err(self.shared.error()),
            }
        })
    }
}

struct Rx {
    shared: Arc<Shared>,
}

impl ChannelRx for Rx {
    fn recv(&mut self) -> BoxFuture<'_, Result<Message, NetError>> {
        Box::pin(async move {
            loop {
                if let Some(outcome) = self.shared.deliver() {
                    return outcome;
                }
                self.shared.arrived.notified().await;
            }
        })
    }
}

impl Drop for Rx {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.receiver_dropped = true;
        state.waiting.clear();
        drop(state);
        self.shared.work.notify_one();
    }
}

/// What a channel shares with others that send.
pub(crate) struct Way {
    pub connection: Connection,
    pub order: Arc<Order>,
    pub line: Line,
    pub buckets: Arc<Buckets>,
}

/// The task that writes: messages, credit, the end.
pub(crate) struct Sender {
    shared: Arc<Shared>,
    spine: SendStream,
    way: Way,
    queue: mpsc::Receiver<Message>,
    sent: u64,
}

/// How the sender's task ended.
type Sent = Result<(), NetError>;

impl Sender {
    /// Runs until both halves are dropped or the channel breaks.
    pub async fn run(mut self) {
        if let Err(why) = self.work().await {
            self.shared.fail(why);
        }
        let _ = self.spine.finish();
    }

    async fn work(&mut self) -> Sent {
        let (mut ended, mut gone) = (false, false);
        while !(ended && gone) {
            self.write_grant().await?;
            if !gone && self.shared.state.lock().receiver_dropped {
                gone = true;
                self.write_mark(KIND_GONE, 0).await?;
                continue;
            }
            if self.shared.is_failed() {
                return Err(self.shared.error());
            }
            tokio::select! {
                biased;
                () = self.shared.work.notified() => {}
                message = self.queue.recv(), if !ended => match message {
                    Some(message) => ended = !self.write_or_end(&message).await?,
                    None => {
                        ended = true;
                        self.write_mark(KIND_END, self.sent).await?;
                    }
                },
            }
        }
        Ok(())
    }

    /// False when the peer does not receive any more: its receiving half is gone, ours may go on.
    async fn write_or_end(&mut self, message: &Message) -> Result<bool, NetError> {
        match self.write_message(message).await {
            Ok(()) => Ok(true),
            Err(NetError::Closed { .. }) if !self.shared.is_failed() => {
                self.queue.close();
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    async fn write_message(&mut self, message: &Message) -> Sent {
        let refuse = |why: String| NetError::Protocol {
            peer: self.shared.peer.clone(),
            why,
        };
        if message.class() != self.shared.class {
            return Err(refuse(format!("a {} message here", message.class())));
        }
        let (head, body) = message.encode().map_err(|e| refuse(e.to_string()))?;
        let body_len: usize = body.iter().map(Bytes::len).sum();
        let bytes = (frame::PREFIX_BYTES + head.len() + body_len) as u64;
        self.wait_for_credit(cost(head.len(), body_len)).await?;
        self.wait_for_turn(bytes).await?;
        let number = self.sent;
        self.sent += 1;
        let mut parts = vec![
            Bytes::copy_from_slice(&frame::prefix(head.len(), body_len)),
            head,
        ];
        parts.extend(body);
        if bytes < CHUNK_BYTES_MIN as u64 {
            parts.insert(0, mark(KIND_MESSAGE, number));
            self.spine
                .write_all_chunks(&mut parts)
                .await
                .map_err(|e| self.lost(e))?;
        } else {
            self.write_chunk(number, parts).await?;
        }
        self.shared.counters.sent(bytes);
        Ok(())
    }

    async fn write_chunk(&mut self, number: u64, mut parts: Vec<Bytes>) -> Sent {
        let mut chunk = self
            .way
            .connection
            .open_uni()
            .await
            .map_err(|e| self.lost(e))?;
        let _ = chunk.set_priority(self.way.order.next(self.shared.class));
        let mut head = [0; 16];
        head[..8].copy_from_slice(&self.shared.id.to_le_bytes());
        head[8..].copy_from_slice(&number.to_le_bytes());
        parts.insert(0, Bytes::copy_from_slice(&head));
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.shared.state.lock().held += bytes;
        chunk
            .write_all_chunks(&mut parts)
            .await
            .map_err(|e| self.lost(e))?;
        chunk.finish().map_err(|e| self.lost(e))?;
        let (shared, acked) = (self.shared.clone(), chunk.stopped());
        tokio::spawn(async move {
            // However it ended: the connection has forgotten it.
            let _ = acked.await;
            shared.let_go(bytes);
        });
        Ok(())
    }

    /// What may be in the hands of the connection: enough to keep it busy. More would only wait there, and memory that
    /// goes round faster than the caches forget it costs less.
    fn room(&self) -> u64 {
        self.way.line.bytes_held(self.way.connection.rtt())
    }

    /// Waits until the peer allows so much more; goes on allowing it more meanwhile.
    async fn wait_for_credit(&mut self, cost: u64) -> Sent {
        while !self.shared.take_credit(cost, self.room())? {
            self.shared.work.notified().await;
            self.write_grant().await?;
        }
        Ok(())
    }

    /// Waits until this host's own limit lets the class send.
    async fn wait_for_turn(&mut self, bytes: u64) -> Sent {
        let buckets = self.way.buckets.clone();
        let turn = buckets.take(self.shared.class, bytes);
        tokio::pin!(turn);
        loop {
            tokio::select! {
                biased;
                () = &mut turn => return Ok(()),
                () = self.shared.work.notified() => {}
            }
            if self.shared.is_failed() {
                return Err(self.shared.error());
            }
            self.write_grant().await?;
        }
    }

    async fn write_grant(&mut self) -> Sent {
        match self.shared.due_grant() {
            Some(bytes) => self.write_mark(KIND_CREDIT, bytes).await,
            None => Ok(()),
        }
    }

    async fn write_mark(&mut self, kind: u8, number: u64) -> Sent {
        let mut parts = [mark(kind, number)];
        let written = self.spine.write_all_chunks(&mut parts).await;
        written.map_err(|e| self.lost(e))
    }

    fn lost(&self, why: impl ToString) -> NetError {
        NetError::Lost {
            peer: self.shared.peer.clone(),
            why: why.to_string(),
        }
    }
}

fn mark(kind: u8, number: u64) -> Bytes {
    let mut out = [0; 9];
    out[0] = kind;
    out[1..].copy_from_slice(&number.to_le_bytes());
    Bytes::copy_from_slice(&out)
}

fn cost(head: usize, body: usize) -> u64 {
    (frame::PREFIX_BYTES + head + body) as u64 + MESSAGE_COST
}

/// Which chunk of a connection goes first when the line is full: one of the more urgent class, and of that the oldest.
/// Among equals, what was lost would be sent again behind everything that waits for its first time, tens of megabytes on
/// a long line, and the receiver, who delivers in order, would wait for it as long.
#[derive(Debug, Default)]
pub(crate) struct Order(AtomicU64);

/// So many chunks of a connection are told apart by age, half a million GiB of full ones.
const AGES: i32 = 1 << 29;

/// Spines go before all chunks: credit and small messages must not wait for megabytes.
pub(crate) const SPINE_PRIORITY: i32 = i32::MAX;
const _: () = assert!(SPINE_PRIORITY > urgency(Class::State));

impl Order {
    /// Priority of a new chunk: streams of a higher number go first.
    fn next(&self, class: Class) -> i32 {
        let age = self.0.fetch_add(1, Ordering::Relaxed);
        urgency(class) - i32::try_from(age).unwrap_or(AGES).min(AGES)
    }
}

const fn urgency(class: Class) -> i32 {
    match class {
        Class::State => 3 * AGES,
        Class::Log => 2 * AGES,
        Class::Sync => 0,
    }
}

/// Reads the spine until it ends. Never waits for the consumer.
pub(crate) async fn read_spine(shared: &Shared, spine: &mut RecvStream) -> Result<(), ReadEnd> {
    loop {
        let mut mark = [0; 9];
        if AsyncReadExt::read(spine, &mut mark[..1]).await? == 0 {
            return Ok(());
        }
        AsyncReadExt::read_exact(spine, &mut mark[1..]).await?;
        let (kind, number) = (mark[0], number_at(&mark[1..]));
        match kind {
            KIND_MESSAGE => read_message(shared, spine, number).await?,
            KIND_CREDIT => shared.allow(number),
            KIND_END => shared.set_end(number)?,
            KIND_GONE => shared.peer_gone(),
            other => return Err(Violation(format!("unknown mark {other} on a spine")).into()),
        }
    }
}

/// Reads the head of a chunk: which channel, which message.
pub(crate) async fn read_chunk_head(chunk: &mut RecvStream) -> Result<(u64, u64), ReadEnd> {
    let mut head = [0; 16];
    AsyncReadExt::read_exact(chunk, &mut head).await?;
    Ok((number_at(&head[..8]), number_at(&head[8..])))
}

/// Reads one message into its place.
pub(crate) async fn read_message(
    shared: &Shared,
    from: &mut RecvStream,
    number: u64,
) -> Result<(), ReadEnd> {
    let lengths = frame::read_lengths(from, wire::limits(shared.class)).await?;
    let cost = cost(lengths.0, lengths.1);
    shared.reserve(cost)?;
    let frame = frame::read_parts_into(from, lengths, &shared.buffers).await?;
    let message = Message::from_frame(&frame)?;
    Ok(shared.put(number, message, cost)?)
}

fn number_at(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_chunk_goes_before_a_newer_one_and_any_log_before_any_sync() {
        let order = Order::default();
        let sync = order.next(Class::Sync);
        let logs = [order.next(Class::Log), order.next(Class::Log)];
        assert!(logs[0] > logs[1]);
        assert!(sync > order.next(Class::Sync));
        order.0.store(u64::from(u32::MAX), Ordering::Relaxed);
        assert!(order.next(Class::Log) > sync);
        assert!(logs[1] > order.next(Class::Log));
        assert!(order.next(Class::State) > logs[1]);
    }
}
