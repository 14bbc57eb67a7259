//! Runs macro text: variables, scopes, calls.
//!
//! One [`Eval`] serves one evaluation of one macro for one resource. It reads the indexed snapshot and collects
//! warnings and wished key changes; it changes nothing itself.
//!
//! Manual: "The Macro Processor".

use std::collections::BTreeMap;
use std::rc::Rc;

use super::library::{Library, Macro};
use super::parse::{Call, Node, Template};
use super::primitive::{self, Func, Target};
use super::surroundings::Surroundings;
use super::world::{Res, World};
use crate::options::{Options, Timeout};

/// Nesting of calls and arguments beyond which a macro is taken to call itself for ever.
const DEPTH_MAX: u32 = 150;

/// Texts evaluated for one macro beyond which it is taken not to end.
const STEPS_MAX: u32 = 500_000;

/// Length in bytes which no intermediate result may exceed.
const RESULT_BYTES_MAX: usize = 64 << 20;

/// Why an evaluation does not simply go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It failed; the text for the operator.
    Fatal(String),
    /// It waits for something which is not so in this snapshot.
    Unreached,
    /// `%next{}`: on with the next round of the innermost loop.
    Next,
    /// `%last{}`: leave the innermost loop.
    Last,
    /// `%return{}`: leave the macro.
    Return,
    /// `%abort{}`: leave everything, without an error.
    Abort,
}

/// Evaluates into a text that grows, so what was there before a stop is kept.
pub type Done = Result<(), Stop>;

/// The variables of a scope.
pub type Scope = BTreeMap<String, String>;

/// A running evaluation.
pub struct Eval<'e> {
    /// The indexed snapshot.
    pub world: &'e World<'e>,
    /// What the command line said.
    pub options: &'e Options,
    /// All macros.
    pub library: &'e Library,
    /// What is used besides the tree.
    pub here: &'e Surroundings,
    /// The variables.
    pub vars: Scope,
    /// Lines for stderr.
    pub stderr: String,
    /// Keys which the macro wants to set: path without `/mars/`, value.
    pub changes: Vec<(String, String)>,
    calls: Vec<String>,
    depth: u32,
    steps: u32,
}

impl<'e> Eval<'e> {
    /// An evaluation for the resource `res` (empty for none) of the macro that the operator called `cmd`.
    pub fn new(
        world: &'e World<'e>,
        options: &'e Options,
        library: &'e Library,
        here: &'e Surroundings,
        cmd: &str,
        res: &str,
    ) -> Eval<'e> {
        Eval {
            world,
            options,
            library,
            here,
            vars: predefined(world, options, here, cmd, res),
            stderr: String::new(),
            changes: Vec::new(),
            calls: Vec::new(),
            depth: 0,
            steps: 0,
        }
    }

    /// Evaluates `template` and appends the result to `out`.
    pub fn run(&mut self, template: &Template, out: &mut String) -> Done {
        self.check_bounds(out.len())?;
        self.depth += 1;
        self.steps += 1;
        let done = template.nodes.iter().try_for_each(|node| match node {
            Node::Text { text, reserved } => {
                for letter in reserved.chars() {
                    self.warn(&format!("escape sequence '\\{letter}' is reserved"));
                }
                out.push_str(text);
                Ok(())
            }
            Node::Call(call) => self.call(call, out),
        });
        self.depth -= 1;
        done.and_then(|()| self.check_bounds(out.len()))
    }

    /// Macros are programs of the operator; one that does not end must not take the host with it.
    fn check_bounds(&self, result_bytes: usize) -> Done {
        let problem = if self.depth >= DEPTH_MAX {
            format!("is nested more than {DEPTH_MAX} levels deep")
        } else if self.steps >= STEPS_MAX {
            format!("does not end within {STEPS_MAX} steps")
        } else if result_bytes > RESULT_BYTES_MAX {
            format!("has a result of more than {RESULT_BYTES_MAX} bytes")
        } else {
            return Ok(());
        };
        let name = self.calls.last().map_or("", String::as_str);
        Err(Stop::Fatal(format!("macro '{name}' {problem}")))
    }

    /// Evaluates argument number `at` (from 0); empty when it is not there.
    pub fn arg(&mut self, call: &Call, at: usize) -> Result<String, Stop> {
        let mut text = String::new();
        if let Some(arg) = call.args.get(at) {
            self.run(arg.body(), &mut text)?;
        }
        Ok(text)
    }

    /// Evaluates argument number `at` into `out`.
    pub fn arg_into(&mut self, call: &Call, at: usize, out: &mut String) -> Done {
        match call.args.get(at) {
            Some(arg) => self.run(arg.body(), out),
            None => Ok(()),
        }
    }

    /// Evaluates all arguments from number `from` on.
    pub fn args(&mut self, call: &Call, from: usize) -> Result<Vec<String>, Stop> {
        (from..call.args.len())
            .map(|at| self.arg(call, at))
            .collect()
    }

    fn call(&mut self, call: &Call, out: &mut String) -> Done {
        let target = match call.target.get() {
            Some(target) => target,
            None => {
                let found = self.resolve(call)?;
                call.target.get_or_init(|| found)
            }
        };
        match target {
            Target::Macro(found) => {
                let args = self.args(call, 0)?;
                self.run_macro(&Rc::clone(found), &args, out)
            }
            Target::Func(Func::Core(run)) => run(self, call, out),
            Target::Func(func) => {
                let args = self.args(call, 0)?;
                out.push_str(&primitive::run(*func, self, &args)?);
                Ok(())
            }
        }
    }

    /// What a name stands for: an own macro of the operator, a predefined one, a function, in this order.
    fn resolve(&mut self, call: &Call) -> Result<Target, Stop> {
        if call.plain_name() == call.name
            && let Some(found) = self.library.find(&call.name, &mut self.stderr)
        {
            return Ok(Target::Macro(found));
        }
        primitive::find(call.plain_name())
            .map(|def| Target::Func(def.func))
            .ok_or_else(|| Stop::Fatal(format!("call to unknown macro '{}'", call.name)))
    }

    /// Runs a macro with its arguments as `%{1}`, `%{2}`, … in the current scope. What the caller had there is put back.
    pub fn run_macro(&mut self, found: &Macro, args: &[String], out: &mut String) -> Done {
        let before = self.bind(&found.name, args);
        self.calls.push(found.name.clone());
        let done = self.run(&found.template, out);
        self.calls.pop();
        self.unbind(before);
        match done {
            Err(Stop::Return) => Ok(()),
            other => other,
        }
    }

    /// Takes the numbered variables of the caller away, and sets those of the macro.
    fn bind(&mut self, name: &str, args: &[String]) -> Vec<(String, String)> {
        let before = self.numbered();
        for (name, _) in &before {
            self.vars.remove(name);
        }
        self.set("0", name);
        for (at, arg) in args.iter().enumerate() {
            self.set(&(at + 1).to_string(), arg);
        }
        before
    }

    fn unbind(&mut self, before: Vec<(String, String)>) {
        for (name, _) in self.numbered() {
            self.vars.remove(&name);
        }
        self.vars.extend(before);
    }

    fn numbered(&self) -> Vec<(String, String)> {
        // Names that begin with a digit lie together, before every letter.
        let digits = self.vars.range("0".to_owned()..":".to_owned());
        digits
            .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_digit()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The value of a variable; unknown ones are empty.
    pub fn var(&self, name: &str) -> &str {
        self.vars.get(name).map_or("", String::as_str)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.vars.insert(name.to_owned(), value.to_owned());
    }

    /// The host whose state is asked for.
    pub fn host(&self) -> String {
        self.var("host").to_owned()
    }

    /// The resource whose state is asked for.
    pub fn res(&self) -> Rc<Res<'e>> {
        self.world.res(self.var("res"))
    }

    /// Names of the running macros, outermost first.
    pub fn callstack(&self) -> String {
        self.calls.join(",")
    }

    /// A line `WARNING: …` on stderr.
    pub fn warn(&mut self, text: &str) {
        self.stderr.push_str(&format!("WARNING: {text}\n"));
    }
}

/// The variables that are there from the beginning.
fn predefined(
    world: &World<'_>,
    options: &Options,
    here: &Surroundings,
    cmd: &str,
    res: &str,
) -> Scope {
    let host = &world.snap.host;
    let real_host = here.real_host.as_ref().unwrap_or(host);
    let ip = options
        .own_ip
        .as_deref()
        .unwrap_or_else(|| world.text(&format!("ips/ip-{host}")));
    let timeout = match options.timeout {
        Timeout::Seconds(seconds) => seconds.to_string(),
        Timeout::Forever => "-1".to_owned(),
    };
    let hours = options.keep_backup_hours;
    let list = [
        ("cmd", cmd.to_owned()),
        ("res", res.to_owned()),
        ("resdir", format!("/mars/resource-{res}")),
        ("mars", "/mars".to_owned()),
        ("host", host.clone()),
        ("real_host", real_host.clone()),
        ("ip", ip.to_owned()),
        ("timeout", timeout),
        ("window", options.window.to_string()),
        ("threshold", options.threshold.to_string()),
        ("stuck-seconds", options.stuck_seconds.to_string()),
        ("keep-backup-hours", hours.to_string()),
        (
            "keep-backup-seconds",
            hours.saturating_mul(3600).to_string(),
        ),
        ("force", options.force.to_string()),
        ("dry-run", u8::from(options.dry_run).to_string()),
        ("verbose", options.verbose.to_string()),
    ];
    list.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
