//! Every verb an operator uses, on three real daemons: once with success, and once with its most likely refusal.

use admin::demo::cluster::{free_udp_port, make_disk};
use admin::verbs::{Class, VERBS};

use crate::lab::{Lab, RES};

const SIZE: u64 = 8 << 20;
const ALPHA: usize = 0;
const BETA: usize = 1;
const GAMMA: usize = 2;

/// A lab whose commands are counted, so that the test can say which verbs it has not tried.
struct Desk {
    lab: Lab,
    tried: std::collections::BTreeSet<String>,
}

impl Desk {
    fn ok(&mut self, host: usize, line: &str) -> String {
        let words = self.words(line);
        self.lab.ok(host, &words)
    }

    /// Refused, with `sentence` on stderr.
    fn no(&mut self, host: usize, line: &str, sentence: &str) {
        let words = self.words(line);
        let said = self.lab.refused(host, &words);
        assert!(
            said.contains(sentence),
            "{line}: no '{sentence}' in\n{said}"
        );
    }

    fn words<'l>(&mut self, line: &'l str) -> Vec<&'l str> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.tried
            .extend(words.iter().map(|word| (*word).to_owned()));
        std::iter::once("--timeout=30").chain(words).collect()
    }

    fn settle(&self, host: usize, macro_name: &str, want: &str) {
        self.lab.wait_view(host, macro_name, |text| text == want);
    }
}

#[test]
fn every_verb_works_on_three_daemons_and_refuses_what_it_should() {
    let lab = Lab::new(&["alpha", "beta", "gamma"], SIZE);
    let mut desk = Desk {
        lab,
        tried: Default::default(),
    };
    members_come(&mut desk);
    switches(&mut desk);
    waits(&mut desk);
    settings_and_keys(&mut desk);
    logs(&mut desk);
    roles(&mut desk);
    growth(&mut desk);
    members_go(&mut desk);
    let tried =
        |name: &str| desk.tried.contains(name) || desk.tried.contains(&format!("force-{name}"));
    let untried: Vec<&str> = VERBS
        .iter()
        .filter(|verb| verb.class <= Class::Internal)
        .map(|verb| verb.name)
        .filter(|name| !tried(name))
        .collect();
    assert!(untried.is_empty(), "verbs without a try: {untried:?}");
}

fn members_come(desk: &mut Desk) {
    desk.no(ALPHA, "create-cluster", "the mars daemon is running");
    desk.no(BETA, "join-cluster alpha", "the mars daemon is running");
    desk.no(ALPHA, "create-resource data disk", "absolute path");
    desk.lab.create_resource();
    desk.tried
        .extend(["create-resource", "join-resource"].map(str::to_owned));
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
    desk.no(ALPHA, "split-cluster", "not available");
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
