//! `mars demo`: what the product does, on three real hosts of loopback, in under two minutes.
//!
//! Every step is announced with the command an operator would type and then done with exactly that
//! command. It ends well only if all three disks are byte-equal to what was written and
//! acknowledged.

pub mod cluster;
mod story;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `mars demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Leave the cluster running at the end and say how to talk to it.
    #[arg(long)]
    pub keep: bool,
    /// Where the three hosts live; a temporary directory when absent.
    #[arg(long)]
    pub work: Option<PathBuf>,
    /// Size of the replicated device in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(16..=65536))]
    pub size_mib: u64,
    /// Print the final table as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo; the exit code is 0 only if every replica is byte-equal to what was acknowledged.
pub fn run(args: &DemoArgs) -> ExitCode {
    match story::tell(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("demo failed: {e:#}");
            ExitCode::FAILURE
        }
    }
}
