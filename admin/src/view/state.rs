//! State primitives: switches, reported states, predicates, the cluster.
//!
//! Every function answers for the variables `host` and `res` of the evaluation. "Yes" is `1`, "no" is `0`, unless the
//! comment says otherwise; scripts compare these texts.
//!
//! Manual: "The State of MARS", "Predefined Primitive Macros".

use std::rc::Rc;

use super::amount;
use super::device::has_device;
use super::eval::{Eval, Stop};
use super::number::Num;
use super::world::{Read, Res, is_true};

type Text = Result<String, Stop>;

/// The words for switches and reported states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The underlying disk is opened.
    Attach,
    /// The disk is copied.
    Sync,
    /// Logs are fetched (stored as `connect`).
    Fetch,
    /// Logs are replayed (stored as `allow-replay`).
    Replay,
    /// The host is primary.
    Primary,
    /// It is not.
    Secondary,
}

impl Word {
    /// All words, in the order of the manual.
    pub const ALL: [Word; 6] = [
        Word::Attach,
        Word::Sync,
        Word::Fetch,
        Word::Replay,
        Word::Primary,
        Word::Secondary,
    ];

    /// The word as operators write it.
    pub fn name(self) -> &'static str {
        match self {
            Word::Attach => "attach",
            Word::Sync => "sync",
            Word::Fetch => "fetch",
            Word::Replay => "replay",
            Word::Primary => "primary",
            Word::Secondary => "secondary",
        }
    }

    fn parse(text: &str) -> Option<Word> {
        match text {
            "attached" => Some(Word::Attach),
            "connect" | "copy" => Some(Word::Fetch),
            "apply" => Some(Word::Replay),
            _ => Word::ALL.into_iter().find(|word| word.name() == text),
        }
    }

    /// The key below `todo-<host>/`; none for the roles.
    fn switch_key(self) -> Option<&'static str> {
        match self {
            Word::Attach => Some("attach"),
            Word::Sync => Some("sync"),
            Word::Fetch => Some("connect"),
            Word::Replay => Some("allow-replay"),
            Word::Primary | Word::Secondary => None,
        }
    }

    /// The key below `actual-<host>/`.
    fn actual_key(self) -> &'static str {
        match self {
            Word::Attach => "is-attached",
            Word::Sync => "is-syncing",
            Word::Fetch => "is-copying",
            Word::Replay => "is-replaying",
            Word::Primary | Word::Secondary => "is-primary",
        }
    }
}

/// `1` or `0`.
pub fn flag(yes: bool) -> String {
    String::from(if yes { "1" } else { "0" })
}

/// The host in argument number `at`, else the acting one.
pub fn host_arg(eval: &Eval<'_>, args: &[String], at: usize) -> String {
    match args.get(at) {
        Some(host) if !host.is_empty() => host.clone(),
        _ => eval.host(),
    }
}

/// The wanted state: of switches as stored, empty when missing; of the primary role `1` or empty; of the secondary role
/// whether nobody is designated.
pub fn todo(eval: &Eval<'_>, word: Word) -> String {
    let res = eval.res();
    match word.switch_key() {
        Some(key) => res
            .text(&format!("todo-{}/{key}", eval.var("host")))
            .to_owned(),
        None if word == Word::Secondary => flag(res.designated() == "(none)"),
        None if res.designated() == eval.var("host") => "1".to_owned(),
        None => String::new(),
    }
}

/// What the host reports.
pub fn is_doing(eval: &Eval<'_>, word: Word, args: &[String]) -> String {
    reported(&eval.res(), word, &host_arg(eval, args, 0))
}

fn reported(res: &Res<'_>, word: Word, host: &str) -> String {
    let value = res.text(&format!("actual-{host}/{}", word.actual_key()));
    match word {
        Word::Secondary => flag(!is_true(value)),
        _ if value.is_empty() => "0".to_owned(),
        _ => value.to_owned(),
    }
}

/// How many members report that state.
pub fn count_doing(eval: &Eval<'_>, word: Word) -> String {
    let res = eval.res();
    let members = res.members();
    let doing = members
        .iter()
        .filter(|host| is_true(&reported(&res, word, host)));
    doing.count().to_string()
}

/// Ends the evaluation unless the state is reached; the caller comes again with a newer snapshot.
pub fn wait_for(eval: &Eval<'_>, wanted: bool, word: Word, on: bool) -> Text {
    let value = if wanted {
        todo(eval, word)
    } else {
        is_doing(eval, word, &[])
    };
    if is_true(&value) == on {
        return Ok(String::new());
    }
    Err(Stop::Unreached)
}

/// As `wait-resource`: `[is-|has-|todo-]<word>[-on|-off|-1|-0]`.
pub fn wait_for_condition(eval: &Eval<'_>, condition: &str) -> Result<(), Stop> {
    let (word, on) = match condition.rsplit_once('-') {
        Some((word, "on" | "1")) => (word, true),
        Some((word, "off" | "0")) => (word, false),
        _ => (condition, true),
    };
    let is = word
        .strip_prefix("is-")
        .or_else(|| word.strip_prefix("has-"));
    let name = is.unwrap_or_else(|| word.strip_prefix("todo-").unwrap_or(word));
    let Some(known) = Word::parse(name) else {
        return Err(Stop::Fatal(format!("unknown condition '{condition}'")));
    };
    wait_for(eval, is.is_none(), known, on).map(drop)
}

/// `%todo{word}`.
pub fn todo_by_word(eval: &mut Eval<'_>, args: &[String]) -> Text {
    word_arg(args).map(|word| todo(eval, word))
}

/// `%does{word}`.
pub fn does_by_word(eval: &mut Eval<'_>, args: &[String]) -> Text {
    word_arg(args).map(|word| is_doing(eval, word, &[]))
}

fn word_arg(args: &[String]) -> Result<Word, Stop> {
    let word = args.first().map_or("", String::as_str);
    Word::parse(word).ok_or_else(|| {
        Stop::Fatal(format!(
            "unknown switch '{word}' (known are attach, sync, fetch, replay, primary, secondary)"
        ))
    })
}

/// `has-emergency` as reported.
pub fn is_emergency(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let host = host_arg(eval, args, 0);
    Ok(flag(eval.res().actual(&host, "has-emergency")))
}

/// The replica can be used as it is.
pub fn is_consistent(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(flag(amount::is_consistent(
        &eval.res(),
        eval.var("host"),
        true,
    )))
}

/// The same, whatever a primary has still to write back.
pub fn is_almost_consistent(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(flag(amount::is_consistent(
        &eval.res(),
        eval.var("host"),
        false,
    )))
}

/// The log that comes next is not here.
pub fn is_orphan(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let host = host_arg(eval, args, 0);
    Ok(flag(amount::is_orphan(&eval.res(), &host)))
}

/// Histories of members contradict each other.
pub fn is_split_brain(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(flag(eval.res().split_brain().is_some()))
}

/// The history of a host contradicts that of the designated primary.
pub fn is_apart(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let host = host_arg(eval, args, 0);
    Ok(flag(eval.res().is_apart(&host)))
}

/// A host (default: the designated primary) was heard of within the window.
pub fn is_alive(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let res = eval.res();
    let given = args.first().map_or("", String::as_str);
    let host = [given, res.designated(), eval.var("host")]
        .into_iter()
        .find(|host| !host.is_empty())
        .unwrap_or("")
        .to_owned();
    let key = format!("actual-{host}/time");
    if eval.world.read(&key) == Read::Missing {
        eval.warn(&format!("cannot read symlink '/mars/{key}'"));
    }
    Ok(flag(eval.world.is_alive(&host, window(eval))))
}

/// The liveness window in seconds.
pub fn window(eval: &Eval<'_>) -> u64 {
    u64::try_from(Num::parse(eval.var("window")).int()).unwrap_or(0)
}

/// The daemon of this host runs.
pub fn is_module_loaded(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(flag(eval.world.snap.daemon_runs))
}

/// `%is-member{R}{P}`.
pub fn is_member(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let (res, host) = pair(eval, args);
    Ok(flag(res.is_member(&host)))
}

/// `%is-guest{R}{P}`.
pub fn is_guest(eval: &mut Eval<'_>, args: &[String]) -> Text {
    let (res, host) = pair(eval, args);
    Ok(flag(res.is_guest(&host)))
}

fn pair<'e>(eval: &Eval<'e>, args: &[String]) -> (Rc<Res<'e>>, String) {
    let res = match args.first() {
        Some(name) if !name.is_empty() => eval.world.res(name),
        _ => eval.res(),
    };
    (res, host_arg(eval, args, 1))
}

/// The designated primary; empty when nobody is.
pub fn get_primary(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(eval.res().designated_host().unwrap_or("").to_owned())
}

const ACTUAL_PRIMARY_WARNING: &str = "DEPRECATED: you are trying to uniquely identify an actual primary hostname, but this is conceptually wrong because in split-brain situations there may exist multiple ones. Use view-is-primary instead. That would be safe.";

/// A guess: the acting host when its device is there, else the first that reports to be primary.
pub fn actual_primary(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    if !eval.var("cmd").ends_with("-1and1") {
        eval.warn(ACTUAL_PRIMARY_WARNING);
    }
    let host = eval.host();
    if has_device(eval, &host) {
        return Ok(host);
    }
    let res = eval.res();
    let members = res.members();
    let found = members.iter().find(|host| res.actual(host, "is-primary"));
    Ok(found.map_or(String::new(), |host| (*host).to_owned()))
}

/// As stored.
pub fn replay_code(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(actual_text(eval, "replay-code"))
}

/// A key below `actual-<host>/` as stored.
pub fn actual_text(eval: &Eval<'_>, key: &str) -> String {
    let host = eval.var("host");
    eval.res().text(&format!("actual-{host}/{key}")).to_owned()
}

/// The same as a number; 0 when missing.
pub fn actual_number(eval: &Eval<'_>, key: &str) -> String {
    Num::parse(&actual_text(eval, key)).to_string()
}

/// `uuid`.
pub fn uuid(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(eval.world.text("uuid").to_owned())
}

fn host_text(eval: &Eval<'_>, key: &str) -> Text {
    Ok(eval
        .world
        .text(&format!("actual-{}/{key}", eval.var("host")))
        .to_owned())
}

/// `actual-<host>/tree`.
pub fn tree_version(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    host_text(eval, "tree")
}

/// `actual-<host>/rest-space`, GiB.
pub fn rest_space(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    host_text(eval, "rest-space")
}

/// `actual-<host>/total-space`, GiB.
pub fn total_space(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    host_text(eval, "total-space")
}

/// `defaults-<host>/sync-limit`.
pub fn sync_limit(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    Ok(eval
        .world
        .text(&format!("defaults-{}/sync-limit", eval.var("host")))
        .to_owned())
}

/// Start and stop unit; empty when none is set.
pub fn systemd_unit(eval: &mut Eval<'_>, _args: &[String]) -> Text {
    let res = eval.res();
    let (start, stop) = (
        res.text("systemd-start-unit"),
        res.text("systemd-stop-unit"),
    );
    Ok(format!("{start} {stop}").trim().to_owned())
}
