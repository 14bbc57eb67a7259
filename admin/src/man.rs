//! Man pages, from the same tables as the help: `mars(1)` with its commands, `marsadm(8)`, `mars-status(8)`, `mars.toml(5)`.

use std::path::Path;

use clap::CommandFactory;

use crate::help;
use crate::session::Refusal;
use crate::status::USAGE;
use crate::verbs::{Class, VERBS, Verb};
use crate::view;

/// Writes all pages into `dir`.
pub fn write_pages(dir: &Path) -> Result<(), Refusal> {
    let failed = |error: std::io::Error| {
        Refusal(format!(
            "cannot write man pages to '{}': {error}",
            dir.display()
        ))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(crate::mars::Mars::command(), dir).map_err(failed)?;
    for (name, text) in own_pages() {
        std::fs::write(dir.join(name), text).map_err(failed)?;
    }
    Ok(())
}

/// The pages which do not come from the definition of `mars`.
fn own_pages() -> [(&'static str, String); 3] {
    [
        ("marsadm.8", marsadm()),
        ("mars-status.8", status()),
        ("mars.toml.5", configuration()),
    ]
}

/// One page, by its name with or without the number of its section.
pub fn page(name: &str) -> Result<String, Refusal> {
    if matches!(name, "mars" | "mars.1") {
        let mut page = Vec::new();
        let command = crate::mars::Mars::command();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(|error| Refusal(error.to_string()))?;
        return Ok(String::from_utf8_lossy(&page).into_owned());
    }
    let is_meant =
        |file: &str| file == name || file.rsplit_once('.').is_some_and(|(stem, _)| stem == name);
    let found = own_pages().into_iter().find(|(file, _)| is_meant(file));
    found.map(|(_, text)| text).ok_or_else(|| {
        Refusal(format!(
            "there is no page '{name}': known are mars, marsadm, mars-status, mars.toml"
        ))
    })
}

/// Text with what troff would take for commands made harmless.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

fn item(head: &str, text: &str) -> String {
    format!(".TP\n\\fB{}\\fR\n{}\n", plain(head), plain(text))
}

/// `marsadm(8)`
pub fn marsadm() -> String {
    let mut page = String::from(
        ".TH MARSADM 8\n.SH NAME\nmarsadm \\- steer replicated resources\n.SH SYNOPSIS\n\\fBmarsadm\\fR [\\fIoptions\\fR] \\fIcommand\\fR \
         [\\fIresources\\fR | all] [\\fIargs\\fR]\n.SH DESCRIPTION\n",
    );
    page.push_str(&plain(
        "Changes and shows the state of this host and its cluster. Options may stand anywhere. A list of resources is separated by \
         commas. The exit code is 0 when everything asked for has happened, and otherwise the number of errors; a wait whose time is \
         over is an error. Refusals begin with DYING:, advice with WARNING: or HINT:, all on stderr.",
    ));
    page.push_str("\n.SH OPTIONS\n");
    for (option, about) in help::OPTIONS {
        page.push_str(&item(option, about));
    }
    page.push_str(".SH COMMANDS\n");
    let mut verbs: Vec<&Verb> = VERBS
        .iter()
        .filter(|verb| verb.class != Class::Hidden)
        .collect();
    verbs.sort_by_key(|verb| verb.name);
    for verb in verbs {
        page.push_str(&item(&verb.usage_line(), verb.about));
    }
    page.push_str(&item(
        "view[-<macro>] [<resource_names>]",
        "Show the state; see also mars-status(8).",
    ));
    page.push_str(".SH MACROS\n");
    page.push_str(&plain(
        "Each of them is shown by view-<macro>; marsadm dump-macros writes their texts.",
    ));
    page.push('\n');
    for line in view::macro_table()
        .into_iter()
        .filter(|line| line.complex && line.view)
    {
        page.push_str(&item(&line.name, &line.about));
    }
    page.push_str(".SH FILES\n");
    page.push_str(&item("/mars", "State directory of the node; see --dir."));
    page.push_str(".SH SEE ALSO\nmars(1), mars-status(8), mars.toml(5)\n");
    page
}

/// `mars-status(8)`, from its usage text: two blanks, an option with its value, two or more blanks, what it does.
pub fn status() -> String {
    let mut page = String::from(
        ".TH MARS-STATUS 8\n.SH NAME\nmars\\-status \\- the state of a node and its cluster at a glance\n.SH SYNOPSIS\n\
         \\fBmars\\-status\\fR [\\fIoptions\\fR]\n.SH DESCRIPTION\nReads only, and works without the daemon, too. WORK, TODO and HINT \
         lines say what is going on, what somebody has to do, and what may become important.\n.SH OPTIONS\n",
    );
    for line in USAGE.lines().filter_map(|line| line.strip_prefix("  ")) {
        if let Some((option, about)) = line.split_once("  ") {
            page.push_str(&item(option, about.trim()));
        }
    }
    page.push_str(".SH SEE ALSO\nmars(1), marsadm(8)\n");
    page
}

/// What may stand in `mars.toml`.
#[rustfmt::skip]
const VALUES: &[(&str, &str)] = &[
    ("host", "Name of this host. Needed only until create-cluster or join-cluster has stored it."),
    ("listen", "UDP address to listen on. Default 0.0.0.0:7777."),
    ("advertise", "Address other hosts shall use for this one, when it is not the one listened on."),
    ("nbd_listen", "TCP address for NBD clients, besides the unix socket."),
    ("nbd_insecure", "true allows nbd_listen on other than loopback addresses without TLS."),
    ("nbd_tls", "true lets clients in over TCP only with TLS and a certificate of the cluster."),
    ("[limits] heartbeat_seconds", "How often this host gives a sign of life. Default 5."),
    ("[limits] exchange_seconds", "Longest pause between two exchanges with a peer. Default 3."),
    ("[limits] grace_seconds", "How long a starting node waits for the other members of its resources before it becomes primary: one of them may have been designated meanwhile. It waits less when all of them have answered. Default 5."),
    ("[limits] alive_window_seconds", "A peer silent for longer counts as dead. Default 30."),
    ("[limits] max_future_seconds", "How far the clock of another host may be ahead. Default 3600."),
    ("[limits] logrot_auto_gb", "Logs are rotated at this size; 0 is never. Default 4."),
    ("[limits] delete_logs", "Whether logs all members have replayed are deleted without marsadm cron. Default true."),
    ("[limits] keep_logs_seconds", "How long a log stays after its last change. Default 120."),
    ("[limits] required_free_space_gb", "Free space at which the four emergency levels begin, cumulative."),
    ("[limits] log_ratelimit_kb", "What this host sends of logs to all peers together, KiB/s; the key defaults/log-ratelimit-kb (or defaults-HOST/...) says otherwise while it runs, 0 for no limit."),
    ("[limits] sync_ratelimit_kb", "The same for blocks of syncs; key sync-ratelimit-kb."),
    ("[limits] line_rate_mbit", "What the line to the peers carries, in Mbit/s: a long line that loses packets is used at this rate. Not said: found out."),
    ("[limits] line_rtt_max_ms", "Longest round trip of the line, in milliseconds. Default 100."),
];

/// `mars.toml(5)`
fn configuration() -> String {
    let mut page = String::from(
        ".TH MARS.TOML 5\n.SH NAME\nmars.toml \\- configuration of a node\n.SH DESCRIPTION\nOptional file in the state directory, in TOML. \
         Every value has a default; flags of \\fBmars node\\fR override it.\n.SH VALUES\n",
    );
    for (name, about) in VALUES {
        page.push_str(&item(name, about));
    }
    page.push_str(".SH SEE ALSO\nmars(1), marsadm(8)\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pages_are_written_and_name_every_verb() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_pages(dir.path()).expect("an empty directory");
        for page in [
            "mars.1",
            "mars-tree-get.1",
            "marsadm.8",
            "mars-status.8",
            "mars.toml.5",
        ] {
            assert!(dir.path().join(page).is_file(), "{page}");
        }
        let text = std::fs::read_to_string(dir.path().join("marsadm.8")).expect("marsadm.8");
        for verb in VERBS.iter().filter(|verb| verb.class != Class::Hidden) {
            assert!(text.contains(&plain(verb.name)), "{}", verb.name);
        }
    }

    /// The names which the daemon knows, from what it says about one it does not know.
    fn names_known(section: &str) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let text = format!("{section}\nno_such_value = 1\n");
        std::fs::write(dir.path().join("mars.toml"), text).expect("written");
        let refused = node::config::Config::load(dir.path(), node::config::Flags::default());
        let said = refused.expect_err("no such value").to_string();
        let (_, list) = said.split_once("expected one of").expect("all names");
        let names = list.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    }

    #[test]
    fn the_page_names_every_value_of_the_configuration_and_no_other() {
        let mut known = names_known("");
        known.retain(|name| name != "limits");
        let limits = names_known("[limits]");
        known.extend(limits.iter().map(|name| format!("[limits] {name}")));
        let told: Vec<&str> = VALUES.iter().map(|(name, _)| *name).collect();
        assert_eq!(told, known);
    }

    #[test]
    fn text_cannot_become_a_command_of_the_formatter() {
        assert_eq!(plain(".TH x"), "\\&.TH x");
        assert_eq!(plain("a\\b-c"), "a\\eb\\-c");
    }
}
