//! Switches: what a member may do with its disk, its logs, its replay and its sync.
//!
//! A switch is a wish in a key; the daemon of that host follows it, and it survives reboots. Pausing is announced each time,
//! resuming only when it changes something, as the original does.
//!
//! Manual: "Operation of the Resource".

use crate::check;
use crate::phases::{Progress, Step};
use crate::session::{Refusal, Session, of, refuse};
use crate::wait::{self, Switch, digit};

/// Queues one switch of one host and says so in the name of `command`.
pub fn put(s: &mut Session<'_>, res: &str, host: &str, switch: Switch, on: bool, command: &str) {
    let key = of(res, format!("todo-{host}/{}", switch.key()));
    if on && s.tree.live(&key) == Some("1") {
        s.say(format!("{command} on resource {res} is already activated"));
        return;
    }
    s.set(key, digit(on));
    s.say(format!("successfully started {command} on resource {res}"));
}

fn here(s: &mut Session<'_>, res: &str, switch: Switch, on: bool) -> Step {
    let (host, command) = (s.host.clone(), s.command.clone());
    put(s, res, &host, switch, on, &command);
    Ok(Progress::Done)
}

fn everywhere(s: &mut Session<'_>, res: &str, switch: Switch, on: bool) -> Step {
    let command = s.command.clone();
    let hosts: Vec<String> = s
        .tree
        .children(&format!("resource-{res}"))
        .into_iter()
        .filter_map(|name| name.strip_prefix("todo-"))
        .map(str::to_owned)
        .collect();
    for host in hosts {
        put(s, res, &host, switch, on, &command);
    }
    Ok(Progress::Done)
}

fn may_sync(s: &mut Session<'_>, res: &str) -> Result<(), Refusal> {
    let command = s.command.clone();
    check::sync_startable(s, res, &command)
}

/// `pause-fetch`, `disconnect`
pub fn fetch_off(s: &mut Session<'_>, res: &str) -> Step {
    here(s, res, Switch::Fetch, false)
}

/// `resume-fetch`, `connect`
pub fn fetch_on(s: &mut Session<'_>, res: &str) -> Step {
    here(s, res, Switch::Fetch, true)
}

/// `pause-fetch-global`, `disconnect-global`
pub fn fetch_off_everywhere(s: &mut Session<'_>, res: &str) -> Step {
    everywhere(s, res, Switch::Fetch, false)
}

/// `resume-fetch-global`, `connect-global`
pub fn fetch_on_everywhere(s: &mut Session<'_>, res: &str) -> Step {
    everywhere(s, res, Switch::Fetch, true)
}

/// `pause-replay`
pub fn replay_off(s: &mut Session<'_>, res: &str) -> Step {
    here(s, res, Switch::Replay, false)
}

/// `resume-replay`
pub fn replay_on(s: &mut Session<'_>, res: &str) -> Step {
    here(s, res, Switch::Replay, true)
}

/// `pause-replay-global`
pub fn replay_off_everywhere(s: &mut Session<'_>, res: &str) -> Step {
    everywhere(s, res, Switch::Replay, false)
}

/// `resume-replay-global`
pub fn replay_on_everywhere(s: &mut Session<'_>, res: &str) -> Step {
    everywhere(s, res, Switch::Replay, true)
}

/// `pause-sync`
pub fn sync_off(s: &mut Session<'_>, res: &str) -> Step {
    here(s, res, Switch::Sync, false)
}

/// `resume-sync`
pub fn sync_on(s: &mut Session<'_>, res: &str) -> Step {
    may_sync(s, res)?;
    here(s, res, Switch::Sync, true)
}

/// `pause-sync-global`
pub fn sync_off_everywhere(s: &mut Session<'_>, res: &str) -> Step {
    everywhere(s, res, Switch::Sync, false)
}

/// `resume-sync-global`
pub fn sync_on_everywhere(s: &mut Session<'_>, res: &str) -> Step {
    may_sync(s, res)?;
    everywhere(s, res, Switch::Sync, true)
}

/// `attach`: the switch
pub fn attach(s: &mut Session<'_>, res: &str) -> Step {
    here(s, res, Switch::Attach, true)
}

/// `detach`: the switch
pub fn detach(s: &mut Session<'_>, res: &str) -> Step {
    here(s, res, Switch::Attach, false)
}

/// `attach`, `up`: nothing has to hold before.
pub fn nothing_to_check(_s: &mut Session<'_>, _res: &str) -> Step {
    Ok(Progress::Done)
}

/// `up`: all four switches. A sync that cannot begin is refused and stays as it was, but keeps nobody from the rest.
pub fn all_on(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    put(s, res, &host, Switch::Attach, true, "attach");
    put(s, res, &host, Switch::Fetch, true, "resume-fetch-local");
    match check::sync_startable(s, res, "resume-sync-local") {
        Ok(()) => put(s, res, &host, Switch::Sync, true, "resume-sync-local"),
        Err(refusal) => s.dying(&refusal),
    }
    put(s, res, &host, Switch::Replay, true, "resume-replay-local");
    Ok(Progress::Done)
}

/// `down`: all four switches, in the order which lets every worker end before its disk goes.
pub fn all_off(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    put(s, res, &host, Switch::Replay, false, "pause-replay-local");
    put(s, res, &host, Switch::Sync, false, "pause-sync-local");
    put(s, res, &host, Switch::Fetch, false, "pause-fetch");
    put(s, res, &host, Switch::Attach, false, "detach");
    Ok(Progress::Done)
}

/// `detach`, `down`: nobody may have the device open.
pub fn may_detach(s: &mut Session<'_>, res: &str) -> Step {
    if s.forced() {
        return Ok(Progress::Done);
    }
    let host = s.host.clone();
    if check::open_count(&s.tree, res, &host) == 0 {
        return Ok(Progress::Done);
    }
    if s.tree.live(&of(res, "systemd-want")).is_some() {
        s.set(
            of(res, format!("todo-{host}/{}", Switch::Attach.key())),
            "0",
        );
        s.flush()?;
        return Ok(Progress::Done);
    }
    let device = wait::device_path(s, res);
    refuse(format!("device '{device}' is in use"))
}

/// `detach`: with systemd units, wait until they have closed the device.
pub fn wait_for_units(s: &mut Session<'_>, res: &str) -> Step {
    let has_units = s.tree.live(&of(res, "systemd-stop-unit")).is_some();
    if has_units && s.command == "detach" {
        let host = s.host.clone();
        let announce = |s: &mut Session<'_>| {
            s.say(format!(
                "waiting until the units of resource '{res}' have stopped"
            ))
        };
        wait::must(s, |tree| check::open_count(tree, res, &host) == 0, announce)?;
    }
    Ok(Progress::Done)
}

/// `attach`, `up`: until the disk is open.
pub fn wait_attached(s: &mut Session<'_>, res: &str) -> Step {
    if skip_wait(s) {
        return Ok(Progress::Done);
    }
    let host = s.host.clone();
    wait::actual(s, res, "is-attached", true, true, &host)?;
    Ok(Progress::Done)
}

/// `detach`, `down`: until the disk is closed and nobody works on it.
pub fn wait_detached(s: &mut Session<'_>, res: &str) -> Step {
    if skip_wait(s) {
        return Ok(Progress::Done);
    }
    let host = s.host.clone();
    wait::actual(s, res, "is-attached", false, true, &host)?;
    wait::device_to_go(s, res)?;
    wait::actual(s, res, "is-replaying", false, true, &host)?;
    wait::actual(s, res, "is-syncing", false, true, &host)?;
    Ok(Progress::Done)
}

fn skip_wait(s: &mut Session<'_>) -> bool {
    if s.forced() {
        return true;
    }
    if !s.tree.daemon_runs {
        s.warn(format!(
            "the daemon is not running: '{}' will become effective when it has been started",
            s.command
        ));
        return true;
    }
    false
}
