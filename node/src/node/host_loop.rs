//! What concerns the host as a whole: heartbeat, space, who can be reached, when a start is over,
//! indicators of the host, deletions nobody needs any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use storage::{SpaceGauge, SpaceLimits};
use tree::view::{ClusterView, ResourceView};
use tree::{Host, Key, Tree, key, ns_to_text};

use super::throughput::{self, Throughput};
use super::{Hub, dispatch};
use crate::facts::SpaceFacts;
use crate::main_loop::meter::Window;
use crate::plan::report;
use crate::ports::{Keys, Lane, blocking};

/// Signs of life asked for by peers come at most this often.
const HEARTBEAT_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Space can be used up quickly: a primary has to cease before a write is refused.
const SPACE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often deletions are looked through.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// Publishes `actual-<me>/time` now and then, and at once when somebody asks.
pub(super) async fn heartbeat(hub: Arc<Hub>) {
    let path = key::of_host(Key::Time, &hub.here);
    let clock = hub.ports.clock.clone();
    loop {
        let now = ns_to_text(hub.keys.now_ns());
        hub.keys.commit_lazy(vec![(path.clone(), Some(now))]);
        clock.sleep(HEARTBEAT_PAUSE_MIN).await;
        tokio::select! {
            biased;
            () = hub.poked.notified() => {}
            () = clock.sleep(hub.config.heartbeat) => {}
        }
    }
}

/// Keeps the facts about the host up to date. Runs until it is dropped.
pub(super) async fn run(hub: Arc<Hub>) {
    let clock = hub.ports.clock.clone();
    let started = clock.mono();
    let mut gauge = SpaceGauge::new(limits(&hub.config.free_bytes));
    let mut collect_at = started + COLLECT_EVERY;
    let mut gossip = hub.gossip.facts();
    let mut meter = Window::default();
    loop {
        let space = space(&hub, &mut gauge).await;
        let tree = hub.keys.read();
        let members: BTreeSet<Host> = dispatch::addresses(&tree, &hub.here).into_keys().collect();
        let facts = gossip.borrow_and_update().clone();
        let now = clock.mono();
        // Costs a look at every resource, so only while it is needed.
        let all_heard =
            hub.facts.borrow().grace_over || partners(&tree, &hub.here).is_subset(&facts.exchanged);
        drop(tree);
        let waited = now >= started + hub.config.grace;
        hub.facts.send_if_modified(|held| {
            let mut new = held.clone();
            // Keys that were lost must be back before anything is decided by them, if anybody has them.
            let whole = !hub.keys.is_incomplete() || members.is_empty();
            new.grace_over |= whole && (all_heard || waited);
            new.connected = facts.connected.clone();
            new.space = space.unwrap_or(held.space);
            let differs = new.grace_over != held.grace_over
                || new.connected != held.connected
                || !new.space.means_the_same_as(&held.space);
            *held = new;
            differs
        });
        publish(&hub);
        let [sent_kib, received_kib, served_kib] = meter.rates(now, || throughput::count(&hub));
        *hub.throughput.lock() = Throughput {
            sent_kib,
            received_kib,
            served_kib,
        };
        if now >= collect_at {
            collect_at = now + COLLECT_EVERY;
            hub.gossip.collect(&members);
        }
        let grace_left = (started + hub.config.grace).saturating_sub(now);
        let pause = match grace_left.is_zero() {
            true => hub.config.round.min(SPACE_LOOK_EVERY),
            false => SPACE_LOOK_EVERY.min(grace_left),
        };
        tokio::select! {
            biased;
            // The gossip lives as long as the hub.
            Ok(()) = gossip.changed() => {}
            () = clock.sleep(pause) => {}
        }
    }
}

/// The other members of all resources this host is a member of: one of them may have been designated while this host was
/// down. A start ends when all of them have told what they know, or `grace` is over: who does not answer a call right
/// away may just be starting, too, so a failed call is no reason to go on earlier.
fn partners(tree: &Tree, here: &Host) -> BTreeSet<Host> {
    let resources = ClusterView::new(tree).resources().into_iter();
    let members = resources.map(|res| ResourceView::new(tree, &res).members());
    let mut all: BTreeSet<Host> = members.filter(|all| all.contains(here)).flatten().collect();
    all.remove(here);
    all
}

fn publish(hub: &Hub) {
    let facts = hub.facts();
    if facts.stopping {
        // The last word is spoken by the stop itself.
        return;
    }
    let changes = report::of_host(&hub.keys.read(), &facts, &hub.here);
    if !changes.is_empty() {
        hub.keys.commit_lazy(changes);
    }
}

/// How much space is left in the state directory; `None` when it cannot be asked.
async fn space(hub: &Hub, gauge: &mut SpaceGauge) -> Option<SpaceFacts> {
    let (fs, dir) = (hub.ports.fs.clone(), hub.layout.dir().to_owned());
    let ask = move || fs.free_space(&dir);
    let asked = blocking(&*hub.ports.exec, &Lane::Misc, ask).await?;
    match asked {
        Ok(space) => {
            let level = gauge.look(space.free, 0).level();
            grow_reserve(hub, gauge.limits().jammed, space.free).await;
            let reserve = gauge.limits().sum();
            Some(SpaceFacts {
                level,
                rest: space.free.saturating_sub(reserve),
                total: space.total.saturating_sub(reserve),
            })
        }
        Err(error) => {
            tracing::warn!(%error, "the space left is not known");
            None
        }
    }
}

async fn grow_reserve(hub: &Hub, jammed: u64, free: u64) {
    let reserve = hub.reserve.clone();
    let grow = move || reserve.grow(jammed, free);
    if let Some(Err(error)) = blocking(&*hub.ports.exec, &Lane::Misc, grow).await {
        tracing::warn!(%error, "no reserve for the key tree");
    }
}

fn limits(bytes: &[u64; 4]) -> SpaceLimits {
    let [exhausted, secondary, primary, jammed] = *bytes;
    SpaceLimits {
        jammed,
        primary,
        secondary,
        exhausted,
    }
}
