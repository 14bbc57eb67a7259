//! How a resource begins, and how members and guests come to it.
//!
//! Membership is a live `data-<host>` key. The number of a resource's first log survives its deletion in `maxnr`, so that logs
//! of an earlier life are never taken for those of a later one. The other direction is in `verb/leaving.rs`.
//!
//! Manual: "Creating and Maintaining Resources".

use std::time::Duration;

use crate::chain;
use crate::check;
use crate::daemon::Trigger;
use crate::disk::DISK_BYTES_MIN;
use crate::human;
use crate::phases::{Progress, Step};
use crate::ping::{self, Scope};
use crate::session::{Refusal, Session, of, refuse, shown};
use crate::snapshot::Time;
use crate::split_brain::{self, Point};
use crate::verb::purge;
use crate::wait::{self, Switch};

const NO_DIGEST: &str = "00000000000000000000000000000000";

/// Distance of the log numbers of two lives of one resource name.
const NEXT_LIFE_LOGS: u64 = 100_000;

/// What a peer knows of a resource arrives that soon behind its sign of life.
const SHOWS_UP_WITHIN: Duration = Duration::from_secs(5);

/// Attempts of `join-resource` before a cluster that keeps changing makes it give up.
const JOIN_ROUNDS_MAX: u32 = 6;

/// What the words behind `create-resource` and `join-resource` say.
struct Wish {
    disk: String,
    device: String,
    size: Option<String>,
}

fn wish(s: &mut Session<'_>, res: &str) -> Result<Wish, Refusal> {
    check::identifier(s, res)?;
    let mut words = s.args.clone().into_iter();
    let Some(disk) = words.next() else {
        return refuse("you must supply a disk (block device or regular file) as argument");
    };
    let device = words
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| res.to_owned());
    check::identifier(s, &device)?;
    let size = words.next();
    Ok(Wish { disk, device, size })
}

/// The usable size of the disk, looked at here; at most what the operator asks for.
fn usable_size(s: &mut Session<'_>, wish: &Wish) -> Result<u64, Refusal> {
    let found = s
        .daemon
        .disk_size(&wish.disk)
        .map_err(|e| Refusal(e.to_string()))?;
    let kind = if wish.disk.starts_with("/dev/") {
        "block device"
    } else {
        "image file"
    };
    s.say(format!(
        "{kind} '{}': determined size = {found} bytes",
        wish.disk
    ));
    if found <= DISK_BYTES_MIN {
        return refuse(format!("implausible size {found}"));
    }
    let usable = found - found % human::SIZE_STEP_BYTES;
    let asked = wish.size.as_deref().map(human::parse_size).transpose();
    match asked.map_err(|e| Refusal(e.to_string()))? {
        Some(size) if size > found => refuse(format!(
            "requested size {size} is larger than the disk ({found} bytes)"
        )),
        Some(size) if size <= DISK_BYTES_MIN => refuse(format!("implausible size {size}")),
        Some(size) => Ok(size),
        None => Ok(usable),
    }
}

/// A device name may belong to one resource per host only; to another one elsewhere at the price of a warning.
fn device_name_is_free(s: &mut Session<'_>, res: &str, device: &str) -> Result<(), Refusal> {
    let host = s.host.clone();
    let others: Vec<String> = s
        .tree
        .resources()
        .into_iter()
        .filter(|other| *other != res)
        .map(str::to_owned)
        .collect();
    for other in others {
        let users: Vec<String> = s
            .tree
            .owners(&of(&other, "device-"))
            .into_iter()
            .filter(|user| s.tree.live(&of(&other, format!("device-{user}"))) == Some(device))
            .map(str::to_owned)
            .collect();
        if users.contains(&host) {
            return refuse(format!(
                "device name '{device}' is already used by resource '{other}'"
            ));
        }
        if !users.is_empty() {
            s.warn(format!(
                "device name '{device}' is used by resource '{other}' on other hosts ({})",
                users.join(",")
            ));
        }
    }
    for user in s
        .tree
        .owners(&of(res, "device-"))
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
    {
        let theirs = s.text(&of(res, format!("device-{user}")));
        if theirs != device {
            s.warn(format!(
                "resource '{res}' has the device name '{theirs}' on host '{user}', not '{device}'"
            ));
        }
    }
    Ok(())
}

fn switches_off_disk(s: &mut Session<'_>, res: &str) {
    let host = s.host.clone();
    for (switch, value) in [
        (Switch::Attach, "0"),
        (Switch::Fetch, "1"),
        (Switch::Sync, "1"),
        (Switch::Replay, "1"),
    ] {
        s.set(of(res, format!("todo-{host}/{}", switch.key())), value);
    }
}

/// `create-resource`
pub fn create(s: &mut Session<'_>, res: &str) -> Step {
    let wish = wish(s, res)?;
    s.say(format!("creating new resource '{res}'"));
    may_create(s, res)?;
    let size = usable_size(s, &wish)?;
    device_name_is_free(s, res, &wish.device)?;
    purge::purge_errors(s, res);
    purge::purge_logs(s, res, false)?;
    s.flush()?;
    no_remains(s, res, 0)?;
    s.say(format!(
        "resource '{res}' will appear as local device '/dev/mars/{}'",
        wish.device
    ));
    write_new(s, res, &wish, size);
    s.flush()?;
    s.say(format!("successfully created resource '{res}'"));
    let host = s.host.clone();
    s.set(of(res, format!("todo-{host}/attach")), "1");
    s.flush()?;
    s.trigger_quietly(Trigger::Fetch)?;
    tell_systemd(s, res)
}

fn may_create(s: &mut Session<'_>, res: &str) -> Result<(), Refusal> {
    let members: Vec<String> = check::participants(&s.tree, res);
    if !members.is_empty() {
        s.warn(format!(
            "resource '{res}' has the following replicas already: {}",
            members.join(",")
        ));
    }
    if !s.tree.dir_exists(&format!("resource-{res}")) {
        return Ok(());
    }
    s.warn(format!("resource '{res}' exists already"));
    if s.tree.owners(&of(res, "replay-")).is_empty() {
        return Ok(());
    }
    s.refuse_unless_forced(format!("creating resource '{res}' again would trash it"))
}

/// Own logs and links of an earlier life, from that number on, must be gone.
fn no_remains(s: &mut Session<'_>, res: &str, from: u64) -> Result<(), Refusal> {
    let host = s.host.clone();
    let logs = chain::logs(&s.tree, res)
        .into_iter()
        .filter(|log| log.origin == host && log.nr >= from)
        .map(|log| log.name());
    let links = chain::versions(&s.tree, res)
        .into_iter()
        .filter(|(nr, owner)| *owner == host && *nr >= from);
    let remains: Vec<String> = logs
        .chain(links.map(|(nr, owner)| chain::version_name(nr, &owner)))
        .collect();
    if remains.is_empty() {
        return Ok(());
    }
    for name in &remains {
        s.warn(format!("there is a remaining '{}'", shown(&of(res, name))));
    }
    if !s.forced() {
        s.hint(format!(
            "try 'log-purge-all {res}', or 'delete-resource {res}' when nobody needs it any more"
        ));
    }
    s.refuse_unless_forced(format!("resource '{res}' has remains of an earlier life"))?;
    for name in remains {
        s.delete(of(res, name));
    }
    Ok(())
}

fn write_new(s: &mut Session<'_>, res: &str, wish: &Wish, size: u64) {
    let host = s.host.clone();
    let start = s.tree.number(&of(res, "maxnr")).map_or(1, |last| {
        last.max(0).unsigned_abs().saturating_add(NEXT_LIFE_LOGS)
    });
    let (first, before) = (
        chain::log_name(start, &host),
        chain::log_name(start - 1, &host),
    );
    s.set(of(res, "size"), size.to_string());
    s.set(of(res, format!("data-{host}")), &wish.disk);
    s.set(of(res, format!("device-{host}")), &wish.device);
    s.set(of(res, format!("actual-{host}/if-on")), "0");
    switches_off_disk(s, res);
    s.set(of(res, "primary"), &host);
    s.set(of(res, "userspace/last-primary"), &host);
    s.set(of(res, format!("syncstatus-{host}")), size.to_string());
    s.set(of(res, format!("replay-{host}")), format!("{first},0,0"));
    s.set(of(res, &first), "0");
    s.set(
        of(res, chain::version_name(start - 1, &host)),
        format!("{NO_DIGEST},{before},0:"),
    );
    s.set(
        of(res, chain::version_name(start, &host)),
        format!("{NO_DIGEST},{first},0:{NO_DIGEST},{before},0"),
    );
    if start > 1 {
        s.set(of(res, format!("skip-check-{host}")), start.to_string());
    }
    s.set(of(res, "maxnr"), start.to_string());
}

/// `join-resource`
pub fn join(s: &mut Session<'_>, res: &str) -> Step {
    let wish = wish(s, res)?;
    ping::peers(s, Scope::Everybody, "*")?;
    let host = s.host.clone();
    if s.tree.live(&of(res, format!("data-{host}"))).is_some() {
        s.warn(format!(
            "resource '{res}' has been already joined -- this is dangerous!"
        ));
        if !s.forced() {
            return refuse("refusing dangerous operation");
        }
    }
    s.say(format!("joining to existing resource '{res}'"));
    let size = usable_size(s, &wish)?;
    device_name_is_free(s, res, &wish.device)?;
    let primary = primary_to_join(s, res)?;
    disk_is_large_enough(s, res, size)?;
    purge::purge_errors(s, res);
    purge::purge_logs(s, res, false)?;
    s.flush()?;
    let start = position_of_primary(s, res, &primary)?;
    no_remains(s, res, start.nr)?;
    for _ in 0..JOIN_ROUNDS_MAX {
        let start = position_of_primary(s, res, &primary)?;
        write_joined(s, res, &wish, &start, &primary)?;
        s.flush()?;
        s.trigger_quietly(Trigger::Fetch)?;
        ping::peers(s, Scope::Resource(res), &primary)?;
        s.set(of(res, format!("todo-{host}/attach")), "1");
        s.flush()?;
        s.trigger_quietly(Trigger::Fetch)?;
        if split_brain::find(&s.tree, res).is_none() || s.options.dry_run {
            s.say(format!(
                "Successfully joined resource '{res}' to primary '{primary}'"
            ));
            return tell_systemd(s, res);
        }
        start_again(s, res)?;
    }
    refuse(format!(
        "resource '{res}' keeps changing while this host joins it: try again later"
    ))
}

/// A designated primary with room for its logs, which is not this host; and this host has to be part of the cluster.
fn primary_to_join(s: &mut Session<'_>, res: &str) -> Result<String, Refusal> {
    if !shows_up(s, res)? {
        return refuse(format!("resource '{res}' does not exist"));
    }
    let host = s.host.clone();
    let Some(primary) = check::designated(&s.tree, res) else {
        return refuse(format!(
            "cannot join resource '{res}': noone is designated as primary"
        ));
    };
    ping::peers(s, Scope::Resource(res), "*")?;
    if primary == host {
        return refuse(format!(
            "cannot join resource '{res}': this host '{host}' is designated as its primary"
        ));
    }
    if s.tree.live(&format!("ips/ip-{host}")).is_none() {
        return refuse("this host has no address in /mars/ips/: use join-cluster first");
    }
    if check::has_emergency(&s.tree, res, &primary) {
        return refuse(format!(
            "cannot join resource '{res}': its primary '{primary}' is in emergency mode"
        ));
    }
    Ok(primary)
}

/// Whether the resource is known here, or becomes so soon: a peer's sign of life may be here before all it knows.
fn shows_up(s: &mut Session<'_>, res: &str) -> Result<bool, Refusal> {
    let began = s.daemon.elapsed();
    loop {
        let is_known = s.tree.dir_exists(&format!("resource-{res}"))
            && s.tree.number(&of(res, "size")).is_some();
        let waited = s.daemon.elapsed().saturating_sub(began);
        if is_known || s.daemon.is_saved() || waited >= SHOWS_UP_WITHIN {
            return Ok(is_known);
        }
        s.pause(SHOWS_UP_WITHIN - waited)?;
    }
}

fn disk_is_large_enough(s: &mut Session<'_>, res: &str, disk: u64) -> Result<(), Refusal> {
    let size: u64 = s.need(&of(res, "size"))?.parse().unwrap_or(0);
    if disk < size {
        return s.refuse_unless_forced(format!(
            "disk has only {disk} bytes, but resource '{res}' has {size}"
        ));
    }
    if disk > size {
        s.say(format!(
            "disk has {disk} bytes, resource '{res}' uses only {size} of them"
        ));
    }
    Ok(())
}

fn position_of_primary(s: &Session<'_>, res: &str, primary: &str) -> Result<Point, Refusal> {
    let key = of(res, format!("replay-{primary}"));
    match Point::parse(&s.need(&key)?) {
        Some(at) => Ok(at),
        None => refuse(format!("replay link '{}' cannot be read", shown(&key))),
    }
}

fn write_joined(
    s: &mut Session<'_>,
    res: &str,
    wish: &Wish,
    start: &Point,
    primary: &str,
) -> Result<(), Refusal> {
    let host = s.host.clone();
    s.set(of(res, format!("data-{host}")), &wish.disk);
    s.set(of(res, format!("device-{host}")), &wish.device);
    s.set(of(res, format!("actual-{host}/if-on")), "0");
    switches_off_disk(s, res);
    crate::verb::repair::set_start(s, res, start, primary)?;
    let number = format!("{:09}", start.nr);
    s.set(of(res, format!("skip-check-{host}")), number);
    s.set(of(res, format!("syncstatus-{host}")), "0");
    Ok(())
}

/// The primary has gone on to another log meanwhile: everything off, then once more.
fn start_again(s: &mut Session<'_>, res: &str) -> Result<(), Refusal> {
    let host = s.host.clone();
    s.warn(format!(
        "resource '{res}' has changed while this host joined it: once more"
    ));
    for switch in Switch::ALL {
        s.set(of(res, format!("todo-{host}/{}", switch.key())), "0");
    }
    s.flush()?;
    for switch in Switch::ALL {
        wait::actual(s, res, switch.indicator(), false, true, &host)?;
    }
    Ok(())
}

/// `activate-guest`: this host gets to know the resource without having a disk for it.
pub fn activate_guest(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    s.need(&of(res, "size"))?;
    let device = of(res, format!("device-{host}"));
    if s.tree.live(&device).is_some() {
        let on = of(res, format!("actual-{host}/if-on"));
        s.need(&on)?;
        if s.tree
            .stamp(&on)
            .is_some_and(|at: Time| at.is_recent(s.tree.now, 2 * s.options.window))
        {
            s.say(format!("resource '{res}' is already activated"));
            return Ok(Progress::Done);
        }
    }
    s.set(device, res);
    s.set(of(res, format!("actual-{host}/if-on")), "0");
    s.flush()?;
    ping::peers(s, Scope::Resource(res), "*")?;
    tell_systemd(s, res)
}

/// Phases about systemd: the wish is in the tree, units follow it by themselves.
pub fn tell_systemd(_s: &mut Session<'_>, _res: &str) -> Step {
    Ok(Progress::Done)
}
