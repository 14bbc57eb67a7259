//! Every verb an operator uses, on three real daemons: once with success, and once with its most likely refusal.

use std::collections::BTreeSet;

use admin::demo::cluster::{free_udp_port, make_disk};
use admin::verbs::{Gate, VERBS};

use crate::lab::{Lab, RES};

const SIZE: u64 = 8 << 20;
const ALPHA: usize = 0;
const BETA: usize = 1;
const GAMMA: usize = 2;

/// Verbs which cannot succeed on a running cluster, and why.
const NEVER_DONE: &[(&str, &str)] = &[
    (
        "create-uuid",
        "a running cluster has one; see golden/command/gate.txt",
    ),
    (
        "set-disabled-digests",
        "not implemented in the original either",
    ),
    ("cstate", "not implemented in the original either"),
    ("dstate", "not implemented in the original either"),
    ("status", "not implemented in the original either"),
    ("invalidate-remote", "forbidden"),
    ("verify", "forbidden"),
];

/// A lab whose commands are counted, so that the test can say which verbs it has not tried.
struct Desk {
    lab: Lab,
    done: BTreeSet<String>,
    refused: BTreeSet<String>,
}

impl Desk {
    fn ok(&mut self, host: usize, line: &str) -> String {
        let said = self.lab.ok(host, &words(line));
        self.done.insert(verb_of(line));
        said
    }

    /// Refused, with `sentence` on one of the streams.
    fn no(&mut self, host: usize, line: &str, sentence: &str) {
        let said = self.lab.refused(host, &words(line));
        assert!(
            said.contains(sentence),
            "{line}: no '{sentence}' in\n{said}"
        );
        self.refused.insert(verb_of(line));
    }

    fn settle(&self, host: usize, macro_name: &str, want: &str) {
        self.lab.wait_view(host, macro_name, |text| text == want);
    }
}

fn words(line: &str) -> Vec<&str> {
    std::iter::once("--timeout=30")
        .chain(line.split_whitespace())
        .collect()
}

fn verb_of(line: &str) -> String {
    let mut words = line
        .split_whitespace()
        .filter(|word| !word.starts_with("--"));
    let verb = words.next().unwrap_or_default();
    verb.strip_prefix("force-").unwrap_or(verb).to_owned()
}

#[test]
fn every_verb_works_on_three_daemons_and_refuses_what_it_should() {
    let lab = Lab::new(&["alpha", "beta", "gamma"], SIZE);
    let mut desk = Desk {
        lab,
        done: Default::default(),
        refused: Default::default(),
    };
    members_come(&mut desk);
    switches(&mut desk);
    waits(&mut desk);
    settings_and_keys(&mut desk);
    words_of_earlier_times(&mut desk);
    device_figures(&mut desk);
    logs(&mut desk);
    roles(&mut desk);
    growth(&mut desk);
    mistakes(&mut desk);
    members_go(&mut desk);
    let lacks = |tried: &BTreeSet<String>| -> Vec<&str> {
        let names = VERBS.iter().map(|verb| verb.name);
        names.filter(|name| !tried.contains(*name)).collect()
    };
    let never: Vec<&str> = NEVER_DONE.iter().map(|(name, _)| *name).collect();
    let mut undone = lacks(&desk.done);
    undone.retain(|name| !never.contains(name));
    assert!(undone.is_empty(), "verbs which never succeeded: {undone:?}");
    let unrefused = lacks(&desk.refused);
    assert!(
        unrefused.is_empty(),
        "verbs which were never refused: {unrefused:?}"
    );
}

/// Words from before `view`, and those of DRBD.
fn words_of_earlier_times(desk: &mut Desk) {
    for word in [
        "role",
        "state",
        "mars-state",
        "show-state",
        "mars-info",
        "show-info",
        "show",
        "show-errors",
    ] {
        desk.ok(BETA, &format!("{word} data"));
    }
    for word in [
        "syncer",
        "check-resize",
        "get-gi",
        "show-gi",
        "outdate",
        "adjust",
        "hidden-commands",
    ] {
        let said = desk.ok(BETA, &format!("{word} data"));
        assert!(said.contains("ignoring command"), "{said}");
    }
    for word in ["create-md", "dump-md", "dump", "new-current-uuid"] {
        let said = desk.ok(BETA, &format!("{word} data"));
        assert!(said.contains("makes no sense"), "{said}");
    }
    for word in ["cstate", "dstate", "status", "set-disabled-digests"] {
        desk.no(BETA, &format!("{word} data"), "is not yet implemented");
    }
    for word in ["verify", "invalidate-remote"] {
        desk.no(BETA, &format!("{word} data"), "is forbidden");
    }
    desk.ok(BETA, "set-sync-limit-value 3");
    desk.no(BETA, "set-sync-limit-value many", "isn't a number");
    desk.ok(BETA, "get-sync-limit-value");
    desk.ok(BETA, "log-delete-all-replayed data");
    desk.no(BETA, "create-uuid", "exists already");
}

/// What has not been refused yet is refused for a resource that is not there, or for a word too many.
fn mistakes(desk: &mut Desk) {
    for verb in VERBS {
        if desk.refused.contains(verb.name) {
            continue;
        }
        if matches!(verb.gate, Gate::Exists | Gate::Member) {
            desk.no(
                BETA,
                &format!("{} nosuch", verb.name),
                "'nosuch' does not exist",
            );
        } else {
            let max = verb.words_max().expect("a bound");
            let line = format!("{} {}", verb.name, "data ".repeat(max + 1));
            desk.no(BETA, &line, "unexpected argument 'data'");
        }
    }
}

fn members_come(desk: &mut Desk) {
    desk.no(ALPHA, "create-cluster", "the mars daemon is running");
    desk.no(BETA, "join-cluster alpha", "the mars daemon is running");
    desk.no(ALPHA, "create-resource data disk", "absolute path");
    desk.no(
        ALPHA,
        "split-cluster",
        "not available in this version: let the hosts of one group",
    );
    desk.lab.create_resource();
    // Done by the lab.
    let done = [
        "create-cluster",
        "join-cluster",
        "create-resource",
        "join-resource",
    ];
    desk.done.extend(done.map(str::to_owned));
    desk.no(ALPHA, "create-resource data /nosuch", "would trash it");
    let small = desk.lab.disk(BETA).with_extension("small");
    make_disk(&small, SIZE / 2).expect("disk");
    desk.no(
        BETA,
        &format!("join-resource data {}", small.display()),
        "has only",
    );
    desk.no(
        BETA,
        &format!("join-resource nosuch {}", small.display()),
        "does not exist",
    );
    desk.lab.join_resource(BETA);
    desk.ok(GAMMA, "activate-guest data");
    desk.settle(GAMMA, "is-guest", "1");
    desk.settle(ALPHA, "guest-peers", "gamma");
    desk.no(
        BETA,
        "deactivate-guest data",
        "is a member of resource 'data'",
    );
    desk.ok(GAMMA, "deactivate-guest data");
    desk.lab.join_resource(GAMMA);
    for host in [ALPHA, BETA, GAMMA] {
        desk.lab.wait_up_to_date(host);
    }
    desk.no(
        GAMMA,
        &format!("join-resource data {}", small.display()),
        "refusing dangerous operation",
    );
    let uuid = desk.ok(ALPHA, "merge-cluster-list");
    assert!(
        uuid.contains("/mars/ips/ip-gamma") && uuid.contains("/mars/resource-data"),
        "{uuid}"
    );
    desk.ok(ALPHA, "merge-cluster-check beta");
    desk.ok(ALPHA, "merge-cluster gamma");
    desk.no(ALPHA, "merge-cluster delta", "not available");
    let groups = desk.ok(GAMMA, "split-cluster");
    assert!(groups.contains("alpha => alpha,beta,gamma"), "{groups}");
}

fn switches(desk: &mut Desk) {
    for what in ["fetch", "replay", "sync"] {
        for scope in ["", "-local", "-global"] {
            desk.ok(BETA, &format!("pause-{what}{scope} data"));
            desk.ok(BETA, &format!("resume-{what}{scope} data"));
        }
        desk.no(BETA, &format!("pause-{what} nosuch"), "does not exist");
    }
    for scope in ["", "-local", "-global"] {
        desk.ok(BETA, &format!("disconnect{scope} data"));
        desk.ok(BETA, &format!("connect{scope} data"));
    }
    desk.ok(BETA, "detach data");
    desk.settle(BETA, "diskstate", "Detached");
    desk.ok(BETA, "attach data");
    desk.ok(BETA, "down data");
    desk.ok(BETA, "up data");
    desk.lab.wait_up_to_date(BETA);
    let device = desk.lab.device(ALPHA);
    desk.lab
        .wait_view(ALPHA, "device-opened", |text| text == "1");
    desk.no(ALPHA, "down data", "is in use");
    desk.no(ALPHA, "detach data", "is in use");
    desk.no(
        BETA,
        "primary data",
        "first you must umount/close the device (on host 'alpha')",
    );
    desk.no(
        ALPHA,
        "secondary data",
        "first you must umount/close the device",
    );
    desk.no(ALPHA, "wait-umount data --timeout=1", "Timeout");
    desk.lab.runtime.block_on(device.close()).expect("close");
    desk.ok(ALPHA, "wait-umount data");
}

fn waits(desk: &mut Desk) {
    desk.ok(ALPHA, "wait-cluster");
    desk.no(
        ALPHA,
        "wait-cluster nosuch",
        "neither a host of this cluster nor a resource",
    );
    let said = desk.ok(ALPHA, "update-cluster");
    assert!(said.contains("2/2 peer(s) seem to be alive"), "{said}");
    desk.ok(BETA, "wait-connect data");
    desk.no(BETA, "wait-connect nosuch", "does not exist");
    desk.ok(BETA, "wait-resource data is-attach-on");
    desk.no(
        BETA,
        "wait-resource data todo-fetch-off --timeout=1",
        "Timeout",
    );
}

fn settings_and_keys(desk: &mut Desk) {
    desk.ok(BETA, "set-emergency-limit data 7");
    assert_eq!(desk.ok(BETA, "get-emergency-limit data").trim(), "7");
    desk.ok(BETA, "emergency-limit data 8");
    desk.no(BETA, "set-emergency-limit data 200", "between 0 and 100");
    desk.no(ALPHA, "get-emergency-limit data", "cannot read symlink");
    desk.ok(BETA, "set-global-sync-limit-value 3");
    assert_eq!(desk.ok(BETA, "get-global-sync-limit-value").trim(), "3");
    desk.no(BETA, "set-global-sync-limit-value many", "isn't a number");
    desk.ok(ALPHA, "set-global-enabled-log-compressions COMPRESS_LZ4");
    desk.ok(ALPHA, "set-global-enabled-net-compressions COMPRESS_LZ4");
    desk.no(
        ALPHA,
        "set-global-enabled-net-compressions COMPRESS_NO",
        "Unknown symbolic feature flag",
    );
    desk.ok(ALPHA, "set-global-disabled-log-digests CHKSUM_MD5");
    desk.ok(ALPHA, "set-global-disabled-net-digests CHKSUM_MD5");
    desk.no(
        ALPHA,
        "set-global-disabled-net-digests COMPRESS_LZ4",
        "Digest names must start with",
    );
    desk.ok(BETA, "set-connect-pref-list data gamma,alpha");
    assert!(
        desk.ok(BETA, "get-connect-pref-list data")
            .contains("gamma,alpha")
    );
    desk.no(
        BETA,
        "set-connect-pref-list data delta",
        "does not exist in /mars/ips/",
    );
    desk.ok(BETA, "set-link hello /mars/userspace/greeting");
    assert_eq!(
        desk.ok(BETA, "get-link /mars/userspace/greeting").trim(),
        "hello"
    );
    assert_eq!(
        desk.ok(BETA, "cat /mars/userspace/greeting").trim(),
        "hello"
    );
    desk.no(
        BETA,
        "set-link hello /mars/uuid",
        "must be inside /mars/userspace/",
    );
    desk.no(BETA, "delete-file /mars/uuid", "must be inside");
    desk.ok(BETA, "delete-file /mars/userspace/greeting");
    desk.no(
        BETA,
        "get-link /mars/userspace/greeting",
        "cannot read symlink",
    );
    desk.no(BETA, "cat /mars/nosuch", "cannot open");
    assert!(
        desk.ok(BETA, "lowlevel-ls-host-ips")
            .contains("gamma 127.0.0.1:")
    );
    let port = free_udp_port().expect("port");
    desk.ok(
        BETA,
        &format!("lowlevel-set-host-ip delta 127.0.0.1:{port}"),
    );
    desk.no(
        BETA,
        "lowlevel-set-host-ip delta nowhere",
        "is not an IP address",
    );
    desk.ok(BETA, "lowlevel-delete-host delta");
    desk.no(BETA, "lowlevel-delete-host delta", "may fix any typos");
    desk.ok(BETA, "systemd-trigger");
    desk.ok(BETA, "systemd-trigger-extern data");
    desk.ok(BETA, "set-systemd-unit data data.mount");
    assert_eq!(
        desk.ok(BETA, "get-systemd-unit data").trim(),
        "data.mount data.mount"
    );
    desk.no(BETA, "set-systemd-want data delta", "may fix any typos");
    desk.ok(BETA, "set-systemd-want data (none)");
    assert_eq!(desk.ok(BETA, "get-systemd-want data").trim(), "(none)");
    desk.no(BETA, "systemd-trigger data", "not available");
    desk.no(BETA, "systemd-trigger-extern data", "not available");
    for key in ["systemd-want", "systemd-start-unit", "systemd-stop-unit"] {
        desk.ok(
            BETA,
            &format!("delete-file /mars/resource-{RES}/{key} --force"),
        );
    }
}

/// While an application works, the primary tells how much; afterwards, that it rests.
fn device_figures(desk: &mut Desk) {
    let device = desk.lab.device(ALPHA);
    let bytes = vec![9; 4096];
    let figure_of = |at: usize, name: &str| -> String {
        let host = ["alpha", "beta"][at];
        let key = format!("resource-{RES}/actual-{host}/{name}");
        let found = desk.lab.hosts[at].key(&key).expect("a daemon");
        found.unwrap_or_default()
    };
    let figure = |name: &str| figure_of(ALPHA, name);
    let is_busy = |name: &str| !matches!(figure(name).as_str(), "" | "0");
    let works = |name: &str| !matches!(figure_of(BETA, name).as_str(), "" | "0");
    desk.lab.wait("requests per second are told", || {
        for at in 0..50 {
            let write = device.write(at * 4096, &bytes, true);
            desk.lab.runtime.block_on(write).expect("write");
        }
        let fetches = works("ops-file_rate") && works("amount-file_rate");
        let replays = works("ops-replay_rate") && works("amount-replay_rate");
        is_busy("ops-if_rate") && is_busy("amount-if_rate") && fetches && replays
    });
    assert!(is_busy("if-completion-stamp"));
    desk.lab.runtime.block_on(device.close()).expect("close");
    desk.lab.wait("the device rests", || {
        figure("ops-if_rate") == "0" && !is_busy("if-flying")
    });
    let said = desk.ok(ALPHA, "view-device-stats data");
    assert_eq!(said.trim(), "Closed");
}

fn logs(desk: &mut Desk) {
    let device = desk.lab.device(ALPHA);
    let bytes = vec![7; 65536];
    desk.lab
        .runtime
        .block_on(device.write(0, &bytes, true))
        .expect("write");
    desk.lab.runtime.block_on(device.close()).expect("close");
    desk.ok(ALPHA, "log-rotate data");
    desk.no(ALPHA, "log-rotate nosuch", "does not exist");
    desk.ok(BETA, "log-delete-one data");
    desk.ok(BETA, "log-delete data");
    desk.ok(BETA, "log-delete-all data");
    desk.no(BETA, "log-delete nosuch", "does not exist");
    desk.ok(BETA, "log-purge-all data");
    desk.ok(BETA, "err-purge-all data");
    desk.ok(BETA, "link-purge-all data");
    desk.ok(ALPHA, "cron");
    for host in [ALPHA, BETA, GAMMA] {
        desk.lab.wait_up_to_date(host);
    }
}

fn roles(desk: &mut Desk) {
    desk.no(
        ALPHA,
        "invalidate data",
        "cannot be executed on actual primary",
    );
    desk.ok(BETA, "invalidate data");
    desk.lab.wait_up_to_date(BETA);
    desk.no(
        BETA,
        "set-replay data 1",
        "todo-switch 'replay' must be off",
    );
    replay_again(desk);
    desk.ok(BETA, "primary data");
    desk.settle(BETA, "role", "Primary");
    desk.settle(ALPHA, "role", "Secondary");
    desk.ok(BETA, "secondary data");
    desk.no(GAMMA, "resume-sync data", "noone is designated as primary");
    desk.no(GAMMA, "invalidate data", "noone is designated as primary");
    desk.ok(BETA, "primary data");
    desk.no(
        GAMMA,
        "force-primary data",
        "todo-switch 'fetch' must be off",
    );
    desk.ok(GAMMA, "fake-sync data");
    desk.ok(GAMMA, "resume-sync data");
    desk.lab.wait_up_to_date(GAMMA);
}

/// The present log from its beginning.
fn replay_again(desk: &mut Desk) {
    desk.ok(GAMMA, "pause-replay data");
    desk.settle(GAMMA, "is-replay", "0");
    let nr = desk.ok(GAMMA, "view-replay-lognr data");
    desk.ok(GAMMA, &format!("set-replay data {}", nr.trim()));
    desk.ok(GAMMA, "resume-replay data");
    desk.lab.wait_up_to_date(GAMMA);
}

fn growth(desk: &mut Desk) {
    for host in [ALPHA, BETA, GAMMA] {
        let disk = std::fs::OpenOptions::new()
            .write(true)
            .open(desk.lab.disk(host))
            .expect("disk");
        disk.set_len(2 * SIZE).expect("room");
    }
    desk.no(ALPHA, "resize data", "only works at the primary side");
    desk.no(
        BETA,
        &format!("resize data {}", SIZE / 2),
        "only increases of the size are possible!",
    );
    let larger = 2 * SIZE;
    desk.lab.wait("the primary sees the larger disks", || {
        let seen = |name: &str| {
            desk.lab.hosts[BETA]
                .key(&format!("resource-{RES}/actsize-{name}"))
                .ok()
                .flatten()
        };
        ["alpha", "beta", "gamma"]
            .iter()
            .all(|name| seen(name) == Some(larger.to_string()))
    });
    desk.ok(BETA, "resize data");
    desk.no(BETA, "resize data 1T", "larger than the possible size");
    for host in [ALPHA, BETA, GAMMA] {
        desk.lab.wait_up_to_date(host);
    }
}

fn members_go(desk: &mut Desk) {
    desk.no(
        BETA,
        "leave-resource data",
        "cannot be executed on actual primary",
    );
    desk.no(GAMMA, "leave-resource data", "actual 'attach' must be off");
    desk.no(GAMMA, "leave-cluster", "I am member of some resources");
    desk.ok(GAMMA, "down data");
    desk.ok(GAMMA, "leave-resource data");
    desk.ok(GAMMA, "leave-cluster");
    desk.no(BETA, "delete-resource data", "cannot delete it");
    desk.ok(ALPHA, "down data");
    desk.ok(ALPHA, "leave-resource data");
    desk.ok(BETA, "secondary data");
    desk.ok(BETA, "down data");
    desk.ok(BETA, "leave-resource data");
    desk.ok(BETA, "delete-resource data");
    assert!(
        desk.lab.hosts[BETA]
            .key("resource-data/maxnr")
            .expect("key")
            .is_some()
    );
}
