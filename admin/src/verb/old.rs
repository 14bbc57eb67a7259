//! Words of earlier times: what DRBD users type, and listings from before `view`.
//!
//! Manual: "Old commands".

use crate::check;
use crate::phases::{Progress, Step};
use crate::session::{Session, of, refuse};
use crate::wait;

/// Words which mean nothing here and do no harm.
pub fn ignore(s: &mut Session<'_>, res: &str) -> Step {
    let command = s.command.clone();
    s.say(format!("ignoring command '{command}' on resource '{res}'"));
    Ok(Progress::Done)
}

/// Words which make no sense here.
pub fn senseless(s: &mut Session<'_>, res: &str) -> Step {
    let command = s.command.clone();
    s.say(format!(
        "command '{command}' makes no sense with MARS (ignoring on resource '{res}')"
    ));
    Ok(Progress::Done)
}

/// Words which would do harm.
pub fn forbidden(s: &mut Session<'_>, res: &str) -> Step {
    refuse(format!(
        "command '{}' on resource '{res}' is forbidden",
        s.command
    ))
}

/// Words nobody has made true.
pub fn not_implemented(s: &mut Session<'_>, res: &str) -> Step {
    refuse(format!(
        "command '{}'  on resource '{res}' is not yet implemented",
        s.command
    ))
}

/// `role`, `state`
pub fn role(s: &mut Session<'_>, res: &str) -> Step {
    let host = asked_host(s);
    let role = if check::is_actual_primary(&s.tree, res, &host) {
        "primary"
    } else {
        "secondary"
    };
    // The value as stored: `(none)` when nobody is designated.
    let designated = s.text(&of(res, "primary"));
    if designated == host {
        s.say(format!("I am actually {role}"));
    } else {
        s.say(format!(
            "I am actually {role} and {designated} should be primary"
        ));
    }
    Ok(Progress::Done)
}

fn asked_host(s: &Session<'_>) -> String {
    s.args.first().cloned().unwrap_or_else(|| s.host.clone())
}

/// `show-state`, `mars-state`
pub fn state(s: &mut Session<'_>, res: &str) -> Step {
    let host = asked_host(s);
    let line = state_line(s, res, &host);
    s.say(line);
    Ok(Progress::Done)
}

fn state_line(s: &Session<'_>, res: &str, host: &str) -> String {
    let primary = check::designated(&s.tree, res);
    if check::is_actual_primary(&s.tree, res, host) {
        return "is_primary".to_owned();
    }
    if primary.as_deref() == Some(host) {
        return "becoming_primary".to_owned();
    }
    let size = s.tree.number(&of(res, "size")).unwrap_or(0);
    let done = s
        .tree
        .number(&of(res, format!("syncstatus-{host}")))
        .unwrap_or(0);
    if done < size {
        return format!("secondary inconsistent ({done} bytes of {size})");
    }
    let Some(primary) = primary else {
        return "secondary".to_owned();
    };
    let replay = |host: &str| s.text(&of(res, format!("replay-{host}")));
    let (own, theirs) = (replay(host), replay(&primary));
    if own == theirs {
        "secondary uptodate".to_owned()
    } else {
        format!("secondary outdated ({own} instead of {theirs})")
    }
}

/// `show`: the keys of one resource, or of all of them, one kind of key after the other.
pub fn show(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    let resources: Vec<String> = match res {
        "" => s.tree.resources().into_iter().map(str::to_owned).collect(),
        res => vec![res.to_owned()],
    };
    let mut lines: Vec<String> = shown_below(s, &format!("ips/ip-{host}"));
    for kind in [
        "primary",
        "size",
        "actsize-",
        "syncstatus-",
        "replay-",
        "actual-/",
        "todo-/",
    ] {
        let key = match kind.split_once('-') {
            Some((name, rest)) => format!("{name}-{host}{rest}"),
            None => kind.to_owned(),
        };
        lines.extend(
            resources
                .iter()
                .flat_map(|res| shown_below(s, &of(res, &key))),
        );
    }
    for line in lines {
        s.say(line);
    }
    Ok(Progress::Done)
}

/// A key, or everything below a directory (which ends with a slash), as `path=value`.
fn shown_below(s: &Session<'_>, key: &str) -> Vec<String> {
    if key.ends_with('/') {
        let below = s.tree.with_prefix(key).filter(|(_, item)| item.is_live());
        return below
            .map(|(path, item)| format!("{path}={}", item.value))
            .collect();
    }
    let value = s.tree.live(key);
    value
        .map(|value| format!("{key}={value}"))
        .into_iter()
        .collect()
}

/// `show-errors`: the messages of this host that say more than `OK`.
pub fn show_errors(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    let dir = match res {
        "" => "resource-".to_owned(),
        res => of(res, ""),
    };
    let own = format!("/actual-{host}/msg-");
    let messages: Vec<String> = s
        .tree
        .with_prefix(&dir)
        .filter(|(path, item)| {
            item.is_live()
                && item.value != "OK"
                && path.contains(&own)
                && !path.contains("/msg-inf-")
        })
        .map(|(path, item)| format!("{path}={}", item.value))
        .collect();
    if messages.is_empty() {
        s.say("no errors/warnings are reported.");
    }
    for line in messages {
        s.say(line);
    }
    Ok(Progress::Done)
}

/// `show-info`, `mars-info`
pub fn info(s: &mut Session<'_>, res: &str) -> Step {
    let key = of(res, format!("logstatus-{}.status", s.host));
    if let Some(text) = s.tree.live(&key) {
        let text = text
            .strip_prefix("text:")
            .unwrap_or(text)
            .replace("\\n", "\n");
        for line in text.lines() {
            s.say(line);
        }
    }
    let device = wait::device_path(s, res);
    s.say_verbose(1, format!("device='{device}'"));
    Ok(Progress::Done)
}
