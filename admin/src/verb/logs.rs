//! Transaction logs: begin a new one, delete those nobody needs, regular housekeeping.
//!
//! A log may be deleted only when the replay position of every member has passed it. `log-rotate` sets the key of the next log; the
//! daemon of the primary sees it and goes on there.
//!
//! Manual: "Logfile rotation and deletion".

use std::time::Duration;

use crate::chain;
use crate::check;
use crate::daemon::Trigger;
use crate::phases::{Progress, Step};
use crate::session::{Refusal, Session, of, refuse, shown};
use crate::verb::purge;

/// Version of the command line as it is published for the daemon and other hosts.
pub const MARSADM_VERSION: &str = "2.9";

const BYTES_PER_LOGSIZE_UNIT: u64 = 1_000_000_000;

/// Logs and links younger than this many windows are left alone.
const YOUNG_WINDOWS: u64 = 2;

/// The mark of a host that has left is forgotten after so many seconds.
const LEFT_HOST_SECONDS: u64 = 3600;

/// Pause of `cron` between rotating and deleting, so that secondaries can follow.
const CRON_PAUSE: Duration = Duration::from_secs(7);

/// `log-rotate`
pub fn rotate_deprecated(s: &mut Session<'_>, res: &str) -> Step {
    s.warn("deprecated: please use 'cron' instead");
    rotate(s, res)
}

/// Which `marsadm` the operators of this host use.
fn set_version(s: &mut Session<'_>) {
    let key = format!("actual-{}/marsadm-version", s.host);
    s.set(key, MARSADM_VERSION);
}

/// Begins a new log at the primary, unless the present one is still empty or small.
pub fn rotate(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    set_version(s);
    if !check::is_actual_primary(&s.tree, res, &host) {
        s.warn(format!(
            "log rotation of resource '{res}' is only possible at the primary side"
        ));
        if !s.forced() {
            return Ok(Progress::Done);
        }
        s.pause(Duration::from_secs(3))?;
    }
    s.say(format!(
        "get logfiles '{}'",
        shown(&of(res, format!("log-*-{host}")))
    ));
    let own: Vec<chain::Log> = chain::logs(&s.tree, res)
        .into_iter()
        .filter(|log| log.origin == host)
        .collect();
    s.say(format!("found {} logfiles.", own.len()));
    let Some((last, older)) = own.split_last() else {
        return Ok(Progress::Done);
    };
    if last.len == 0 {
        let name = shown(&of(res, last.name()));
        s.say(format!(
            "an empty logfile '{name}' already exists, nothing to do."
        ));
        return Ok(Progress::Done);
    }
    let small = s
        .options
        .thresh_logsize
        .saturating_mul(BYTES_PER_LOGSIZE_UNIT);
    if older.len() as u64 >= s.options.thresh_logfiles && last.len < small {
        s.say_verbose(
            1,
            format!(
                "there are {} older logfiles and the last one is small, nothing to do.",
                older.len()
            ),
        );
        return Ok(Progress::Done);
    }
    begin_next(s, res, last)
}

fn begin_next(s: &mut Session<'_>, res: &str, last: &chain::Log) -> Step {
    let Some(next_nr) = last.nr.checked_add(1) else {
        return refuse(format!("there is no log number behind {}", last.nr));
    };
    let next = chain::log_name(next_nr, &s.host);
    if s.tree
        .entries
        .get(&of(res, &next))
        .is_some_and(|item| item.is_live())
    {
        s.warn(format!("next logfile '{next}' already exists"));
        return Ok(Progress::Done);
    }
    let link = of(res, chain::version_name(last.nr, &s.host));
    let quiet = !last
        .written
        .is_recent(s.tree.now, YOUNG_WINDOWS * s.options.window);
    if quiet && s.tree.live(&link).is_none() && !s.forced() {
        s.warn(format!(
            "version link '{}' does not exist: the last log is not yet complete",
            shown(&link)
        ));
        return Ok(Progress::Done);
    }
    let maxnr = s
        .tree
        .number(&of(res, "maxnr"))
        .unwrap_or(0)
        .max(i64::try_from(next_nr).unwrap_or(i64::MAX));
    s.set(of(res, next), "0");
    s.set(of(res, "maxnr"), maxnr.to_string());
    Ok(Progress::Done)
}

/// `log-delete`, `log-delete-all`
pub fn delete_all(s: &mut Session<'_>, res: &str) -> Step {
    delete_up_to(s, res, u64::MAX)
}

/// `log-delete-one`
pub fn delete_one(s: &mut Session<'_>, res: &str) -> Step {
    delete_up_to(s, res, 1)
}

/// Deletes logs every member has replayed, oldest first, `numbers_max` log numbers at most.
fn delete_up_to(s: &mut Session<'_>, res: &str, numbers_max: u64) -> Step {
    let logs = chain::logs(&s.tree, res);
    let Some(needed) = chain::replays(&s.tree, res)
        .iter()
        .map(|(_, at)| at.nr)
        .min()
    else {
        return refuse(format!("cannot find any replay links of resource '{res}'"));
    };
    let (Some(first), Some(last)) = (logs.first(), logs.last()) else {
        return refuse(format!("cannot find any logfiles of resource '{res}'"));
    };
    let limit = needed
        .min(last.nr)
        .min(first.nr.saturating_add(numbers_max));
    let young = YOUNG_WINDOWS * s.options.window;
    for log in &logs {
        if log.nr >= limit
            || log == last
            || (log.written.is_recent(s.tree.now, young) && !s.forced())
        {
            break;
        }
        s.say_verbose(1, format!("deleting '{}'", shown(&of(res, log.name()))));
        s.delete(of(res, log.name()));
    }
    for (nr, host) in chain::versions(&s.tree, res) {
        let key = of(res, chain::version_name(nr, &host));
        // One more link than logs stays, so that the first remaining log still knows its predecessor.
        let is_young = s
            .tree
            .stamp(&key)
            .is_some_and(|at| at.is_recent(s.tree.now, young));
        if nr >= limit.saturating_sub(1) || is_young {
            break;
        }
        s.delete(key);
    }
    forget_left_hosts(s)?;
    Ok(Progress::Done)
}

/// What hosts left behind which have been gone for an hour.
fn forget_left_hosts(s: &mut Session<'_>) -> Result<(), Refusal> {
    let prefix = "todo-global/deleted-";
    let is_known = |host: &str| s.tree.live(&format!("ips/ip-{host}")).is_some();
    let old: Vec<String> = s
        .tree
        .with_prefix(prefix)
        .filter(|(path, item)| {
            !is_known(&path[prefix.len()..])
                && !item.time().is_recent(s.tree.now, LEFT_HOST_SECONDS)
        })
        .map(|(path, _)| path.to_owned())
        .collect();
    if !old.is_empty() {
        s.forget(&old)?;
    }
    Ok(())
}

/// `cron`: purge this resource's keys, then rotate.
pub fn purge_and_rotate(s: &mut Session<'_>, res: &str) -> Step {
    purge::links_of_resource(s, res)?;
    if check::is_actual_primary(&s.tree, res, &s.host) || s.forced() {
        rotate(s, res)?;
    } else {
        set_version(s);
    }
    Ok(Progress::Done)
}

/// `cron`: let the secondaries see the new logs.
pub fn let_them_follow(s: &mut Session<'_>, _res: &str) -> Step {
    s.flush()?;
    s.trigger(Trigger::Fetch)?;
    let began = s.daemon.elapsed();
    loop {
        let waited = s.daemon.elapsed().saturating_sub(began);
        if waited >= CRON_PAUSE || s.options.dry_run || s.options.timeout.is_over(waited) {
            return Ok(Progress::Done);
        }
        s.pause(CRON_PAUSE - waited)?;
    }
}

/// `cron`: delete what all have replayed; a resource without logs has nothing to delete.
pub fn delete_old(s: &mut Session<'_>, res: &str) -> Step {
    if chain::logs(&s.tree, res).is_empty() || chain::replays(&s.tree, res).is_empty() {
        return Ok(Progress::Done);
    }
    delete_all(s, res)
}

/// `cron --autoclean`: keys of hosts which are not known any more, and old enough.
pub fn clean_peers(s: &mut Session<'_>, res: &str) -> Step {
    let days = s.options.autoclean_days;
    if days == 0 {
        return Ok(Progress::Done);
    }
    let known = known_hosts(s)?;
    let dir = format!("resource-{res}");
    let old: Vec<String> = s
        .tree
        .below(&dir)
        .filter(|(path, item)| {
            item.is_live()
                && is_of_gone_host(&path[dir.len() + 1..], &known)
                && !item.time().is_recent(s.tree.now, days * 86400)
        })
        .map(|(path, _)| path.to_owned())
        .collect();
    for key in old {
        s.say_verbose(1, format!("autoclean '{}'", shown(&key)));
        s.delete(key);
    }
    Ok(Progress::Done)
}

/// Keys which name a host at the end of their first part, and no known one. Logs, roles, sizes and units stay.
fn is_of_gone_host(name: &str, known: &[String]) -> bool {
    let part = name.split('/').next().unwrap_or(name);
    let stays = [
        "log-",
        "primary",
        "size",
        "systemd",
        "userspace",
        "defaults",
        "maxnr",
    ];
    let unnamed = stays
        .iter()
        .any(|word| part.starts_with(word) && !part.starts_with("defaults-"));
    !unnamed && part.contains('-') && !known.iter().any(|host| part.ends_with(&format!("-{host}")))
}

/// `cron --autoclean`: what belongs to no known host and is old enough. Keys of hosts go; resources only with `--force`.
pub fn clean_resources(s: &mut Session<'_>, _res: &str) -> Step {
    let days = s.options.autoclean_days;
    if days == 0 {
        return Ok(Progress::Done);
    }
    let known = known_hosts(s)?;
    let mut dirs: Vec<String> = Vec::new();
    for path in s.tree.entries.keys() {
        let dir = path.split('/').next().unwrap_or(path);
        if dirs.last().is_none_or(|last| last != dir) {
            dirs.push(dir.to_owned());
        }
    }
    dirs.retain(|dir| is_forsaken(s, dir, &known, days));
    for dir in dirs {
        let is_resource = dir.strip_prefix("resource-");
        if let Some(res) = is_resource.filter(|_| !s.forced()) {
            s.say_verbose(
                1,
                format!("resource '{res}' belongs to no known host; --force would remove it"),
            );
            continue;
        }
        let below = s.tree.entries.iter().filter(|(path, item)| {
            item.is_live() && (**path == dir || path.starts_with(&format!("{dir}/")))
        });
        let keys: Vec<String> = below.map(|(path, _)| path.clone()).collect();
        for key in keys {
            s.delete(key);
        }
    }
    Ok(Progress::Done)
}

/// All hosts which have, or had, an address. Without this host among them something is wrong, and nothing may go.
fn known_hosts(s: &Session<'_>) -> Result<Vec<String>, Refusal> {
    let prefix = "ips/ip-";
    let keys = s.tree.with_prefix(prefix);
    let known: Vec<String> = keys
        .map(|(path, _)| path[prefix.len()..].to_owned())
        .collect();
    if known.contains(&s.host) {
        return Ok(known);
    }
    refuse(format!(
        "own host '{}' is not known in /mars/ips/: no autoclean",
        s.host
    ))
}

/// Nothing in this directory (or key) names a known host, and nothing is younger than so many days.
fn is_forsaken(s: &Session<'_>, dir: &str, known: &[String], days: u64) -> bool {
    let stays = [
        "uuid",
        "userspace",
        "defaults",
        "todo-global",
        "ips",
        "lost+found",
    ];
    let names_known = |path: &str| {
        let mut parts = path.split('/');
        parts.any(|part| known.iter().any(|host| part.ends_with(&format!("-{host}"))))
    };
    let inside = format!("{dir}/");
    let mut all = s
        .tree
        .with_prefix(dir)
        .filter(|(path, item)| item.is_live() && (*path == dir || path.starts_with(&inside)))
        .peekable();
    !stays.contains(&dir)
        && all.peek().is_some()
        && all.all(|(path, item)| {
            !names_known(path) && !item.time().is_recent(s.tree.now, days * 86400)
        })
}
