//! Help texts, from the verb table.

use crate::check;
use crate::verb::settings;
use crate::verbs::{Class, VERBS, Verb};
use crate::view;

const HEAD: &str = "
marsadm steers the replicated resources of this host. The options may stand anywhere.

marsadm [<global_options>] <command> [<resource_names> | all] [<args>]
marsadm [<global_options>] view[-<macroname>] [<resource_names> | all]

<global_option> =
";

/// Options with what they do.
pub const OPTIONS: &[(&str, &str)] = &[
    (
        "--force",
        "Skip those safety checks which may be skipped. Dangerous: try --dry-run first.",
    ),
    ("--dry-run", "Say what would be done, and change nothing."),
    (
        "--verbose[=<level>]",
        "Say more. In this help: show more commands; a negative level shows only that class.",
    ),
    (
        "--timeout=<seconds>",
        "Bound of every wait, default 600; 0 does not wait, -1 waits forever.",
    ),
    (
        "--window=<seconds>",
        "A peer silent for longer counts as dead, default 60.",
    ),
    (
        "--host=<host>",
        "Act as if this were another host. Only for hosts which are gone for good.",
    ),
    (
        "--ip=<address>",
        "Own address, for create-cluster and join-cluster; a port may follow.",
    ),
    ("--ip-<peer>=<address>", "Address of a peer."),
    ("--token=<token>", "Join token, for join-cluster."),
    (
        "--dir=<dir>",
        "State directory of the node, default MARS_DIR or /mars.",
    ),
    (
        "--ignore-sync",
        "Let 'primary' go on although another replica is still being copied.",
    ),
    (
        "--ignore-deleted-peers=<0|1|2>",
        "1 (default): not counted in reports; 2: skipped everywhere.",
    ),
    (
        "--parallel[=<number>]",
        "Work on so many resources at once.",
    ),
    ("--singlestep", "Wait for RETURN before every phase."),
    (
        "--json",
        "For programs: one JSON document on stdout when the command has ended, instead of text.",
    ),
    (
        "--threshold=<size>",
        "What still counts as reached for the …-threshold-reached macros, default 10M.",
    ),
    (
        "--thresh-logfiles=<number>",
        "With more own logs than that, small ones are not rotated; default 10.",
    ),
    (
        "--thresh-logsize=<number>",
        "What is small, in units of 10^9 bytes; default 5.",
    ),
    (
        "--stuck-seconds=<seconds>",
        "Without change for longer something is called stuck; default 3600.",
    ),
    (
        "--keep-backup-hours=<hours>",
        "How long deleted keys are kept for dead peers; default 168.",
    ),
    (
        "--autoclean[=<days>]",
        "cron: forget what belongs to hosts gone for so many days.",
    ),
    (
        "--macro=<text>",
        "Evaluate this macro text in place of the first macro.",
    ),
    (
        "--logger=<path>",
        "Program for syslog lines; empty is none.",
    ),
    (
        "--systemd-enable=<0|1>",
        "Whether systemd is told about changes.",
    ),
    ("--error-injection-phase=<number>", "Only for tests."),
    (
        "--tree-file=<file>",
        "Work on a saved tree (mars tree dump) instead of the daemon; with --host=, --now=, --delta-file=.",
    ),
    ("--help", "This text; with a command, about that command."),
    ("--version", "The version."),
];

/// The whole help. Higher classes of verbs are shown with higher `verbose`; a negative one shows only that class.
pub fn overview(verbose: i32) -> String {
    let mut text = HEAD.to_owned();
    for (option, about) in OPTIONS {
        text.push_str(&format!("  {option}\n{}", indented(about)));
    }
    text.push_str(&format!("\n<host> =\n{}", indented(&host_names())));
    text.push_str("\n<command> =\n");
    let mut shown: Vec<&Verb> = VERBS
        .iter()
        .filter(|verb| is_shown(verb.class, verbose))
        .collect();
    shown.sort_by_key(|verb| verb.name);
    for verb in shown {
        text.push_str(&format!(
            "  {}\n    usage: {}\n{}",
            verb.name,
            verb.usage_line(),
            indented(verb.about)
        ));
    }
    text.push_str(
        "\n<resource_names> = <resource_name> | <resource_name>,<resource_name>,… | all\n",
    );
    text.push_str("\n<macroname> = <complex_macroname> | <primitive_macroname>\n");
    let shown = || view::macro_table().into_iter().filter(|line| line.view);
    let names = |complex| {
        let named = shown().filter(move |line| line.complex == complex);
        named.map(|line| line.name).collect::<Vec<_>>()
    };
    let features = settings::FEATURES
        .iter()
        .map(|(_, name)| (*name).to_owned());
    for (head, words) in [
        ("complex_macroname", names(true)),
        ("primitive_macroname", names(false)),
        ("features", features.collect()),
    ] {
        text.push_str(&format!("\n<{head}> =\n{}", indented(&words.join(" | "))));
    }
    text
}

fn host_names() -> String {
    format!(
        "Letters, digits, '_' and '-', at most 63 of them, the first one no '-'; the name of the machine without its domain. Reserved, \
         for resources, too: {}.",
        check::RESERVED.join(" ")
    )
}

fn is_shown(class: Class, verbose: i32) -> bool {
    let class = class as i32;
    class != Class::Hidden as i32
        && if verbose < 0 {
            class == -verbose
        } else {
            class <= verbose
        }
}

/// Help about one verb.
pub fn of_verb(verb: &Verb) -> String {
    format!(
        "usage: marsadm [<global_options>] {}\n{}",
        verb.usage_line(),
        indented(verb.about)
    )
}

/// Lines of at most 76 characters, four blanks in front.
fn indented(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("   ");
    for word in text.split_whitespace() {
        if line.len() + word.len() + 1 > 76 {
            out.push_str(&line);
            out.push('\n');
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
    out
}
