//! Which systemd units belong to a resource, and where they should run.
//!
//! Only the wish is stored and read here; starting units is not done yet, so nothing claims that it was.
//!
//! Manual: "systemd Interface".

use crate::check;
use crate::phases::{Progress, Step};
use crate::session::{Session, of, refuse};

/// `set-systemd-unit RESOURCE START [STOP]`
pub fn set_unit(s: &mut Session<'_>, res: &str) -> Step {
    let Some(start) = s.args.first().cloned() else {
        return refuse("set-systemd-unit needs the name of a unit as argument");
    };
    let stop = s.args.get(1).cloned().unwrap_or_else(|| start.clone());
    let keys = ["systemd-start-unit", "systemd-stop-unit", "systemd-want"].map(|key| of(res, key));
    if start.is_empty() {
        for key in keys {
            s.delete(key);
        }
        return Ok(Progress::Done);
    }
    let start = unit_name(&start, "DEFAULT_START", res);
    let stop = unit_name(&stop, "DEFAULT_STOP", res);
    let [start_key, stop_key, want_key] = keys;
    s.set(start_key, start);
    s.set(stop_key, stop);
    if let Some(primary) = check::designated(&s.tree, res) {
        s.set(want_key, primary);
    }
    Ok(Progress::Done)
}

/// The word `DEFAULT` stands for templates with that mark; the name of the resource is written as systemd wants it.
fn unit_name(word: &str, default: &str, res: &str) -> String {
    if word == "DEFAULT" {
        return default.to_owned();
    }
    word.replace(res, &res.replace('-', "\\x2d"))
}

/// `get-systemd-unit RESOURCE`
pub fn get_unit(s: &mut Session<'_>, res: &str) -> Step {
    let (start, stop) = (
        s.text(&of(res, "systemd-start-unit")),
        s.text(&of(res, "systemd-stop-unit")),
    );
    if !start.is_empty() || !stop.is_empty() {
        s.say(format!("{start} {stop}"));
    }
    Ok(Progress::Done)
}

/// `get-systemd-want RESOURCE`
pub fn get_want(s: &mut Session<'_>, res: &str) -> Step {
    let want = s.text(&of(res, "systemd-want"));
    s.say(want);
    Ok(Progress::Done)
}

/// `set-systemd-want RESOURCE HOST|(none)`
pub fn set_want(s: &mut Session<'_>, res: &str) -> Step {
    let Some(want) = s.args.first().cloned() else {
        return refuse("set-systemd-want needs a host name or '(none)' as argument");
    };
    if want != "(none)" {
        check::host_is_known(s, &want)?;
    }
    if s.text(&of(res, "systemd-start-unit")).is_empty() {
        s.refuse_unless_forced(format!(
            "resource '{res}' has no systemd units: use 'set-systemd-unit' first"
        ))?;
    }
    s.set(of(res, "systemd-want"), want);
    Ok(Progress::Done)
}

/// `set-systemd-want`: until the device is closed everywhere, or open where it is wanted.
pub fn wait_for_want(s: &mut Session<'_>, res: &str) -> Step {
    if s.forced() || s.options.dry_run {
        return Ok(Progress::Done);
    }
    let want = s.text(&of(res, "systemd-want"));
    let reached = if want == "(none)" {
        check::closed_wherever_alive(s, res)
    } else {
        check::open_count(&s.tree, res, &want) != 0 || !check::is_alive(s, &want)
    };
    Ok(if reached {
        Progress::Done
    } else {
        Progress::NotYet
    })
}

/// `systemd-trigger`: units are not started by this version.
pub fn trigger(s: &mut Session<'_>, res: &str) -> Step {
    let resources = s.tree.resources().into_iter();
    let with_units: Vec<String> = resources
        .filter(|name| res.is_empty() || *name == res)
        .filter(|name| !s.tree.text(&of(name, "systemd-want")).is_empty())
        .map(str::to_owned)
        .collect();
    if with_units.is_empty() {
        s.say(match res {
            "" => "no resource has systemd units".to_owned(),
            res => format!("resource '{res}' has no systemd units"),
        });
        return Ok(Progress::Done);
    }
    refuse(format!(
        "starting and stopping units is not available in this version (wanted for {})",
        with_units.join(",")
    ))
}
