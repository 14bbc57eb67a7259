//! The network between simulated hosts: delay, jitter, loss, bandwidth, cuts and broken connections,
//! for each direction of each pair.
//!
//! What hosts see is what the real transport can show to the code above its port, and nothing else:
//!
//! - A channel delivers whole messages, in order, none twice, until it breaks. A lost datagram is a late message;
//!   streams repeat and put in order below the port, so nobody above it sees a message twice on one channel.
//! - Channels do not wait for each other: what was sent later on another one may arrive earlier.
//! - A break ([`SimNet::reset`]) comes in the middle of whatever is under way: what was on the wire still arrives, the
//!   message in which the wire ends arrives in part, and the shipping code for frames has to refuse that part. The
//!   sender does not learn which of its messages arrived, so it says them again on the next channel: the only way
//!   in which anything comes twice.
//! - A host that is gone without a word ([`SimNet::vanish`]) leaves its peers with channels that are silent until the idle
//!   limit; when it is back, old and new channels exist side by side.
//! - A link that stays cut longer than the idle limit breaks every channel over it.
//! - A host may hang ([`SimNet::pause`]): everything from and to it is late, nothing breaks before the idle limit.
//!
//! Messages travel encoded, so the shipping code for frames and messages runs too.

mod pipe;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use transport::frame::{self, Frame};
use transport::{
    BoxFuture, Channel, ChannelRx, ChannelTx, Class, Incoming, Message, Net, NetError,
};
use tree::Host;

use crate::prng::Prng;
use pipe::Pipe;

/// A link that is cut for so long breaks the channels over it, as the idle limit of the real transport.
const IDLE_LIMIT: Duration = Duration::from_secs(12);
/// A lost datagram is repeated after about so long, plus the delay of the link.
const REPEAT_AFTER: Duration = Duration::from_millis(200);
/// So many closed pipes are looked for whenever one is opened.
const FEW_PIPES: usize = 4096;
/// Messages that may wait in one direction of a channel before the sender has to wait.
const QUEUE_MAX: usize = 64;

/// How one direction of one pair behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Time that every message takes at least.
    pub delay: Duration,
    /// Up to so much more, drawn for each message.
    pub jitter: Duration,
    /// Of 1,000 messages so many need a repetition.
    pub loss_permille: u64,
    /// Bytes per second; 0 is unlimited.
    pub bandwidth: u64,
}

impl Default for Link {
    fn default() -> Self {
        Link {
            delay: Duration::from_millis(1),
            jitter: Duration::from_micros(200),
            loss_permille: 0,
            bandwidth: 0,
        }
    }
}

type Pair = (Host, Host);

#[derive(Default)]
struct State {
    links: BTreeMap<Pair, Link>,
    cut_since: BTreeMap<Pair, Instant>,
    paused_until: BTreeMap<Host, Instant>,
    /// Nobody hears these hosts call; channels others open to them work both ways.
    calls_in_vain: BTreeSet<Host>,
    silent_crashes: bool,
    doors: BTreeMap<Host, mpsc::UnboundedSender<Incoming>>,
    pipes: Vec<(Pair, Arc<Pipe>)>,
    counts: Counts,
}

/// What the network did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages delivered to a queue.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that needed a repetition.
    pub repeated: u64,
    /// Channels opened.
    pub opened: u64,
    /// Channels broken by cuts, crashes and resets.
    pub broken: u64,
    /// Messages of which a break left only a part.
    pub torn: u64,
    /// Messages under way that a break or a silent end swallowed.
    pub swallowed: u64,
}

/// The network of one world. Clones share it.
#[derive(Clone)]
pub struct SimNet {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    chance: Prng,
}

impl SimNet {
    /// A network without faults.
    pub fn new(chance: Prng) -> SimNet {
        SimNet {
            state: Arc::default(),
            changed: Arc::default(),
            chance,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The port of `host`. Its earlier channels, if any, are broken: the host was restarted.
    pub fn port(&self, host: &Host) -> Arc<dyn Net> {
        self.disconnect(host);
        let (door, waiting) = mpsc::unbounded_channel();
        self.state().doors.insert(host.clone(), door);
        Arc::new(SimPort {
            net: self.clone(),
            host: host.clone(),
            waiting: Arc::new(tokio::sync::Mutex::new(waiting)),
            peers: Arc::default(),
        })
    }

    /// `host` is gone and has said so: nobody reaches it and its channels end.
    pub fn disconnect(&self, host: &Host) {
        self.state().doors.remove(host);
        for pipe in self.take_pipes(|(a, b)| a == host || b == host) {
            pipe.close();
        }
    }

    /// `host` has gone down without warning: its channels end, or its peers hear nothing more and find out by the
    /// idle limit when [`SimNet::allow_silent_crashes`] was called.
    pub fn vanish(&self, host: &Host) {
        if !self.state().silent_crashes || self.chance.chance(500) {
            return self.disconnect(host);
        }
        self.state().doors.remove(host);
        for pipe in self.take_pipes(|(a, b)| a == host || b == host) {
            self.count_end(pipe.fall_silent(&self.chance));
        }
    }

    /// From now on a crash may leave channels behind that are silent until the idle limit.
    pub fn allow_silent_crashes(&self) {
        self.state().silent_crashes = true;
    }

    /// `host` hangs: for so long nothing gets from it or to it, and no channel breaks. Longer than most of the idle
    /// limit it cannot be.
    pub fn pause(&self, host: &Host, time: Duration) {
        let until = Instant::now() + time.min(IDLE_LIMIT * 3 / 4);
        self.state().paused_until.insert(host.clone(), until);
        self.changed.notify_waiters();
    }

    /// `host` can be called, but reaches nobody itself: it is behind a filter that lets only answers out.
    pub fn forbid_calls(&self, host: &Host) {
        self.state().calls_in_vain.insert(host.clone());
    }

    /// How messages from `from` to `to` travel from now on.
    pub fn set_link(&self, from: &Host, to: &Host, link: Link) {
        self.state().links.insert((from.clone(), to.clone()), link);
    }

    /// Nothing gets from `from` to `to` any more.
    pub fn cut_one_way(&self, from: &Host, to: &Host) {
        let pair = (from.clone(), to.clone());
        self.state()
            .cut_since
            .entry(pair)
            .or_insert_with(Instant::now);
        self.changed.notify_waiters();
    }

    /// Nothing gets from one to the other any more, both ways.
    pub fn cut(&self, a: &Host, b: &Host) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Only hosts of one group hear each other. Whoever is in none is alone.
    pub fn partition(&self, groups: &[Vec<Host>], all: &[Host]) {
        let group = |host: &Host| groups.iter().position(|group| group.contains(host));
        for a in all {
            for b in all {
                if a != b && (group(a) != group(b) || group(a).is_none()) {
                    self.cut_one_way(a, b);
                }
            }
        }
    }

    /// Everything gets through again, without delay or loss beyond the ordinary.
    pub fn heal(&self) {
        let mut state = self.state();
        state.cut_since.clear();
        state.paused_until.clear();
        state.links.clear();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Breaks all channels between two hosts, in the middle of whatever is under way.
    pub fn reset(&self, a: &Host, b: &Host) {
        for pipe in self.take_pipes(|(x, y)| (x == a && y == b) || (x == b && y == a)) {
            self.count_end(pipe.break_off(&self.chance));
        }
    }

    /// The pair with most open channels in one direction, and how many.
    pub fn busiest(&self) -> Option<(Host, Host, usize)> {
        let mut open: BTreeMap<Pair, usize> = BTreeMap::new();
        for (pair, pipe) in &self.state().pipes {
            if !pipe.is_closed() {
                *open.entry(pair.clone()).or_default() += 1;
            }
        }
        let most = open.into_iter().max_by_key(|(_, count)| *count);
        most.map(|((from, to), count)| (from, to, count))
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn take_pipes(&self, concerned: impl Fn(&Pair) -> bool) -> Vec<Arc<Pipe>> {
        let mut state = self.state();
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut state.pipes)
            .into_iter()
            .partition(|(pair, _)| concerned(pair));
        state.pipes = kept;
        state.counts.broken += taken.len() as u64;
        taken.into_iter().map(|(_, pipe)| pipe).collect()
    }

    fn count_end(&self, (torn, swallowed): (u64, u64)) {
        let counts = &mut self.state().counts;
        counts.torn += torn;
        counts.swallowed += swallowed;
    }

    /// When nobody at either end hangs any more, if somebody does.
    fn paused_until(&self, pair: &Pair) -> Option<Instant> {
        let now = Instant::now();
        let state = self.state();
        let until = |host| state.paused_until.get(host).copied();
        until(&pair.0).max(until(&pair.1)).filter(|at| *at > now)
    }

    /// When a message of `bytes` given to the network now arrives, if the link is not cut.
    fn arrival(&self, pair: &Pair, bytes: usize, after: Instant) -> Instant {
        let mut state = self.state();
        let link = state.links.get(pair).copied().unwrap_or_default();
        state.counts.messages += 1;
        state.counts.bytes += bytes as u64;
        let mut takes = link.delay + link.jitter.mul_f64(self.chance.below(1000) as f64 / 1000.0);
        if self.chance.chance(link.loss_permille) {
            state.counts.repeated += 1;
            takes += REPEAT_AFTER + link.delay;
        }
        let mut from = Instant::now();
        if let Some(nanos) = (bytes as u64)
            .saturating_mul(1_000_000_000)
            .checked_div(link.bandwidth)
        {
            from = from.max(after) + Duration::from_nanos(nanos);
        }
        (from + takes).max(after)
    }

    fn cut_since(&self, pair: &Pair) -> Option<Instant> {
        self.state().cut_since.get(pair).copied()
    }

    fn cut_either_way(&self, pair: &Pair) -> Option<Instant> {
        let back = (pair.1.clone(), pair.0.clone());
        match (self.cut_since(pair), self.cut_since(&back)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn channel_pair(&self, from: &Host, to: &Host) -> (Channel, Channel) {
        let there = self.pipe(from, to);
        let back = self.pipe(to, from);
        (
            self.end(from, to, &there, &back),
            self.end(to, from, &back, &there),
        )
    }

    fn pipe(&self, from: &Host, to: &Host) -> Arc<Pipe> {
        let pipe = Arc::new(Pipe::default());
        let mut state = self.state();
        // With hundreds of hosts a look at all of them for each new one would take longer than everything else.
        if state.pipes.len() < FEW_PIPES || state.pipes.len() == state.pipes.capacity() {
            state.pipes.retain(|(_, p)| !p.is_closed());
        }
        state.pipes.push(((from.clone(), to.clone()), pipe.clone()));
        pipe
    }

    fn end(&self, me: &Host, peer: &Host, out: &Arc<Pipe>, inn: &Arc<Pipe>) -> Channel {
        let tx = Tx {
            net: self.clone(),
            pair: (me.clone(), peer.clone()),
            pipe: out.clone(),
        };
        let rx = Rx {
            net: self.clone(),
            pair: (peer.clone(), me.clone()),
            pipe: inn.clone(),
        };
        Channel {
            tx: Box::new(tx),
            rx: Box::new(rx),
        }
    }
}

struct Tx {
    net: SimNet,
    pair: Pair,
    pipe: Arc<Pipe>,
}

impl Drop for Tx {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

impl Tx {
    async fn send(&self, message: Message) -> Result<(), NetError> {
        let frame = message.to_frame().map_err(|e| NetError::Protocol {
            peer: self.pair.1.clone(),
            why: e.to_string(),
        })?;
        loop {
            let changed = self.pipe.changed.notified();
            let silent = {
                let mut queue = self.pipe.queue();
                if queue.is_over() {
                    return Err(NetError::Closed {
                        peer: self.pair.1.clone(),
                    });
                }
                if queue.messages.len() < QUEUE_MAX {
                    let bytes = frame.head.len() + frame.body.len();
                    let after = queue.last.unwrap_or_else(Instant::now);
                    let at = self.net.arrival(&self.pair, bytes, after);
                    queue.last = Some(at);
                    queue.messages.push_back((at, frame));
                    break;
                }
                queue.silent
            };
            match silent {
                None => changed.await,
                // Nobody makes room there any more.
                Some(since) => tokio::time::sleep_until(since + IDLE_LIMIT).await,
            }
        }
        self.pipe.changed.notify_waiters();
        Ok(())
    }
}

impl ChannelTx for Tx {
    fn send(&mut self, message: Message) -> BoxFuture<'_, Result<(), NetError>> {
        Box::pin(Tx::send(self, message))
    }
}

struct Rx {
    net: SimNet,
    pair: Pair,
    pipe: Arc<Pipe>,
}

impl Drop for Rx {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

/// What a receiver finds when it looks.
enum Look {
    Message(Frame),
    /// The beginning of a message, and there is no more.
    Torn(Bytes),
    Broken,
    WaitUntil(Instant),
    Wait,
}

impl Rx {
    fn look(&self) -> Look {
        let now = Instant::now();
        let cut = self.net.cut_either_way(&self.pair);
        if cut.is_some_and(|since| now >= since + IDLE_LIMIT) {
            self.pipe.close();
            return Look::Broken;
        }
        let deliverable = self.net.cut_since(&self.pair).is_none();
        let paused = self.net.paused_until(&self.pair);
        let mut queue = self.pipe.queue();
        let next = queue.messages.front().map(|(at, _)| *at);
        let gone = queue.closed && (next.is_none() || !deliverable);
        match (next, cut, queue.silent) {
            (Some(at), _, _) if deliverable && at <= now && paused.is_none() => {
                let next = queue.messages.pop_front();
                if queue.messages.is_empty() {
                    // Hundreds of thousands of channels are idle, and would keep room for their busiest moment.
                    queue.messages = VecDeque::new();
                }
                next.map_or(Look::Wait, |(_, frame)| Look::Message(frame))
            }
            _ if gone => queue.torn.take().map_or(Look::Broken, Look::Torn),
            (None, _, Some(_)) if queue.is_over() => Look::Broken,
            (None, _, Some(since)) => Look::WaitUntil(since + IDLE_LIMIT),
            (_, Some(since), _) => Look::WaitUntil(since + IDLE_LIMIT),
            (Some(at), None, _) => Look::WaitUntil(paused.map_or(at, |until| until.max(at))),
            (None, None, None) => Look::Wait,
        }
    }

    async fn recv(&self) -> Result<Message, NetError> {
        loop {
            let (mine, nets) = (self.pipe.changed.notified(), self.net.changed.notified());
            match self.look() {
                Look::Message(frame) => {
                    self.pipe.changed.notify_waiters();
                    return Message::from_frame(&frame).map_err(|e| NetError::Protocol {
                        peer: self.pair.0.clone(),
                        why: e.to_string(),
                    });
                }
                Look::Torn(bytes) => return self.torn(&bytes).await,
                Look::Broken => {
                    return Err(NetError::Closed {
                        peer: self.pair.0.clone(),
                    });
                }
                Look::WaitUntil(at) => tokio::select! {
                    biased;
                    () = mine => {}
                    () = nets => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                Look::Wait => tokio::select! {
                    biased;
                    () = mine => {}
                    () = nets => {}
                },
            }
        }
    }
}

impl Rx {
    /// What the code for frames says to a part of one.
    async fn torn(&self, bytes: &[u8]) -> Result<Message, NetError> {
        let limits = frame::Limits {
            head_max: usize::MAX,
            body_max: usize::MAX,
        };
        let lost = |why: String| NetError::Lost {
            peer: self.pair.0.clone(),
            why,
        };
        let frame = frame::read_frame(&mut &*bytes, limits).await;
        let frame = frame.map_err(|e| lost(e.to_string()))?;
        Message::from_frame(&frame).map_err(|e| lost(e.to_string()))
    }
}

impl ChannelRx for Rx {
    fn recv(&mut self) -> BoxFuture<'_, Result<Message, NetError>> {
        Box::pin(Rx::recv(self))
    }
}

/// One host's access to the network.
struct SimPort {
    net: SimNet,
    host: Host,
    waiting: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Incoming>>>,
    peers: Arc<Mutex<BTreeSet<Host>>>,
}

impl Net for SimPort {
    fn open(&self, to: &Host, class: Class) -> BoxFuture<'static, Result<Channel, NetError>> {
        let (net, host, to) = (self.net.clone(), self.host.clone(), to.clone());
        let known = self
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&to);
        Box::pin(async move {
            if !known {
                return Err(NetError::NoAddress { peer: to });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            let pair = (host.clone(), to.clone());
            if let Some(until) = net.paused_until(&pair) {
                tokio::time::sleep_until(until).await;
            }
            let unreachable = |why: &str| NetError::Unreachable {
                peer: to.clone(),
                address: to.to_string(),
                why: why.to_owned(),
            };
            let in_vain = net.state().calls_in_vain.contains(&host);
            if in_vain || net.cut_either_way(&pair).is_some() {
                tokio::time::sleep(Duration::from_secs(5)).await;
                return Err(unreachable("no answer"));
            }
            let Some(door) = net.state().doors.get(&to).cloned() else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                return Err(unreachable("nobody listens"));
            };
            let (mine, theirs) = net.channel_pair(&host, &to);
            net.state().counts.opened += 1;
            let incoming = Incoming {
                from: host,
                class,
                channel: theirs,
            };
            door.send(incoming)
                .map_err(|_| unreachable("it is going down"))?;
            Ok(mine)
        })
    }

    fn accept(&self) -> BoxFuture<'static, Option<Incoming>> {
        let waiting = self.waiting.clone();
        Box::pin(async move { waiting.lock().await.recv().await })
    }

    fn set_peers(&self, addresses: BTreeMap<Host, String>) {
        *self.peers.lock().unwrap_or_else(PoisonError::into_inner) =
            addresses.into_keys().collect();
    }
}
