//! Single keys, for operators who know what they do: `set-link`, `get-link`, `delete-file`, `cat`.
//!
//! Changing is restricted to the operators' own space `userspace/`, of the cluster and of each resource, unless forced.
//!
//! Manual: "Expert commands".

use jiff::tz::TimeZone;

use crate::phases::{Progress, Step};
use crate::session::{Refusal, Session, refuse, shown};
use crate::view;

/// `set-link VALUE PATH [VALUE PATH …]`. The order of a pair is turned when only its first word is a path.
pub fn set(s: &mut Session<'_>, _res: &str) -> Step {
    let words = s.args.clone();
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return refuse("set-link needs pairs of arguments: a value and a path");
    }
    for pair in words.chunks(2) {
        let (value, path) = if pair[0].starts_with('/') && !pair[1].starts_with('/') {
            (&pair[1], &pair[0])
        } else {
            (&pair[0], &pair[1])
        };
        let key = own_key(s, path)?;
        s.set(key, value.as_str());
    }
    Ok(Progress::Done)
}

/// `delete-file PATH…`
pub fn delete(s: &mut Session<'_>, _res: &str) -> Step {
    let paths = s.args.clone();
    if paths.is_empty() {
        return refuse("delete-file needs the path of a key as argument");
    }
    for path in paths {
        let key = own_key(s, &path)?;
        s.delete(key);
    }
    Ok(Progress::Done)
}

/// `get-link PATH`
pub fn get(s: &mut Session<'_>, _res: &str) -> Step {
    let Some(path) = s.args.first().cloned() else {
        return refuse("get-link needs the path of a key as argument");
    };
    let key = path.strip_prefix("/mars/").unwrap_or(&path).to_owned();
    let value = s.need(&key)?;
    s.say(value);
    Ok(Progress::Done)
}

/// The key behind an absolute path which operators may change.
fn own_key(s: &mut Session<'_>, path: &str) -> Result<String, Refusal> {
    if !path.starts_with('/') {
        return refuse(format!("symlink target '{path}' is not an absolute path"));
    }
    let Some(key) = path.strip_prefix("/mars/") else {
        return refuse(format!("your path '{path}' must be inside /mars/"));
    };
    let is_own = match key.split('/').collect::<Vec<_>>()[..] {
        ["userspace", _, ..] => true,
        [res, "userspace", _, ..] => res.starts_with("resource-"),
        _ => false,
    };
    resource_is_there(s, key, path)?;
    if is_own {
        return Ok(key.to_owned());
    }
    if !s.forced() {
        return refuse(format!(
            "your path '{path}' must be inside /mars/userspace/ or /mars/resource-*/userspace/"
        ));
    }
    s.warn(format!(
        "your path '{path}' is outside /mars/userspace/ or /mars/resource-*/userspace/ and you gave --force, hopefully YOU KNOW \
         WHAT YOU ARE DOING"
    ));
    Ok(key.to_owned())
}

/// A key of a resource which nobody knows would belong to a misspelled name.
fn resource_is_there(s: &mut Session<'_>, key: &str, path: &str) -> Result<(), Refusal> {
    let dir = key.split('/').next().unwrap_or(key);
    match dir.strip_prefix("resource-") {
        Some(res) if dir != key && !s.tree.dir_exists(dir) => s.refuse_unless_forced(format!(
            "resource '{res}' does not exist, so '{path}' belongs to nothing"
        )),
        _ => Ok(()),
    }
}

/// `cat FILE…`: keys and status files, with their times and error numbers made readable. Patterns of the shell are allowed.
pub fn cat(s: &mut Session<'_>, _res: &str) -> Step {
    let paths = s.args.clone();
    if paths.is_empty() {
        return refuse("cat needs the path of a file as argument");
    }
    for path in paths {
        let found = view::find(&s.tree, &path);
        // What matches nothing is read as it stands, as a shell does.
        let found = if found.is_empty() { vec![path] } else { found };
        for path in found {
            for line in contents(s, &path)?.lines() {
                s.say(view::readable(line, &TimeZone::system()));
            }
        }
    }
    Ok(Progress::Done)
}

fn contents(s: &Session<'_>, path: &str) -> Result<String, Refusal> {
    let key = path.strip_prefix("/mars/").unwrap_or(path);
    if let Some(value) = s.tree.live(key) {
        let text = value.strip_prefix("text:").unwrap_or(value);
        return Ok(text.replace("\\n", "\n"));
    }
    let failed = |e| Refusal(format!("cannot open '{}' for reading: {e}", shown(key)));
    std::fs::read_to_string(path).map_err(failed)
}
