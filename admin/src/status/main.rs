//! `mars-status` as a program: options, where the tree comes from, repetition.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::environment::Environment;
use super::options::{StatusOptions, USAGE};
use super::paint::Paint;
use crate::node_dir::{self, Opened};
use crate::options::Options;
use crate::output::Output;
use crate::snapshot::Snapshot;
use crate::view;

/// Clears the screen and puts the cursor into its upper left corner.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Back to the normal colours.
const RESET: &str = "\x1b[0m";

/// Runs `mars-status` with the words after the program name.
pub fn main(args: &[OsString]) -> ExitCode {
    let words: Vec<String> = args
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let options = match StatusOptions::parse(&words) {
        Ok(options) => options,
        Err(error) => {
            eprint!("ERROR: {error}\n{USAGE}");
            return ExitCode::from(1);
        }
    };
    if options.help {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let Some(seconds) = options.interval else {
        return print(&report(&options));
    };
    repeat(&options, Duration::from_secs(seconds))
}

/// Prints again and again, until Ctrl-C; then the terminal is left as it was found.
fn repeat(options: &StatusOptions, pause: Duration) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("DYING: cannot wait for signals: {error}");
            return ExitCode::from(1);
        }
    };
    loop {
        let out = report(options);
        print!("{CLEAR}");
        print(&out);
        let stopped = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => true,
                () = tokio::time::sleep(pause) => false,
            }
        });
        if stopped {
            print!("{RESET}{CLEAR}");
            return ExitCode::SUCCESS;
        }
    }
}

fn print(out: &Output) -> ExitCode {
    let mut stdout = std::io::stdout();
    let written = stdout
        .write_all(out.stdout.as_bytes())
        .and_then(|()| stdout.flush());
    eprint!("{}", out.stderr);
    // A reader which closed its end early has seen what it wanted.
    let failed =
        out.exit != 0 || written.is_err_and(|e| e.kind() != std::io::ErrorKind::BrokenPipe);
    ExitCode::from(u8::from(failed))
}

fn report(options: &StatusOptions) -> Output {
    let paint = Paint {
        on: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    match snapshot(options) {
        Ok((tree, env)) => super::run(&tree, options, &env, &TimeZone::system(), paint),
        Err(reason) => {
            let mut out = Output::default();
            out.fatal(&reason);
            out
        }
    }
}

/// The tree, and what is known besides. A saved tree comes without its surroundings.
fn snapshot(options: &StatusOptions) -> Result<(Snapshot, Environment), String> {
    let mut asked = Options {
        tree_file: options.tree_file.clone(),
        tree_host: options.host.clone(),
        now: options.now,
        daemon_down: options.daemon_down,
        ..Options::default()
    };
    if let Some(dir) = options
        .dir
        .clone()
        .or_else(|| std::env::var_os("MARS_DIR").map(Into::into))
    {
        asked.dir = dir;
    }
    let words = ["view".to_owned()];
    let opened = node_dir::open(&mut asked, &words).map_err(|refusal| refusal.to_string())?;
    let Opened::Ready { mut daemon, .. } = opened else {
        return Err("there is no tree to look at".to_owned());
    };
    let tree = daemon.snapshot().map_err(|error| error.to_string())?;
    if options.tree_file.is_some() {
        return Ok((tree, Environment::default()));
    }
    let facts = daemon.facts().map_err(|error| error.to_string())?;
    Ok((tree, surroundings().with_facts(&facts.unwrap_or_default())))
}

/// What this host says about itself.
fn surroundings() -> Environment {
    let mounts = view::mounts().into_iter().rev();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    Environment {
        kernel: kernel.map(|release| release.trim().to_owned()),
        mounts: mounts.map(|mount| (mount.device, mount.path)).collect(),
        ..Environment::default()
    }
}
