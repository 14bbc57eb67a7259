//! Keeps the key trees of all hosts equal: one session with every peer, on a channel of its own.
//!
//! A session begins with greetings and an exchange of summaries; then each side pushes its own
//! changes as soon as they are stored, and asks again now and then. What is missing after a lost
//! push is noticed by its number and fetched by the next exchange, which is due at once then. There
//! are no queues: whatever a slow peer misses is in the tree and comes with its next summary. While it is too far behind
//! nothing is pushed to it at all: what comes behind a gap does not count as seen and would be sent twice.
//!
//! Only some peers are asked for the first time at once; with many peers the later questions are spread over a longer pause.
//!
//! The host with the smaller name dials; the other one does when nobody has called for a while. The
//! newest session with a peer replaces an older one.
//!
//! Design, section 3 (synchronisation without queues); requirements L-C10, L-C13.

mod outbox;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use transport::{Channel, Class};
use tree::{Host, Reports, Summary};

use crate::config::NodeConfig;
use crate::keys::KeyService;
use crate::ports::Ports;
use crate::watch;

/// The host with the greater name waits so long for a call before it dials itself.
const WAIT_FOR_CALL: Duration = Duration::from_secs(2);

/// Pause between attempts to dial, besides the back-off of the network.
const DIAL_PAUSE: Duration = Duration::from_millis(300);

/// With more peers than these, each of them is asked less often in proportion: a summary names every host, and what a host says
/// at rest shall grow with their number and not with its square. What a lost push leaves out is noticed by its number.
const PEERS_ASKED_OFTEN: usize = 10;

/// So many peers are asked for the first time at once. After a start of hundreds of hosts each peer would otherwise tell
/// the same, and that of everybody: work that grows with the third power of their number.
const FIRST_ASKED_AT_ONCE: usize = 16;

/// What the sessions have achieved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GossipFacts {
    /// Peers with a session.
    pub connected: BTreeSet<Host>,
    /// Peers that have told all they knew since this node started.
    pub exchanged: BTreeSet<Host>,
}

/// Everything the sessions share.
pub struct Gossip {
    pub(super) keys: Arc<KeyService>,
    pub(super) ports: Ports,
    /// Id of the cluster; a peer with another one is refused.
    pub(super) cluster: Arc<str>,
    pub(super) config: Arc<NodeConfig>,
    /// Called when a peer asks for a sign of life.
    pub(super) poked: Arc<Notify>,
    sessions: Mutex<Sessions>,
    facts: watch::Sender<GossipFacts>,
    /// Rises when all sessions shall ask and ping at once.
    pub(super) urge: watch::Sender<u64>,
    /// Turns to ask a peer for the first time.
    pub(super) first_questions: Semaphore,
    reports: Mutex<Reports>,
}

#[derive(Default)]
struct Sessions {
    last_id: u64,
    running: BTreeMap<Host, (u64, AbortHandle)>,
    /// Rung when the session with a peer has ended.
    ended: BTreeMap<Host, Arc<Notify>>,
}

impl Sessions {
    fn bell(&mut self, peer: &Host) -> Arc<Notify> {
        self.ended.entry(peer.clone()).or_default().clone()
    }
}

impl Gossip {
    /// No sessions yet.
    pub fn new(
        keys: Arc<KeyService>,
        ports: Ports,
        cluster: Arc<str>,
        config: Arc<NodeConfig>,
        poked: Arc<Notify>,
    ) -> Arc<Gossip> {
        Arc::new(Gossip {
            keys,
            ports,
            cluster,
            config,
            poked,
            sessions: Mutex::default(),
            facts: watch::Sender::default(),
            urge: watch::Sender::new(0),
            first_questions: Semaphore::new(FIRST_ASKED_AT_ONCE),
            reports: Mutex::default(),
        })
    }

    /// What the sessions have achieved; changes can be awaited.
    pub fn facts(&self) -> watch::Receiver<GossipFacts> {
        self.facts.subscribe()
    }

    /// Asks all peers for what is new, and for a sign of life.
    pub fn urge(&self) {
        self.urge.send_modify(|nr| *nr += 1);
    }

    /// Calls `peer` again and again. Ends only with the task that runs it.
    pub async fn keep_calling(self: Arc<Self>, peer: Host) {
        let here = self.keys.here().clone();
        let mut tasks = JoinSet::new();
        let ended = self.sessions.lock().bell(&peer);
        loop {
            if self.is_connected(&peer) {
                ended.notified().await;
                continue;
            }
            if here > peer {
                self.ports.clock.sleep(WAIT_FOR_CALL).await;
            }
            if !self.is_connected(&peer)
                && let Ok(channel) = self.ports.net.open(&peer, Class::State).await
                && !self.is_connected(&peer)
            {
                self.hold(&mut tasks, peer.clone(), channel);
                while tasks.join_next().await.is_some() {}
            }
            self.ports.clock.sleep(DIAL_PAUSE).await;
        }
    }

    /// A session on a channel that `peer` has opened. Ends with the session.
    pub async fn answer(self: Arc<Self>, peer: Host, channel: Channel) {
        let mut tasks = JoinSet::new();
        self.hold(&mut tasks, peer, channel);
        while tasks.join_next().await.is_some() {}
    }

    /// Runs a session in a task of its own, so that a newer one can end it.
    fn hold(self: &Arc<Self>, tasks: &mut JoinSet<()>, peer: Host, channel: Channel) {
        let mut sessions = self.sessions.lock();
        sessions.last_id += 1;
        let id = sessions.last_id;
        let guard = Guard {
            gossip: self.clone(),
            peer: peer.clone(),
            id,
        };
        let name = peer.clone();
        let gossip = self.clone();
        let task = tasks.spawn(async move {
            let _guard = guard;
            if let Err(error) = session::run(&gossip, &name, channel).await {
                tracing::debug!(peer = %name, %error, "session ended");
            }
        });
        if let Some((_, old)) = sessions.running.insert(peer, (id, task)) {
            old.abort();
        }
    }

    /// Ends all sessions but that with `peer`, which ends by itself: the tree they spoke of is gone.
    pub(super) fn end_other_sessions(&self, peer: &Host) {
        let sessions = self.sessions.lock();
        let others = sessions.running.iter().filter(|(host, _)| *host != peer);
        others.for_each(|(_, (_, task))| task.abort());
    }

    /// Pause between two exchanges with one peer when nothing is missing.
    pub(super) fn exchange_pause(&self) -> Duration {
        let peers = self.sessions.lock().running.len();
        let times = peers.div_ceil(PEERS_ASKED_OFTEN).max(1);
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.config.exchange.saturating_mul(times)
    }

    /// The same after the first exchange: with many peers each has a place of its own within the pause, or they would all be
    /// asked at the same moment for ever.
    pub(super) fn first_exchange_pause(&self, peer: &Host) -> Duration {
        let pause = self.exchange_pause();
        let sessions = self.sessions.lock();
        let count = sessions.running.len();
        if count <= PEERS_ASKED_OFTEN {
            return pause;
        }
        let place = sessions.running.range::<Host, _>(..peer).count();
        pause.mul_f64(place as f64 / count as f64)
    }

    fn is_connected(&self, peer: &Host) -> bool {
        self.sessions.lock().running.contains_key(peer)
    }

    /// The greetings went well.
    pub(super) fn greeted(&self, peer: &Host) {
        tracing::info!(%peer, "connected");
        self.change(|facts| facts.connected.insert(peer.clone()));
    }

    /// The peer has told all it knew.
    pub(super) fn exchanged(&self, peer: &Host) {
        self.change(|facts| facts.exchanged.insert(peer.clone()));
    }

    /// The peer has seen this much.
    pub(super) fn heard(&self, peer: &Host, summary: &Summary) {
        let mono = self.mono_ns();
        let mut reports = self.reports.lock();
        self.keys
            .with_knowledge(|here| reports.heard(here, peer, summary, mono));
    }

    /// Forgets deletions which every member has seen.
    pub fn collect(&self, members: &BTreeSet<Host>) {
        let (now, mono) = (self.ports.clock.wall_ns(), self.mono_ns());
        let keep = u64::try_from(self.config.keep_tombstones.as_nanos()).unwrap_or(u64::MAX);
        let mut reports = self.reports.lock();
        reports.members_are(members, mono);
        let ripe = self
            .keys
            .with_knowledge(|knowledge| reports.collect(knowledge, now, mono, keep));
        for host in &ripe.marked {
            tracing::warn!(peer = %host, "silent for too long; deletions no longer wait for it");
        }
        if !ripe.forget.is_empty() {
            tracing::debug!(keys = ripe.forget.len(), "deletions forgotten");
            // A stopping key service forgets after the next start.
            let _ = self.keys.forget(ripe.forget);
        }
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.ports.clock.mono().as_nanos()).unwrap_or(u64::MAX)
    }

    fn change(&self, change: impl FnOnce(&mut GossipFacts) -> bool) {
        self.facts.send_if_modified(change);
    }
}

/// Takes a session off the list when it ends, however it ends.
struct Guard {
    gossip: Arc<Gossip>,
    peer: Host,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut sessions = self.gossip.sessions.lock();
        if sessions
            .running
            .get(&self.peer)
            .is_some_and(|(id, _)| *id == self.id)
        {
            sessions.running.remove(&self.peer);
            sessions.bell(&self.peer).notify_one();
            drop(sessions);
            self.gossip
                .change(|facts| facts.connected.remove(&self.peer));
        }
    }
}
