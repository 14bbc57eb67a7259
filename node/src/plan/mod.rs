//! What should this host do now? [`decide`] answers from the key tree and the facts alone.
//!
//! Level-triggered and pure: it looks at the whole situation, never at the event that woke it, so
//! a lost or repeated wake-up cannot matter, and equal inputs give equal plans. For each worker the
//! answer is *run this job* or *rest, because …*; every reason has a name that operators see.
//! No plan touches the world: `main_loop.rs` applies it.
//!
//! Order of the rules for one resource: where does the own replica stand in the history
//! ([`cursor`]); who is primary ([`role`]); then each worker; then keys and files
//! ([`housekeeping`], [`report`]).
//!
//! Manual: "The State of MARS", "Split Brain and Resolution"; main-loop reference, section 7.

pub mod cursor;
pub mod doubt;
pub mod emergency;
pub mod export;
pub mod fetcher;
pub mod housekeeping;
pub mod logger;
mod reason;
pub mod replayer;
pub mod report;
pub mod role;
pub mod seen;
pub mod syncer;
pub mod word;

use std::collections::BTreeMap;

use tree::key::Switch;
use tree::lineage::Lineage;
use tree::view::ResourceView;
use tree::{Host, LogName, Resource, Tree};

use crate::config::NodeConfig;
use crate::facts::{Facts, ResourceFacts};
use crate::job::{Bound, ChainEnd};
use crate::ports::KeyChange;

pub use reason::Reason;
use seen::Seen;

/// What one worker should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want<J> {
    /// Work on this.
    Run(J),
    /// Do nothing, because of this.
    Rest(Reason),
}

impl<J> Want<J> {
    /// The job, if there is one.
    pub fn job(&self) -> Option<&J> {
        match self {
            Want::Run(job) => Some(job),
            Want::Rest(_) => None,
        }
    }

    /// Why there is no job.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Want::Run(_) => None,
            Want::Rest(reason) => Some(reason),
        }
    }
}

/// Hold the underlying disk open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskWant {
    /// Where it is.
    pub path: String,
    /// Bytes of it that belong to the resource.
    pub size: u64,
}

/// Append to this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggerWant {
    /// The own log. Another one than the running logger has means: rotate into it.
    pub log: LogName,
    /// Where the log before ended; `None` for the first log of a resource.
    pub pred: Option<ChainEnd>,
    /// Size of the device in bytes.
    pub size: u64,
}

/// Apply this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayWant {
    /// The log.
    pub log: LogName,
    /// Offset of the first record to apply.
    pub start: u64,
    /// Up to here records may be on the disk already.
    pub dirty_end: u64,
    /// How far.
    pub bound: Bound,
}

/// Bring this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchWant {
    /// The log.
    pub log: LogName,
    /// The member to ask.
    pub from: Host,
    /// Where the log before it ended, as far as known here.
    pub pred: Option<ChainEnd>,
    /// The local copy is damaged: bring all of it again.
    pub afresh: bool,
}

/// Copy the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncWant {
    /// The actual primary.
    pub from: Host,
    /// Everything below is synced.
    pub start: u64,
    /// Where to stop, in bytes.
    pub size: u64,
}

/// Offer the device to applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportWant {
    /// Its name.
    pub name: String,
}

/// A change of this host's own history. Made durable before anything else of the plan begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The replica goes on with the next log.
    Follow {
        /// That log.
        log: LogName,
    },
    /// The own version link of this log does not say what the file holds: write what is true.
    Relink {
        /// What the file holds.
        end: ChainEnd,
        /// What came before it.
        pred: Option<ChainEnd>,
    },
}

/// What to do for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePlan {
    /// The underlying disk.
    pub disk: Want<DiskWant>,
    /// The worker which appends to the own log.
    pub logger: Want<LoggerWant>,
    /// The worker which applies logs.
    pub replayer: Want<ReplayWant>,
    /// The worker which brings logs.
    pub fetcher: Want<FetchWant>,
    /// The worker which copies the disk.
    pub syncer: Want<SyncWant>,
    /// The device as applications see it.
    pub export: Want<ExportWant>,
    /// Changes of the own history, in this order.
    pub steps: Vec<Step>,
    /// Local copies of logs that will never be longer.
    pub finished: Vec<LogName>,
    /// A local copy that counted as complete and will be longer nevertheless.
    pub reopened: Option<LogName>,
    /// Local log files nobody needs.
    pub drop_logs: Vec<LogName>,
    /// Keys other hosts rely on: durable before anything else happens.
    pub keys: Vec<KeyChange>,
    /// Indicators to publish lazily.
    pub indicators: Vec<KeyChange>,
    /// What the keys say about the own replica is not believed, see [`doubt`].
    pub in_doubt: bool,
}

/// What this host should do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By resource.
    pub resources: BTreeMap<Resource, ResourcePlan>,
}

/// Decides for all resources in `which`.
pub fn decide<'a>(
    tree: &Tree,
    facts: &Facts,
    here: &Host,
    config: &NodeConfig,
    which: impl IntoIterator<Item = &'a Resource>,
) -> Plan {
    let resources = which
        .into_iter()
        .map(|res| {
            let lineage = Lineage::of(&ResourceView::new(tree, res));
            let plan = decide_one(tree, facts, here, config, (res, &lineage));
            (res.clone(), plan)
        })
        .collect();
    Plan { resources }
}

/// Decides for one resource; `lineage` is what `tree` says about its logs.
pub fn decide_one(
    tree: &Tree,
    facts: &Facts,
    here: &Host,
    config: &NodeConfig,
    (res, lineage): (&Resource, &Lineage),
) -> ResourcePlan {
    let none = ResourceFacts::default();
    let seen = Seen {
        tree,
        res,
        here,
        lineage,
    };
    decide_resource(&Ask {
        seen,
        lineage,
        all: facts,
        own: facts.resources.get(res).unwrap_or(&none),
        config,
    })
}

/// Everything one decision looks at.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The tree.
    pub seen: Seen<'a>,
    /// What the version links say together.
    pub lineage: &'a Lineage,
    /// Facts about the host.
    pub all: &'a Facts,
    /// Facts about this resource.
    pub own: &'a ResourceFacts,
    /// Limits and intervals.
    pub config: &'a NodeConfig,
}

impl Ask<'_> {
    /// Logs some worker of this host writes: those of the logger, also the one it is about to go on in, and that
    /// of the fetcher.
    pub fn logs_written(&self) -> Vec<&LogName> {
        let own = self.own;
        let rotating = own.logger.progress().and_then(|p| p.rotating.as_ref());
        let next = rotating.map(|(log, _)| log);
        let all = [own.logger.log(), next, own.fetcher.log()];
        all.into_iter().flatten().collect()
    }

    /// Is the switch of this host on, and is the daemon not going down?
    pub fn todo(&self, switch: Switch) -> bool {
        !self.all.stopping && self.seen.todo(self.seen.here, switch)
    }
}

fn decide_resource(ask: &Ask<'_>) -> ResourcePlan {
    if doubt::stands(ask) {
        let mut plan = doubt::rest();
        plan.indicators = report::indicators(ask, &plan, None);
        return plan;
    }
    let cursor = cursor::look(ask);
    let role = role::of(ask, cursor.as_ref());
    let disk = want_disk(ask);
    let logger = logger::want(ask, &role, cursor.as_ref());
    let replayer = replayer::want(ask, &role, cursor.as_ref());
    let fetcher = fetcher::want(ask, &role, cursor.as_ref());
    let syncer = syncer::want(ask);
    let export = export::want(ask, &role);
    let steps = cursor::steps(ask, &role, cursor.as_ref());
    let mut plan = ResourcePlan {
        disk,
        logger,
        replayer,
        fetcher,
        syncer,
        export,
        steps,
        finished: cursor::finished(ask),
        reopened: cursor::reopened(ask, cursor.as_ref()),
        drop_logs: housekeeping::logs_to_drop(ask, cursor.as_ref()),
        keys: housekeeping::keys(ask, cursor.as_ref()),
        indicators: Vec::new(),
        in_doubt: false,
    };
    plan.keys
        .extend(housekeeping::begun_for_nothing(ask, cursor.as_ref()));
    plan.keys.extend(housekeeping::role_key(ask, &plan.logger));
    plan.keys
        .extend(housekeeping::highest_number(ask, &plan.logger));
    let broken = emergency::keys(ask, &plan.logger, cursor.as_ref());
    plan.keys.extend(broken);
    plan.indicators = report::indicators(ask, &plan, cursor.as_ref());
    plan
}

/// The underlying disk is open while the operator wants it or somebody still works with it.
fn want_disk(ask: &Ask<'_>) -> Want<DiskWant> {
    let (Some(path), Some(size)) = (ask.seen.disk(), ask.seen.size()) else {
        return Want::Rest(Reason::NotMember);
    };
    let own = ask.own;
    let used = own.writes() || own.replayer.is_busy() || own.syncer.is_busy();
    if !used && ask.all.stopping {
        return Want::Rest(Reason::Stopping);
    }
    if !used && !ask.todo(Switch::Attach) {
        return Want::Rest(Reason::SwitchedOff(Switch::Attach));
    }
    Want::Run(DiskWant {
        path: path.to_owned(),
        size,
    })
}
