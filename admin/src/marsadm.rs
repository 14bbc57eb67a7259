//! `marsadm`: from the words of the command line to a running verb, and to the exit code.
//!
//! Everything is understood before anything happens: options, command, resources. What is not understood exits non-zero, with the
//! help where that helps.
//!
//! Manual: "The Userspace Tool marsadm".

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::{self, Parsed};
use crate::check;
use crate::console::{Console, Terminal};
use crate::daemon::Daemon;
use crate::dump;
use crate::help;
use crate::hooks;
use crate::json::{self, Json};
use crate::natural;
use crate::node_dir;
use crate::parallel::{self, Again};
use crate::phases::{self, Targets};
use crate::session::{Refusal, Session, refuse};
use crate::state_dir;
use crate::syslog::Logged;
use crate::verb::logs::MARSADM_VERSION;
use crate::verbs::{self, Takes, Verb};
use crate::view::{self, Surroundings, Viewed};

/// Largest exit code for a number of errors; more would wrap around to success.
const EXIT_MAX: u32 = 250;

/// Why the command line was not understood.
enum Refused {
    /// Something is missing: said together with the help.
    Usage(String),
    /// Anything else.
    Dying(Refusal),
}

/// Runs `marsadm` with the words after the program name, on the terminal.
pub fn main(args: &[OsString]) -> ExitCode {
    let words: Vec<String> = args
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let exit = as_asked(&words, &mut Terminal, |console| {
        run_on_node(&words, console)
    });
    ExitCode::from(u8::try_from(exit).unwrap_or(255))
}

/// As text, or as one document for programs.
fn as_asked(
    words: &[String],
    console: &mut dyn Console,
    run: impl FnOnce(&mut dyn Console) -> u32,
) -> u32 {
    if !json::is_wanted(words) {
        return run(console);
    }
    let mut kept = Json::new(words);
    let exit = run(&mut kept);
    console.out(&kept.finish(exit));
    exit
}

/// Understands the words, finds the daemon or the saved tree they speak of, runs the command.
fn run_on_node(words: &[String], console: &mut dyn Console) -> u32 {
    let mut parsed = match understand(words, console) {
        Ok(parsed) => parsed,
        Err(exit) => return exit,
    };
    if parsed.options.tree_file.is_none() {
        for warning in state_dir::repair(&parsed.options.dir) {
            console.err(&format!("WARNING: {warning}\n"));
        }
    }
    match node_dir::open(&mut parsed.options, &parsed.words) {
        Ok(node_dir::Opened::Ready {
            mut daemon,
            real_host,
        }) => {
            let (logger, command) = (parsed.options.logger.clone(), parsed.words[0].clone());
            let mut console = Logged::new(console, logger.as_deref(), &command);
            let exit = run_understood(parsed, &real_host, daemon.as_mut(), &mut console);
            match daemon.finish() {
                Ok(()) => exit,
                Err(error) => exit + dying(&mut console, &error.into()),
            }
        }
        Ok(node_dir::Opened::Done { said }) => {
            console.out(&said.stdout);
            console.err(&said.stderr);
            said.exit as u32
        }
        Err(refusal) => dying(console, &refusal),
    }
}

/// Runs a command line against a daemon, whatever directory or tree file it speaks of. Answers the exit code: the number of errors.
pub fn run(
    words: &[String],
    real_host: &str,
    daemon: &mut dyn Daemon,
    console: &mut dyn Console,
) -> u32 {
    as_asked(words, console, |console| match understand(words, console) {
        Ok(parsed) => run_understood(parsed, real_host, daemon, console),
        Err(exit) => exit,
    })
}

/// The words taken apart, or the exit code when they have been answered already.
fn understand(words: &[String], console: &mut dyn Console) -> Result<Parsed, u32> {
    let parsed = args::parse(words).map_err(|error| dying(console, &Refusal(error.to_string())))?;
    if let Some(exit) = answer_at_once(&parsed, console) {
        return Err(exit);
    }
    if let "dump-macros" | "dump-all-macros" = parsed.words[0].as_str() {
        return Err(dump_macros(&parsed.words, console));
    }
    match must_be_complete(&parsed.words) {
        Ok(()) => Ok(parsed),
        Err(Refused::Usage(sentence)) => {
            console.out(&format!(
                "ERROR: {sentence}\n{}",
                help::overview(parsed.options.verbose)
            ));
            Err(1)
        }
        Err(Refused::Dying(refusal)) => Err(dying(console, &refusal)),
    }
}

fn dump_macros(words: &[String], console: &mut dyn Console) -> u32 {
    if let Some(word) = words.get(1) {
        return dying(console, &Refusal(format!("unexpected argument '{word}'")));
    }
    match dump::macros(std::path::Path::new("."), words[0] == "dump-all-macros") {
        Ok(count) => {
            console.out(&format!(
                "wrote {count} macros into the current directory\n"
            ));
            0
        }
        Err(refusal) => dying(console, &refusal),
    }
}

/// The command has to exist, and what it cannot do without has to be said, before anybody is asked anything.
fn must_be_complete(words: &[String]) -> Result<(), Refused> {
    let (name, rest) = (words[0].as_str(), &words[1..]);
    if is_view(name) {
        return Ok(());
    }
    let Some(verb) = verbs::find(name) else {
        let sentence = if name.starts_with("lowlevel-") {
            format!("Syntax error: lowlevel command '{name}' not found")
        } else {
            format!("unknown command '{name}'")
        };
        return Err(Refused::Dying(Refusal(sentence)));
    };
    // The lowlevel commands know no resources, and let the word for all of them pass.
    let ignored = |word: &&String| name.starts_with("lowlevel-") && *word == "all";
    let mut counted = rest.iter().filter(|word| !ignored(word));
    if let Some(word) = verb.words_max().and_then(|max| counted.nth(max)) {
        let sentence = format!(
            "unexpected argument '{word}': usage is '{}'",
            verb.usage_line()
        );
        return Err(Refused::Dying(Refusal(sentence)));
    }
    let missing = match verb.takes {
        _ if !rest.is_empty() => return Ok(()),
        Takes::Resources | Takes::OneResource => "resource",
        Takes::Peer => "peer",
        Takes::Value => "numeric",
        Takes::SomeWords => "path",
        Takes::Words | Takes::ResourcesOrAll | Takes::ResourcesOrNone => return Ok(()),
    };
    Err(Refused::Usage(format!("{missing} argument is missing")))
}

fn dying(console: &mut dyn Console, refusal: &Refusal) -> u32 {
    console.err(&format!("DYING: {refusal}\n\n"));
    1
}

/// Help and version need neither a daemon nor a tree. A missing command gets the help, and is an error.
fn answer_at_once(parsed: &Parsed, console: &mut dyn Console) -> Option<u32> {
    let command = parsed.words.first().map(String::as_str);
    match command {
        _ if parsed.version => {}
        Some("version" | "v") => {}
        _ if parsed.help => return Some(print_help(parsed, console)),
        Some("help" | "h") => return Some(print_help(parsed, console)),
        Some(_) => return None,
        None => {
            console.out(&format!(
                "ERROR: command argument is missing\n{}",
                help::overview(parsed.options.verbose)
            ));
            return Some(1);
        }
    }
    console.out(&format!(
        "marsadm Version: {MARSADM_VERSION} (mars {}) \n",
        env!("CARGO_PKG_VERSION")
    ));
    Some(0)
}

fn print_help(parsed: &Parsed, console: &mut dyn Console) -> u32 {
    let topic = parsed
        .words
        .iter()
        .find(|word| !matches!(word.as_str(), "help" | "h"));
    match topic {
        None => console.out(&help::overview(parsed.options.verbose)),
        Some(name) => match verbs::find(name) {
            Some(verb) => console.out(&help::of_verb(verb)),
            None => return dying(console, &Refusal(format!("unknown command '{name}'"))),
        },
    }
    0
}

fn run_understood(
    parsed: Parsed,
    real_host: &str,
    daemon: &mut dyn Daemon,
    console: &mut dyn Console,
) -> u32 {
    let mut s = match Session::new(parsed.options.clone(), real_host, daemon, console) {
        Ok(session) => session,
        Err(error) => {
            console.err(&format!("DYING: {error}\n\n"));
            return 1;
        }
    };
    if let Err(refusal) = command(&mut s, &parsed) {
        s.dying(&refusal);
        s.note("");
    }
    let exit = s.errors.min(EXIT_MAX);
    if s.options.verbose > 0 && !is_view(&parsed.words[0]) {
        s.note(format!("EXIT {exit}"));
    }
    exit
}

/// `view*` and `pretty*` only show.
pub fn is_view(command: &str) -> bool {
    command.starts_with("view") || command.starts_with("pretty")
}

fn command(s: &mut Session<'_>, parsed: &Parsed) -> Result<(), Refusal> {
    for notice in &parsed.notices {
        s.say(notice);
    }
    if parsed.acts_for_other || s.host != s.real_host {
        acts_for_other(s)?;
    }
    let name = parsed.words[0].clone();
    s.command = name.clone();
    s.begins();
    check::tree_version(s)?;
    check::deleted_addresses(s);
    if is_view(&name) {
        names_are_sound(s, parsed.words.get(1))?;
        warn_of_force(s);
        return view_command(s, parsed);
    }
    let Some(verb) = verbs::find(&name) else {
        return refuse(format!("unknown command '{name}'"));
    };
    if name.starts_with("lowlevel-") {
        return lowlevel(s, verb, &parsed.words[1..]);
    }
    must_have_cluster(s, &name)?;
    let targets = targets(s, verb, &parsed.words[1..])?;
    warn_of_force(s);
    match (s.options.parallel, s.daemon.program()) {
        (Some(limit), Some(program)) if targets.names.len() > 1 => {
            let selector_at = parsed
                .words_at
                .get(1)
                .copied()
                .unwrap_or(parsed.typed.len());
            let words = &parsed.typed;
            let again = Again {
                program: &program,
                words,
                selector_at,
            };
            hooks::run(s, verb, "hook-all-pre", "all")?;
            parallel::run(s, &again, &targets.names, limit)?;
            hooks::run(s, verb, "hook-all-post", "all")
        }
        _ => phases::run(s, verb, targets),
    }
}

fn warn_of_force(s: &mut Session<'_>) {
    if s.forced() {
        s.warn("Using FORCE option -- hopefully you know what you are doing!");
    }
}

/// One name, a comma list, `all`, or nothing.
fn names_are_sound(s: &mut Session<'_>, selector: Option<&String>) -> Result<(), Refusal> {
    let names = selector.into_iter().flat_map(|text| text.split(','));
    for name in names.filter(|name| !name.is_empty() && *name != "all") {
        check::identifier(s, name)?;
    }
    Ok(())
}

fn acts_for_other(s: &mut Session<'_>) -> Result<(), Refusal> {
    let host = s.host.clone();
    s.say(format!("ATTENTION: acting as if I were host '{host}'"));
    s.warn("some commands require local knowledge not available here.");
    s.warn("thus something may fail or go wrong - use this at your risk!");
    check::identifier(s, &host)?;
    check::host_is_known(s, &host)
}

/// `lowlevel-*` run without any of the usual checks, and their refusals end the program at once.
fn lowlevel(s: &mut Session<'_>, verb: &Verb, words: &[String]) -> Result<(), Refusal> {
    s.args = words
        .iter()
        .filter(|word| *word != "all")
        .cloned()
        .collect();
    let verbs::Body::Once(run) = verb.body else {
        return Err(Refusal(format!(
            "lowlevel command '{}' has phases",
            verb.name
        )));
    };
    run(s, "")?;
    s.flush()?;
    Ok(())
}

fn must_have_cluster(s: &Session<'_>, name: &str) -> Result<(), Refusal> {
    let exempt = [
        "create-cluster",
        "join-cluster",
        "create-uuid",
        "systemd",
        "cat",
    ];
    if s.tree.live("uuid").is_some() || exempt.iter().any(|word| name.contains(word)) {
        return Ok(());
    }
    refuse(
        "this host does not belong to a cluster (there is no /mars/uuid): use create-cluster or join-cluster first",
    )
}

/// `view*` and `pretty*` have their own rules, in [`crate::view`].
fn view_command(s: &mut Session<'_>, parsed: &Parsed) -> Result<(), Refusal> {
    let viewed = view_when_reached(s, parsed)?;
    s.errors += u32::try_from(viewed.output.exit).unwrap_or(1);
    s.pass_on_view(&viewed);
    for (path, value) in viewed.changes {
        s.set(path, value);
    }
    s.flush()?;
    Ok(())
}

/// Evaluates again and again while a macro waits for something, at most `--timeout` long. A saved tree does not change.
fn view_when_reached(s: &mut Session<'_>, parsed: &Parsed) -> Result<Viewed, Refusal> {
    let mut here = Surroundings::of_this_host(&s.options);
    here.real_host = Some(s.real_host.clone());
    loop {
        let viewed = view::evaluate(&s.tree, &s.options, &here, &parsed.words);
        let over = s.options.timeout.is_over(s.daemon.elapsed());
        if !viewed.unreached || over || s.options.tree_file.is_some() {
            return Ok(viewed);
        }
        s.pause(Duration::from_secs(1))?;
    }
}

/// Which resources are meant, and which words are left for the verb. What must not be missing is there.
fn targets(s: &mut Session<'_>, verb: &Verb, words: &[String]) -> Result<Targets, Refusal> {
    let one = |name: &str| Targets {
        names: vec![name.to_owned()],
        is_list: false,
    };
    let first = words.first().map(String::as_str);
    s.args = words.to_vec();
    match verb.takes {
        Takes::Peer if verb.name == "merge-cluster-check" => {
            return Ok(one(first.unwrap_or_default()));
        }
        Takes::Peer => return Ok(one("undefined")),
        // The original names the first word of these where others have a resource.
        Takes::SomeWords if matches!(verb.name, "set-link" | "get-link") => {
            return Ok(one(first.unwrap_or_default()));
        }
        Takes::Value => {
            let value = first.unwrap_or_default();
            let is_number = |b: u8| b.is_ascii_digit() || b == b'.';
            if value.is_empty() || !value.bytes().all(is_number) {
                return refuse(format!("value argument '{value}' isn't a number"));
            }
            return Ok(one(""));
        }
        Takes::Words | Takes::SomeWords => return Ok(one("")),
        Takes::ResourcesOrNone if first.is_none() => return Ok(one("")),
        // These look at all resources by themselves.
        Takes::ResourcesOrAll
            if matches!(verb.name, "show" | "show-errors")
                && matches!(first, None | Some("all")) =>
        {
            return Ok(one(""));
        }
        Takes::Resources | Takes::OneResource | Takes::ResourcesOrAll | Takes::ResourcesOrNone => {}
    }
    s.args = words.get(1..).unwrap_or_default().to_vec();
    select(s, verb, first.unwrap_or("all"))
}

fn select(s: &mut Session<'_>, verb: &Verb, selector: &str) -> Result<Targets, Refusal> {
    if selector != "all" {
        let names = natural::selection(selector);
        // The original does not look at the name here.
        if !verb.name.ends_with("-list") {
            for name in &names {
                check::identifier(s, name)?;
            }
        }
        let is_list = selector.contains(',');
        if is_list && verb.takes == Takes::OneResource {
            return refuse(format!(
                "command '{}' works on one resource only",
                verb.name
            ));
        }
        return Ok(Targets { names, is_list });
    }
    if verb.takes == Takes::OneResource {
        return refuse(format!(
            "command '{}' cannot be combined with 'all'",
            verb.name
        ));
    }
    let host = s.host.clone();
    let has_device = |res: &&str| {
        s.tree
            .live(&format!("resource-{res}/device-{host}"))
            .is_some()
    };
    let mut names: Vec<String> = s
        .tree
        .resources()
        .into_iter()
        .filter(has_device)
        .map(str::to_owned)
        .collect();
    natural::sort(&mut names);
    if names.is_empty() {
        s.warn("resource qualifier 'all' does not match any resource or guest names");
    }
    Ok(Targets {
        names,
        is_list: true,
    })
}
