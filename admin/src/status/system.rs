//! `--system`: limits and what is used of them. What this version does not provide is shown as unused or null.
//!
//! Manual: "mars-status --system".

use super::environment::Environment;
use crate::snapshot::Time;
use crate::view::status_api::World;

/// How a parameter is written.
enum Shown {
    /// A limit and how much of it is used: names of limit and use, unit of the limit, unit of the use.
    Both(&'static str, &'static str, &'static str, &'static str),
    /// Only a limit.
    Limit(&'static str, &'static str),
    /// Only a use.
    Use(&'static str, &'static str),
}

/// One line of the block.
enum Line {
    /// A parameter with its label.
    One(&'static str, Shown),
    /// Memory for buffered writes: its limit may be told in per cent or in gigabytes.
    Memory,
    /// A parameter, and how many requests are in flight.
    Flying(&'static str, Shown, &'static str),
    /// Priority and requests in flight of one side of a copy.
    Copy(&'static str),
    /// Switches.
    Modus,
    /// Distance of the Lamport clock, and the port.
    Clock,
    /// The last reserve.
    FreeSpace,
}

#[rustfmt::skip]
const LINES: [Line; 17] = [
    Line::One("AVG Limit", Shown::Limit("loadavg_limit", "")),
    Line::Memory,
    Line::One("Traffic Limit Client", Shown::Both("client_role_traffic_ratelimit_kb", "client_role_traffic_rate_kb", "kb/s", "kb/s")),
    Line::One("Traffic Limit Server", Shown::Both("server_role_traffic_ratelimit_kb", "server_role_traffic_rate_kb", "kb/s", "kb/s")),
    Line::One("Traffic Writeback", Shown::Both("writeback_ratelimit_kb", "writeback_rate_kb", "kb/s", "kb/s")),
    Line::One("I/O Writeback", Shown::Both("io_writeback_ratelimit_kb", "io_writeback_rate_kb", "kb/s", "kb/s")),
    Line::Flying("Server-IO Limit", Shown::Both("server_io_limit_kb", "server_io_rate_kb", "kb/s", "kb/s"), "server_io_flying"),
    Line::Copy("Read"),
    Line::Copy("Write"),
    Line::One("LoggerMemory", Shown::Use("logger_mem_used_kb", "kb")),
    Line::One("FreeSpaceLimit LogRotate", Shown::Limit("logrot_auto_gb", "gb")),
    Line::One("Network-IO-Timeout", Shown::Limit("network_io_timeout", "sec")),
    Line::One("Clear Page Cache", Shown::Use("mapfree_period_sec", "sec")),
    Line::One("Statusfile Rollover", Shown::Use("statusfiles_rollover_sec", "sec")),
    Line::Modus,
    Line::Clock,
    Line::FreeSpace,
];

/// The block from `---> Systemdata <---` on.
pub fn block(world: &World<'_>, env: &Environment) -> String {
    let env = with_tree(world, env);
    let lines = LINES
        .iter()
        .map(|line| format!("-> {}\n", text(&env, line)));
    format!("---> Systemdata <---\n{}", lines.collect::<String>())
}

fn text(env: &Environment, line: &Line) -> String {
    match line {
        Line::One(label, shown) => one(env, label, shown),
        Line::Flying(label, shown, flying) => format!(
            "{} Flying IO {}",
            one(env, label, shown),
            actually(env.parameter(flying), "")
        ),
        Line::Memory => {
            let (name, unit) = match env.parameter("mem_limit_percent") {
                None if env.parameter("mem_limit_gb").is_some() => ("mem_limit_gb", "gb"),
                _ => ("mem_limit_percent", "%"),
            };
            let shown = Shown::Both(name, "mem_used_raw_kb", unit, "kb");
            one(env, "Memory Limit", &shown)
        }
        Line::Copy(what) => copy(env, what),
        Line::Modus => modus(env),
        Line::Clock => format!(
            "LamportClockDifferenz {:.2} sec, Mars Port {}",
            env.parameter("lamport_difference_sec").unwrap_or(0.0),
            limit(env.parameter("mars_port"), "")
        ),
        Line::FreeSpace => free_space(env),
    }
}

/// What the tree tells about this host, unless the daemon tells it more exactly.
pub fn with_tree(world: &World<'_>, env: &Environment) -> Environment {
    let host = &world.snap.host;
    let mut env = env.clone();
    let gib = |key: &str| {
        world
            .text(&format!("actual-{host}/{key}"))
            .parse::<f64>()
            .ok()
    };
    let mut add = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            env.parameters.entry(name.to_owned()).or_insert(value);
        }
    };
    if let (Some(total), Some(rest)) = (gib("total-space"), gib("rest-space")) {
        add("used_space_mb", Some((total - rest) * 1024.0));
    }
    add("emergency_mode", gib("emergency"));
    add("client_role_traffic_rate_kb", received_kib(world));
    let ahead = world
        .alive_time(host)
        .map_or(0.0, |time: Time| (-world.age(time)).max(0.0));
    add("lamport_difference_sec", Some(ahead));
    env
}

/// What this host fetches and copies for all resources, in KiB per second, if it says so.
fn received_kib(world: &World<'_>) -> Option<f64> {
    let host = &world.snap.host;
    let rates = ["file", "sync"].map(|what| format!("actual-{host}/amount-{what}_rate"));
    let said = world.resource_names().iter().flat_map(|name| {
        let res = world.res(name);
        rates
            .iter()
            .filter_map(|key| res.text(key).parse::<f64>().ok())
            .collect::<Vec<_>>()
    });
    said.reduce(|sum, rate| sum + rate)
}

fn one(env: &Environment, label: &str, shown: &Shown) -> String {
    let text = match *shown {
        Shown::Both(max, used, max_unit, unit) => {
            let max = limit(env.parameter(max), max_unit);
            format!(
                "{max} {}",
                without_is(&actually_used(env.parameter(used), unit))
            )
        }
        Shown::Limit(max, unit) => match env.parameter(max) {
            None | Some(0.0) => "is now unused,".to_owned(),
            value => limit(value, unit),
        },
        Shown::Use(used, unit) => actually(env.parameter(used), unit),
    };
    format!("{label} {text}")
}

fn limit(value: Option<f64>, unit: &str) -> String {
    match value {
        Some(value) => format!("is set to {} {unit},", number(value)),
        None => "is now unused,".to_owned(),
    }
}

fn actually_used(value: Option<f64>, unit: &str) -> String {
    match value {
        Some(value) => format!("is actually used {} {unit},", number(value)),
        None => "is actually used null,".to_owned(),
    }
}

fn without_is(text: &str) -> &str {
    text.strip_prefix("is ").unwrap_or(text)
}

fn actually(value: Option<f64>, unit: &str) -> String {
    match value {
        None | Some(0.0) => "is actually null".to_owned(),
        Some(value) if unit.is_empty() => format!("is actually {}", number(value)),
        Some(value) => format!("is actually {} {unit},", number(value)),
    }
}

fn copy(env: &Environment, what: &str) -> String {
    let name = what.to_lowercase();
    let prio = match env.parameter(&format!("copy_{name}_prio")) {
        None | Some(0.0) => "is now unused,".to_owned(),
        value => limit(value, ""),
    };
    let flying = actually(env.parameter(&format!("copy_{name}_flying")), "");
    format!("Copy {what}: Prio {prio} Flying IO {flying}")
}

fn modus(env: &Environment) -> String {
    let switches = [
        ("Fast Full Sync", "do_fast_fullsync"),
        ("AIO Sync", "aio_sync_mode"),
        ("Delay say Overflow", "delay_say_on_overflow"),
        ("Emergency", "emergency_mode"),
        ("Logger Resume", "logger_resume"),
    ];
    let texts = switches.map(|(label, name)| {
        let on = env.parameter(name).is_some_and(|value| value != 0.0);
        format!("{label} is actually {}", if on { "on" } else { "off" })
    });
    format!("Modus: {},", texts.join(", "))
}

fn free_space(env: &Environment) -> String {
    let max = env.parameter("required_free_space_mb");
    let used = env.parameter("used_space_mb");
    let max = max.map_or("is now unused".to_owned(), |max| {
        format!("is set to {} mb", number(max))
    });
    let used = used.map_or("null".to_owned(), |used| format!("{used:.2} mb"));
    format!("Free-Space-Limit on /mars {max} (actually {used} used),")
}

/// Without a fraction when there is none.
fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
