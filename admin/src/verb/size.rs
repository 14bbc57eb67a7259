//! Growing a resource: `resize`.
//!
//! Manual: "Online Resizing during Operation".

use crate::check;
use crate::human;
use crate::phases::{Progress, Step};
use crate::session::{Refusal, Session, of, refuse};
use crate::wait;

/// The largest size all disks of the members have room for.
fn possible_size(s: &Session<'_>, res: &str) -> u64 {
    let is_member = |host: &&str| s.tree.live(&of(res, format!("data-{host}"))).is_some();
    let disks = s.tree.owners(&of(res, "actsize-"));
    let sizes = disks.into_iter().filter(is_member).map(|host| {
        let size = s.tree.number(&of(res, format!("actsize-{host}")));
        size.unwrap_or(0).max(0) as u64
    });
    sizes.min().unwrap_or(0)
}

fn warn_of_stray_disks(s: &mut Session<'_>, res: &str) {
    let disks = s.tree.owners(&of(res, "actsize-"));
    let members = check::members(&s.tree, res);
    let strays = disks.into_iter().filter(|host| !members.contains(host));
    let strays: Vec<String> = strays.map(str::to_owned).collect();
    for host in strays {
        s.warn(format!(
            "stray disk size of host '{host}' at resource '{res}', which is no member"
        ));
    }
}

/// What the operator asks for; without a word all that is possible.
fn wanted(s: &Session<'_>, res: &str) -> Result<u64, Refusal> {
    match s.args.first() {
        Some(word) => human::parse_size(word).map_err(|e| Refusal(e.to_string())),
        None => {
            let size = possible_size(s, res);
            Ok(size - size % human::SIZE_STEP_BYTES)
        }
    }
}

/// `resize`: only at the primary, only larger, and all disks have to have room.
pub fn may_resize(s: &mut Session<'_>, res: &str) -> Step {
    check::daemon_runs(s, "cannot resize: the mars daemon is not running")?;
    if let Some(word) = s.args.first().cloned() {
        let size = human::parse_size(&word).map_err(|e| Refusal(e.to_string()))?;
        if size == 0 {
            return refuse("the new size must be greater than zero");
        }
        s.say(format!("new size: {size} bytes"));
    }
    check::primary(s, res, true)?;
    warn_of_stray_disks(s, res);
    let new = wanted(s, res)?;
    let old = s.tree.number(&of(res, "size")).unwrap_or(0).max(0) as u64;
    let possible = possible_size(s, res);
    s.say(format!("old_size={old}"));
    s.say(format!("possible_size={possible}"));
    s.say(format!("new_size={new}"));
    if new > possible {
        return refuse(format!(
            "new size {new} is larger than the possible size {possible}"
        ));
    }
    if new == 0 {
        return refuse("the new size must be greater than zero");
    }
    if new < old {
        return refuse("only increases of the size are possible!");
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
