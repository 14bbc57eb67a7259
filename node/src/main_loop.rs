//! The main loop of one resource: wait, look, **decide**, apply.
//!
//! Every resource has a loop of its own, so a hanging disk or key store of one resource never
//! stalls another. Only `wait`, `look` and `apply` touch the world; what to do is decided in
//! `plan/`. An event only wakes the loop; what it finds then is all that counts.
//!
//! Manual: main-loop reference, section 4.

mod apply;
mod chains;
mod disk;
mod doubt;
mod front;
mod logger_place;
pub(crate) mod meter;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tree::{Host, LogName, LogPos, Resource};

use crate::config::NodeConfig;
use crate::export::{Exports, UsageNow};
use crate::facts::{ExportFacts, Facts, LocalLog, ResourceFacts, Slot};
use crate::job::{Ended, FetchProgress, LoggerProgress, ReplayProgress, Site, SyncProgress};
use crate::keys::KeyService;
use crate::plan::{FetchWant, LoggerWant, ReplayWant, ResourcePlan, SyncWant, decide_one};
use crate::watch;
use crate::worker::hand::{Bell, Place};
use crate::worker::logger::Rest;
use crate::worker::shelf::LogState;
use chains::Chains;
use disk::DiskPlace;
pub use doubt::Doubt;
use front::Front;
pub use logger_place::Grip;
use meter::Meter;

/// How long a source of logs that failed is asked last.
const AVOID_SOURCE_FOR: Duration = Duration::from_secs(30);

/// Shortest time asked of the clock.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// What the loop of one resource needs.
pub struct Parts {
    /// Where its workers work.
    pub site: Site,
    /// The key tree.
    pub keys: Arc<KeyService>,
    /// The devices of this host.
    pub exports: Arc<Exports>,
    /// Facts about the host; only time and resources are filled in here.
    pub host: watch::Receiver<Facts>,
    /// Limits and intervals.
    pub config: Arc<NodeConfig>,
    /// Rung when something about the resource may have changed.
    pub bell: Arc<Notify>,
    /// What others may look at.
    pub desk: Arc<Desk>,
    /// Whether anything of the resource was ever here.
    pub doubt: Doubt,
    /// Resources that sync to this host now; all loops share it.
    pub syncing: Arc<Mutex<BTreeSet<Resource>>>,
}

/// What the loop of one resource shows to the rest of the node.
#[derive(Default)]
pub struct Desk {
    /// The running logger, for sources and exports.
    pub grip: Mutex<Option<Grip>>,
    /// The logger, when it is told to stop, hands its role over in order ([`crate::plan::logger::hands_over`]).
    pub hands_over: AtomicBool,
    /// What the last logger has left over.
    pub rest: Mutex<Option<Rest>>,
    /// The last decision, for people.
    pub plan: Mutex<Option<ResourcePlan>>,
    /// Acknowledged bytes which were not on the underlying disk at the last round, for people.
    pub buffered_bytes: AtomicU64,
    /// How fast they are brought there, KiB per second, for people.
    pub writeback_kib: AtomicU64,
    /// Everything has ended, after the daemon was told to stop.
    pub idle: watch::Sender<bool>,
}

/// The main loop of one resource.
pub struct ResourceLoop {
    parts: Parts,
    /// The workers; they end with the loop.
    tasks: JoinSet<()>,
    disk: DiskPlace,
    logger: Place<LoggerWant, Option<LoggerProgress>>,
    replayer: Place<ReplayWant, ReplayProgress>,
    fetcher: Place<FetchWant, FetchProgress>,
    syncer: Place<SyncWant, SyncProgress>,
    /// The export this loop has added.
    exported: Option<String>,
    /// What applications have open.
    front: Front,
    /// Sources of logs that failed, and until when they are asked last (monotonic time).
    avoid: BTreeMap<Host, Duration>,
    /// Who refused which log, or sent something else, and until when it is not asked for that one (monotonic time).
    refused: BTreeMap<(LogName, Host), Duration>,
    meter: Meter,
    shelf_changes: watch::Receiver<u64>,
    /// When the last look began (monotonic time).
    looked: Duration,
    chains: Chains,
}

impl ResourceLoop {
    /// A loop which has not begun.
    pub fn new(parts: Parts) -> ResourceLoop {
        ResourceLoop {
            disk: DiskPlace::new(&parts.site),
            shelf_changes: parts.site.shelf.changes(),
            parts,
            tasks: JoinSet::new(),
            logger: Place::default(),
            replayer: Place::default(),
            fetcher: Place::default(),
            syncer: Place::default(),
            exported: None,
            front: Front::default(),
            avoid: BTreeMap::new(),
            refused: BTreeMap::new(),
            meter: Meter::default(),
            looked: Duration::ZERO,
            chains: Chains::default(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            let facts = self.look();
            let (tree, generation) = self.parts.keys.read_at();
            let site = &self.parts.site;
            let lineage = self
                .chains
                .of(&self.parts.keys, &tree, generation, &site.res);
            let of = (&site.res, lineage);
            let plan = decide_one(&tree, &facts, &site.here, &self.parts.config, of);
            self.apply(plan, &tree).await;
            self.tell_idle(&facts);
            self.wait().await;
        }
    }

    fn res(&self) -> &Resource {
        &self.parts.site.res
    }

    fn here(&self) -> &Host {
        &self.parts.site.here
    }

    fn now(&self) -> Duration {
        self.parts.site.ports.clock.mono()
    }

    fn bell(&self) -> Bell {
        let bell = self.parts.bell.clone();
        Arc::new(move || bell.notify_one())
    }

    /// Sleeps until something may have changed.
    async fn wait(&mut self) {
        let now = self.now();
        let pauses = [
            self.logger.pause(now),
            self.replayer.pause(now),
            self.fetcher.pause(now),
            self.syncer.pause(now),
            self.disk.pause(now),
        ];
        let shortest = pauses.into_iter().filter(|pause| !pause.is_zero()).min();
        let limit = shortest.unwrap_or(self.parts.config.round);
        let limit = limit.min(self.parts.config.round).max(PAUSE_MIN);
        let clock = self.parts.site.ports.clock.clone();
        tokio::select! {
            biased;
            () = self.parts.bell.notified() => {}
            // The shelf lives as long as the site.
            Ok(()) = self.shelf_changes.changed() => {}
            // The sender lives as long as the node; without it only the clock is left.
            Ok(()) = self.parts.host.changed() => {}
            () = clock.sleep(limit) => {}
        }
        let apart = self.parts.config.rounds_apart;
        let early = apart.saturating_sub(self.now().saturating_sub(self.looked));
        if !early.is_zero() {
            clock.sleep(early).await;
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// What this host knows besides the tree.
    fn look(&mut self) -> Facts {
        let now = self.now();
        self.looked = now;
        self.note_ends(now);
        self.shelf_changes.mark_unchanged();
        self.avoid.retain(|_, until| *until > now);
        self.refused.retain(|_, until| *until > now);
        let mut facts = self.parts.host.borrow_and_update().clone();
        facts.now_ns = self.parts.keys.now_ns();
        facts.mono = now;
        facts.syncing = self.note_syncing();
        let logger = self.logger.progress().flatten();
        let buffered = logger.as_ref().map_or(0, |logger| logger.buffered_bytes);
        self.parts.desk.buffered_bytes.store(buffered, Relaxed);
        let used = self
            .exported
            .as_ref()
            .map_or_else(UsageNow::default, |name| self.parts.exports.usage(name));
        let rates = self.meter.rates(
            now,
            self.replayer.progress().as_ref(),
            self.fetcher.progress().as_ref(),
            self.syncer.progress().as_ref(),
            logger.as_ref(),
            used,
        );
        let device = self.meter.device(now, facts.now_ns, used);
        let desk = &self.parts.desk;
        desk.writeback_kib.store(rates.writeback_kib, Relaxed);
        let own = ResourceFacts {
            logs: self.local_logs(),
            disk_bytes: self.disk.bytes(),
            disk_error: self.disk.error().or_else(|| self.front.error()),
            logger: self.logger_slot(),
            replayer: slot(&self.replayer, |job| (Some(job.log.clone()), None)),
            fetcher: slot(&self.fetcher, |job| {
                (Some(job.log.clone()), Some(job.from.clone()))
            }),
            syncer: slot(&self.syncer, |job| (None, Some(job.from.clone()))),
            export: self.export(),
            avoid: self.avoid.keys().cloned().collect::<BTreeSet<Host>>(),
            refused: self.refused.keys().cloned().collect(),
            bypassing: self.front.is_bypassing(),
            held: self.front.is_held(),
            doubtful: self.parts.doubt.stands(),
            rates,
            device,
        };
        facts.resources.insert(self.res().clone(), own);
        facts
    }

    /// Says whether this resource syncs, and learns which ones do.
    fn note_syncing(&self) -> BTreeSet<Resource> {
        let mut syncing = self.parts.syncing.lock();
        match self.syncer.is_busy() {
            true => syncing.insert(self.res().clone()),
            false => syncing.remove(self.res()),
        };
        syncing.clone()
    }

    /// Collects workers that have ended.
    fn note_ends(&mut self, now: Duration) {
        let chance = &self.parts.site.ports.chance;
        let res = self.parts.site.res.clone();
        let fetched = self.fetcher.job().map(|job| job.log.clone());
        let ends = [
            ("logger", self.logger.look(now, chance.u64())),
            ("replayer", self.replayer.look(now, chance.u64())),
            ("fetcher", self.fetcher.look(now, chance.u64())),
            ("syncer", self.syncer.look(now, chance.u64())),
        ];
        for (worker, ended) in ends {
            let Some(ended) = ended else { continue };
            match &ended {
                Ended::Done(_) | Ended::Reached(_) | Ended::Stopped => {
                    tracing::debug!(%res, worker, %ended, "ended");
                }
                failed => tracing::warn!(%res, worker, ended = %failed, "ended"),
            }
            if worker == "logger" {
                let rest = self.parts.desk.rest.lock().take();
                self.front.logger_ended(&ended, rest);
            }
            if worker == "fetcher" {
                self.note_source(ended, fetched.clone(), now);
            }
        }
    }

    /// Whom the fetcher should rather not ask for a while, after it has `ended`; `fetched` is what it was to bring.
    fn note_source(&mut self, ended: Ended, fetched: Option<LogName>, now: Duration) {
        let (from, log) = match ended {
            Ended::Lost { from, .. } => (from, None),
            // It has no more of that log than somebody who says so.
            Ended::Foreign { from, .. } => (from, fetched),
            Ended::Refused { from, log, .. } => (from, Some(log)),
            _ => return,
        };
        let until = now + AVOID_SOURCE_FOR;
        self.avoid.insert(from.clone(), until);
        self.refused.extend(log.map(|log| ((log, from), until)));
    }

    fn local_logs(&self) -> BTreeMap<LogName, LocalLog> {
        let list = self.parts.site.shelf.list();
        list.into_iter()
            .map(|(log, state)| {
                let local = local_log(&log, &state);
                (log, local)
            })
            .collect()
    }

    fn logger_slot(&self) -> Slot<LoggerProgress> {
        let progress = self.logger.progress().flatten();
        match self.logger.job() {
            Some(job) => Slot::Busy {
                log: Some(match &progress {
                    Some(progress) => progress.durable.log.clone(),
                    None => job.log.clone(),
                }),
                peer: None,
                stopping: self.logger.is_stopping(),
                progress,
            },
            None => Slot::Empty {
                last: self.logger.last().cloned(),
            },
        }
    }

    fn export(&mut self) -> Option<ExportFacts> {
        let name = self.exported.as_ref()?;
        let state = self.parts.exports.states().get(name).copied();
        if state.is_none() {
            self.exported = None;
        }
        state.map(|state| ExportFacts {
            opens: state.opens,
            closing: state.closing,
        })
    }

    /// Says when nothing is left to do before the daemon may end.
    fn tell_idle(&self, facts: &Facts) {
        let busy = self.logger.is_busy()
            || self.replayer.is_busy()
            || self.fetcher.is_busy()
            || self.syncer.is_busy()
            || self.exported.is_some()
            || self.front.is_held()
            || self.front.is_bypassing();
        let idle = facts.stopping && !busy;
        self.parts.desk.idle.send_if_modified(|shown| {
            let changes = *shown != idle;
            *shown = idle;
            changes
        });
    }
}

fn local_log(log: &LogName, state: &LogState) -> LocalLog {
    let damaged: Option<LogPos> = state.damaged.as_ref().map(|d| log.at(d.offset));
    LocalLog {
        len: state.usable(),
        digest: state.usable_digest(),
        sealed: state.finished,
        damaged,
    }
}

fn slot<J: Clone, P: Clone>(
    place: &Place<J, P>,
    what: impl FnOnce(&J) -> (Option<LogName>, Option<Host>),
) -> Slot<P> {
    match place.job() {
        None => Slot::Empty {
            last: place.last().cloned(),
        },
        Some(job) => {
            let (log, peer) = what(job);
            Slot::Busy {
                log,
                peer,
                progress: place.progress(),
                stopping: place.is_stopping(),
            }
        }
    }
}

/// A running replayer need not be replaced by another job for the same log and bound.
fn same_replay(running: &ReplayWant, wanted: &ReplayWant) -> bool {
    running.log == wanted.log && running.bound == wanted.bound
}

/// The same log from the same peer.
fn same_fetch(running: &FetchWant, wanted: &FetchWant) -> bool {
    running.log == wanted.log && running.from == wanted.from && running.afresh == wanted.afresh
}

/// The same source and end.
fn same_sync(running: &SyncWant, wanted: &SyncWant) -> bool {
    running.from == wanted.from && running.size == wanted.size
}
