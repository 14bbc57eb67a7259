//! **The verb table**: every command of `marsadm`, what it takes, what is checked before, and its phases.
//!
//! Parsing, help, man page, completion and the comparison in `docs/` come from here. A new verb is one entry and its steps in
//! `verb/`. The `view*` and `pretty*` family is not here: their names are names of macros.

use crate::phases::{Phase, StepFn, between, each, global, repeat, repeat_or};
use crate::verb::{
    cluster, leaving, link, logs, lowlevel, old, purge, repair, resource, role, settings, size,
    switch, systemd, waits,
};

/// What the first word behind the command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Resources: one name, a comma list, or `all`.
    Resources,
    /// The same, but `all` when nothing is said.
    ResourcesOrAll,
    /// The same, but nothing when nothing is said.
    ResourcesOrNone,
    /// Exactly one name.
    OneResource,
    /// A host.
    Peer,
    /// No resource; all words belong to the command.
    Words,
    /// No resource; at least one word belongs to the command.
    SomeWords,
    /// No resource; a number.
    Value,
}

/// What is checked of each resource before the first phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    None,
    /// Split brain is reported.
    Report,
    /// It exists; split brain is reported.
    Exists,
    /// It exists, this host is a member or guest, its disk is large enough; split brain is reported.
    Member,
}

/// Who a verb is for; the help shows higher classes only when asked for (`--verbose`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Everybody.
    Ordinary = 0,
    /// Who knows what they do.
    Expert = 1,
    /// Other programs.
    Internal = 2,
    /// Nobody any more.
    Deprecated = 3,
    /// Accepted for the sake of DRBD scripts; never shown.
    Hidden = 99,
}

/// The work of a verb.
#[derive(Clone, Copy)]
pub enum Body {
    /// One step per resource, without headline.
    Once(StepFn),
    /// Several, with headlines.
    Phases(&'static [Phase]),
}

/// One command.
pub struct Verb {
    /// The word the operator types.
    pub name: &'static str,
    /// What follows it.
    pub takes: Takes,
    /// What is checked before.
    pub gate: Gate,
    /// Who it is for.
    pub class: Class,
    /// Words behind the first one, for the help.
    pub usage: &'static str,
    /// What it does, for the help.
    pub about: &'static str,
    /// Its steps.
    pub body: Body,
}

impl Verb {
    /// The whole usage line, without `marsadm`.
    pub fn usage_line(&self) -> String {
        let first = match self.takes {
            Takes::Resources => " <resource_names>",
            Takes::ResourcesOrAll | Takes::ResourcesOrNone => " [<resource_names>]",
            Takes::OneResource => " <resource_name>",
            Takes::Peer => " <peer>",
            Takes::Words | Takes::SomeWords | Takes::Value => "",
        };
        let rest = if self.usage.is_empty() {
            String::new()
        } else {
            format!(" {}", self.usage)
        };
        format!("{}{first}{rest}", self.name)
    }
}

impl Verb {
    /// How many words may stand behind the verb, options not counted; `None` is any number. Follows from the usage.
    pub fn words_max(&self) -> Option<usize> {
        let first = match self.takes {
            Takes::Words | Takes::SomeWords | Takes::Value => 0,
            _ => 1,
        };
        if self
            .usage
            .split_whitespace()
            .any(|word| word.starts_with('…'))
        {
            return None;
        }
        let words = self.usage.split_whitespace();
        let plain = words.filter(|word| !word.starts_with("--"));
        // What stands behind a bar takes the place of what stands before it.
        let (words, bars) = plain.fold((0, 0), |(words, bars), word| match word {
            "|" => (words, bars + 1),
            _ => (words + 1, bars),
        });
        Some(first + words - bars)
    }
}

/// Finds a verb by its word.
pub fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

const ATTACH: &[Phase] = &[
    each("check preconditions", switch::nothing_to_check),
    each("switch state", switch::attach),
    each("wait for effect", switch::wait_attached),
];

const DETACH: &[Phase] = &[
    each("check preconditions", switch::may_detach),
    each("wait for systemd device release", switch::wait_for_units),
    each("switch state", switch::detach),
    each("wait for effect", switch::wait_detached),
];

const UP: &[Phase] = &[
    each("check preconditions", switch::nothing_to_check),
    each("switch state", switch::all_on),
    each("wait for effect", switch::wait_attached),
];

const DOWN: &[Phase] = &[
    each("check preconditions", switch::may_detach),
    each("wait for systemd device release", switch::wait_for_units),
    each("switch state", switch::all_off),
    each("wait for effect", switch::wait_detached),
];

const PRIMARY: &[Phase] = &[
    between(role::ask_peers),
    each("check preconditions", role::may_become_primary),
    each("conditionally wait for fetch off", role::prepare_fetch),
    each("wait for systemd", role::wait_for_units),
    repeat("leave primary state", role::leave_primary),
    repeat_or("trigger remote", role::old_steps_down, role::give_back),
    repeat_or(
        "wait for cluster when necessary",
        role::hear_old_again,
        role::give_back,
    ),
    repeat_or("avoid split brain", role::still_complete, role::give_back),
    each("switch to primary", role::become_primary),
    each("trigger remote", repair::just_flush),
    each("wait for device", role::wait_for_device),
    repeat("trigger systemd", role::wait_for_start),
];

const SECONDARY: &[Phase] = &[
    each("check preconditions", role::may_leave_primary),
    each("leave primary state", role::designate_nobody),
    repeat("trigger remote", role::wait_until_gone),
    each("wait for effect", role::wait_device_gone),
    repeat("trigger systemd", role::wait_all_closed),
];

const INVALIDATE: &[Phase] = &[
    each("check preconditions", repair::may_invalidate),
    each("switch off everything", repair::all_off),
    each("wait for everything switched off", repair::wait_all_off),
    each(
        "start deletion of old version links",
        repair::drop_own_history,
    ),
    each("wait for effect", repair::just_flush),
    each("start purging old logfiles", repair::purge_own),
    each("wait for effect", repair::just_flush),
    each("set new replaylink", repair::begin_at_primary),
    each("wait for effect", repair::just_flush),
    each("switch on everything again", repair::all_on),
];

const FAKE_SYNC: &[Phase] = &[
    each("switch sync off", repair::sync_off),
    each("wait for sync off", repair::wait_sync_off),
    each("fake sync", repair::claim_synced),
];

const LEAVE_RESOURCE: &[Phase] = &[
    each("check preconditions", leaving::may_leave),
    each("switch state", leaving::drop_membership),
    each("purge logfiles", leaving::purge_left),
    each("wait for deletions", leaving::wait_for_deletions),
    each("trigger systemd", resource::tell_systemd),
];

const DELETE_RESOURCE: &[Phase] = &[
    each("set links", leaving::delete_keys),
    each("trigger systemd", resource::tell_systemd),
];

const CRON: &[Phase] = &[
    global("purge global links", purge::links_everywhere),
    each("purge links and rotate logfiles", logs::purge_and_rotate),
    between(logs::let_them_follow),
    each("delete old logfiles", logs::delete_old),
    each(
        "autoclean gone peers (when enabled via --autoclean)",
        logs::clean_peers,
    ),
    global(
        "autoclean gone resources (when enabled via --autoclean)",
        logs::clean_resources,
    ),
];

const LINK_PURGE: &[Phase] = &[
    global("purge global links", purge::links_everywhere),
    each("purge per-resource links", purge::links_of_resource),
];

const RESIZE: &[Phase] = &[
    each("check preconditions", size::may_resize),
    each("set new size", size::set_size),
    each("wait for change", size::wait_for_size),
];

const SET_SYSTEMD_UNIT: &[Phase] = &[
    each("set links", systemd::set_unit),
    each("trigger systemd", resource::tell_systemd),
];

const SET_SYSTEMD_WANT: &[Phase] = &[
    each("set links", systemd::set_want),
    repeat("wait for effect", systemd::wait_for_want),
];

use Body::{Once, Phases};
use Class::{Deprecated, Expert, Hidden, Internal, Ordinary};
use Gate::{Exists, Member, Report};
use Takes::{
    OneResource, Peer, Resources, ResourcesOrAll, ResourcesOrNone, SomeWords, Value, Words,
};

const NO: Gate = Gate::None;

const fn verb(
    name: &'static str,
    takes: Takes,
    usage: &'static str,
    gate: Gate,
    class: Class,
    body: Body,
    about: &'static str,
) -> Verb {
    Verb {
        name,
        takes,
        gate,
        class,
        usage,
        about,
        body,
    }
}

/// All verbs, by subject.
#[rustfmt::skip]
pub const VERBS: &[Verb] = &[
    // cluster
    verb("create-cluster", Words, "", NO, Ordinary, Once(cluster::create),
        "Make this host the first one of a new cluster: cluster id, certificate authority, own address (--ip=)."),
    verb("join-cluster", Peer, "[<peer_ip>] --token=<token>", NO, Ordinary, Once(cluster::join),
        "Become a member of the cluster of that peer, with a token from 'mars cluster token' there."),
    verb("leave-cluster", Words, "", NO, Ordinary, Once(cluster::leave),
        "Take this host out of the cluster. It must not be a member of any resource."),
    verb("merge-cluster", Peer, "[<peer_ip>]", NO, Ordinary, Once(cluster::merge),
        "Unite two clusters. Only says whether there is anything to do."),
    verb("merge-cluster-check", Peer, "[<peer_ip>]", NO, Ordinary, Once(cluster::merge),
        "Say whether two clusters could be united; changes nothing."),
    verb("merge-cluster-list", Words, "", NO, Ordinary, Once(cluster::merge_list),
        "Print cluster id, hosts and resources in a form for other programs."),
    verb("split-cluster", Words, "", NO, Ordinary, Once(cluster::split),
        "Say which groups of hosts could do without each other. Separating them is not available in this version."),
    verb("create-uuid", Words, "", NO, Deprecated, Once(cluster::create_uuid),
        "Make a cluster id where there is none."),

    // resources
    verb("create-resource", OneResource, "<disk> [<device_name>] [<size>]", Report, Ordinary, Once(resource::create),
        "Make a resource from a disk (block device or regular file) with whatever is on it; this host becomes primary."),
    verb("join-resource", OneResource, "<disk> [<device_name>] [<size>]", Report, Ordinary, Once(resource::join),
        "Become a secondary of a resource with a disk of your own; its contents are replaced by a copy."),
    verb("leave-resource", Resources, "", Member, Ordinary, Phases(LEAVE_RESOURCE),
        "Stop being a member of a resource. Use 'down' first."),
    verb("delete-resource", Resources, "", Exists, Ordinary, Phases(DELETE_RESOURCE),
        "Forget a resource which has no members any more. With --force, even if it has some: dangerous."),
    verb("activate-guest", Resources, "", Exists, Ordinary, Once(resource::activate_guest),
        "Get to know a resource without being a member."),
    verb("deactivate-guest", Resources, "", Exists, Ordinary, Once(leaving::deactivate_guest),
        "Stop being a guest of a resource."),
    verb("resize", Resources, "[<size>]", Member, Ordinary, Phases(RESIZE),
        "Make a resource larger, at the primary, while it is in use. Without a size: as large as all disks allow."),

    // switches
    verb("attach", Resources, "", Member, Ordinary, Phases(ATTACH), "Open the underlying disk, and wait for it."),
    verb("detach", Resources, "", Member, Ordinary, Phases(DETACH), "Close the underlying disk, and wait for it."),
    verb("up", Resources, "", Member, Ordinary, Phases(UP), "Switch on attach, fetch, replay and sync."),
    verb("down", Resources, "", Member, Ordinary, Phases(DOWN), "Switch off replay, sync, fetch and attach."),
    verb("connect", Resources, "", Member, Ordinary, Once(switch::fetch_on), "As resume-fetch."),
    verb("connect-local", Resources, "", Member, Ordinary, Once(switch::fetch_on), "As resume-fetch-local."),
    verb("connect-global", Resources, "", Member, Ordinary, Once(switch::fetch_on_everywhere), "As resume-fetch-global."),
    verb("disconnect", Resources, "", Member, Ordinary, Once(switch::fetch_off), "As pause-fetch."),
    verb("disconnect-local", Resources, "", Member, Ordinary, Once(switch::fetch_off), "As pause-fetch-local."),
    verb("disconnect-global", Resources, "", Member, Ordinary, Once(switch::fetch_off_everywhere), "As pause-fetch-global."),
    verb("pause-fetch", Resources, "", Member, Ordinary, Once(switch::fetch_off),
        "Stop fetching logs to this host. Replay goes on with what is here."),
    verb("pause-fetch-local", Resources, "", Member, Ordinary, Once(switch::fetch_off), "As pause-fetch."),
    verb("pause-fetch-global", Resources, "", Member, Ordinary, Once(switch::fetch_off_everywhere), "Stop fetching logs on all members."),
    verb("resume-fetch", Resources, "", Member, Ordinary, Once(switch::fetch_on), "Fetch logs to this host again."),
    verb("resume-fetch-local", Resources, "", Member, Ordinary, Once(switch::fetch_on), "As resume-fetch."),
    verb("resume-fetch-global", Resources, "", Member, Ordinary, Once(switch::fetch_on_everywhere), "Fetch logs on all members again."),
    verb("pause-replay", Resources, "", Member, Ordinary, Once(switch::replay_off),
        "Stop applying logs to the disk of this host: it freezes in a consistent state of the past."),
    verb("pause-replay-local", Resources, "", Member, Ordinary, Once(switch::replay_off), "As pause-replay."),
    verb("pause-replay-global", Resources, "", Member, Ordinary, Once(switch::replay_off_everywhere), "Stop applying logs on all members."),
    verb("resume-replay", Resources, "", Member, Ordinary, Once(switch::replay_on), "Apply logs to the disk of this host again."),
    verb("resume-replay-local", Resources, "", Member, Ordinary, Once(switch::replay_on), "As resume-replay."),
    verb("resume-replay-global", Resources, "", Member, Ordinary, Once(switch::replay_on_everywhere), "Apply logs on all members again."),
    verb("pause-sync", Resources, "", Member, Ordinary, Once(switch::sync_off), "Interrupt the copy of the disk to this host."),
    verb("pause-sync-local", Resources, "", Member, Ordinary, Once(switch::sync_off), "As pause-sync."),
    verb("pause-sync-global", Resources, "", Member, Ordinary, Once(switch::sync_off_everywhere), "Interrupt the copy of disks on all members."),
    verb("resume-sync", Resources, "", Member, Ordinary, Once(switch::sync_on), "Continue the copy of the disk to this host."),
    verb("resume-sync-local", Resources, "", Member, Ordinary, Once(switch::sync_on), "As resume-sync."),
    verb("resume-sync-global", Resources, "", Member, Ordinary, Once(switch::sync_on_everywhere), "Continue the copy of disks on all members."),

    // roles
    verb("primary", Resources, "", Member, Ordinary, Phases(PRIMARY),
        "Make this host the primary. Planned: nothing is lost, the old primary steps down first. With --force (after pause-fetch): \
         at once, what has not arrived here is lost."),
    verb("secondary", Resources, "", Member, Ordinary, Phases(SECONDARY),
        "Let nobody be primary. Rarely useful: for a handover use 'primary' on the other host."),

    // repair
    verb("invalidate", Resources, "", Member, Ordinary, Phases(INVALIDATE),
        "Give up the version of this host, and copy that of the primary. Resolves a split brain on the losing side."),
    verb("fake-sync", Resources, "", Member, Expert, Phases(FAKE_SYNC),
        "Claim that the disk of this host is a complete copy. Dangerous. Sync stays off."),
    verb("set-replay", Resources, "<log_number>", Member, Expert, Once(repair::set_replay),
        "Begin to replay at the log with that number. Dangerous."),

    // logs and housekeeping
    verb("cron", ResourcesOrAll, "", Member, Ordinary, Phases(CRON),
        "Regular work, to be called every few minutes: rotate logs, delete what all have replayed, purge old keys."),
    verb("log-rotate", Resources, "", Member, Expert, Once(logs::rotate_deprecated), "Begin a new log. Part of cron."),
    verb("log-delete", Resources, "", Member, Expert, Once(logs::delete_all), "Delete logs which all members have replayed. Part of cron."),
    verb("log-delete-one", Resources, "", Member, Expert, Once(logs::delete_one), "Delete at most one such log."),
    verb("log-delete-all", Resources, "", Member, Expert, Once(logs::delete_all), "As log-delete."),
    verb("log-delete-all-replayed", Resources, "", Member, Deprecated, Once(logs::delete_all), "As log-delete."),
    verb("log-purge-all", Resources, "", Exists, Ordinary, Once(purge::logs),
        "Delete logs and version links which belong to nobody's history, for instance after a split brain. With --force also those of other hosts."),
    verb("err-purge-all", Resources, "", Exists, Ordinary, Once(purge::errors), "Delete old error messages of this host."),
    verb("link-purge-all", Resources, "", Exists, Ordinary, Phases(LINK_PURGE), "Forget deleted keys everybody has seen."),

    // limits and features
    verb("set-emergency-limit", Resources, "<percent>", Member, Ordinary, Once(settings::set_emergency_limit),
        "Stop logging for this resource when less than that share of /mars is free."),
    verb("emergency-limit", Resources, "<percent>", Member, Ordinary, Once(settings::set_emergency_limit), "As set-emergency-limit."),
    verb("get-emergency-limit", Resources, "", Member, Ordinary, Once(settings::get_emergency_limit), "Print it."),
    verb("set-global-sync-limit-value", Value, "<number>", NO, Ordinary, Once(settings::set_sync_limit),
        "At most so many syncs run on this host at once; 0 is no limit."),
    verb("get-global-sync-limit-value", Words, "", NO, Ordinary, Once(settings::get_sync_limit), "Print it."),
    verb("set-sync-limit-value", Value, "<number>", NO, Deprecated, Once(settings::set_sync_limit), "As set-global-sync-limit-value."),
    verb("get-sync-limit-value", Words, "[<resource_name>]", NO, Deprecated, Once(settings::get_sync_limit), "As get-global-sync-limit-value."),
    verb("set-global-enabled-log-compressions", Words, "<features>", NO, Ordinary, Once(settings::set_features), "Compressions allowed in logs."),
    verb("set-global-enabled-net-compressions", Words, "<features>", NO, Ordinary, Once(settings::set_features), "Compressions allowed on the wire."),
    verb("set-global-disabled-log-digests", Words, "<features>", NO, Ordinary, Once(settings::set_features), "Checksums not to be used in logs."),
    verb("set-global-disabled-net-digests", Words, "<features>", NO, Ordinary, Once(settings::set_features), "Checksums not to be used on the wire."),
    verb("set-disabled-digests", Resources, "<features>", Member, Hidden, Once(old::not_implemented), "Not implemented."),
    verb("set-connect-pref-list", Resources, "<host>[,<host>…]", NO, Internal, Once(settings::set_connect_list), "Fetch from these hosts first."),
    verb("get-connect-pref-list", Resources, "", NO, Internal, Once(settings::get_connect_list), "Print it."),

    // waiting
    verb("wait-cluster", Words, "[<host> | <resource_name>]", NO, Ordinary, Once(waits::cluster), "Wait for a sign of life of all peers."),
    verb("update-cluster", Words, "[<host> | <resource_name>]", NO, Ordinary, Once(waits::update), "Ask all hosts for everything, and wait for it."),
    verb("wait-connect", Resources, "", Member, Ordinary, Once(waits::connect), "Wait for a sign of life of the peers of a resource."),
    verb("wait-resource", Resources, "<condition>", Member, Ordinary, Once(waits::resource),
        "Wait until a condition holds: {is-,todo-}{attach,fetch,replay,sync,primary,secondary,device}[-on|-off]."),
    verb("wait-umount", Resources, "", Member, Ordinary, Once(waits::umount), "Wait until nobody has the device of this host open."),

    // single keys
    verb("get-link", SomeWords, "<path>", NO, Expert, Once(link::get), "Print the value of a key."),
    verb("set-link", SomeWords, "<value> <path> …", NO, Expert, Once(link::set), "Set a key below userspace/."),
    verb("delete-file", SomeWords, "<path> …", NO, Expert, Once(link::delete), "Delete a key below userspace/."),
    verb("cat", SomeWords, "<path> …", NO, Ordinary, Once(link::cat), "Print keys and status files with readable times."),
    verb("lowlevel-ls-host-ips", Words, "", NO, Expert, Once(lowlevel::list_ips), "Print the addresses of all hosts."),
    verb("lowlevel-set-host-ip", Words, "<host> [<ip>]", NO, Expert, Once(lowlevel::set_ip), "Change the address of a host."),
    verb("lowlevel-delete-host", Words, "<host>", NO, Expert, Once(lowlevel::delete_host), "Forget the address of a host."),

    // systemd
    verb("set-systemd-unit", Resources, "<start_unit> [<stop_unit>]", Member, Ordinary, Phases(SET_SYSTEMD_UNIT),
        "Record which units belong to a resource. Starting them is not available in this version."),
    verb("get-systemd-unit", Resources, "", Member, Ordinary, Once(systemd::get_unit), "Print them."),
    verb("set-systemd-want", Resources, "<host> | (none)", Member, Ordinary, Phases(SET_SYSTEMD_WANT), "Where those units should run."),
    verb("get-systemd-want", Resources, "", Member, Ordinary, Once(systemd::get_want), "Print it."),
    verb("systemd-trigger", ResourcesOrNone, "", Member, Internal, Once(systemd::trigger), "Look at the units again."),
    verb("systemd-trigger-extern", ResourcesOrNone, "", Member, Internal, Once(systemd::trigger), "As systemd-trigger."),

    // words of earlier times
    verb("role", Resources, "[<host>]", Member, Deprecated, Once(old::role), "Say who is and who should be primary. See view-role."),
    verb("state", Resources, "[<host>]", Member, Deprecated, Once(old::role), "As role."),
    verb("show", ResourcesOrAll, "", Report, Deprecated, Once(old::show), "List some keys. See view."),
    verb("show-errors", ResourcesOrAll, "", Report, Deprecated, Once(old::show_errors), "List messages of the daemon. See view."),
    verb("show-state", ResourcesOrAll, "[<host>]", Report, Deprecated, Once(old::state), "State of a replica in a word. See view."),
    verb("mars-state", Resources, "[<host>]", Member, Deprecated, Once(old::state), "As show-state."),
    verb("show-info", ResourcesOrAll, "", Report, Deprecated, Once(old::info), "Print a status file."),
    verb("mars-info", Resources, "", Member, Deprecated, Once(old::info), "As show-info."),
    verb("syncer", Resources, "", Member, Hidden, Once(old::ignore), "Ignored."),
    verb("check-resize", Resources, "", Member, Hidden, Once(old::ignore), "Ignored."),
    verb("get-gi", Resources, "", Member, Hidden, Once(old::ignore), "Ignored."),
    verb("show-gi", ResourcesOrAll, "", Report, Hidden, Once(old::ignore), "Ignored."),
    verb("outdate", Resources, "", Member, Hidden, Once(old::ignore), "Ignored."),
    verb("adjust", Resources, "", Member, Hidden, Once(old::ignore), "Ignored."),
    verb("hidden-commands", Resources, "", Member, Hidden, Once(old::ignore), "Ignored."),
    verb("create-md", Resources, "", Member, Hidden, Once(old::senseless), "Ignored."),
    verb("dump-md", Resources, "", Member, Hidden, Once(old::senseless), "Ignored."),
    verb("dump", Resources, "", Member, Hidden, Once(old::senseless), "Ignored."),
    verb("new-current-uuid", Resources, "", Member, Hidden, Once(old::senseless), "Ignored."),
    verb("invalidate-remote", Resources, "", Member, Hidden, Once(old::forbidden), "Forbidden."),
    verb("verify", Resources, "", Member, Hidden, Once(old::forbidden), "Forbidden."),
    verb("cstate", Resources, "", Member, Hidden, Once(old::not_implemented), "Not implemented."),
    verb("dstate", Resources, "", Member, Hidden, Once(old::not_implemented), "Not implemented."),
    verb("status", Resources, "", Member, Hidden, Once(old::not_implemented), "Not implemented."),
];
