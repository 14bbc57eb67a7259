//! `view`, `view-<macro>`, `pretty…`: what the operator sees, computed by macros from the tree alone.
//!
//! Manual: "The Macro Processor".

use crate::options::Options;
use crate::output::Output;
use crate::snapshot::Snapshot;

/// Runs a `view*` or `pretty*` command. `args` are the positional words, the command first.
pub fn run(_tree: &Snapshot, _options: &Options, args: &[String]) -> Output {
    let mut out = Output::default();
    out.fatal(&format!(
        "command '{}' is not available in this version",
        args.first().map_or("view", |s| s)
    ));
    out
}
