//! Preconditions, with the sentences the operator reads.
//!
//! Each function checks one thing and refuses with its sentence; none changes anything.
//!
//! Manual: "Preconditions" of the commands, "Role of a host".

use std::time::Duration;

use crate::ping::{self, Scope};
use crate::session::{Refusal, Session, of, refuse};
use crate::snapshot::{Snapshot, Time};
use crate::split_brain::Point;

/// Rounds of [`not_primary`] with and without `--force`.
const STABLE_ROUNDS: u32 = 17;
const STABLE_ROUNDS_FORCED: u32 = 2;

/// The host which should be primary; `None` when nobody is designated.
pub fn designated(tree: &Snapshot, res: &str) -> Option<String> {
    tree.live(&of(res, "primary"))
        .filter(|host| !host.is_empty() && *host != "(none)")
        .map(str::to_owned)
}

/// Whether a host says that it is primary.
pub fn is_actual_primary(tree: &Snapshot, res: &str, host: &str) -> bool {
    tree.live(&of(res, format!("actual-{host}/is-primary")))
        .is_some_and(|on| on != "0")
}

/// Whether a host has run out of space for logs.
pub fn has_emergency(tree: &Snapshot, res: &str, host: &str) -> bool {
    tree.number(&of(res, format!("actual-{host}/has-emergency")))
        .unwrap_or(0)
        != 0
}

/// Hosts with a disk for the resource.
pub fn members<'t>(tree: &'t Snapshot, res: &str) -> Vec<&'t str> {
    tree.owners(&of(res, "data-"))
}

/// Hosts with a disk or a replay position.
pub fn participants(tree: &Snapshot, res: &str) -> Vec<String> {
    let mut hosts: Vec<String> = ["data-", "replay-"]
        .iter()
        .flat_map(|key| tree.owners(&of(res, key)))
        .map(str::to_owned)
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// How often the device of a host is open.
pub fn open_count(tree: &Snapshot, res: &str, host: &str) -> i64 {
    tree.number(&of(res, format!("actual-{host}/open-count")))
        .unwrap_or(0)
}

/// Whether a host has given a sign of life within `--window` (this host is alive).
pub fn is_alive(s: &Session<'_>, host: &str) -> bool {
    let beat = s.tree.live(&format!("actual-{host}/time"));
    let beat = beat.and_then(|text| text.parse::<Time>().ok());
    host == s.host || beat.is_some_and(|at| at.is_recent(s.tree.now, s.options.window))
}

/// Whether the device of a resource is open nowhere, as far as members and guests that are alive say.
pub fn closed_wherever_alive(s: &Session<'_>, res: &str) -> bool {
    let hosts = s.tree.owners(&of(res, "device-"));
    hosts
        .into_iter()
        .filter(|host| is_alive(s, host))
        .all(|host| open_count(&s.tree, res, host) == 0)
}

/// The daemon has to run; `why` is the sentence otherwise.
pub fn daemon_runs(s: &Session<'_>, why: &str) -> Result<(), Refusal> {
    if s.tree.daemon_runs {
        Ok(())
    } else {
        refuse(why)
    }
}

/// This host has to be the actual primary; being not designated is only worth a warning.
pub fn primary(s: &mut Session<'_>, res: &str, also_designated: bool) -> Result<(), Refusal> {
    let host = s.host.clone();
    let command = s.command.clone();
    let is_primary =
        is_actual_primary(&s.tree, res, &host) || crate::wait::device_present(&s.tree, res, &host);
    if !is_primary {
        s.warn(format!("For operation '{command}' I need to be primary"));
    }
    if also_designated && designated(&s.tree, res).as_deref() != Some(&host) {
        s.warn(format!(
            "For operation '{command}', I also must be the designated primary"
        ));
    }
    if is_primary {
        Ok(())
    } else {
        refuse(format!(
            "Operation '{command}' only works at the primary side"
        ))
    }
}

/// This host has to be neither actual nor designated primary, and that for certain.
pub fn not_primary(s: &mut Session<'_>, res: &str, force_helps: bool) -> Result<(), Refusal> {
    let host = s.host.clone();
    let command = s.command.clone();
    if is_actual_primary(&s.tree, res, &host) {
        let sentence = format!("operation '{command}' cannot be executed on actual primary");
        if !(force_helps && s.forced()) {
            return refuse(sentence);
        }
        s.warn(sentence);
    }
    if designated(&s.tree, res).as_deref() == Some(&host) {
        s.refuse_unless_forced(format!(
            "operation '{command}' cannot be executed on designated primary"
        ))?;
    }
    role_is_stable(s, res)
}

/// The role this host reports has to be newer than the last change of the designation, and not stale.
fn role_is_stable(s: &mut Session<'_>, res: &str) -> Result<(), Refusal> {
    let rounds = if s.forced() {
        STABLE_ROUNDS_FORCED
    } else {
        STABLE_ROUNDS
    };
    for round in 0..rounds {
        if reports_are_settled(s, res) || s.options.dry_run {
            return Ok(());
        }
        if round % 4 == 3 {
            s.warn(format!(
                "the role of host '{}' at resource '{res}' is not yet stable",
                s.host
            ));
        }
        let pause = Duration::from_secs(s.options.window / 8 + 1);
        s.pause(pause)?;
    }
    s.refuse_unless_forced(format!(
        "the role of host '{}' at resource '{res}' has not become stable",
        s.host
    ))
}

/// What this host reports must be fresh, and said after the last change of the designation; its heartbeat counts as a report, too. A dead
/// host acted for (`--host=`) gives none, so there `--force` is needed.
fn reports_are_settled(s: &Session<'_>, res: &str) -> bool {
    let (host, now, half) = (&s.host, s.tree.now, s.options.window / 2);
    let Some(designated_at) = s.tree.stamp(&of(res, "primary")) else {
        return true;
    };
    let report = s.tree.stamp(&of(res, format!("actual-{host}/is-primary")));
    let heard = report.max(s.tree.stamp(&format!("actual-{host}/time")));
    let is_alive = heard.is_some_and(|at| at.is_recent(now, half));
    let has_seen_it = s.host == s.real_host && heard.is_some_and(|at| at > designated_at);
    is_alive && (has_seen_it || !designated_at.is_recent(now, half))
}

/// A sync has to be possible: somebody is designated, and has room for its logs.
pub fn sync_startable(s: &Session<'_>, res: &str, command: &str) -> Result<(), Refusal> {
    let Some(primary) = designated(&s.tree, res) else {
        return refuse(format!(
            "Cannot execute '{command}' because noone is designated as primary."
        ));
    };
    // The primary has nothing to copy from itself.
    if primary != s.host && has_emergency(&s.tree, res, &primary) {
        return refuse(format!(
            "Cannot execute '{command}' because the primary '{primary}' is in emergency mode."
        ));
    }
    Ok(())
}

/// Whether the first copy of a member is complete, as far as its keys say.
pub fn sync_is_finished(tree: &Snapshot, res: &str, host: &str) -> bool {
    let done = tree.number(&of(res, format!("syncstatus-{host}")));
    let size = tree.number(&of(res, "size")).unwrap_or(0);
    let copied = matches!(done, Some(done) if size > 0 && done >= size);
    let barrier = Point::parse(tree.text(&of(res, format!("syncpos-{host}"))));
    let replayed = Point::parse(tree.text(&of(res, format!("replay-{host}"))));
    let passed = match (barrier, replayed) {
        (None, _) => true,
        (Some(barrier), Some(replayed)) => (barrier.nr, barrier.len) <= (replayed.nr, replayed.len),
        (Some(_), None) => false,
    };
    copied && passed
}

/// A replica which is to become primary, or whose lag would be lost, has to be complete. `may_go_on` forgives other hosts.
pub fn sync_finished(
    s: &mut Session<'_>,
    res: &str,
    host: &str,
    may_go_on: bool,
) -> Result<(), Refusal> {
    let recently = s
        .tree
        .stamp(&of(res, format!("actual-{host}/is-primary")))
        .is_some_and(|at| at.is_recent(s.tree.now, 2 * s.options.window));
    if recently && is_actual_primary(&s.tree, res, host) {
        return Ok(());
    }
    if sync_is_finished(&s.tree, res, host) {
        s.say(format!(
            "OK, it seems that sync has finished on host '{host}'."
        ));
        return Ok(());
    }
    s.warn(format!("Sync has not yet finished on host '{host}'"));
    s.warn(format!(
        "Don't try to make inconsistent host '{host}' the new primary!"
    ));
    s.warn("Please wait until sync has finished and all logfile have been replayed.");
    if host != s.host && may_go_on {
        return Ok(());
    }
    refuse(format!(
        "Refusing to switch inconsistent host '{host}' to primary"
    ))
}

/// The device must not be open on the primary. `hint_only` for `--force`.
pub fn device_closed(s: &mut Session<'_>, res: &str, host: &str) -> Result<(), Refusal> {
    let count = open_count(&s.tree, res, host);
    if count == 0 {
        return Ok(());
    }
    let name = s
        .tree
        .live(&of(res, format!("device-{host}")))
        .unwrap_or(res)
        .to_owned();
    s.warn(format!(
        "device '/dev/mars/{name}' for resource '{res}' is {count} times in use on primary host '{host}'"
    ));
    if s.forced() {
        let fresh = s
            .tree
            .stamp(&of(res, format!("actual-{host}/open-count")))
            .is_some_and(|at| at.is_recent(s.tree.now, s.options.window));
        let how = if fresh {
            "you are forcing a SPLIT BRAIN right now"
        } else {
            "this may produce a SPLIT BRAIN"
        };
        s.warn(how);
        return Ok(());
    }
    refuse(format!(
        "first you must umount/close the device (on host '{host}')"
    ))
}

/// The primary should have room for its logs. Waits a little for it, then only warns.
pub fn primary_has_room(s: &mut Session<'_>, res: &str, primary: &str) -> Result<(), Refusal> {
    for pause in 1..=5 {
        if !has_emergency(&s.tree, res, primary) {
            return Ok(());
        }
        s.pause(Duration::from_secs(pause))?;
        ping::peers(s, Scope::Resource(res), primary)?;
    }
    s.warn(format!(
        "primary '{primary}' is in emergency mode: free some space there first"
    ));
    Ok(())
}

/// The version of the key tree this program understands.
pub const TREE_VERSION: &str = "0.1";

/// The daemon has to speak of the same sort of tree. Commands on the cluster as a whole, and `cat`, look no further.
pub fn tree_version(s: &mut Session<'_>) -> Result<(), Refusal> {
    let found = s.text(&format!("actual-{}/tree", s.real_host));
    let exempt = s.command.contains("cluster") || s.command.contains("cat");
    if found.is_empty() || found == TREE_VERSION || exempt {
        return Ok(());
    }
    s.warn(format!(
        "the daemon has a key tree of version '{found}', this program understands '{TREE_VERSION}'"
    ));
    let number = |text: &str| text.trim().parse::<f64>().unwrap_or(0.0);
    let (theirs, ours) = (number(&found), number(TREE_VERSION));
    if theirs > ours {
        return refuse("this program is older than the daemon: use the one that came with it");
    }
    if ours.floor() > theirs.floor() + 1.0 {
        return refuse("this program is much newer than the daemon: update the daemon first");
    }
    Ok(())
}

/// Whoever has lost the address has left the cluster, perhaps without knowing.
pub fn deleted_addresses(s: &mut Session<'_>) {
    let is_old = |at: Time| !at.is_recent(s.tree.now, s.options.window);
    let gone: Vec<String> = s
        .tree
        .with_prefix("ips/ip-")
        .filter(|(_, item)| !item.is_live() && is_old(item.time()))
        .map(|(path, _)| path["ips/ip-".len()..].to_owned())
        .collect();
    for host in gone {
        if host == s.host {
            s.warn(format!(
                "IMPORTANT: the address of this host, /mars/ips/ip-{host}, has been deleted"
            ));
            s.warn("IMPORTANT: it does not belong to the cluster any more, and others do not talk to it");
        } else {
            s.hint(format!(
                "the address of host '{host}' has been deleted: it has left the cluster"
            ));
        }
    }
}

/// Name of a resource, host or device. `reserved` words are refused unless forced.
pub fn identifier(s: &mut Session<'_>, name: &str) -> Result<(), Refusal> {
    identifier_syntax(name)?;
    if is_reserved(name) {
        s.warn(format!(
            "identifier '{name}' is a RESERVED special name: forbidden here."
        ));
        if !s.forced() {
            return refuse("reserved names are dangerous.");
        }
    }
    Ok(())
}

/// The letters and the length of a name.
pub fn identifier_syntax(name: &str) -> Result<(), Refusal> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = name.bytes();
    let Some(first) = bytes.next() else {
        return refuse("identifier is empty");
    };
    if !letter(first) || !bytes.all(|b| letter(b) || b == b'-') {
        return refuse(format!(
            "identifier '{name}' has disallowed characters (allowed are letters, digits, '_' and '-')"
        ));
    }
    if name.len() > 63 {
        return refuse(format!("identifier '{name}' is longer than 63 characters"));
    }
    Ok(())
}

/// Words which are no names, also in parentheses.
pub const RESERVED: [&str; 9] = [
    "none",
    "all",
    "any",
    "full",
    "empty",
    "undefined",
    "remote",
    "local",
    "localhost",
];

fn is_reserved(name: &str) -> bool {
    let name = name.trim_start_matches('(').trim_end_matches(')');
    RESERVED.contains(&name)
}

/// A host has to be known by its address.
pub fn host_is_known(s: &mut Session<'_>, host: &str) -> Result<(), Refusal> {
    let key = format!("ips/ip-{host}");
    if s.tree.live(&key).is_some() {
        return Ok(());
    }
    s.text_or_warn(&key);
    s.warn(format!("Host '{host}' does not exist in /mars/ips/"));
    if s.forced() {
        return Ok(());
    }
    refuse("When you know what you are doing, you may fix any typos and then use --force")
}
