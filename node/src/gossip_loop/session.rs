//! One talk with one peer: greetings, then two halves that never wait for each other.
//!
//! The receiving half takes what comes, stores it, and only then reads on: a flood of changes slows
//! its sender down. The sending half answers, pushes and asks. Everything a peer says has passed the
//! checks of its types before it arrives here; what is semantically impossible ends the session.

use std::time::Duration;

use transport::wire::{self, Hello};
use transport::{Channel, ChannelRx, ChannelTx, Message, NetError};
use tree::{
    Applied, Delta, HeldBack, Host, MustReplace, Push, Repair, RepairAnswer, Replacement, Summary,
};

use super::Gossip;
use super::outbox::Outbox;
use crate::ports::{KeysError, within};

/// A greeting that takes longer is none.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// A peer that takes longer to tell all it knows no longer keeps this host from asking the next one.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(2);

/// Entries in one delta.
const DELTA_ENTRIES_MAX: usize = 2000;

/// Changes in one push.
const PUSH_ENTRIES_MAX: usize = 500;

/// Wall clocks further apart than this are reported.
const CLOCK_DIFFERENCE_NS_MAX: u64 = 10 * tree::stamp::SECOND_NS;

/// How a session ends.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Own keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The peer is silent right at the beginning.
    #[error("no greeting within {} s", GREETING_MAX.as_secs())]
    NoGreeting,
    /// The tree here was replaced; everything begins anew.
    #[error("the tree of this host was replaced by that of {0}")]
    Replaced(Host),
    /// The peer is not what it should be.
    #[error("refused: {0}")]
    Refused(String),
}

/// Talks until something breaks.
pub async fn run(gossip: &Gossip, peer: &Host, mut channel: Channel) -> Result<(), SessionError> {
    let greeting = greet(gossip, peer, &mut channel);
    match within(&*gossip.ports.clock, GREETING_MAX, greeting).await {
        None => return Err(SessionError::NoGreeting),
        Some(greeted) => greeted?,
    }
    gossip.greeted(peer);
    let outbox = Outbox::default();
    tokio::select! {
        biased;
        ended = first_question(gossip, &outbox) => ended,
        ended = receive(gossip, peer, &outbox, channel.rx) => ended,
        ended = send(gossip, peer, &outbox, channel.tx) => ended,
    }
}

/// Asks for the first time when it is the turn of this session, and makes room for the next one as soon as the peer has told
/// everything, or is too slow. Never ends by itself.
async fn first_question(gossip: &Gossip, outbox: &Outbox) -> Result<(), SessionError> {
    let turn = gossip.first_questions.acquire().await;
    outbox.ask_first();
    within(&*gossip.ports.clock, FIRST_ANSWER_MAX, outbox.told()).await;
    drop(turn);
    std::future::pending().await
}

async fn greet(gossip: &Gossip, peer: &Host, channel: &mut Channel) -> Result<(), SessionError> {
    let wall_ns = gossip.ports.clock.wall_ns();
    channel
        .send(Message::Hello(Hello {
            version: wire::VERSION,
            host: gossip.keys.here().clone(),
            cluster: gossip.cluster.to_string(),
            wall_ns,
            lamport: gossip.keys.now_ns(),
        }))
        .await?;
    let Message::Hello(theirs) = channel.recv().await? else {
        return Err(refused("it does not begin with a greeting"));
    };
    if theirs.host != *peer {
        return Err(refused(&format!("it calls itself {}", theirs.host)));
    }
    if theirs.cluster != *gossip.cluster {
        return Err(refused(&format!(
            "it belongs to cluster {}",
            theirs.cluster
        )));
    }
    wire::common_version(theirs.version).map_err(|why| refused(&why))?;
    let apart = theirs.wall_ns.abs_diff(wall_ns);
    if apart > CLOCK_DIFFERENCE_NS_MAX {
        let seconds = apart / tree::stamp::SECOND_NS;
        tracing::warn!(%peer, seconds, "clocks differ; set them");
    }
    Ok(())
}

fn refused(why: &str) -> SessionError {
    SessionError::Refused(why.to_owned())
}

/// The receiving half.
async fn receive(
    gossip: &Gossip,
    peer: &Host,
    outbox: &Outbox,
    mut rx: Box<dyn ChannelRx>,
) -> Result<(), SessionError> {
    let mut repair = Repairing::default();
    let mut replacing = Replacing::default();
    loop {
        let message = rx.recv().await?;
        if replacing.ignores(&message) {
            continue;
        }
        match message {
            Message::Summary { summary, digest } => {
                match gossip.keys.may_merge_with(peer, &summary) {
                    Ok(()) => hear_summary(gossip, peer, outbox, &mut repair, summary, digest),
                    Err(why) => replacing.demand(outbox, why),
                }
            }
            Message::MustReplace { writer, floor } => {
                replacing.begin(gossip, peer, outbox, &writer, floor)?;
            }
            Message::ReplaceAsk { summary } => outbox.put(|letters| letters.answer = Some(summary)),
            Message::Delta(delta) if replacing.is_running() => {
                replacing.fill(gossip, peer, outbox, delta).await?;
            }
            Message::Delta(delta) => {
                let more = delta.more;
                let applied = gossip.keys.merge_delta(delta).await?;
                ask_again_after(outbox, more, &applied);
                if !more {
                    gossip.exchanged(peer);
                    outbox.peer_has_told();
                }
            }
            Message::Push(push) => {
                let applied = gossip.keys.merge_push(push).await?;
                ask_again_after(outbox, false, &applied);
            }
            Message::Ping { nonce } => {
                gossip.poked.notify_one();
                outbox.put(|letters| letters.pong = Some(nonce));
            }
            Message::Pong { .. } => {}
            Message::RepairAsk(ask) => {
                let answered = gossip
                    .keys
                    .with_knowledge(|here| tree::repair::answer(here, ask));
                let (answer, given) = answered.map_err(|error| refused(&error.to_string()))?;
                gossip.keys.merge_repair(given).await?;
                outbox.put(|letters| letters.repaired = Some(answer));
            }
            Message::RepairAnswer(answer) => repair.answered(gossip, outbox, answer).await?,
            other => return Err(refused(&format!("{:?} on a state channel", other.class()))),
        }
    }
}

fn ask_again_after(outbox: &Outbox, more: bool, applied: &Applied) {
    if more || applied.gap {
        outbox.put(|letters| letters.ask = true);
    }
}

/// The peer says what it has seen: give it what it lacks, and ask for what is lacking here.
fn hear_summary(
    gossip: &Gossip,
    peer: &Host,
    outbox: &Outbox,
    repair: &mut Repairing,
    summary: Summary,
    digest: [u8; 16],
) {
    gossip.heard(peer, &summary);
    let (lacking, same, same_digest) = gossip.keys.with_knowledge(|here| {
        let ours = here.summary();
        let same_digest = here.tree().digest() == digest;
        (!ours.covers(&summary), *ours == summary, same_digest)
    });
    repair.compare(gossip, peer, outbox, same, same_digest);
    outbox.put(|letters| {
        letters.answer = Some(summary);
        letters.ask |= lacking;
    });
}

/// One of the two was away for so long that deletions it missed are forgotten: its tree is replaced.
#[derive(Default)]
struct Replacing {
    /// The peer has to replace its tree; until it begins anew, nothing is taken from it.
    demanded: bool,
    /// The new tree of this host.
    running: Option<Replacement>,
}

impl Replacing {
    /// Is this a message whose contents could bring deleted keys back?
    fn ignores(&self, message: &Message) -> bool {
        use Message::{Delta, Push, RepairAnswer, RepairAsk};
        let content = matches!(message, Delta(_) | Push(_) | RepairAsk(_) | RepairAnswer(_));
        content && self.demanded
    }

    fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn demand(&mut self, outbox: &Outbox, why: MustReplace) {
        if !self.demanded {
            tracing::warn!(%why, "a peer was away for too long");
        }
        self.demanded = true;
        outbox.put(|letters| letters.replace = Some(why));
    }

    /// The peer says that this host was away. Believed only if this host has indeed seen less.
    fn begin(
        &mut self,
        gossip: &Gossip,
        peer: &Host,
        outbox: &Outbox,
        writer: &Host,
        floor: u64,
    ) -> Result<(), SessionError> {
        if self.demanded {
            let why =
                "both trees lack deletions the other side has forgotten; an operator must decide";
            tracing::error!(%peer, why);
            return Err(refused(why));
        }
        if gossip.keys.summary().0.horizon(writer) >= floor {
            return Err(refused("it demands a replacement without reason"));
        }
        if self.running.is_none() {
            tracing::warn!(%peer, %writer, "this host was away for too long; its tree is replaced");
            let replacement = gossip.keys.with_knowledge(Replacement::of);
            outbox.put(|letters| letters.fill = Some(replacement.ask().clone()));
            self.running = Some(replacement);
        }
        Ok(())
    }

    async fn fill(
        &mut self,
        gossip: &Gossip,
        peer: &Host,
        outbox: &Outbox,
        delta: Delta,
    ) -> Result<(), SessionError> {
        let Some(mut replacement) = self.running.take() else {
            return Ok(());
        };
        let filled = gossip.keys.fill(&mut replacement, delta);
        let is_complete = filled.map_err(|HeldBack { path, writer, why }| {
            tracing::warn!(%peer, %writer, %path, %why, "this tree cannot be replaced before clocks are set");
            refused(&format!("its tree has a key of {writer} too far ahead: {why}"))
        })?;
        if is_complete {
            gossip.keys.replace(replacement).await?;
            gossip.end_other_sessions(peer);
            return Err(SessionError::Replaced(peer.clone()));
        }
        outbox.put(|letters| letters.fill = Some(replacement.ask().clone()));
        self.running = Some(replacement);
        Ok(())
    }
}

/// Equal summaries with unequal trees are a defect: found and repaired through the digest trie.
#[derive(Default)]
struct Repairing {
    /// How often in a row they differed; the first time may be a change on its way.
    suspicions: u32,
    running: Option<Repair>,
}

impl Repairing {
    fn compare(
        &mut self,
        gossip: &Gossip,
        peer: &Host,
        outbox: &Outbox,
        same_summary: bool,
        same_digest: bool,
    ) {
        let differs = same_summary && !same_digest;
        self.suspicions = if differs { self.suspicions + 1 } else { 0 };
        if self.suspicions < 2 || self.running.is_some() {
            return;
        }
        tracing::error!(%peer, "trees differ although both sides have seen the same; repairing");
        let mut repair = Repair::new();
        let ask = gossip.keys.with_knowledge(|here| repair.ask(here));
        self.running = Some(repair);
        outbox.put(|letters| letters.repair = ask);
    }

    async fn answered(
        &mut self,
        gossip: &Gossip,
        outbox: &Outbox,
        answer: RepairAnswer,
    ) -> Result<(), SessionError> {
        let Some(mut repair) = self.running.take() else {
            return Err(refused("an answer to no question"));
        };
        let entries = gossip
            .keys
            .with_knowledge(|here| repair.answered(here, answer))
            .map_err(|error| refused(&error.to_string()))?;
        gossip.keys.merge_repair(entries).await?;
        if let Some(ask) = gossip.keys.with_knowledge(|here| repair.ask(here)) {
            self.running = Some(repair);
            outbox.put(|letters| letters.repair = Some(ask));
        }
        Ok(())
    }
}

/// The sending half.
async fn send(
    gossip: &Gossip,
    peer: &Host,
    outbox: &Outbox,
    mut tx: Box<dyn ChannelTx>,
) -> Result<(), SessionError> {
    let keys = &gossip.keys;
    let mut pushes = keys.watch_pushes();
    let mut urged = gossip.urge.subscribe();
    let mut pushing = Pushing::After(*pushes.borrow_and_update());
    let mut nonce = 0;
    let clock = &*gossip.ports.clock;
    // Pushes do not put it off: what a busy peer has seen must be known, too.
    let mut asked = clock.mono();
    let mut asked_by_time = false;
    let mut pause = gossip.exchange_pause();
    loop {
        let letters = outbox.take();
        if letters.ask {
            asked = clock.mono();
            pause = match asked_by_time {
                true => gossip.exchange_pause(),
                false => gossip.first_exchange_pause(peer),
            };
            let (summary, digest) = keys.summary();
            tx.send(Message::Summary { summary, digest }).await?;
        }
        if let Some(summary) = letters.answer {
            // Looked at first: the answer has all of these, and perhaps more.
            let upto = *pushes.borrow();
            let delta = keys.delta_since(&summary, DELTA_ENTRIES_MAX);
            pushing.told(upto, delta.more);
            tx.send(Message::Delta(delta)).await?;
        }
        if let Some(MustReplace { writer, floor, .. }) = letters.replace {
            tx.send(Message::MustReplace { writer, floor }).await?;
        }
        if let Some(summary) = letters.fill {
            tx.send(Message::ReplaceAsk { summary }).await?;
        }
        if let Some(nonce) = letters.pong {
            tx.send(Message::Pong { nonce }).await?;
        }
        if let Some(ask) = letters.repair {
            tx.send(Message::RepairAsk(ask)).await?;
        }
        if let Some(answer) = letters.repaired {
            tx.send(Message::RepairAnswer(answer)).await?;
        }
        pushing = push(gossip, outbox, &mut tx, pushing).await?;
        let since = clock.mono().saturating_sub(asked);
        let due = pause.saturating_sub(since);
        tokio::select! {
            biased;
            () = outbox.filled() => {}
            // The key service lives as long as the gossip.
            Ok(()) = pushes.changed() => {}
            Ok(()) = urged.changed() => {
                nonce += 1;
                tx.send(Message::Ping { nonce }).await?;
                outbox.put(|letters| letters.ask = true);
            }
            // Before its turn has come a question waits already.
            () = clock.sleep(due), if outbox.may_ask() => {
                asked_by_time = true;
                outbox.put(|letters| letters.ask = true);
            }
        }
    }
}

/// How the peer learns of own changes.
#[derive(Clone, Copy)]
enum Pushing {
    /// At once: all up to this number were sent.
    After(u64),
    /// The peer is too far behind for that. Whatever was pushed now would come behind a gap, could not count as seen, and
    /// would be sent once more; so the peer is made to ask until it has been told everything.
    ByExchange,
}

impl Pushing {
    /// The peer is being told everything up to `upto`, unless there is `more`.
    fn told(&mut self, upto: u64, more: bool) {
        if let Pushing::ByExchange = self
            && !more
        {
            *self = Pushing::After(upto);
        }
    }
}

/// Sends own changes; returns how it goes on.
async fn push(
    gossip: &Gossip,
    outbox: &Outbox,
    tx: &mut Box<dyn ChannelTx>,
    pushing: Pushing,
) -> Result<Pushing, SessionError> {
    let Pushing::After(pushed) = pushing else {
        return Ok(pushing);
    };
    let (Some(items), last) = gossip.keys.pushes_after(pushed) else {
        // The peer sees in our summary that it lacks something, and asks.
        outbox.put(|letters| letters.ask = true);
        return Ok(Pushing::ByExchange);
    };
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let entries = items.by_ref().take(PUSH_ENTRIES_MAX).collect();
        tx.send(Message::Push(Push { entries })).await?;
    }
    Ok(Pushing::After(last))
}
