//! `mars bench`: what the product costs and delivers, measured against what people would use instead.
//!
//! Every comparison alternates with its peer in the same run (A B A B …) and is shown as medians and
//! their ratio; the machine's mood changes too much for anything else. Load comes from `fio`, so that
//! nobody has to trust our own client. Absolute numbers are for orientation only.

mod device;
mod peers;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

pub use table::{Row, median};

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
    /// The same with two configured secondaries that are unreachable, against none.
    Alone(Common),
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
}

impl Common {
    /// Bytes of the device under test.
    fn size(&self) -> u64 {
        if self.quick { 128 << 20 } else { 1 << 30 }
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

    /// The working directory, made when absent.
    fn work(&self) -> Result<PathBuf> {
        let dir = match &self.work {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("mars-bench-{}", std::process::id())),
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir.canonicalize()?)
    }
}

/// Runs the benchmark and prints its table.
pub fn run(args: &BenchArgs) -> ExitCode {
    let (common, rows) = match &args.what {
        What::Device(common) => (common, device::device(common)),
        What::Alone(common) => (common, device::alone(common)),
    };
    match rows.and_then(|rows| table::print(&rows, common.json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench failed: {e:#}");
            ExitCode::FAILURE
        }
    }
}
