//! The report as text. Monitors search it for words, so labels and sentences are those of the manual.
//!
//! Manual: "mars-status".

use super::options::StatusOptions;
use super::paint::Paint;
use super::report::{Cluster, Node, Note, Report, Resource, Role, Tag};

const KIB_PER_GIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = KIB_PER_GIB * 1024.0;
const TIB: f64 = GIB * 1024.0;
/// Dashes in the line below the header.
const RULE_LEN: usize = 79;

/// Version lines and the rule below them.
pub fn header(host: &str, versions: &Versions, options: &StatusOptions, paint: Paint) -> String {
    let selected = match &options.resource {
        Some(name) => format!(", Resource: {}", paint.name(name)),
        None => String::new(),
    };
    format!(
        "MARS Status - {}, {}{selected}\n{}{}\n",
        paint.name(host),
        versions.program,
        versions.lines(),
        "-".repeat(RULE_LEN)
    )
}

/// Who is running in which version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// This program.
    pub program: String,
    /// The command line it is compatible with.
    pub admin: String,
    /// The daemon.
    pub module: String,
    /// The operating system.
    pub kernel: String,
}

impl Versions {
    /// The lines below the first.
    pub fn lines(&self) -> String {
        format!(
            "MARS Admin  - {}\nMARS Module - {}\nMARS Kernel - {}\n",
            self.admin, self.module, self.kernel
        )
    }
}

/// The summary line. `limit_kib` is the limit below which a host counts as full.
pub fn cluster(cluster: &Cluster, limit_kib: u64, paint: Paint) -> String {
    let well = format!(" {}", paint.good("smoothly"));
    let mut line = String::from("-> Cluster Diskspace:");
    if cluster.full.is_empty() {
        line.push_str(&well);
    }
    for full in &cluster.full {
        let text = if full.local {
            format!("Local Partition /mars full ({limit_kib} kb Limit) !!! mars is stopping !!!")
        } else {
            format!(
                "Remotesystem {} have mars-disk full ({limit_kib} kb Limit) !!!",
                full.host
            )
        };
        line.push_str(&format!("\n\t-> HINT: {}", paint.bad(&text)));
    }
    if !cluster.full.is_empty() {
        line.push_str("\n->");
    }
    let alarm = |on: bool, text: &str| {
        if on {
            format!(" {}", paint.bad(text))
        } else {
            well.clone()
        }
    };
    let stopped = alarm(cluster.emergency, "and Replication not running !!!");
    let silent = alarm(!cluster.silent.is_empty(), "TODO");
    let limit = format!("set to {} !!!", cluster.sync_limit);
    let limit = alarm(cluster.sync_limit > 0, &limit);
    line.push_str(&format!(
        "  Transaktions:{stopped}  Connects:{silent}  Synclimit:{limit}\n"
    ));
    line
}

/// The heading of the resources, and a remark when there are none.
pub fn resources_heading(report: &Report, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.heading("---> Resources <---"));
    if report.resources.is_empty() {
        text.push_str("---> HINT: no resources found\n");
    }
    text
}

/// The opening line and the nodes of a resource.
pub fn resource(resource: &Resource, paint: Paint) -> String {
    let primary = resource.primary.as_deref().unwrap_or("unknown");
    let mut text = format!(
        "-> check resource {}, with {:.3}TB, Primary Node is {}\n",
        paint.name(&resource.name),
        resource.size as f64 / TIB,
        paint.name(primary)
    );
    for node in &resource.nodes {
        text.push_str(&self::node(node, paint));
    }
    text
}

/// The closing line of a resource.
pub fn modus(resource: &Resource, paint: Paint) -> String {
    let modus = match resource.members {
        0 => "remote (0 nodes)".to_owned(),
        1 => "standalone (1 node)".to_owned(),
        count => format!("clustered ({count} nodes)"),
    };
    format!(
        "   -> modus for resource {} is {modus}\n",
        paint.name(&resource.name)
    )
}

fn node(node: &Node, paint: Paint) -> String {
    let place = if node.local { "local" } else { "remote" };
    let role = match node.role {
        Role::Primary => "Primary",
        Role::Secondary => "Secondary",
        Role::NotJoined => "not joined",
    };
    let alive = match node.silent_for {
        None => paint.good("System alive"),
        Some(seconds) => paint.bad(&format!(
            "System unknown (last message before {seconds} sec) !!!"
        )),
    };
    let mut text = format!(
        "   -> {place} Node ({} [{}]) as {role}, {alive}\n",
        paint.name(&node.host),
        node.ip
    );
    if node.role == Role::NotJoined {
        text.push_str("   -> Resource is not joined to this node\n");
        text.push_str(&fetch_line(node, paint));
        return text;
    }
    text.push_str(&device_line(node, paint));
    text.push_str(&sync_line(node, paint));
    text.push_str(&fetch_line(node, paint));
    text.push_str(&replay_line(node, paint));
    text.push_str(&actual_line(node));
    text.push_str(&switches_line(node));
    text
}

fn notes(list: &[Note], paint: Paint) -> String {
    list.iter()
        .map(|note| format!("\t\t---> {}\n", self::note(note, paint)))
        .collect()
}

/// A remark with its tag in front.
pub fn note(note: &Note, paint: Paint) -> String {
    match note.tag {
        Tag::Work => format!("{} {}", paint.good("WORK:"), note.text),
        Tag::Todo => format!("{} {}", paint.bad("TODO:"), note.text),
        Tag::Hint => format!("{} {}", paint.bad("HINT:"), note.text),
    }
}

fn device_line(node: &Node, paint: Paint) -> String {
    let device = &node.device;
    let size = if device.resizing {
        "resize active"
    } else {
        "not enlarged"
    };
    let used = device.device.as_ref().map_or(String::new(), |device| {
        format!(", used as Mars-Device {device}")
    });
    format!(
        "\tDevice  : Disk-Device {}, {size}{used}\n{}",
        device.disk,
        notes(&device.notes, paint)
    )
}

fn sync_line(node: &Node, paint: Paint) -> String {
    let sync = &node.sync;
    let rate = sync.minutes_left.map_or(String::new(), |minutes| {
        format!(
            ", at {:.3} gb/s (done in {minutes:.2} min)",
            sync.kib_per_second as f64 / KIB_PER_GIB
        )
    });
    format!(
        "\tSync    : {} bytes ({:.3}TB) synced = {:.2}%{rate}\n{}",
        sync.bytes,
        sync.bytes as f64 / TIB,
        sync.percent,
        notes(&sync.notes, paint)
    )
}

fn fetch_line(node: &Node, paint: Paint) -> String {
    let fetch = &node.fetch;
    let rate = if fetch.kib_per_second == 0 {
        String::new()
    } else {
        let rate = fetch.kib_per_second as f64 / KIB_PER_GIB;
        format!(", received with {rate:.2} gb/s")
    };
    format!(
        "\tFetch : {} bytes ({}) in log-{:09} active{rate}\n{}",
        fetch.bytes,
        gib(fetch.bytes),
        fetch.log,
        notes(&fetch.notes, paint)
    )
}

fn replay_line(node: &Node, paint: Paint) -> String {
    let replay = &node.replay;
    let rate = if replay.kib_per_second == 0 {
        String::new()
    } else {
        format!(
            ", at {:.2} gb/s",
            replay.kib_per_second as f64 / KIB_PER_GIB
        )
    };
    format!(
        "\tReplay: {} bytes ({}) now replayed, Todo {}, completed {:.2}%{rate}\n{}",
        replay.bytes,
        gib(replay.bytes),
        replay.todo,
        replay.percent,
        notes(&replay.notes, paint)
    )
}

/// A number of bytes in GiB, as this report writes it.
pub fn gib(bytes: u64) -> String {
    format!("{:.3}GB", bytes as f64 / GIB)
}

fn on(yes: bool) -> &'static str {
    if yes { "on" } else { "off" }
}

fn actual_line(node: &Node) -> String {
    let actual = &node.actual;
    if actual.primary {
        return format!(
            "\tActual  : Status=Primary, used Device={}, Attached={}\n",
            on(actual.device),
            on(actual.attached)
        );
    }
    format!(
        "\tActual  : Status=Secondary, Syncstatus={}, Logfileupdate={}, Attached={}\n",
        on(actual.syncing),
        on(actual.fetching),
        on(actual.attached)
    )
}

fn switches_line(node: &Node) -> String {
    let switches = &node.switches;
    let transfer = format!(
        "Connect={} Sync={} AllowReplay={}",
        on(switches.connect),
        on(switches.sync),
        on(switches.replay)
    );
    // A primary neither fetches nor replays nor copies, whatever it is told.
    let transfer = if node.actual.primary {
        format!("[masked: {transfer}]")
    } else {
        transfer
    };
    format!("\tSwitches: Attach={} {transfer}\n", on(switches.attach))
}
