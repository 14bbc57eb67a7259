//! Is the simulation blind somewhere? Puts the defects of `mutations.txt` into a copy of the sources, one at a
//! time, and runs random worlds until one breaks a promise.
//!
//! Run at the root of the repository. The copy and its build lie in `target/mutants`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::Parser;
use simtest::mutations::{self, Mutation};

/// Runs random worlds with deliberate defects.
#[derive(Parser)]
struct Options {
    /// So many seeds for each defect, at most.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Only defects whose name or file contains this.
    #[arg(long)]
    only: Option<String>,
    /// Only every so-manieth defect.
    #[arg(long, default_value_t = 1)]
    every: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let root = std::env::current_dir()?;
    let table =
        fs::read_to_string(root.join("simtest/mutations.txt")).context("simtest/mutations.txt")?;
    let all = mutations::parse(&table).map_err(anyhow::Error::msg)?;
    let wanted = |m: &&Mutation| {
        let only = options.only.as_deref().unwrap_or("");
        m.name.contains(only) || m.file.contains(only)
    };
    let chosen: Vec<&Mutation> = all
        .iter()
        .filter(wanted)
        .step_by(options.every.max(1))
        .collect();
    let copy = root.join("target/mutants/source");
    copy_sources(&root, &copy)?;
    let mut missed = 0;
    for mutation in &chosen {
        let verdict = try_one(&root, &copy, mutation, options.seeds)?;
        println!("{verdict:<28} {}: {}", mutation.file, mutation.name);
        missed += usize::from(verdict == MISSED);
    }
    println!(
        "{} of {} defects caught",
        chosen.len() - missed,
        chosen.len()
    );
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const MISSED: &str = "NOT CAUGHT";

/// Builds with one defect and runs; the copy is whole again afterwards.
fn try_one(root: &Path, copy: &Path, mutation: &Mutation, seeds: u64) -> anyhow::Result<String> {
    let broken = mutation.apply(root).map_err(anyhow::Error::msg)?;
    fs::write(copy.join(&mutation.file), broken)?;
    let verdict = build_and_run(copy, seeds);
    fs::copy(root.join(&mutation.file), copy.join(&mutation.file))?;
    verdict
}

fn build_and_run(copy: &Path, seeds: u64) -> anyhow::Result<String> {
    let target = copy.with_file_name("build");
    let built = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "simtest",
            "--bin",
            "simtest",
        ])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "--cap-lints=allow")
        .status()?;
    if !built.success() {
        bail!("a defect of the table does not compile");
    }
    let ran = Command::new(target.join("release/simtest"))
        .args(["--seeds", &seeds.to_string()])
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&ran.stdout);
    let seeds = text
        .lines()
        .find_map(|line| line.split_once(" seeds, "))
        .map(|(count, _)| count);
    Ok(match (ran.status.success(), seeds) {
        (true, _) => MISSED.to_owned(),
        (false, Some(count)) => format!("caught after {count} seeds"),
        (false, None) => "caught: it crashed".to_owned(),
    })
}

fn copy_sources(root: &Path, copy: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name != "target" && name != ".git" {
            copy_tree(&path, &copy.join(name))?;
        }
    }
    Ok(())
}

/// Copies what has changed, so that cargo builds only what it must.
fn copy_tree(from: &Path, to: &PathBuf) -> anyhow::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            copy_tree(&path, &to.join(path.file_name().unwrap_or_default()))?;
        }
    } else if fs::read(from)? != fs::read(to).unwrap_or_default() {
        fs::copy(from, to)?;
    }
    Ok(())
}
