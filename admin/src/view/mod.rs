//! `view`, `view-<macro>`, `pretty…`: what the operator sees, computed by macros from the tree alone.
//!
//! ```text
//! snapshot ─ world (index per resource) ─┬─ primitive (questions about the state)
//! macro text ─ parse ─ eval ─────────────┴─ control, text (the language itself) ─→ output
//! ```
//!
//! Nothing here talks to the daemon or looks at a disk, except that macro files of the operator are read. So the same
//! code serves a live tree and a saved one.
//!
//! Manual: "The Macro Processor".

use crate::natural;
use crate::options::Options;
use crate::output::Output;
use crate::snapshot::Snapshot;

mod amount;
mod builtin;
mod control;
mod cursor;
mod device;
mod differences;
mod errno;
mod eval;
mod features;
mod format;
mod glob;
mod library;
mod list;
mod message;
mod number;
mod parse;
mod pretty;
mod primitive;
mod sprintf;
mod state;
mod surroundings;
mod text;
mod world;

pub use format::{human_numbers, human_seconds};
pub use glob::find;
pub use library::search_path;
pub use surroundings::{Mount, Surroundings, mounts};

/// What `mars-status` computes with, too.
pub(crate) mod status_api {
    pub use super::amount::{
        Known, ReplayValue, number, parse_log, split_numbered, version_len, version_parts,
    };
    pub use super::parse::without_escapes;
    pub use super::world::{Res, World};
}

use eval::{Eval, Stop};
use library::{Library, Macro};
use std::rc::Rc;
use world::World;

/// What a `view` command says, and which keys its macros want to set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Viewed {
    /// Text and exit code.
    pub output: Output,
    /// Path without `/mars/` and value, in order; empty unless a macro calls `%setlink{}`.
    pub changes: Vec<(String, String)>,
    /// What was shown, for programs: which part (`resource`, `header`, `global`, `footer`, or `source` of a macro), of which resource, and
    /// its text without the last newline.
    pub parts: Vec<(&'static str, Option<String>, String)>,
    /// A macro waits for something which is not so yet: evaluate again with a newer snapshot, or report this result.
    pub unreached: bool,
}

/// Runs a `view*` or `pretty*` command. `args` are the positional words, the command first.
pub fn run(tree: &Snapshot, options: &Options, args: &[String]) -> Output {
    evaluate(tree, options, &Surroundings::of_this_host(options), args).output
}

/// As [`run`], and also tells which keys the macros want to set.
pub fn evaluate(
    tree: &Snapshot,
    options: &Options,
    surroundings: &Surroundings,
    args: &[String],
) -> Viewed {
    let library = Library::new(&surroundings.macro_dirs);
    let world = World::new(tree);
    let command = args.first().map_or("view", String::as_str);
    let mut view = View {
        world: &world,
        options,
        library: &library,
        here: surroundings,
        command,
        own_macro: options.macro_text.as_deref().map(|text| {
            let name = name_of_macro(command).unwrap_or(command);
            Rc::new(Macro::new(name, &text.replace("\\n", "\n")))
        }),
        args: args.get(2..).unwrap_or(&[]),
        viewed: Viewed::default(),
    };
    view.startup_warnings();
    if let Some(name) = command.strip_prefix("pretty") {
        let name = name.split_once('-').map_or("default", |(_, name)| name);
        view.print_source(name);
    } else {
        view.resources(args.get(1).map_or("", String::as_str));
    }
    view.viewed
}

/// Whether a `view` command shows nothing but what the keys of its resource, and those of no resource, tell. What an
/// operator has written may ask for anything.
pub fn is_about_one(command: &str) -> bool {
    let Some(name) = name_of_macro(command) else {
        return false;
    };
    let is_ours = match primitive::find(name) {
        Some(def) => def.view && !def.func.looks_around(),
        None => builtin::source(name).is_some(),
    };
    is_ours && !Library::new(&search_path()).has_files()
}

/// The name behind `view-`; `default` when there is none.
fn name_of_macro(command: &str) -> Option<&str> {
    let rest = command.strip_prefix("view")?;
    Some(
        rest.strip_prefix('-')
            .filter(|name| !name.is_empty())
            .unwrap_or("default"),
    )
}

/// A line of a message with its times and error numbers in words.
pub fn readable(line: &str, zone: &jiff::tz::TimeZone) -> String {
    message::named_errors(&format::readable_stamps(line, zone, true))
}

/// The text behind `--------- resource ` in lists: name, size, members. A resource which does not exist has size 0.
pub fn default_resource(tree: &Snapshot, res: &str, options: &Options) -> String {
    let here = Surroundings::of_this_host(options);
    let library = Library::new(&here.macro_dirs);
    let world = World::new(tree);
    let mut view = View {
        world: &world,
        options,
        library: &library,
        here: &here,
        command: "view-default-resource",
        own_macro: None,
        args: &[],
        viewed: Viewed::default(),
    };
    let text = view.macro_text("default-resource", res);
    text.unwrap_or_else(|_| res.to_owned())
}

/// Names of all macros and primitives which can be viewed, sorted, each with its text as `dump-macros` writes it.
pub fn macro_sources(with_primitives: bool) -> Vec<(String, String)> {
    let complex = builtin::all().map(|(name, text)| (name.to_owned(), text.to_owned()));
    let primitives = primitive::table()
        .filter(|def| def.view && with_primitives)
        .map(|def| (def.name.clone(), library::trivial_source(&def.name)));
    let mut all: Vec<_> = complex.chain(primitives).collect();
    all.sort();
    all
}

/// One line about a name of the macro language.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameLine {
    /// The name behind `%`.
    pub name: String,
    /// Whether `view-<name>` works.
    pub view: bool,
    /// What it gives.
    pub about: String,
    /// In what it differs from the original, if it does.
    pub differs: Option<&'static str>,
    /// Whether it is a macro with a text of its own.
    pub complex: bool,
}

/// One line about each name of the macro language, sorted by name.
pub fn macro_table() -> Vec<NameLine> {
    let line = |name: &str, view, about: &str, complex| NameLine {
        name: name.to_owned(),
        view,
        about: about.to_owned(),
        differs: differences::of(name),
        complex,
    };
    let complex = builtin::all().map(|(name, text)| line(name, true, builtin::about(text), true));
    let primitives = primitive::table().map(|def| line(&def.name, def.view, def.about, false));
    let mut all: Vec<_> = complex.chain(primitives).collect();
    all.sort();
    all
}

/// One `view` command while it runs.
struct View<'v> {
    world: &'v World<'v>,
    options: &'v Options,
    library: &'v Library,
    here: &'v Surroundings,
    command: &'v str,
    own_macro: Option<Rc<Macro>>,
    args: &'v [String],
    viewed: Viewed,
}

impl<'v> View<'v> {
    fn startup_warnings(&mut self) {
        if !self.world.snap.daemon_runs {
            self.viewed.output.warn("mars kernel module is not loaded");
        }
        if self.world.snap.live("uuid").is_none() {
            let what = "this host does not belong to a cluster: there is no /mars/uuid";
            self.viewed.output.warn(what);
        }
    }

    /// The name of the macro, without `view-`.
    fn name(&self) -> &'v str {
        let name = self.command.strip_prefix("view").unwrap_or(self.command);
        name.strip_prefix('-')
            .filter(|name| !name.is_empty())
            .unwrap_or("default")
    }

    fn print_source(&mut self, name: &str) {
        let mut stderr = String::new();
        let found = self.library.find_any(name, &mut stderr);
        self.viewed.output.stderr.push_str(&stderr);
        match found {
            Some(found) => self.show("source", None, &pretty::print(&found.source)),
            None => self.fail(&format!("cannot find macro '{name}'"), ""),
        }
    }

    /// Nothing, one name, several, or `all`.
    fn resources(&mut self, selector: &str) {
        if selector == "all" {
            self.frame("header");
            self.all();
            self.frame("global");
            self.frame("footer");
        } else if selector.contains(',') {
            let names = natural::selection(selector);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.list(&names);
        } else {
            self.one(selector);
        }
        if self.options.ignore_deleted_peers >= 2 {
            self.warn_about_silent_peers();
        }
    }

    fn all(&mut self) {
        let key = format!("device-{}", self.world.snap.host);
        let names = self.world.filtered(|res| res.has(&key));
        if names.is_empty() {
            self.viewed
                .output
                .warn("resource qualifier 'all' does not match any resource or guest names");
        }
        self.list(&names);
    }

    fn list(&mut self, names: &[&str]) {
        let mut failed = 0;
        for name in names {
            let res = self.world.res(name);
            let member = res.has(&format!("data-{}", self.world.snap.host));
            let kind = if member { "resource" } else { "guest" };
            let before = self.viewed.output.exit;
            let line = self.macro_text("default-resource", name);
            let line = line.unwrap_or_default();
            let stdout = &mut self.viewed.output.stdout;
            stdout.push_str(&format!("--------- {kind} {line}\n"));
            self.one(name);
            failed += usize::from(self.viewed.output.exit != before);
        }
        if failed > 0 && failed == names.len() {
            self.viewed.output.fatal("all resources have errors");
        }
    }

    /// The macro for one resource, behind the checks which every command makes.
    fn one(&mut self, name: &str) {
        let Some(name) = self.existing(name) else {
            return;
        };
        let res = self.world.res(&name);
        res.report_split_brain(self.options.window, &mut self.viewed.output);
        let found = match &self.own_macro {
            Some(own) => Ok(Rc::clone(own)),
            None => self.lookup(self.name()),
        };
        match found.and_then(|found| self.evaluate(&found, &name)) {
            Ok(text) => self.show("resource", Some(&name), &text),
            Err(reason) => self.fail(&reason, &name),
        }
    }

    fn show(&mut self, part: &'static str, res: Option<&str>, text: &str) {
        self.viewed.output.stdout.push_str(&with_newline(text));
        let res = res.filter(|name| !name.is_empty()).map(str::to_owned);
        let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
        self.viewed.parts.push((part, res, text));
    }

    /// The name of a resource that exists; a device name of this host stands for its resource.
    fn existing(&mut self, name: &str) -> Option<String> {
        if name.is_empty() || self.world.snap.dir_exists(&format!("resource-{name}")) {
            return Some(name.to_owned());
        }
        let key = format!("device-{}", self.world.snap.host);
        let named = self.world.filtered(|res| res.text(&key) == name);
        if let [only] = named[..] {
            self.viewed.output.warn(&format!(
                "substituting bad resource name '{name}' by uniquely matching resource name '{only}'"
            ));
            return Some(only.to_owned());
        }
        self.fail(&format!("resource '{name}' does not exist"), name);
        None
    }

    fn fail(&mut self, reason: &str, res: &str) {
        self.viewed.output.fatal(reason);
        self.viewed.output.exit += 1;
        let line = format!("FAILURE cmd='{}' res='{res}'\n", self.command);
        self.viewed.output.stdout.push_str(&line);
    }

    /// Header, global part or footer of `all`, if there is such a macro.
    fn frame(&mut self, part: &'static str) {
        let name = format!("{}-{part}", self.name());
        let mut stderr = String::new();
        let found = self.library.find(&name, &mut stderr);
        self.viewed.output.stderr.push_str(&stderr);
        let Some(found) = found else {
            return;
        };
        match self.evaluate(&found, "") {
            Ok(text) => self.show(part, None, &text),
            Err(reason) => self.fail(&reason, ""),
        }
    }

    fn macro_text(&mut self, name: &str, res: &str) -> Result<String, String> {
        let found = self.lookup(name)?;
        self.evaluate(&found, res)
    }

    fn lookup(&mut self, name: &str) -> Result<Rc<Macro>, String> {
        let mut stderr = String::new();
        let found = self.library.find_any(name, &mut stderr);
        self.viewed.output.stderr.push_str(&stderr);
        found.ok_or_else(|| format!("cannot find macro '{name}'"))
    }

    fn evaluate(&mut self, found: &Macro, res: &str) -> Result<String, String> {
        let mut eval = Eval::new(
            self.world,
            self.options,
            self.library,
            self.here,
            self.name(),
            res,
        );
        let mut text = String::new();
        let done =
            expand(&mut eval, self.args).and_then(|args| eval.run_macro(found, &args, &mut text));
        self.viewed.output.stderr.push_str(&eval.stderr);
        match done {
            Ok(()) | Err(Stop::Abort | Stop::Return | Stop::Next | Stop::Last) => {
                self.viewed.changes.append(&mut eval.changes);
                Ok(text)
            }
            Err(Stop::Unreached) => {
                self.viewed.unreached = true;
                Err("Timeout reached.".to_owned())
            }
            Err(Stop::Fatal(reason)) => Err(reason),
        }
    }

    fn warn_about_silent_peers(&mut self) {
        for host in self.world.configured_peers() {
            if !self.world.is_alive(host, self.options.window) {
                let age = self
                    .world
                    .alive_time(host)
                    .map_or(-1.0, |t| self.world.age(t));
                self.viewed.output.warn(&format!(
                    "no fresh information about peer '{host}' since {}",
                    human_seconds(age)
                ));
            }
        }
    }
}

/// The words behind the resource are macro text themselves.
fn expand(eval: &mut Eval<'_>, words: &[String]) -> Result<Vec<String>, Stop> {
    let expand_one = |word: &String| {
        let mut text = String::new();
        eval.run(&parse::Template::from_source(word), &mut text)?;
        Ok(text)
    };
    words.iter().map(expand_one).collect()
}

/// Exactly one newline at the end of a result; nothing when there is no result.
fn with_newline(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("{}\n", text.strip_suffix('\n').unwrap_or(text))
}
