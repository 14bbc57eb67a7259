//! Is the simulation blind somewhere? Puts the defects of `mutations.txt` into a copy of the sources, one at a
//! time, and runs random worlds until one breaks a promise.
//!
//! Run at the root of the repository. The copy lies in `target/mutants`; a defect that no seed shows is
//! tried on the stories.

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
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Only defects whose name or file contains this; several times for several.
    #[arg(long)]
    only: Vec<String>,
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
        let mut only = options.only.iter();
        options.only.is_empty() || only.any(|text| m.name.contains(text) || m.file.contains(text))
    };
    let chosen: Vec<&Mutation> = all
        .iter()
        .filter(wanted)
        .step_by(options.every.max(1))
        .collect();
    let work = Work::prepare(root, options.seeds)?;
    let mut caught = 0;
    for mutation in &chosen {
        let verdict = work.try_one(mutation)?;
        println!(
            "{:<28} {}: {}",
            verdict.text(),
            mutation.file,
            mutation.name
        );
        caught += usize::from(matches!(verdict, Verdict::Caught(_)));
    }
    println!("{caught} of {} defects caught", chosen.len());
    Ok(if caught == chosen.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What became of one defect. Only the first says that the simulation sees it.
enum Verdict {
    Caught(String),
    Missed,
    /// No defect of a program that could be shipped: its line in the table is wrong, or the build could not run.
    DoesNotCompile,
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Verdict::Caught(how) => format!("caught {how}"),
            Verdict::Missed => "NOT CAUGHT".to_owned(),
            Verdict::DoesNotCompile => "DOES NOT COMPILE".to_owned(),
        }
    }
}

/// Our packages: built quickly rather than well. What they depend on is shared with ordinary release builds.
const OURS: [&str; 7] = [
    "tree",
    "storage",
    "certs",
    "transport",
    "node",
    "admin",
    "simtest",
];

/// Where it all happens.
struct Work {
    root: PathBuf,
    copy: PathBuf,
    seeds: u64,
    /// Seeds that break a promise without any defect of the table.
    broken: String,
}

/// What a run of many seeds came to.
struct Ran {
    success: bool,
    seeds: Option<u64>,
    failed: Vec<String>,
}

impl Work {
    /// Copies the sources and finds out which seeds hold without any defect.
    fn prepare(root: PathBuf, seeds: u64) -> anyhow::Result<Work> {
        let copy = root.join("target/mutants");
        copy_sources(&root, &copy)?;
        let mut work = Work {
            root,
            copy,
            seeds,
            broken: String::new(),
        };
        if !work.build()? {
            bail!("the sources do not compile");
        }
        let ran = work.run(&["--keep-going"])?;
        work.broken = ran.failed.join(",");
        println!("without a defect these seeds fail: [{}]", work.broken);
        Ok(work)
    }

    /// Builds with one defect and runs; the copy is whole again afterwards.
    fn try_one(&self, mutation: &Mutation) -> anyhow::Result<Verdict> {
        let broken = mutation.apply(&self.root).map_err(anyhow::Error::msg)?;
        let place = self.copy.join(DEEPER).join(&mutation.file);
        let whole = fs::read(&place)?;
        fs::write(&place, broken)?;
        let verdict = self.build_and_run();
        fs::write(&place, whole)?;
        verdict
    }

    fn build_and_run(&self) -> anyhow::Result<Verdict> {
        if !self.build()? {
            return Ok(Verdict::DoesNotCompile);
        }
        let ran = self.run(&[])?;
        if ran.success {
            return self.stories();
        }
        Ok(Verdict::Caught(match ran.seeds {
            Some(count) => format!("after {count} seeds"),
            None => "by a crash".to_owned(),
        }))
    }

    fn cargo(&self, verb: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.args([verb, "--release", "--quiet", "--workspace"]);
        for package in OURS {
            for setting in ["opt-level=1", "codegen-units=64", "debug=false"] {
                cargo.arg("--config");
                cargo.arg(format!("profile.release.package.{package}.{setting}"));
            }
        }
        cargo
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("CARGO_INCREMENTAL", "1");
        cargo
    }

    fn build(&self) -> anyhow::Result<bool> {
        let mut cargo = self.cargo("build");
        Ok(cargo.args(["--bin", "simtest"]).status()?.success())
    }

    fn run(&self, more: &[&str]) -> anyhow::Result<Ran> {
        let mut simtest = Command::new(self.root.join("target/release/simtest"));
        simtest
            .args(["--seeds", &self.seeds.to_string()])
            .args(more);
        if !self.broken.is_empty() {
            simtest.args(["--skip", &self.broken]);
        }
        let ran = simtest.stderr(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&ran.stdout);
        let count = text.lines().find_map(|line| line.split_once(" seeds, "));
        let failed = text.lines().find_map(|line| line.strip_prefix("failed: ["));
        let failed = failed.unwrap_or_default().trim_end_matches(']');
        Ok(Ran {
            success: ran.status.success(),
            seeds: count.and_then(|(count, _)| count.parse().ok()),
            failed: failed
                .split(", ")
                .filter(|seed| !seed.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// The first story that fails. The other tests do not count: some compare the sources with the table of defects.
    fn stories(&self) -> anyhow::Result<Verdict> {
        let mut build = self.cargo("test");
        if !build
            .args(["--test", "stories", "--no-run"])
            .status()?
            .success()
        {
            return Ok(Verdict::DoesNotCompile);
        }
        let mut cargo = self.cargo("test");
        let ran = cargo
            .args(["--test", "stories"])
            .stderr(Stdio::null())
            .output()?;
        if ran.status.success() {
            return Ok(Verdict::Missed);
        }
        let text = String::from_utf8_lossy(&ran.stdout);
        let failed = text
            .lines()
            .find_map(|line| line.strip_suffix(" ... FAILED"))
            .map_or("a story", |line| line.trim_start_matches("test "));
        Ok(Verdict::Caught(format!("by {failed}")))
    }
}

/// The packages lie one folder deeper than in the repository: cargo tells packages of one target folder apart by their places
/// below the root, and must not take a defective build for one of the sources.
const DEEPER: &str = "mutant";

fn copy_sources(root: &Path, copy: &Path) -> anyhow::Result<()> {
    let deeper = copy.join(DEEPER);
    fs::create_dir_all(&deeper)?;
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name != "target" && name != ".git" && name != "Cargo.toml" && name != "Cargo.lock" {
            copy_tree(&path, &deeper.join(name))?;
        }
    }
    fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock"))?;
    let mut manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    for package in OURS {
        let place = format!("{DEEPER}/{package}");
        manifest = manifest
            .replace(
                &format!("path = \"{package}\""),
                &format!("path = \"{place}\""),
            )
            .replace(&format!("{package:?}, "), &format!("{place:?}, "))
            .replace(&format!("{package:?}]"), &format!("{place:?}]"));
    }
    Ok(fs::write(copy.join("Cargo.toml"), manifest)?)
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
