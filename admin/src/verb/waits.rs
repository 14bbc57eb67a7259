//! Commands whose whole purpose is to wait.
//!
//! Manual: "Waiting for Status".

use crate::check;
use crate::phases::{Progress, Step};
use crate::ping::{self, Scope};
use crate::session::{Refusal, Session, of, refuse};
use crate::wait::{self, Switch};

/// `wait-cluster [HOST | RESOURCE]`
pub fn cluster(s: &mut Session<'_>, _res: &str) -> Step {
    match s.args.first().cloned() {
        None => ping::peers(s, Scope::Mentioned, "*")?,
        Some(word) if word == "all" => ping::peers(s, Scope::Mentioned, "*")?,
        Some(word) if s.tree.live(&format!("ips/ip-{word}")).is_some() => {
            ping::peers(s, Scope::Mentioned, &word)?
        }
        Some(word) => {
            must_exist(s, &word)?;
            ping::peers(s, Scope::Resource(&word), "*")?;
        }
    }
    Ok(Progress::Done)
}

fn must_exist(s: &Session<'_>, word: &str) -> Result<(), Refusal> {
    if s.tree.dir_exists(&format!("resource-{word}")) {
        return Ok(());
    }
    refuse(format!(
        "'{word}' is neither a host of this cluster nor a resource"
    ))
}

/// `wait-connect RESOURCE`
pub fn connect(s: &mut Session<'_>, res: &str) -> Step {
    ping::peers(s, Scope::Resource(res), "*")?;
    Ok(Progress::Done)
}

/// `update-cluster [HOST | RESOURCE]`
pub fn update(s: &mut Session<'_>, _res: &str) -> Step {
    match s.args.first().cloned() {
        None => ping::peers(s, Scope::Everybody, "*")?,
        Some(word) if word == "all" => ping::peers(s, Scope::Everybody, "*")?,
        Some(word) if s.tree.live(&format!("ips/ip-{word}")).is_some() => {
            ping::peers(s, Scope::Everybody, &word)?
        }
        Some(word) => {
            must_exist(s, &word)?;
            ping::peers(s, Scope::Everybody, "*")?;
        }
    }
    Ok(Progress::Done)
}

/// `wait-resource RESOURCE CONDITION`
pub fn resource(s: &mut Session<'_>, res: &str) -> Step {
    let Some(condition) = s.args.first().cloned() else {
        return refuse(
            "you must supply a condition as argument, for example 'is-attach-on' or 'todo-fetch-off'",
        );
    };
    let (word, on) = match condition.rsplit_once('-') {
        Some((word, "on" | "1")) => (word, true),
        Some((word, "off" | "0")) => (word, false),
        _ => (condition.as_str(), true),
    };
    let host = s.host.clone();
    let unknown = || refuse(format!("unknown condition '{condition}'"));
    if let Some(word) = word
        .strip_prefix("is-")
        .or_else(|| word.strip_prefix("has-"))
    {
        return match word {
            "device" if on => wait::device_to_come(s, res).map(|()| Progress::Done),
            "device" => wait::device_to_go(s, res).map(|()| Progress::Done),
            "primary" => {
                wait::actual(s, res, "is-primary", on, true, &host).map(|()| Progress::Done)
            }
            // The original waited for the primary here.
            "secondary" => {
                wait::actual(s, res, "is-primary", !on, true, &host).map(|()| Progress::Done)
            }
            _ => match Switch::active(word) {
                Some(switch) => wait::actual(s, res, switch.indicator(), on, true, &host)
                    .map(|()| Progress::Done),
                None => unknown(),
            },
        };
    }
    match word.strip_prefix("todo-").unwrap_or(word) {
        "primary" => designation(s, res, &host, on),
        "secondary" => designation(s, res, "(none)", on),
        word if Switch::named(word).is_some() => {
            wait::todo(s, res, word, on, true).map(|()| Progress::Done)
        }
        _ => unknown(),
    }
}

fn designation(s: &mut Session<'_>, res: &str, want: &str, on: bool) -> Step {
    let key = of(res, "primary");
    let word = if on { "==" } else { "!=" };
    let announce = |s: &mut Session<'_>| {
        let timeout = s.options.timeout;
        s.say(format!(
            "waiting {timeout} until switch 'primary' {word} '{want}'...."
        ));
    };
    wait::must(s, |tree| (tree.text(&key) == want) == on, announce)?;
    let now = s.text(&key);
    s.say(format!("OK, '/mars/{key}' has acceptable value '{now}'"));
    Ok(Progress::Done)
}

/// `wait-umount RESOURCE`: until nobody has the device of this host open.
pub fn umount(s: &mut Session<'_>, res: &str) -> Step {
    let host = s.host.clone();
    let announce = |s: &mut Session<'_>| {
        let count = check::open_count(&s.tree, res, &s.host);
        let host = s.host.clone();
        s.say(format!(
            "device for resource '{res}' is {count} times in use on {host}"
        ));
    };
    wait::must(s, |tree| check::open_count(tree, res, &host) == 0, announce)?;
    s.say(format!("OK, device for resource '{res}' is not in use."));
    Ok(Progress::Done)
}
