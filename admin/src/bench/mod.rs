//! `mars bench`: what the product costs and delivers, measured against what people would use instead.
//!
//! Every comparison alternates with its peer in the same run (A B A B …) and is shown as medians and
//! their ratio; the machine's mood changes too much for anything else. Load comes from `fio`, so that
//! nobody has to trust our own client. Absolute numbers are for orientation only.

mod cut;
mod decide;
mod device;
mod files;
mod handover;
mod lab;
mod peers;
mod plot;
mod relay;
mod replication;
mod streams;
mod sync;
mod table;
mod tree;
mod view;
mod wan;

pub use lab::{cpu_seconds, resident_mib};

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

pub use plot::Curve;
pub use table::{Row, Target, median};

/// Options of `mars bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: What,
}

/// The benchmarks.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum What {
    /// The device at the primary: writes, reads, flushes, by fio.
    Device(Common),
    /// Secondaries: unreachable ones against none, log shipping, catch-up, delay of one write.
    Replication(Common),
    /// The first copy of a disk: equal disks, and an empty one.
    Sync(Common),
    /// The key tree: set → seen, bulk, start with many keys, cost at rest.
    Tree(Common),
    /// The decision of the main loop, by number of resources and of other keys.
    Decide(Common),
    /// `marsadm view all` of many resources, of a running daemon and of a saved tree.
    View(Common),
    /// Planned handover without lag, until the device answers on the other host.
    Handover(Common),
    /// Kill of the daemon under load, until the device answers again.
    Restart(Common),
    /// Log shipping through a proxy with rate, delay and loss.
    Wan(Common),
    /// All of them, one after the other.
    All(Common),
}

/// Options of every benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Smaller and shorter: to see that it works, not to quote.
    #[arg(long)]
    pub quick: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Measure peers in turns in the same run, where they are installed.
    #[arg(long)]
    pub peers: bool,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Directory on the file system to measure; a temporary one when absent.
    #[arg(long)]
    pub work: Option<PathBuf>,
    /// Only measurements whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Also measure how cost grows with work, and draw the curves into this directory (SVG).
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// Bytes of the device, where a measurement wants other ones than usual.
    #[arg(skip)]
    bytes: Option<u64>,
}

/// What a benchmark found.
#[derive(Default)]
pub struct Found {
    /// Lines of the table.
    pub rows: Vec<Row>,
    /// Curves, where they were asked for.
    pub curves: Vec<Curve>,
}

impl Common {
    /// Bytes of the device under test.
    fn size(&self) -> u64 {
        let usual = if self.quick { 128 << 20 } else { 1 << 30 };
        self.bytes.unwrap_or(usual)
    }

    /// Seconds of a measurement that goes by time.
    fn seconds(&self) -> u32 {
        if self.quick { 2 } else { 8 }
    }

    fn rounds(&self) -> u32 {
        if self.quick {
            self.rounds.min(2)
        } else {
            self.rounds
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }

    /// The working directory, made when absent.
    fn work(&self) -> Result<PathBuf> {
        let dir = match &self.work {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("mars-bench-{}", std::process::id())),
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir.canonicalize()?)
    }

    /// What was made there goes, unless the operator has chosen the place.
    fn tidy(&self) -> Result<()> {
        if self.work.is_none() {
            let work = self.work()?;
            std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        }
        Ok(())
    }
}

type Bench = fn(&Common) -> Result<Found>;

const ALL: &[Bench] = &[
    device::device,
    replication::replication,
    sync::sync,
    tree::tree,
    decide::decide,
    view::view,
    handover::handover,
    handover::restart,
    wan::wan,
];

/// Runs the benchmark and prints its table.
pub fn run(args: &BenchArgs) -> ExitCode {
    let (common, benches): (_, &[Bench]) = match &args.what {
        What::Device(common) => (common, &[device::device]),
        What::Replication(common) => (common, &[replication::replication]),
        What::Sync(common) => (common, &[sync::sync]),
        What::Tree(common) => (common, &[tree::tree]),
        What::Decide(common) => (common, &[decide::decide]),
        What::View(common) => (common, &[view::view]),
        What::Handover(common) => (common, &[handover::handover]),
        What::Restart(common) => (common, &[handover::restart]),
        What::Wan(common) => (common, &[wan::wan]),
        What::All(common) => (common, ALL),
    };
    let done = measure(common, benches).and_then(|found| {
        plot::draw(common, &found.curves)?;
        table::print(&found.rows, common.json)?;
        common.tidy()
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench failed: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(common: &Common, benches: &[Bench]) -> Result<Found> {
    let mut all = Found::default();
    for bench in benches {
        let found = bench(common)?;
        all.rows.extend(found.rows);
        all.curves.extend(found.curves);
    }
    Ok(all)
}
