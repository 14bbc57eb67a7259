//! Waiting for the cluster to follow: switches, indicators, devices, peers.
//!
//! Every wait looks at the tree whenever it changes, tells the operator once a second what it waits for, and is bounded by
//! `--timeout`. A wait which must hold and does not is a refusal, so the command exits non-zero.
//!
//! Manual: "Waiting for Status".

use std::time::Duration;

use crate::session::{Refusal, Session, of, refuse, shown};
use crate::snapshot::Snapshot;

const ROUND: Duration = Duration::from_secs(1);

/// The four wishes an operator can switch, with the indicators which say what has really happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Open the underlying disk.
    Attach,
    /// Bring logs here; stored as `connect` and `is-copying`.
    Fetch,
    /// Apply logs to the disk; stored as `allow-replay` and `is-replaying`.
    Replay,
    /// Copy the disk of the primary.
    Sync,
}

impl Switch {
    /// All of them, in the order of their keys.
    pub const ALL: [Switch; 4] = [Switch::Replay, Switch::Attach, Switch::Fetch, Switch::Sync];

    /// By a word of the operator for what should be.
    pub fn named(word: &str) -> Option<Switch> {
        match word {
            "attach" | "attached" => Some(Switch::Attach),
            "fetch" | "connect" => Some(Switch::Fetch),
            "replay" => Some(Switch::Replay),
            "sync" => Some(Switch::Sync),
            _ => None,
        }
    }

    /// By a word of the operator for what is.
    pub fn active(word: &str) -> Option<Switch> {
        match word {
            "attach" | "attached" => Some(Switch::Attach),
            "fetch" | "fetching" | "copy" | "copying" => Some(Switch::Fetch),
            "replay" | "replaying" => Some(Switch::Replay),
            "sync" | "syncing" => Some(Switch::Sync),
            _ => None,
        }
    }

    /// Name of the key below `todo-<host>/`.
    pub fn key(self) -> &'static str {
        match self {
            Switch::Attach => "attach",
            Switch::Fetch => "connect",
            Switch::Replay => "allow-replay",
            Switch::Sync => "sync",
        }
    }

    /// Name of the key below `actual-<host>/`.
    pub fn indicator(self) -> &'static str {
        match self {
            Switch::Attach => "is-attached",
            Switch::Fetch => "is-copying",
            Switch::Replay => "is-replaying",
            Switch::Sync => "is-syncing",
        }
    }

    /// What operators call it.
    pub fn word(self) -> &'static str {
        match self {
            Switch::Attach => "attach",
            Switch::Fetch => "fetch",
            Switch::Replay => "replay",
            Switch::Sync => "sync",
        }
    }

    /// The command which brings it to that value.
    pub fn command(self, on: bool) -> String {
        match (self, on) {
            (Switch::Attach, true) => "attach".into(),
            (Switch::Attach, false) => "detach".into(),
            (_, true) => format!("resume-{}", self.word()),
            (_, false) => format!("pause-{}", self.word()),
        }
    }
}

/// `1` or `0`.
pub fn digit(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Looks again whenever the tree changes, until `ready`. `announce` speaks once a second while it is not.
/// `false` when the time is over.
pub fn until(
    s: &mut Session<'_>,
    ready: impl Fn(&Snapshot) -> bool,
    mut announce: impl FnMut(&mut Session<'_>),
) -> Result<bool, Refusal> {
    s.flush()?;
    let began = s.daemon.elapsed();
    let mut spoken: Option<Duration> = None;
    loop {
        if ready(&s.tree) {
            return Ok(true);
        }
        let now = s.daemon.elapsed();
        let since = spoken.map_or(ROUND, |at| now.saturating_sub(at));
        if since >= ROUND {
            announce(s);
            spoken = Some(now);
            if s.options.timeout.is_over(now.saturating_sub(began)) {
                return Ok(false);
            }
            s.pause(ROUND)?;
        } else {
            s.pause(ROUND - since)?;
        }
    }
}

/// As [`until`], but the end of the time is a refusal.
pub fn must(
    s: &mut Session<'_>,
    ready: impl Fn(&Snapshot) -> bool,
    announce: impl FnMut(&mut Session<'_>),
) -> Result<(), Refusal> {
    if until(s, ready, announce)? {
        return Ok(());
    }
    s.warn("Timeout reached. Continuing anyway.");
    refuse("Timeout")
}

/// A todo switch of this host has to have that value; waits for it, or refuses at once. `word` is how the caller names it.
pub fn todo(
    s: &mut Session<'_>,
    res: &str,
    word: &str,
    on: bool,
    wait: bool,
) -> Result<(), Refusal> {
    let Some(switch) = Switch::named(word) else {
        return refuse(format!("unknown switch '{word}'"));
    };
    let key = of(res, format!("todo-{}/{}", s.host, switch.key()));
    let want = digit(on);
    let reached = |tree: &Snapshot| tree.live(&key).unwrap_or("0") == want;
    if wait {
        let announce = |s: &mut Session<'_>| {
            let timeout = s.options.timeout;
            s.say(format!(
                "waiting {timeout} until switch '{word}' == '{want}'...."
            ));
        };
        must(s, reached, announce)?;
    } else if !reached(&s.tree) {
        s.say(format!("ensuring that switch '{word}' == '{want}'...."));
        let (command, now) = (s.command.clone(), s.text(&key));
        return refuse(format!(
            "Cannot execute {command} on resource {res}: todo-switch '{}' must be {}, but actually has value '{now}'. \
             Use '{}' and/or wait until it has really succeeded.",
            switch.word(),
            on_off(on),
            switch.command(on)
        ));
    }
    s.say(format!(
        "OK, '{}' has acceptable value '{want}'",
        shown(&key)
    ));
    Ok(())
}

/// An indicator of a host has to have that value; waits for it, or refuses at once. Absent counts as `0`.
pub fn actual(
    s: &mut Session<'_>,
    res: &str,
    indicator: &str,
    on: bool,
    wait: bool,
    host: &str,
) -> Result<(), Refusal> {
    let key = of(res, format!("actual-{host}/{indicator}"));
    let want = digit(on);
    let reached = |tree: &Snapshot| tree.live(&key).unwrap_or("0") == want;
    if wait {
        let announce = |s: &mut Session<'_>| {
            let timeout = s.options.timeout;
            s.say(format!(
                "at {host}: waiting {timeout} until actual '{indicator}' == '{want}'..."
            ));
        };
        must(s, reached, announce)?;
    } else if !reached(&s.tree) {
        s.say(format!(
            "at {host}: ensuring that actual '{indicator}' == '{want}'..."
        ));
        let word = indicator.trim_start_matches("is-");
        let (word, use_this) = match Switch::active(word) {
            Some(switch) => (switch.word(), switch.command(on)),
            None => (
                word,
                if on {
                    "primary".into()
                } else {
                    "secondary".into()
                },
            ),
        };
        return refuse(format!(
            "Cannot execute {} on resource {res}: actual '{word}' must be {}. Use '{use_this}' and/or wait until it has really \
             succeeded. Also ensure that your command _can_ succeed.",
            s.command,
            on_off(on)
        ));
    }
    s.say(format!(
        "OK at {host}: '{}' has acceptable value '{want}'",
        shown(&key)
    ));
    Ok(())
}

/// The path of the replicated device as messages print it.
pub fn device_path(s: &Session<'_>, res: &str) -> String {
    let name = s
        .tree
        .live(&of(res, format!("device-{}", s.host)))
        .unwrap_or(res);
    format!("/dev/mars/{name}")
}

/// Whether the device of a host is there.
pub fn device_present(tree: &Snapshot, res: &str, host: &str) -> bool {
    tree.live(&of(res, format!("actual-{host}/if-on")))
        .is_some_and(|on| on != "0")
}

/// Waits until the device has come to this host, which must be the designated primary.
pub fn device_to_come(s: &mut Session<'_>, res: &str) -> Result<(), Refusal> {
    let device = device_path(s, res);
    let host = s.host.clone();
    let designated = s.text(&of(res, "primary"));
    if designated != host && !s.options.dry_run {
        return refuse(format!(
            "device '{device}' will not appear: the designated primary is '{designated}', not '{host}'"
        ));
    }
    let announce = |s: &mut Session<'_>| s.warn(format!("device '{device}' is not yet present"));
    must(s, |tree| device_present(tree, res, &host), announce)?;
    s.say(format!("device '{device}' is present"));
    Ok(())
}

/// Waits until the device of this host has gone.
pub fn device_to_go(s: &mut Session<'_>, res: &str) -> Result<(), Refusal> {
    let device = device_path(s, res);
    let host = s.host.clone();
    let announce =
        |s: &mut Session<'_>| s.warn(format!("device '{device}' has not yet disappeared"));
    must(s, |tree| !device_present(tree, res, &host), announce)?;
    s.say(format!("device '{device}' is no longer present"));
    Ok(())
}
