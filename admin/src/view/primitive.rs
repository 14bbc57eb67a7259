//! The table of everything the macro language knows by itself.
//!
//! One line per name: what runs, whether `view-<name>` works, what it gives. The table in the documentation comes from here.
//!
//! Manual: "The Macro Processor", "Predefined Primitive Macros".

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;

use super::amount::Cursor;
use super::control as c;
use super::cursor::{self, Moment, Quantity, Speed, TimeOf};
use super::device::{self as d, MountPart};
use super::eval::{Done, Eval, Stop};
use super::features::{self, FlagSet};
use super::library::Macro;
use super::list::{self, Hosts, Names};
use super::message::{self, MessagesOf};
use super::parse::Call;
use super::state::{self as s, Word};
use super::text as t;

/// A function that decides itself which arguments it evaluates.
pub type CoreFn = fn(&mut Eval<'_>, &Call, &mut String) -> Done;
/// A question about the state; all arguments are evaluated before.
pub type StateFn = fn(&mut Eval<'_>, &[String]) -> Result<String, Stop>;

/// What runs when a name is called.
#[derive(Clone, Copy, Debug)]
pub enum Func {
    /// A function of the language.
    Core(CoreFn),
    /// A question about the state with a function of its own.
    State(StateFn),
    /// The value of a switch.
    Todo(Word),
    /// What a host reports to do.
    Is(Word),
    /// How many members report that.
    Count(Word),
    /// Wait until a switch (true) or a report (false) is on (true) or off.
    Wait(bool, Word, bool),
    /// A number about progress.
    Amount(Cursor, Quantity),
    /// How fast something goes.
    Rate(Cursor, Speed),
    /// A time, an age, a lag.
    Time(TimeOf, Moment),
    /// A list of hosts, or how many.
    Hosts(Hosts, bool),
    /// The same under its deprecated name.
    OldHosts(Hosts, bool),
    /// A list of resources, or how many.
    Names(Names, bool),
    /// Messages, or how many lines.
    Messages(MessagesOf, bool),
    /// Names of feature flags.
    Flags(FlagSet),
    /// Whether and how the device is mounted.
    MountOf(MountPart),
}

impl Func {
    /// Whether it asks for other resources than that of the variable `res`.
    pub fn looks_around(self) -> bool {
        match self {
            Func::Names(..) => true,
            Func::Hosts(which, _) | Func::OldHosts(which, _) => which == Hosts::Cluster,
            // With arguments these may name any resource and any key.
            Func::Core(_) => true,
            _ => false,
        }
    }
}

/// What a called name stands for.
#[derive(Clone, Debug)]
pub enum Target {
    /// A macro with text of its own.
    Macro(Rc<Macro>),
    /// A function of this table.
    Func(Func),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Def {
    /// The name behind `%`.
    pub name: String,
    /// Whether `view-<name>` exists.
    pub view: bool,
    /// What runs.
    pub func: Func,
    /// What it gives.
    pub about: &'static str,
}

/// Runs a question about the state.
pub fn run(func: Func, eval: &mut Eval<'_>, args: &[String]) -> Result<String, Stop> {
    match func {
        Func::Core(_) => Ok(String::new()),
        Func::State(run) => run(eval, args),
        Func::Todo(word) => Ok(s::todo(eval, word)),
        Func::Is(word) => Ok(s::is_doing(eval, word, args)),
        Func::Count(word) => Ok(s::count_doing(eval, word)),
        Func::Wait(todo, word, on) => s::wait_for(eval, todo, word, on),
        Func::Amount(cursor, what) => Ok(cursor::amount(eval, cursor, what, args)),
        Func::Rate(cursor, what) => Ok(cursor::rate(eval, cursor, what)),
        Func::Time(of, what) => Ok(cursor::moment(eval, of, what, args)),
        Func::Hosts(which, count) => Ok(list::host_list(eval, which, count)),
        Func::OldHosts(which, count) => Ok(list::old_host_list(eval, which, count)),
        Func::Names(which, count) => Ok(list::name_list(eval, which, count, args)),
        Func::Messages(which, count) => Ok(message::messages(eval, which, count)),
        Func::Flags(set) => Ok(features::names(eval, set)),
        Func::MountOf(part) => Ok(d::mount_of_device(eval, part)),
    }
}

/// The line of the table for a name. In names of state primitives `-` and `_` may be exchanged or left out.
pub fn find(name: &str) -> Option<&'static Def> {
    if let Some(def) = TABLE.get(name) {
        return Some(def);
    }
    if name.starts_with("warn") {
        return TABLE.get("warn");
    }
    if name.ends_with("printf") {
        return TABLE.get("sprintf");
    }
    TABLE.get(SHORT.get(&short(name))?)
}

/// All lines, by name.
pub fn table() -> impl Iterator<Item = &'static Def> {
    TABLE.values()
}

/// `replay-pos:fetch-pos:fetch-size` of the acting host.
pub fn summary_vector(eval: &mut Eval<'_>) -> Result<String, Stop> {
    cursor::summary_vector(eval, &[])
}

fn short(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).collect()
}

static TABLE: LazyLock<BTreeMap<String, Def>> = LazyLock::new(|| {
    let mut list = Table::default();
    list.language();
    list.switches();
    list.devices();
    list.progress();
    list.lists();
    list.messages();
    list.cluster();
    list.0
});

static SHORT: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    TABLE
        .values()
        .filter(|def| !matches!(def.func, Func::Core(_)))
        .map(|def| (short(&def.name), def.name.clone()))
        .collect()
});

/// The table while it is filled.
#[derive(Default)]
struct Table(BTreeMap<String, Def>);

impl Table {
    fn add(&mut self, name: &str, view: bool, func: Func, about: &'static str) {
        let def = Def {
            name: name.to_owned(),
            view,
            func,
            about,
        };
        self.0.insert(name.to_owned(), def);
    }

    fn core(&mut self, names: &[&str], run: CoreFn, about: &'static str) {
        for name in names {
            self.add(name, false, Func::Core(run), about);
        }
    }

    fn state(&mut self, name: &str, run: StateFn, about: &'static str) {
        self.add(name, true, Func::State(run), about);
    }

    fn inner(&mut self, name: &str, run: StateFn, about: &'static str) {
        self.add(name, false, Func::State(run), about);
    }

    #[rustfmt::skip]
    fn language(&mut self) {
        self.core(&[""], c::variable, "value of a variable");
        self.core(&["let"], c::assign, "assign to a variable");
        self.core(&["append"], c::append, "append to a variable");
        self.core(&["set"], c::set_element, "replace one element of a variable");
        self.core(&["dump-vars"], c::dump_vars, "all variables, on stderr");
        self.core(&["+", "-", "*", "/", "%"], t::arithmetic, "arithmetic from left to right");
        self.core(&["<<", ">>"], t::bitwise, "shift 64 bits");
        self.core(&["&", "|", "^"], t::bitwise, "bitwise from left to right");
        self.core(&["~"], t::invert, "all 64 bits inverted");
        self.core(&["min", "max"], t::extreme, "the smallest or largest number");
        self.core(&["<", ">", "<=", ">=", "==", "!="], t::compare_numbers, "compare numbers");
        self.core(&["lt", "gt", "le", "ge", "eq", "ne"], t::compare_texts, "compare texts");
        self.core(&["match", "=~"], t::matches, "does a regular expression match?");
        self.core(&["&&", "and"], c::all, "first false operand, else the last");
        self.core(&["||", "or"], c::any, "first true operand, else the last");
        self.core(&["!", "not"], t::not, "logical negation");
        self.core(&["toupper", "tolower", "length"], t::on_text, "case and length of a text");
        self.core(&["subst"], c::substitute, "replace what a regular expression matches");
        self.core(&["sprintf"], t::print_format, "format as in C");
        self.core(&["human-numbers"], t::numbers, "numbers in one common unit");
        self.core(&["human-seconds"], t::seconds, "HH:MM:SS");
        self.core(&["progress"], t::bar, "progress bar");
        self.core(&["if"], c::choose_one, "condition");
        self.core(&["elsif", "elseif"], c::choose, "condition");
        self.core(&["unless"], c::choose_one_not, "negated condition");
        self.core(&["elsunless", "elseunless"], c::choose_not, "negated condition");
        self.core(&["while"], c::repeat_while, "loop as long as");
        self.core(&["until"], c::repeat_until, "loop until");
        self.core(&["for"], c::repeat_for, "counting loop");
        self.core(&["foreach"], c::foreach, "loop over parts of a text");
        self.core(&["get-glob"], c::get_glob, "keys matching a pattern");
        self.core(&["foreach-glob"], c::foreach_glob, "loop over keys matching a pattern");
        self.core(&["protect"], c::protect, "the argument as written");
        self.core(&["eval"], c::eval_times, "evaluate several times");
        self.core(&["eval-down"], c::eval_down, "evaluate until nothing changes");
        self.core(&["tmp"], c::in_copy, "evaluate, then forget assignments");
        self.core(&["call"], c::call_macro, "run a macro in a copy of the scope");
        self.core(&["include"], c::include, "run a macro in this scope");
        self.core(&["callstack"], c::callstack, "names of the running macros");
        self.core(&["next"], c::next, "next round of a loop");
        self.core(&["last"], c::last, "leave a loop");
        self.core(&["return"], c::leave, "leave a macro");
        self.core(&["abort", "stop-eval"], c::abort, "leave everything");
        self.core(&["warn"], c::warn, "warning on stderr");
        self.core(&["die"], c::die, "fail");
        self.core(&["sleep", "timeout"], c::pause, "pause");
        self.core(&["time", "real-time"], c::time, "seconds since 1970");
        self.core(&["readlink"], c::readlink, "value of a key");
        self.core(&["setlink"], c::setlink, "set a key");
        self.core(&["wait"], c::wait, "wait for a condition");
        self.core(&["wait-resource"], c::wait_resource, "wait for a state, as the command");
        self.core(&["wait-cluster"], c::wait_cluster, "wait for signs of life");
    }

    #[rustfmt::skip]
    fn switches(&mut self) {
        for word in Word::ALL {
            let name = word.name();
            self.add(&format!("todo-{name}"), true, Func::Todo(word), "wanted state (switch)");
            self.add(&format!("is-{name}"), true, Func::Is(word), "reported state");
            self.add(&format!("nr-{name}"), true, Func::Count(word), "members which report that state");
            for (todo, what) in [(true, "todo"), (false, "is")] {
                for (on, end) in [(true, "on"), (false, "off")] {
                    self.add(&format!("wait-{what}-{name}-{end}"), true, Func::Wait(todo, word, on), "wait for a state");
                }
            }
        }
        self.inner("todo", s::todo_by_word, "wanted state by word");
        self.inner("does", s::does_by_word, "reported state by word");
        self.state("is-emergency", s::is_emergency, "emergency mode?");
        self.state("is-consistent", s::is_consistent, "is the replica consistent in itself?");
        self.inner("is-almost-consistent", s::is_almost_consistent, "the same without writeback of a primary");
        self.state("is-orphan", s::is_orphan, "is the log missing that comes next?");
        self.state("is-split-brain", s::is_split_brain, "do histories contradict each other?");
        self.state("is-apart", s::is_apart, "does its history contradict that of the designated primary?");
        self.state("is-alive", s::is_alive, "heard of within the window?");
        self.inner("is-module-loaded", s::is_module_loaded, "does the daemon of this host run?");
        self.state("is-member", s::is_member, "does the host store a replica?");
        self.state("is-guest", s::is_guest, "does the host only use the device?");
        self.state("get-primary", s::get_primary, "designated primary");
        self.state("actual-primary", s::actual_primary, "guessed actual primary (deprecated)");
        self.state("replay-code", s::replay_code, "result of the last replay");
    }

    #[rustfmt::skip]
    fn devices(&mut self) {
        self.state("get-disk", d::get_disk, "underlying disk");
        self.state("get-device", d::get_device, "device for applications");
        for name in ["disk-present", "present-disk"] {
            self.state(name, d::disk_present, "is the underlying disk there?");
        }
        for name in ["device-present", "present-device"] {
            self.state(name, d::device_present, "is the device there?");
        }
        self.state("disk-error", d::disk_error, "error of the underlying disk");
        self.state("device-error", d::device_error, "error of the device");
        self.state("device-opened", d::device_opened, "how often the device is open");
        self.state("device-nrflying", d::device_flying, "requests in flight");
        self.state("device-completion-stamp", d::completion_stamp, "time of the last completion");
        self.state("device-completion-age", d::completion_age, "seconds since then");
        self.state("device-ops-rate", d::device_ops, "requests per second");
        self.state("device-rate", d::device_amount, "bytes per second");
        self.state("device-amount-rate", d::device_amount, "bytes per second");
        for (name, part) in [("mounted", MountPart::Mounted), ("mountpoint", MountPart::Path), ("fstype", MountPart::FsType), ("mountflags", MountPart::Flags)] {
            self.add(&format!("known-device-{name}"), true, Func::MountOf(part), "where the device is mounted on this host");
        }
        self.state("disk-size", d::disk_size, "bytes of the underlying disk");
        self.state("resource-size", d::resource_size, "bytes of the resource");
        self.state("device-size", d::resource_size, "bytes of the device");
        self.state("resource-possible-size", d::possible_size, "bytes that all disks could hold");
        self.state("deletable-size", d::deletable_size, "bytes of logs which everybody has replayed");
        self.state("occupied-size", d::occupied_size, "bytes of all logs held here");
    }

    #[rustfmt::skip]
    fn progress(&mut self) {
        for (cursor, name) in [(Cursor::Sync, "sync"), (Cursor::Fetch, "fetch"), (Cursor::Replay, "replay"), (Cursor::Work, "work")] {
            for (quantity, end, about) in Quantity::ALL {
                self.add(&format!("{name}-{end}"), true, Func::Amount(cursor, quantity), about);
            }
            for (speed, end, about) in Speed::ALL {
                self.add(&format!("{name}-{end}"), true, Func::Rate(cursor, speed), about);
            }
        }
        for (cursor, name) in [(Cursor::Fetch, "fetch"), (Cursor::Replay, "replay"), (Cursor::Work, "work")] {
            self.add(&format!("{name}-lognr"), true, Func::Amount(cursor, Quantity::LogNr), "number of a log");
            self.add(&format!("{name}-logcount"), true, Func::Amount(cursor, Quantity::LogCount), "how many logs");
        }
        for (of, name) in [(TimeOf::Alive, "alive"), (TimeOf::Fetch, "fetch"), (TimeOf::Replay, "replay"), (TimeOf::Work, "work")] {
            self.add(&format!("{name}-timestamp"), true, Func::Time(of, Moment::Stamp), "when it last moved");
            self.add(&format!("{name}-age"), true, Func::Time(of, Moment::Age), "seconds since then");
            self.add(&format!("{name}-lag"), true, Func::Time(of, Moment::Lag), "seconds later than the primary");
        }
        self.state("replay-basenr", cursor::base_nr, "oldest log held here without a gap");
        self.state("writeback-rest", cursor::writeback_rest, "bytes known behind the replay position");
        self.state("summary-vector", cursor::summary_vector, "replay-pos:fetch-pos:fetch-size");
        self.state("syncpos-pos", cursor::syncpos_pos, "bytes replayed since the sync began");
        self.state("syncpos-size", cursor::syncpos_size, "bytes to replay until a synced disk is consistent");
    }

    #[rustfmt::skip]
    fn lists(&mut self) {
        for (which, name) in Hosts::ALL {
            self.add(&format!("{name}-peers"), true, Func::Hosts(which, false), "hosts, one a line");
            self.add(&format!("count-{name}-peers"), true, Func::Hosts(which, true), "how many hosts");
            self.add(&format!("{name}-members"), true, Func::OldHosts(which, false), "hosts, one a line");
            self.add(&format!("count-{name}-members"), true, Func::OldHosts(which, true), "how many hosts");
        }
        for (which, name) in Names::ALL {
            self.add(name, true, Func::Names(which, false), "resources, one a line");
            self.add(&format!("count-{name}"), true, Func::Names(which, true), "how many resources");
        }
    }

    #[rustfmt::skip]
    fn messages(&mut self) {
        for which in MessagesOf::all() {
            let name = which.name();
            self.add(&format!("{name}msg"), true, Func::Messages(which, false), "messages, one a line");
            for end in ["count", "msg-count"] {
                self.add(&format!("{name}{end}"), false, Func::Messages(which, true), "how many messages");
            }
        }
        self.inner("get-msg", message::raw, "one message as stored");
        self.state("get-resource-fat", message::fatal_file, "fatal messages from the status file");
        self.state("get-resource-err", message::error_file, "error messages from the status file");
        self.state("get-resource-wrn", message::warning_file, "warnings from the status file");
        self.state("get-resource-fat-count", message::fatal_count, "how many lines of fatal messages");
        self.state("get-resource-err-count", message::error_count, "how many lines of error messages");
        self.state("get-resource-wrn-count", message::warning_count, "how many lines of warnings");
        self.state("get-log-status", message::log_status, "informational messages from the status file");
    }

    #[rustfmt::skip]
    fn cluster(&mut self) {
        self.state("uuid", s::uuid, "identity of the cluster");
        self.state("tree", s::tree_version, "version of the key tree");
        self.state("tree-version", s::tree_version, "version of the key tree");
        self.state("features-version", features::version, "features as stored");
        self.state("rest-space", s::rest_space, "GiB left for logs");
        self.state("total-space", s::total_space, "GiB for logs altogether");
        self.state("global-sync-limit-value", s::sync_limit, "how many syncs at once");
        self.state("systemd-unit", s::systemd_unit, "units that follow the primary");
        for (set, name) in FlagSet::all() {
            self.add(&name, true, Func::Flags(set), "names of feature flags");
        }
        self.add("errno-text", true, Func::Core(t::error_names), "names of error numbers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_state_primitives_are_found_with_other_separators() {
        for name in [
            "is_attach",
            "isattach",
            "sync-rest",
            "SyncRest",
            "warning",
            "xprintf",
        ] {
            let found = find(name).map(|def| def.name.as_str());
            let expected = match name {
                "is_attach" | "isattach" => Some("is-attach"),
                "sync-rest" => Some("sync-rest"),
                "warning" => Some("warn"),
                "xprintf" => Some("sprintf"),
                _ => None,
            };
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn no_two_names_differ_only_in_separators() {
        assert_eq!(
            SHORT.len(),
            table()
                .filter(|def| !matches!(def.func, Func::Core(_)))
                .count()
        );
    }
}
