//! The trouble that happens in random worlds.

use std::path::Path;
use std::time::Duration;

use super::{RES, Shape, by_hand, far, links};
use crate::app::App;
use crate::disk::Fault;
use crate::exec::Medium;
use crate::host::{Crash, STATE_DIR, SimHost};
use crate::net::Link;
use crate::prng::Prng;
use crate::promises;
use crate::world::World;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A daemon is killed and started again.
    KillProcess,
    /// The power of a host goes and comes back.
    CutPower,
    /// The power goes in the middle of some later storage call.
    CutPowerLater,
    /// One medium of a host hangs, and the power goes while requests pile up behind it.
    CutPowerInStall,
    /// A host is stopped in order, and started again later.
    StopInOrder,
    /// Two hosts do not hear each other.
    CutPair,
    /// One host does not hear another one.
    CutOneWay,
    /// A host is alone.
    Isolate,
    /// A link becomes slow and lossy.
    SlowLink,
    /// All channels between two hosts break.
    ResetPair,
    /// The network is repaired.
    HealNetwork,
    /// Storage of a host hangs for a while.
    Stall,
    /// The next writes or flushes of a log fail.
    LogError,
    /// The next call on a disk fails.
    DiskError,
    /// The file system of a host is full for a while.
    FullDisk,
    /// The clock of a host jumps.
    ClockJump,
    /// A planned handover, application closed first.
    Handover,
    /// `primary` typed anywhere, application or not.
    PrimaryAnyhow,
    /// A host is forced to be primary.
    Failover,
    /// Nobody shall be primary.
    Secondary,
    /// A switch is turned off or on.
    Switches,
    /// A replica is thrown away and copied afresh.
    Invalidate,
    /// A replica is thrown away, and its host is to become primary at once, asked by the key itself.
    TakeUnsynced,
    /// A host leaves the resource and joins again.
    LeaveAndJoin,
    /// Logs are rotated and deleted by hand.
    Logs,
    /// A command that makes no sense.
    WrongCommand,
    /// Everything that is down is started, everything off is switched on.
    Recover,
    /// A host hangs for some seconds: everything from and to it is late.
    HangingHost,
    /// All links of a host become slow.
    SlowHost,
    /// The hosts fall into groups that do not hear each other.
    Partition,
    /// Somebody sets or deletes keys by hand, sensible or not.
    TreeKeys,
    /// Limits are set, right and wrong ones, and the resource grows.
    Limits,
    /// Many rotations and deletions of logs at once.
    LogBurst,
    /// A copy of a log is damaged on the medium.
    DamagedCopy,
    /// A host is away for hours.
    LongAbsence,
    /// An empty host gets the name of a secondary.
    ReplacedHost,
    /// The clock of a host is centuries off.
    FarClock,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Kind] = &[
        Kind::KillProcess,
        Kind::CutPower,
        Kind::CutPowerLater,
        Kind::CutPowerInStall,
        Kind::StopInOrder,
        Kind::CutPair,
        Kind::CutOneWay,
        Kind::Isolate,
        Kind::SlowLink,
        Kind::ResetPair,
        Kind::HealNetwork,
        Kind::Stall,
        Kind::LogError,
        Kind::DiskError,
        Kind::FullDisk,
        Kind::ClockJump,
        Kind::Handover,
        Kind::PrimaryAnyhow,
        Kind::Failover,
        Kind::Secondary,
        Kind::Switches,
        Kind::Invalidate,
        Kind::TakeUnsynced,
        Kind::LeaveAndJoin,
        Kind::Logs,
        Kind::WrongCommand,
        Kind::Recover,
        Kind::HangingHost,
        Kind::SlowHost,
        Kind::Partition,
        Kind::TreeKeys,
        Kind::Limits,
        Kind::LogBurst,
        Kind::DamagedCopy,
        Kind::LongAbsence,
        Kind::ReplacedHost,
        Kind::FarClock,
    ];

    /// Those of which hundreds happen in a long world: they cost little time.
    pub const BRIEF: &[Kind] = &[
        Kind::CutPair,
        Kind::ResetPair,
        Kind::HealNetwork,
        Kind::PrimaryAnyhow,
        Kind::Secondary,
        Kind::Switches,
        Kind::Logs,
        Kind::WrongCommand,
        Kind::HangingHost,
        Kind::TreeKeys,
        Kind::Limits,
        Kind::LogBurst,
    ];
}

/// One kind, by weight; [`Kind::Recover`] when nothing has any.
pub fn pick(chance: &Prng, mix: &[(Kind, u64)]) -> Kind {
    let all: u64 = mix.iter().map(|(_, weight)| weight).sum();
    let mut drawn = chance.below(all);
    for (kind, weight) in mix {
        if drawn < *weight {
            return *kind;
        }
        drawn -= weight;
    }
    Kind::Recover
}

/// Makes it happen.
pub async fn cause(w: &mut World, shape: &Shape, kind: Kind) {
    let names = &shape.names;
    let name = names[w.chance.below(names.len() as u64) as usize].clone();
    let other = names[w.chance.below(names.len() as u64) as usize].clone();
    match kind {
        Kind::KillProcess
        | Kind::CutPower
        | Kind::CutPowerLater
        | Kind::CutPowerInStall
        | Kind::StopInOrder
        | Kind::Recover => {
            hosts(w, shape.size, kind, &name).await;
        }
        Kind::CutPair
        | Kind::CutOneWay
        | Kind::Isolate
        | Kind::SlowLink
        | Kind::ResetPair
        | Kind::HealNetwork => network(w, shape, kind, &name, &other),
        Kind::Stall | Kind::LogError | Kind::DiskError | Kind::FullDisk | Kind::ClockJump => {
            storage(w, kind, &name);
        }
        Kind::HangingHost | Kind::SlowHost | Kind::Partition => links::cause(w, shape, kind, &name),
        Kind::TreeKeys => by_hand::set_keys(w, shape, &name),
        Kind::Limits => by_hand::set_limits(w, shape, &name),
        Kind::LogBurst => by_hand::log_burst(w, &name),
        Kind::DamagedCopy => by_hand::damage_copy(w, &name),
        Kind::LongAbsence => far::away(w, &name).await,
        Kind::ReplacedHost => far::replace(w, shape, &name).await,
        Kind::FarClock => far::far_clock(w, &name),
        _ => operators(w, kind, &name).await,
    }
}

/// The disk of a host that has just gone down, by whatever way, is compared with what its keys claim.
fn look_at_replica(w: &mut World, size: u64, name: &str, how: &str) {
    match promises::images::after_end(w, name, RES, size) {
        Ok(true) => w.count(&format!("replicas compared after a {how}")),
        Ok(false) => {}
        Err(why) => w.break_promise(why),
    }
}

/// A medium hangs at most so long before the power goes.
const STALL_BEFORE_CUT: Duration = Duration::from_secs(8);

fn any_medium(w: &World) -> Medium {
    match w.chance.below(3) {
        0 => Medium::Log,
        1 => Medium::Disk,
        _ => Medium::Tree,
    }
}

async fn hosts(w: &mut World, size: u64, kind: Kind, name: &str) {
    let ran = w.host(name).node().is_some();
    match kind {
        Kind::KillProcess => w.crash(name, Crash::Process),
        Kind::CutPower => w.crash(name, Crash::Power),
        Kind::CutPowerLater => {
            burn_a_fuse(w, name);
            let host = name.to_owned();
            w.run_until(Duration::from_secs(20), |w| w.host(&host).fs.is_off())
                .await;
            w.apps.values().for_each(App::forget_cut);
            w.crash(name, Crash::Power);
        }
        Kind::CutPowerInStall => {
            let medium = any_medium(w);
            w.note(name, &format!("{medium:?} hangs, then the power goes"));
            if let Some(exec) = &w.host(name).exec {
                exec.stall(medium, STALL_BEFORE_CUT);
            }
            let pause = w.chance.below(STALL_BEFORE_CUT.as_millis() as u64);
            w.run_for(Duration::from_millis(pause)).await;
            w.crash(name, Crash::Power);
        }
        Kind::StopInOrder => w.stop(name).await,
        _ => return recover(w).await,
    }
    if ran {
        let in_order = kind == Kind::StopInOrder;
        look_at_replica(w, size, name, if in_order { "stop" } else { "crash" });
    }
    if w.chance.chance(700) {
        w.run_for(Duration::from_millis(w.chance.below(8_000)))
            .await;
        w.start_again(name).await;
    }
}

/// The power goes soon: at some storage call, or in the moment in which an application is told that something is durable.
fn burn_a_fuse(w: &mut World, name: &str) {
    let fs = &w.host(name).fs;
    if let Some(app) = w.apps.get(RES).filter(|_| w.shows(name, RES))
        && w.chance.chance(500)
    {
        app.cut_power_at_answer(name, fs, w.chance.between(1, 8));
        return w.count("power cuts at an answer");
    }
    let calls = w.chance.below(400);
    w.note(name, &format!("power goes after {calls} storage calls"));
    fs.cut_power_after(calls);
}

async fn recover(w: &mut World) {
    let names: Vec<String> = w.hosts.keys().cloned().collect();
    for name in names {
        w.start_again(&name).await;
        w.type_later(&name, &format!("marsadm up {RES}"));
    }
}

fn network(w: &World, shape: &Shape, kind: Kind, name: &str, other: &str) {
    w.note(name, &format!("{kind:?} {other}"));
    let (a, b) = (&w.host(name).name, &w.host(other).name);
    match kind {
        Kind::CutPair => w.net.cut(a, b),
        Kind::CutOneWay => w.net.cut_one_way(a, b),
        Kind::Isolate => {
            for peer in &shape.names {
                w.net.cut(a, &w.host(peer).name);
            }
        }
        Kind::SlowLink => {
            let link = Link {
                delay: Duration::from_millis(w.chance.below(300)),
                jitter: Duration::from_millis(w.chance.below(200)),
                loss_permille: w.chance.below(300),
                bandwidth: w.chance.below(4) * (64 << 10),
            };
            w.net.set_link(a, b, link);
        }
        Kind::ResetPair => w.net.reset(a, b),
        _ => w.net.heal(),
    }
}

fn storage(w: &World, kind: Kind, name: &str) {
    let host = w.host(name);
    let fault = match w.chance.below(3) {
        0 => Fault::ReadError,
        1 => Fault::WriteError,
        _ => Fault::FlushError,
    };
    match kind {
        Kind::Stall => {
            let medium = any_medium(w);
            let pause = Duration::from_millis(w.chance.below(30_000));
            w.note(name, &format!("{medium:?} stalls for {pause:?}"));
            if let Some(exec) = &host.exec {
                exec.stall(medium, pause);
            }
        }
        Kind::LogError => {
            w.note(name, &format!("log: {fault:?}"));
            host.fs
                .plan_fault(&Path::new(STATE_DIR).join("resource-data"), fault);
        }
        Kind::DiskError => {
            w.note(name, &format!("disk: {fault:?}"));
            host.fs.plan_fault(&SimHost::disk_path(RES), fault);
        }
        Kind::FullDisk => {
            let room = w.chance.below(300 << 10);
            w.note(name, &format!("{room} bytes left"));
            host.fs.leave_room(room);
        }
        _ => {
            let skew = w.chance.between(0, 7_200_000) as i64 - 3_600_000;
            w.note(name, &format!("clock is {skew} ms off"));
            host.clock.set_skew_ns(skew * 1_000_000);
        }
    }
}

/// Switches as operators turn them; `up` more often, so that most are on.
const SWITCH_VERBS: &[&str] = &[
    "pause-replay",
    "resume-replay",
    "pause-sync",
    "resume-sync",
    "pause-fetch",
    "resume-fetch",
    "detach",
    "attach",
    "down",
    "up",
    "up",
];

/// What operators do to logs by hand.
const LOG_VERBS: &[&str] = &[
    "log-rotate",
    "log-delete-all",
    "cron",
    "log-purge-all",
    "log-delete",
];

/// Commands that make no sense.
const WRONG_COMMANDS: &[&str] = &[
    "primary nosuch",
    "invalidate",
    "detach data data2",
    "log-rotate nosuch",
    "primary data --forec",
    "create-resource data /disk-data",
    "delete-resource data",
    "view all",
    "view-diskstate",
    "secondary",
];

async fn operators(w: &mut World, kind: Kind, name: &str) {
    let later = |w: &mut World, command: &str| w.type_later(name, &format!("marsadm {command}"));
    match kind {
        Kind::Handover => handover(w, name).await,
        Kind::PrimaryAnyhow => later(w, "primary data --timeout=30"),
        Kind::Failover => failover(w, name).await,
        Kind::Secondary => later(w, "secondary data --timeout=30"),
        Kind::Switches => {
            if let Some(verb) = w.chance.pick(SWITCH_VERBS) {
                later(w, &format!("{verb} data --timeout=30"));
            }
        }
        Kind::Invalidate => later(w, "invalidate data --timeout=30"),
        Kind::TakeUnsynced => take_unsynced(w, name).await,
        Kind::LeaveAndJoin => leave_and_join(w, name).await,
        Kind::Logs => {
            if let Some(verb) = w.chance.pick(LOG_VERBS) {
                later(w, &format!("{verb} data --timeout=20"));
            }
        }
        _ => {
            let command = w.chance.pick(WRONG_COMMANDS).copied();
            // An empty host that has not heard of the resource is free to create another one of that name.
            let wrong =
                |command: &&str| !command.starts_with("create") || w.has_heard_of(name, RES);
            if let Some(command) = command.filter(wrong) {
                later(w, &format!("{command} --timeout=10"));
            }
        }
    }
}

async fn failover(w: &World, name: &str) {
    for command in [
        "pause-fetch data",
        "primary data --force --timeout=20",
        "resume-fetch data",
    ] {
        w.type_at(name, &format!("marsadm {command}")).await;
    }
}

/// No command lets a host become primary while its replica is copied; the key can be set all the same, by mistake, and
/// is set back.
async fn take_unsynced(w: &World, name: &str) {
    let Some(primary) = w.hosts.keys().find(|host| w.shows(host, RES)) else {
        return;
    };
    if primary == name {
        return;
    }
    w.type_at(name, "marsadm pause-sync data").await;
    w.type_at(name, "marsadm invalidate data --timeout=30")
        .await;
    for host in [name, primary] {
        let set = format!("mars tree set resource-{RES}/primary {host}");
        w.type_at(name, &set).await;
        w.run_for(Duration::from_millis(w.chance.below(20_000)))
            .await;
    }
    w.type_at(name, "marsadm resume-sync data").await;
}

async fn leave_and_join(w: &World, name: &str) {
    let disk = SimHost::disk_path(RES);
    let left = w
        .type_at(name, "marsadm leave-resource data --timeout=20")
        .await;
    w.run_for(Duration::from_millis(w.chance.below(5_000)))
        .await;
    if left.exit == 0 {
        let disk = disk.display();
        let join = format!("marsadm join-resource data {disk} --timeout=20");
        w.type_at(name, &join).await;
    }
}

async fn handover(w: &mut World, name: &str) {
    let Some(app) = w.apps.get(RES).cloned() else {
        return;
    };
    app.rest();
    w.run_until(Duration::from_secs(20), |_| app.is_closed())
        .await;
    w.type_at(name, "marsadm primary data --timeout=30").await;
    app.work();
}
