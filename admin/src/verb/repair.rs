//! Making a replica begin again: `invalidate`, `fake-sync`, `set-replay`.
//!
//! Manual: "Split Brain Situations", "Emergency Mode and its Resolution".

use crate::chain;
use crate::check;
use crate::phases::{Progress, Step};
use crate::session::{Refusal, Session, of, refuse, shown};
use crate::split_brain::Point;
use crate::verb::{purge, switch};
use crate::wait::{self, Switch};

/// `invalidate`: a secondary of a designated primary.
pub fn may_invalidate(s: &mut Session<'_>, res: &str) -> Step {
    check::not_primary(s, res, false)?;
    let primary = other_primary(s, res)?;
    check::primary_has_room(s, res, &primary)?;
    start_is_known(s, res, &primary)?;
    Ok(Progress::Done)
}

/// Before anything is given up: is there a place to begin at? A host that was made primary by force may say where it is
/// before it says how its log continues the others, or never say it.
fn start_is_known(s: &mut Session<'_>, res: &str, primary: &str) -> Result<(), Refusal> {
    let link = s.tree.live(&of(res, format!("replay-{primary}")));
    let Some(start) = link.and_then(Point::parse) else {
        return Ok(());
    };
    let version = of(res, chain::version_name(start.nr, primary));
    match s.tree.live(&version) {
        Some(_) => Ok(()),
        None => s.refuse_unless_forced(no_version_link(primary, start.nr)),
    }
}

fn no_version_link(primary: &str, nr: u64) -> String {
    format!("host '{primary}' has no version link of its log number {nr} yet")
}

/// The designated primary, which must be another host.
pub fn other_primary(s: &Session<'_>, res: &str) -> Result<String, Refusal> {
    let command = &s.command;
    match check::designated(&s.tree, res) {
        None => refuse(format!(
            "Cannot execute '{command}' because noone is designated as primary."
        )),
        Some(primary) if primary == s.host => refuse(format!(
            "Cannot execute '{command}' on the designated primary '{primary}'"
        )),
        Some(primary) => Ok(primary),
    }
}

/// `invalidate`: all switches off.
pub fn all_off(s: &mut Session<'_>, res: &str) -> Step {
    let (host, command) = (s.host.clone(), s.command.clone());
    for which in [Switch::Attach, Switch::Sync, Switch::Fetch, Switch::Replay] {
        switch::put(s, res, &host, which, false, &command);
    }
    Ok(Progress::Done)
}

/// `invalidate`: until no worker is left.
pub fn wait_all_off(s: &mut Session<'_>, res: &str) -> Step {
    if s.forced() {
        return Ok(Progress::Done);
    }
    let host = s.host.clone();
    for indicator in ["is-syncing", "is-copying", "is-replaying", "is-attached"] {
        wait::actual(s, res, indicator, false, true, &host)?;
    }
    Ok(Progress::Done)
}

/// `invalidate`: forget the own part of the history from the log on where the primary is now.
pub fn drop_own_history(s: &mut Session<'_>, res: &str) -> Step {
    let primary = other_primary(s, res)?;
    let start = position_of(s, res, &primary)?;
    let host = s.host.clone();
    s.set(of(res, format!("syncstatus-{host}")), "0");
    for (nr, owner) in chain::versions(&s.tree, res) {
        if owner == host && nr >= start.nr {
            s.delete(of(res, chain::version_name(nr, &host)));
        }
    }
    s.delete(of(res, format!("replay-{host}")));
    Ok(Progress::Done)
}

fn position_of(s: &Session<'_>, res: &str, host: &str) -> Result<Point, Refusal> {
    let key = of(res, format!("replay-{host}"));
    let link = s.need(&key)?;
    match Point::parse(&link) {
        Some(at) => Ok(at),
        None => refuse(format!(
            "replay link '{}' -> '{link}' cannot be read",
            shown(&key)
        )),
    }
}

/// Phases which only see to it that everything before is set.
pub fn just_flush(_s: &mut Session<'_>, _res: &str) -> Step {
    Ok(Progress::Done)
}

/// `invalidate`: old logs and old messages.
pub fn purge_own(s: &mut Session<'_>, res: &str) -> Step {
    purge::purge_logs(s, res, false)?;
    purge::purge_errors(s, res);
    Ok(Progress::Done)
}

/// `invalidate`: begin at the log where the primary is now.
pub fn begin_at_primary(s: &mut Session<'_>, res: &str) -> Step {
    let primary = other_primary(s, res)?;
    let start = position_of(s, res, &primary)?;
    let host = s.host.clone();
    set_start(s, res, &start, &primary)?;
    // Written as it stands in the replay link, with its zeros.
    s.set(
        of(res, format!("skip-check-{host}")),
        format!("{:09}", start.nr),
    );
    Ok(Progress::Done)
}

/// Queues a replay link at the beginning of log `start`, and version links which say that until there we agree with `primary`.
pub fn set_start(
    s: &mut Session<'_>,
    res: &str,
    start: &Point,
    primary: &str,
) -> Result<(), Refusal> {
    let host = s.host.clone();
    let replay = of(res, format!("replay-{host}"));
    let value = format!("{},0,0", chain::log_name(start.nr, &start.origin));
    s.say(format!(
        "creating new replaylink '{}' -> '{value}'",
        shown(&replay)
    ));
    s.set(replay, value);
    for nr in [Some(start.nr), start.nr.checked_sub(1)]
        .into_iter()
        .flatten()
    {
        let Some(link) = s
            .tree
            .live(&of(res, chain::version_name(nr, primary)))
            .map(str::to_owned)
        else {
            if nr == start.nr {
                return refuse(no_version_link(primary, nr));
            }
            continue;
        };
        let own = of(res, chain::version_name(nr, &host));
        s.say(format!(
            "Creating new versionlink '{}' -> '{link}'",
            shown(&own)
        ));
        s.set(own, link);
    }
    Ok(())
}

/// `invalidate`: all switches on; the sync last, in a step of its own.
pub fn all_on(s: &mut Session<'_>, res: &str) -> Step {
    let (host, command) = (s.host.clone(), s.command.clone());
    for which in [Switch::Attach, Switch::Fetch, Switch::Replay] {
        switch::put(s, res, &host, which, true, &command);
    }
    s.flush()?;
    switch::put(s, res, &host, Switch::Sync, true, &command);
    Ok(Progress::Done)
}

/// `fake-sync`: stop the syncer.
pub fn sync_off(s: &mut Session<'_>, res: &str) -> Step {
    switch::sync_off(s, res)
}

/// `fake-sync`: until it has stopped.
pub fn wait_sync_off(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    wait::actual(s, res, "is-syncing", false, true, &host)?;
    Ok(Progress::Done)
}

/// `fake-sync`: claim that everything has been copied. The switch stays off.
pub fn claim_synced(s: &mut Session<'_>, res: &str) -> Step {
    let size = s.need(&of(res, "size"))?;
    let host = s.host.clone();
    s.set(of(res, format!("syncstatus-{host}")), size);
    Ok(Progress::Done)
}

/// `set-replay`: begin at the log with that number.
pub fn set_replay(s: &mut Session<'_>, res: &str) -> Step {
    let nr: u64 = match s.args.first().map(|word| word.parse()) {
        Some(Ok(nr)) if nr > 0 => nr,
        _ => return refuse("you must supply a logfile number as argument, greater than 0"),
    };
    check::not_primary(s, res, false)?;
    wait::todo(s, res, "replay", false, false)?;
    let host = s.host.clone();
    let now = position_of(s, res, &host)?;
    if nr > now.nr {
        s.refuse_unless_forced(format!(
            "logfile number {nr} is larger than the present one ({})",
            now.nr
        ))?;
    }
    let primary = other_primary(s, res)?;
    let start = Point {
        nr,
        len: 0,
        origin: origin_of(s, res, nr).unwrap_or_else(|| primary.clone()),
    };
    set_start(s, res, &start, &primary)?;
    s.set(
        of(res, format!("skip-check-{host}")),
        format!("{nr:09} set-replay was used: from log {} to {nr}", now.nr),
    );
    Ok(Progress::Done)
}

/// Who wrote the log with that number, when only one has.
fn origin_of(s: &Session<'_>, res: &str, nr: u64) -> Option<String> {
    let mut writers = chain::logs(&s.tree, res)
        .into_iter()
        .filter(|log| log.nr == nr)
        .map(|log| log.origin);
    let writer = writers.next()?;
    writers.next().is_none().then_some(writer)
}
