//! Growing a resource: `resize`.
//!
//! Manual: "Online Resizing during Operation".

use crate::check;
use crate::human;
use crate::phases::{Progress, Step};
use crate::session::{Refusal, Session, of, refuse};
use crate::wait;

/// The largest size all disks of the members have room for.
pub fn possible_size(s: &mut Session<'_>, res: &str) -> Option<u64> {
    let mut smallest: Option<u64> = None;
    for host in s
        .tree
        .owners(&of(res, "actsize-"))
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
    {
        if s.tree.live(&of(res, format!("data-{host}"))).is_none() {
            s.warn(format!(
                "stray disk size of host '{host}' at resource '{res}', which is no member"
            ));
            continue;
        }
        let size = s
            .tree
            .number(&of(res, format!("actsize-{host}")))
            .unwrap_or(0)
            .max(0) as u64;
        smallest = Some(smallest.map_or(size, |least| least.min(size)));
    }
    smallest
}

/// What the operator asks for; without a word all that is possible.
fn wanted(s: &mut Session<'_>, res: &str) -> Result<u64, Refusal> {
    match s.args.first().cloned() {
        Some(word) => human::parse_size(&word).map_err(|e| Refusal(e.to_string())),
        None => Ok(possible_size(s, res).map_or(0, |size| size - size % human::SIZE_STEP_BYTES)),
    }
}

/// `resize`: only at the primary, only larger, and all disks have to have room.
pub fn may_resize(s: &mut Session<'_>, res: &str) -> Step {
    check::daemon_runs(s, "cannot resize: the mars daemon is not running")?;
    if let Some(word) = s.args.first().cloned() {
        let size = human::parse_size(&word).map_err(|e| Refusal(e.to_string()))?;
        s.say(format!("new size: {size} bytes"));
    }
    check::primary(s, res, true)?;
    let new = wanted(s, res)?;
    let old = s.tree.number(&of(res, "size")).unwrap_or(0).max(0) as u64;
    let possible = possible_size(s, res).unwrap_or(0);
    s.say(format!("old_size={old}"));
    s.say(format!("possible_size={possible}"));
    s.say(format!("new_size={new}"));
    if new == 0 {
        return refuse("the new size must be greater than zero");
    }
    if new < old {
        return refuse("only increases of the size are possible!");
    }
    if new > possible {
        return refuse(format!(
            "new size {new} is larger than the possible size {possible}"
        ));
    }
    let own = s
        .tree
        .number(&of(res, format!("actsize-{}", s.host)))
        .unwrap_or(0)
        .max(0) as u64;
    if own > new {
        s.warn(format!("You are wasting {} bytes locally", own - new));
    }
    Ok(Progress::Done)
}

/// `resize`: what is new counts as synchronised here, then the size itself.
pub fn set_size(s: &mut Session<'_>, res: &str) -> Step {
    check::primary(s, res, false)?;
    let new = wanted(s, res)?.to_string();
    let host = s.host.clone();
    s.set(of(res, format!("syncstatus-{host}")), &new);
    s.flush()?;
    s.set(of(res, "size"), new);
    Ok(Progress::Done)
}

/// `resize`: until the device of this host has the new size.
pub fn wait_for_size(s: &mut Session<'_>, res: &str) -> Step {
    if s.options.dry_run {
        return Ok(Progress::Done);
    }
    let new = wanted(s, res)?.to_string();
    // The device takes its size from this key as soon as the daemon has seen it.
    let size = of(res, "size");
    wait::must(s, |tree| tree.live(&size) == Some(&new), |_| {})?;
    s.say(format!("Device size is now {new}."));
    Ok(Progress::Done)
}
