//! `mars node`: starts the daemon of this host in the foreground; the only place that names it.
//!
//! What it logs goes to stderr; `MARS_LOG` selects how much (`info` by default, syntax of `tracing`
//! filters, `MARS_LOG=debug` or `MARS_LOG=node=debug,warn`).

use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;

use node::config::{Config, Flags};
use tracing_subscriber::EnvFilter;

use crate::mars::NodeArgs;

/// Environment variable that selects what is logged.
const LOG_VARIABLE: &str = "MARS_LOG";

/// Runs the daemon until it is told to stop; 0 after an orderly stop.
pub fn run(dir: &Path, args: NodeArgs) -> ExitCode {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // They would go to stderr, too, by a macro that panics when that is full.
        .log_internal_errors(false)
        .init();
    match start(dir, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "mars node: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(dir: &Path, args: NodeArgs) -> anyhow::Result<()> {
    let flags = Flags {
        host: args.host,
        listen: args.listen,
        advertise: args.advertise,
        nbd_listen: args.nbd_listen,
        forget_future: args.forget_future,
    };
    let config = Config::load(dir, flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(node::daemon::run(config))
}
