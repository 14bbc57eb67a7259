//! The decision of the main loop: does its time grow with what there is to decide, and with nothing else?
//!
//! No daemon: the tree is made here, with two healthy members of every resource, and decided for as the main loop does.

use anyhow::{Context, Result};
use node::config::NodeConfig;
use node::facts::Facts;
use node::plan;
use tree::{Entry, Host, Issue, Path, Resource, Stamp, Tree, Value};

use super::lab::{Stopwatch, bar};
use super::plot::Curve;
use super::table::{Row, median};
use super::{Common, Found};

/// The time of day in the tree, nanoseconds since 1970.
const NOW_NS: u64 = 1_000_000 * 1_000_000_000;

/// Decisions of one figure take at least this long together.
const LEAST_MS: f64 = 50.0;

/// All of it.
pub fn decide(common: &Common) -> Result<Found> {
    let mut found = Found::default();
    let (resources, keys): (&[usize], &[usize]) = match common.quick {
        true => (&[10, 100], &[0, 10_000]),
        false => (
            &[10, 100, 1_000, 10_000],
            &[0, 1_000, 10_000, 100_000, 1_000_000],
        ),
    };
    if common.wants("resources") {
        let mut points = Vec::new();
        for count in resources {
            let figures = timed(common, &Planted::new(*count, 0)?, *count)?;
            points.push((*count as f64, median(&figures)));
            let name = format!("decide for each of {count} resources");
            found.rows.push(Row::new(name, "µs", figures));
        }
        found.curves.push(Curve {
            name: "decide-by-resources",
            title: "Decision for one resource, when all of so many are decided for".into(),
            x: "resources",
            y: "µs, median",
            log_x: true,
            points,
        });
    }
    if common.wants("keys") {
        let mut points = Vec::new();
        for count in keys {
            let figures = timed(common, &Planted::new(1, *count)?, 1)?;
            points.push(((*count).max(1) as f64, median(&figures)));
            let name = format!("decide for one resource beside {count} other keys");
            found.rows.push(Row::new(name, "µs", figures));
        }
        found.curves.push(Curve {
            name: "decide-by-keys",
            title: "Decision for one resource beside so many other keys".into(),
            x: "other keys",
            y: "µs, median",
            log_x: true,
            points,
        });
    }
    Ok(found)
}

/// Microseconds for one resource, one figure a round.
fn timed(common: &Common, planted: &Planted, count: usize) -> Result<Vec<f64>> {
    let facts = Facts {
        now_ns: NOW_NS,
        grace_over: true,
        ..Facts::default()
    };
    let (here, config) = (Host::new("beta")?, NodeConfig::default());
    let bar = bar(u64::from(common.rounds()), "rounds");
    let mut figures = Vec::new();
    for _ in 0..common.rounds() {
        let (clock, mut decided) = (Stopwatch::start(), 0);
        while clock.millis() < LEAST_MS {
            let plan = plan::decide(&planted.tree, &facts, &here, &config, &planted.names);
            decided += std::hint::black_box(plan).resources.len();
        }
        anyhow::ensure!(
            decided % count == 0,
            "{decided} decisions for {count} resources"
        );
        figures.push(clock.millis() * 1000.0 / decided as f64);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(figures)
}

/// A tree and the resources in it.
struct Planted {
    tree: Tree,
    names: Vec<Resource>,
    issued: u64,
}

impl Planted {
    fn new(resources: usize, keys: usize) -> Result<Planted> {
        let (tree, names) = (Tree::new(), Vec::new());
        let issued = 0;
        let mut planted = Planted {
            tree,
            names,
            issued,
        };
        for nr in 0..resources {
            planted.resource(&format!("r{nr:05}"))?;
        }
        for nr in 0..keys {
            planted.set(&format!("userspace/bench/key-{nr:07}"), "value")?;
        }
        Ok(planted)
    }

    /// Two members in one place of one log, everything on, nothing to do.
    fn resource(&mut self, res: &str) -> Result<()> {
        self.names.push(Resource::new(res)?);
        let mut keys = vec![
            ("size".to_owned(), "1048576"),
            ("primary".to_owned(), "alpha"),
        ];
        let digest = "0123456789abcdef0123456789abcdef";
        let link = format!("{digest},log-000000001-alpha,4096:");
        for name in ["alpha", "beta"] {
            keys.extend([
                (format!("data-{name}"), "/dev/null"),
                (format!("device-{name}"), res),
                (format!("actsize-{name}"), "1048576"),
                (format!("syncstatus-{name}"), "1048576"),
                (format!("replay-{name}"), "log-000000001-alpha,4096,0"),
                (format!("version-000000001-{name}"), link.as_str()),
                (format!("todo-{name}/attach"), "1"),
                (format!("todo-{name}/connect"), "1"),
                (format!("todo-{name}/sync"), "1"),
                (format!("todo-{name}/allow-replay"), "1"),
            ]);
        }
        for (key, text) in keys {
            self.set(&format!("resource-{res}/{key}"), text)?;
        }
        Ok(())
    }

    fn set(&mut self, path: &str, text: &str) -> Result<()> {
        self.issued += 1;
        let writer = Host::new("alpha")?;
        let entry = Entry {
            value: Value::text(text).context(path.to_owned())?,
            stamp: Stamp::new(NOW_NS - 1_000_000_000 + self.issued, &writer),
            issue: Issue {
                nr: self.issued,
                writer,
            },
            lazy: false,
        };
        self.tree.merge(Path::new(path)?, entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_that_was_planted_is_decided_for() {
        let planted = Planted::new(3, 2).expect("good names");
        let (here, config) = (Host::new("beta").expect("good"), NodeConfig::default());
        let plan = plan::decide(
            &planted.tree,
            &Facts::default(),
            &here,
            &config,
            &planted.names,
        );
        assert_eq!(plan.resources.len(), 3);
        assert_eq!(planted.tree.texts("userspace/").count(), 2);
    }
}
