//! Who should be primary: planned handover, forced failover, nobody.
//!
//! A planned handover takes the designation away first, with a stamp just behind the old one so that a concurrent real designation
//! wins; waits until the old primary has stepped down and this host has every byte; and only then designates this host. When that
//! does not happen in time the designation goes back to the old primary. A forced one designates at once.
//!
//! Manual: "Handover", "Split Brain Situations and Emergency Handover".

use crate::chain;
use crate::check;
use crate::phases::{Progress, Step};
use crate::ping::{self, Scope};
use crate::session::{Refusal, Session, of, refuse};
use crate::snapshot::{Snapshot, Time};
use crate::split_brain;
use crate::verb::{resource, switch};
use crate::view;
use crate::wait::{self, Switch};

const NOBODY: &str = "(none)";

/// Who was primary before this command: the designated one, else the last one seen, else the last one recorded.
fn old_primary(s: &mut Session<'_>, res: &str) -> Option<String> {
    let now = check::designated(&s.tree, res);
    if now.is_some() {
        s.last_designated = now.clone();
    }
    let recorded = || {
        s.tree
            .live(&of(res, "userspace/last-primary"))
            .map(str::to_owned)
    };
    now.or_else(|| s.last_designated.clone()).or_else(recorded)
}

/// Designates a host, or nobody, and says so. Queued; the stamp is set for the flush.
fn designate(s: &mut Session<'_>, res: &str, new: &str) -> Result<(), Refusal> {
    s.flush()?;
    let old = old_primary(s, res).unwrap_or_else(|| NOBODY.to_owned());
    let key = of(res, "primary");
    if new == NOBODY {
        let before = s.tree.stamp(&key).unwrap_or(s.tree.now);
        s.stamp_next_flush(Time::from_ns(before.as_ns().saturating_add(1)));
    } else {
        let last = s.text(&of(res, "userspace/last-primary"));
        if !last.is_empty() {
            s.set(of(res, "userspace/prev-primary"), last);
        }
        s.set(of(res, "userspace/last-primary"), new);
    }
    s.set(key, new);
    s.say(format!(
        "designated primary changed from '{old}' to '{new}'"
    ));
    if new == NOBODY { s.flush() } else { Ok(()) }
}

/// `primary`: hear the peers first.
pub fn ask_peers(s: &mut Session<'_>, res: &str) -> Step {
    if !s.forced() {
        let scope = if res.is_empty() {
            Scope::Mentioned
        } else {
            Scope::Resource(res)
        };
        ping::peers(s, scope, "*")?;
    }
    Ok(Progress::Done)
}

/// `primary`: everything that must hold before the designation is touched.
pub fn may_become_primary(s: &mut Session<'_>, res: &str) -> Step {
    check::daemon_runs(
        s,
        "cannot switch to primary: the mars daemon is not running",
    )?;
    let old = old_primary(s, res);
    let host = s.host.clone();
    say_designated(s, old.as_deref());
    if old.as_deref() != Some(&host) {
        histories_agree(s, res)?;
        replicas_are_complete(s, res, old.as_deref())?;
    }
    let fetch_on = !s.forced();
    wait::todo(s, res, "attach", true, false)?;
    wait::todo(s, res, "connect", fetch_on, false)?;
    wait::todo(s, res, "replay", true, false)?;
    log_is_sound(s, res)?;
    if want_unit(s, res, &host, "systemd-start-unit") {
        return Ok(Progress::Done);
    }
    may_take_from(s, res, old.as_deref())
}

/// Only `--force` chooses between two histories.
fn histories_agree(s: &Session<'_>, res: &str) -> Result<(), Refusal> {
    if s.forced() || split_brain::find(&s.tree, res).is_none() {
        return Ok(());
    }
    let host = &s.host;
    refuse(format!(
        "resource '{res}' is in SPLIT BRAIN: decide which replica is to survive. If it is that of '{host}', use 'pause-fetch' and \
         'primary --force'; on all others use 'invalidate' or 'leave-resource'"
    ))
}

fn say_designated(s: &mut Session<'_>, old: Option<&str>) {
    s.say(format!(
        "Current designated primary: {}",
        old.unwrap_or(NOBODY)
    ));
}

/// This replica always has to be complete; others unless forced, or told to be ignored, or dead.
fn replicas_are_complete(s: &mut Session<'_>, res: &str, old: Option<&str>) -> Result<(), Refusal> {
    let host = s.host.clone();
    check::sync_finished(s, res, &host, false)?;
    let members: Vec<String> = check::members(&s.tree, res)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if members.len() <= 2 {
        return Ok(());
    }
    for member in members
        .iter()
        .filter(|member| **member != host && Some(member.as_str()) != old)
    {
        let beat: Option<Time> = s.need(&format!("actual-{member}/time"))?.parse().ok();
        let is_dead = !beat.is_some_and(|at| at.is_recent(s.tree.now, 2 * s.options.window));
        let may_go_on = s.forced() || s.options.ignore_sync || is_dead;
        check::sync_finished(s, res, member, may_go_on)?;
    }
    Ok(())
}

fn log_is_sound(s: &mut Session<'_>, res: &str) -> Result<(), Refusal> {
    let code = s.text(&of(res, format!("actual-{}/replay-code", s.host)));
    let number: i64 = code
        .split(',')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    if number >= 0 {
        return Ok(());
    }
    s.refuse_unless_forced(format!(
        "cannot become primary: replay has stopped at a defective logfile (code '{code}')"
    ))
}

/// Where units should run, the wish is recorded. `true` when there is such a unit, and so the rest of the checks is its.
fn want_unit(s: &mut Session<'_>, res: &str, want: &str, unit: &str) -> bool {
    let key = of(res, "systemd-want");
    if s.tree.live(&key).is_none() {
        return false;
    }
    s.set(key, want);
    let has_unit = s
        .tree
        .live(&of(res, unit))
        .is_some_and(|unit| !unit.is_empty());
    if has_unit {
        if let Some(old) = old_primary(s, res) {
            s.set(format!("userspace/systemd-status-stop-{old}"), "0");
        }
        s.say(format!(
            "systemd units of resource '{res}' are wanted on '{want}'"
        ));
    }
    has_unit
}

fn may_take_from(s: &mut Session<'_>, res: &str, old: Option<&str>) -> Step {
    let host = s.host.clone();
    if let Some(old) = old.filter(|old| *old != host) {
        check::device_closed(s, res, old)?;
        s.say(format!("all preconditions OK for resource '{res}'"));
    }
    Ok(Progress::Done)
}

/// `primary`: fetch everything there is; a forced one stops fetching instead.
pub fn prepare_fetch(s: &mut Session<'_>, res: &str) -> Step {
    let (host, command) = (s.host.clone(), s.command.clone());
    if s.forced() {
        wait::actual(s, res, "is-copying", false, true, &host)?;
    } else {
        s.say(format!("Prepare new primary '{host}' handover"));
        switch::put(s, res, &host, Switch::Fetch, true, &command);
    }
    Ok(Progress::Done)
}

/// `primary`: with units configured, wait until they have closed the device on the old side.
pub fn wait_for_units(s: &mut Session<'_>, res: &str) -> Step {
    let has_units = s.tree.live(&of(res, "systemd-want")).is_some()
        && s.tree.live(&of(res, "systemd-stop-unit")).is_some();
    let old = old_primary(s, res);
    let fetch_on = s.tree.live(&of(res, format!("todo-{}/connect", s.host))) == Some("1");
    let Some(old) = old.filter(|old| has_units && fetch_on && *old != s.host) else {
        return Ok(Progress::Done);
    };
    let announce = |s: &mut Session<'_>| {
        s.say(format!(
            "waiting until the units of resource '{res}' have stopped on '{old}'"
        ))
    };
    let closed = wait::until(s, |tree| check::open_count(tree, res, &old) == 0, announce)?;
    if !closed {
        s.set(of(res, "systemd-want"), old.as_str());
        s.flush()?;
        return refuse(format!(
            "the units of resource '{res}' have not stopped on '{old}', they stay there"
        ));
    }
    Ok(Progress::Done)
}

/// `primary`: once this host has everything, nobody is designated.
pub fn leave_primary(s: &mut Session<'_>, res: &str) -> Step {
    let old = old_primary(s, res);
    if s.forced() || old.is_none() || old.as_deref() == Some(&s.host) {
        return Ok(Progress::Done);
    }
    if may_hand_over(s, res)? == Progress::NotYet {
        return Ok(Progress::NotYet);
    }
    designate(s, res, NOBODY)?;
    Ok(Progress::Done)
}

/// `primary`: until the old primary has stepped down, and everything it still wrote is here.
pub fn old_steps_down(s: &mut Session<'_>, res: &str) -> Step {
    s.flush()?;
    if s.forced() {
        return Ok(Progress::Done);
    }
    match old_primary(s, res) {
        Some(old) if old == s.host => s.say("Switching back to last primary."),
        Some(old) if old_is_gone(s, res, &old) == Progress::NotYet => return Ok(Progress::NotYet),
        _ => {}
    }
    may_hand_over(s, res)
}

fn old_is_gone(s: &mut Session<'_>, res: &str, old: &str) -> Progress {
    let role = s.text(&of(res, format!("actual-{old}/is-primary")));
    if role != "0" {
        s.say(format!(
            "waiting for other primary host ({old}) to disappear...."
        ));
        return Progress::NotYet;
    }
    s.say(format!("OK, other host ({old}) is not actual primary."));
    Progress::Done
}

/// `primary`: hear the peers again.
pub fn hear_old_again(s: &mut Session<'_>, res: &str) -> Step {
    if s.forced() {
        return Ok(Progress::Done);
    }
    ping::peers(s, Scope::Mentioned, "*")?;
    match old_primary(s, res) {
        Some(old)
            if old != s.host && s.text(&of(res, format!("actual-{old}/is-primary"))) != "0" =>
        {
            Ok(Progress::NotYet)
        }
        _ => may_hand_over(s, res),
    }
}

/// `primary`: with units configured, once more.
pub fn still_complete(s: &mut Session<'_>, res: &str) -> Step {
    if s.forced() || s.tree.live(&of(res, "systemd-want")).is_none() {
        return Ok(Progress::Done);
    }
    may_hand_over(s, res)
}

/// The time of a handover is over: the old primary goes on, unless somebody else has been designated meanwhile.
pub fn give_back(s: &mut Session<'_>, res: &str) -> Step {
    let old = old_primary(s, res);
    if s.text(&of(res, "primary")) == NOBODY
        && let Some(old) = old.filter(|old| *old != s.host)
    {
        s.warn(format!(
            "handover of resource '{res}' has not been completed: host '{old}' is designated again"
        ));
        if s.tree.live(&of(res, "systemd-want")).is_some() {
            s.set(of(res, "systemd-want"), old.as_str());
        }
        designate(s, res, &old)?;
        s.flush()?;
    }
    Ok(Progress::Done)
}

/// `primary`: from now on it should be this host.
pub fn become_primary(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    designate(s, res, &host)?;
    Ok(Progress::Done)
}

/// `primary`: until applications can open the device; then all switches are on.
pub fn wait_for_device(s: &mut Session<'_>, res: &str) -> Step {
    let is_split = split_brain::find(&s.tree, res).is_some();
    let is_saved = s.daemon.is_saved();
    let waits = !s.options.dry_run && (!is_split || !is_saved);
    if is_split {
        let ending = if waits {
            "it does not end by itself"
        } else {
            "not waiting for the device"
        };
        s.warn(format!("SPLIT BRAIN of resource '{res}': {ending}"));
        s.warn("decide which replica is to survive, and use 'invalidate' or 'leave-resource' on the others");
    }
    // Until the own log has begun, the fetch switch says which of two histories is meant: who forces a host and
    // resumes fetching at once must not take the force away before the daemon has seen it.
    if waits {
        wait::device_to_come(s, res)?;
    }
    if is_split {
        return Ok(Progress::Done);
    }
    switch::all_on(s, res)
}

/// `primary`: with units configured, until they have opened the device.
pub fn wait_for_start(s: &mut Session<'_>, res: &str) -> Step {
    let has_units = s
        .tree
        .live(&of(res, "systemd-start-unit"))
        .is_some_and(|unit| !unit.is_empty());
    if has_units
        && s.tree.live(&of(res, "systemd-want")).is_some()
        && check::open_count(&s.tree, res, &s.host) == 0
    {
        return Ok(Progress::NotYet);
    }
    Ok(Progress::Done)
}

/// `secondary`: the device has to be closed.
pub fn may_leave_primary(s: &mut Session<'_>, res: &str) -> Step {
    let old = old_primary(s, res);
    say_designated(s, old.as_deref());
    if s.forced() {
        wait::todo(s, res, "connect", false, false)?;
    }
    if want_unit(s, res, NOBODY, "systemd-stop-unit") {
        return Ok(Progress::Done);
    }
    if let Some(old) = old {
        check::device_closed(s, res, &old)?;
    }
    s.say(format!("all preconditions OK for resource '{res}'"));
    Ok(Progress::Done)
}

/// `secondary`: nobody is designated.
pub fn designate_nobody(s: &mut Session<'_>, res: &str) -> Step {
    designate(s, res, NOBODY)?;
    Ok(Progress::Done)
}

/// `secondary`: until the old primary has stepped down.
pub fn wait_until_gone(s: &mut Session<'_>, res: &str) -> Step {
    match old_primary(s, res) {
        Some(old) if old != s.host && !s.forced() => Ok(old_is_gone(s, res, &old)),
        _ => Ok(Progress::Done),
    }
}

/// `secondary`: until the device of this host has gone.
pub fn wait_device_gone(s: &mut Session<'_>, res: &str) -> Step {
    if s.tree.daemon_runs {
        wait::device_to_go(s, res)?;
    }
    Ok(Progress::Done)
}

/// `secondary`: with units configured, until nobody has a device open.
pub fn wait_all_closed(s: &mut Session<'_>, res: &str) -> Step {
    if s.tree.live(&of(res, "systemd-want")).is_none() {
        return Ok(Progress::Done);
    }
    Ok(match check::closed_wherever_alive(s, res) {
        true => Progress::Done,
        false => Progress::NotYet,
    })
}

/// Whether this host holds and has applied exactly what the old primary has written, digests included.
fn may_hand_over(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    if old_primary(s, res).as_deref() == Some(&host) {
        return Ok(Progress::Done);
    }
    if split_brain::find(&s.tree, res).is_some() {
        s.warn(format!(
            "resource '{res}' has come into SPLIT BRAIN: no handover"
        ));
        return Ok(Progress::NotYet);
    }
    if chain::replays(&s.tree, res).len() < 2 {
        return Ok(Progress::Done);
    }
    if check::has_emergency(&s.tree, res, &host) {
        return refuse(format!(
            "host '{host}' is in emergency mode at resource '{res}': it cannot take over"
        ));
    }
    let old = old_primary(s, res).or_else(|| last_writer(&s.tree, res));
    let complete = match old {
        Some(old) if old == host => true,
        Some(old) => has_everything(&s.tree, res, &old, &host),
        None => all_agree(&s.tree, res),
    };
    if complete {
        return Ok(Progress::Done);
    }
    let timeout = s.options.timeout;
    s.say(format!(
        "Trying to avoid split brain for {timeout} s: logfile update not yet completed."
    ));
    let said = view::run(
        &s.tree,
        &s.options,
        &["view-replinfo".to_owned(), res.to_owned()],
    );
    s.pass_on(&said);
    Ok(Progress::NotYet)
}

fn highest_version(tree: &Snapshot, res: &str) -> Option<u64> {
    chain::versions(tree, res).iter().map(|(nr, _)| *nr).max()
}

/// Who wrote the newest log, when only one has a log of that number.
fn last_writer(tree: &Snapshot, res: &str) -> Option<String> {
    let newest = highest_version(tree, res)?;
    let mut writers = chain::logs(tree, res)
        .into_iter()
        .filter(|log| log.nr == newest)
        .map(|log| log.origin);
    let writer = writers.next()?;
    writers.next().is_none().then_some(writer)
}

fn has_everything(tree: &Snapshot, res: &str, old: &str, here: &str) -> bool {
    let Some(newest) = highest_version(tree, res) else {
        return false;
    };
    let link = |host: &str| tree.live(&of(res, chain::version_name(newest, host)));
    let replay = |host: &str| tree.live(&of(res, format!("replay-{host}")));
    link(old).is_some()
        && link(old) == link(here)
        && replay(old).is_some()
        && replay(old) == replay(here)
}

fn all_agree(tree: &Snapshot, res: &str) -> bool {
    let Some(newest) = highest_version(tree, res) else {
        return false;
    };
    let prefix = of(res, format!("version-{newest:09}-"));
    let links: std::collections::BTreeSet<&str> = tree
        .with_prefix(&prefix)
        .filter(|(_, item)| item.is_live())
        .map(|(_, item)| item.value.as_str())
        .collect();
    links.len() == 1
}

/// Phases about systemd: the wish is in the tree, units follow it by themselves.
pub fn tell_systemd(s: &mut Session<'_>, res: &str) -> Step {
    resource::tell_systemd(s, res)
}
