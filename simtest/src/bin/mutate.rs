//! Is the simulation blind somewhere? Builds a copy of the sources that has all defects of `mutations.txt` behind switches, and
//! with one defect switched on at a time tells the story that has to show it, or runs random worlds until one breaks a promise.
//!
//! Run at the root of the repository. The copy and what is built from it lie in `target/mutants`; the sources stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use simtest::mutations::{self, Mutation};

/// Runs random worlds and stories with deliberate defects.
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
    /// No stories: what do seeds alone show?
    #[arg(long)]
    seeds_only: bool,
    /// Everything that is run is an argument of this command.
    #[arg(long)]
    through: Option<String>,
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
    let work = Work::prepare(&root, &all, options)?;
    let mut caught = 0;
    for mutation in &chosen {
        let verdict = work.try_one(mutation)?;
        let (text, file, name) = (verdict.text(), &mutation.file, &mutation.name);
        println!("{text:<28} {file}: {name}");
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
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Verdict::Caught(how) => format!("caught {how}"),
            Verdict::Missed => "NOT CAUGHT".to_owned(),
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

/// A run that is not over after so long never ends: that, too, is seen.
const RUN_MAX: Duration = Duration::from_secs(900);

/// Where it all happens.
struct Work {
    options: Options,
    dir: PathBuf,
    /// The programs with all defects.
    simtest: PathBuf,
    stories: PathBuf,
    /// Seeds that break a promise without any defect of the table.
    broken: Vec<String>,
}

/// How a program ended, and what it printed.
struct Ran {
    success: bool,
    ended: bool,
    text: String,
}

impl Work {
    /// Builds the copy with all defects, and finds out which seeds hold without any.
    fn prepare(root: &Path, all: &[Mutation], options: Options) -> anyhow::Result<Work> {
        let dir = root.join("target/mutants");
        copy_sources(root, &dir, all)?;
        let mut work = Work {
            simtest: dir.join("simtest"),
            stories: dir.join("stories"),
            broken: Vec::new(),
            options,
            dir,
        };
        work.build(root)?;
        let ran = work.run_seeds(None, &["--keep-going"])?;
        work.broken = failed_seeds(&ran.text);
        println!(
            "without a defect these seeds fail: [{}]",
            work.broken.join(", ")
        );
        Ok(work)
    }

    fn try_one(&self, mutation: &Mutation) -> anyhow::Result<Verdict> {
        let by = mutation.by.as_deref().filter(|_| !self.options.seeds_only);
        if let Some(by) = by
            && let Some(how) = self.told(mutation, &[by])?
        {
            return Ok(Verdict::Caught(how));
        }
        let ran = self.run_seeds(Some(mutation), &[])?;
        if !ran.ended {
            return Ok(Verdict::Caught("by a seed that never ends".to_owned()));
        }
        if !ran.success {
            let count = ran
                .text
                .lines()
                .find_map(|line| line.split_once(" seeds, "));
            return Ok(Verdict::Caught(match count {
                Some((count, _)) => format!("after {count} seeds"),
                None => "by a crash".to_owned(),
            }));
        }
        let how = match self.options.seeds_only {
            true => None,
            false => self.told(mutation, &[])?,
        };
        Ok(how.map_or(Verdict::Missed, Verdict::Caught))
    }

    /// Tells stories, all of them or those named; how one of them shows the defect.
    fn told(&self, mutation: &Mutation, which: &[&str]) -> anyhow::Result<Option<String>> {
        let ran = self.run(&self.stories, Some(mutation), which)?;
        let mut lines = ran.text.lines();
        let failed = lines.find_map(|line| line.strip_suffix(" ... FAILED"));
        let failed = failed.map(|line| line.trim_start_matches("test "));
        Ok(match (ran.ended, ran.success) {
            (true, true) => None,
            (true, false) => Some(format!("by {}", failed.unwrap_or("a story"))),
            (false, _) => Some("by a story that never ends".to_owned()),
        })
    }

    fn run_seeds(&self, mutation: Option<&Mutation>, more: &[&str]) -> anyhow::Result<Ran> {
        let (count, skip) = (self.options.seeds.to_string(), self.broken.join(","));
        let mut words = vec!["--seeds", &count];
        if !skip.is_empty() {
            words.extend(["--skip", &skip]);
        }
        words.extend(more);
        self.run(&self.simtest, mutation, &words)
    }

    fn run(
        &self,
        program: &Path,
        mutation: Option<&Mutation>,
        words: &[&str],
    ) -> anyhow::Result<Ran> {
        let printed = self.dir.join("printed");
        let mut command = self.command(program);
        command.args(words).stdout(fs::File::create(&printed)?);
        if let Some(mutation) = mutation {
            command.env(mutations::VARIABLE, mutation.nr.to_string());
        }
        let mut child = command.stderr(Stdio::null()).spawn()?;
        let mut waited = Duration::ZERO;
        let pause = Duration::from_millis(100);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if waited > RUN_MAX {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(pause);
            waited += pause;
        };
        Ok(Ran {
            success: status.is_some_and(|status| status.success()),
            ended: status.is_some(),
            text: fs::read_to_string(&printed)?,
        })
    }

    fn command(&self, program: &Path) -> Command {
        match &self.options.through {
            None => Command::new(program),
            Some(through) => {
                let mut command = Command::new(through);
                command.arg(program);
                command
            }
        }
    }

    /// The programs are taken away from where cargo puts them: the next ordinary build leaves its own there.
    fn build(&self, root: &Path) -> anyhow::Result<()> {
        let built = self.cargo(root, &["build", "--bin", "simtest"])?;
        fs::copy(built, &self.simtest)?;
        if self.options.seeds_only {
            // Tests want other features of what we depend on, and so all of that once more.
            return Ok(());
        }
        let built = self.cargo(root, &["test", "--no-run", "--test", "stories"])?;
        fs::copy(built, &self.stories)?;
        Ok(())
    }

    /// Builds something; the path of the program.
    fn cargo(&self, root: &Path, words: &[&str]) -> anyhow::Result<PathBuf> {
        let mut cargo = self.command(Path::new("cargo"));
        cargo.args(words);
        cargo.args(["--release", "--quiet", "--workspace", "--locked"]);
        for package in OURS {
            for setting in ["opt-level=1", "codegen-units=64", "debug=false"] {
                cargo.arg("--config");
                cargo.arg(format!("profile.release.package.{package}.{setting}"));
            }
        }
        let out = cargo
            .arg("--message-format=json-render-diagnostics")
            .current_dir(&self.dir)
            .env("CARGO_TARGET_DIR", root.join("target"))
            .env("CARGO_INCREMENTAL", "1")
            .output()?;
        if !out.status.success() {
            let why = String::from_utf8_lossy(&out.stderr);
            bail!("the sources do not compile with all defects:\n{why}");
        }
        let text = String::from_utf8_lossy(&out.stdout);
        let mut lines = text.lines().rev();
        let program = lines.find_map(|line| line.split_once("\"executable\":\""));
        let program = program.and_then(|(_, rest)| rest.split_once('"'));
        let (program, _) = program.context("cargo does not say what it has built")?;
        Ok(PathBuf::from(program))
    }
}

/// The numbers in the line of a run that says which seeds failed.
fn failed_seeds(text: &str) -> Vec<String> {
    let failed = text.lines().find_map(|line| line.strip_prefix("failed: ["));
    let failed = failed.unwrap_or_default().trim_end_matches(']');
    let seeds = failed.split(", ").filter(|seed| !seed.is_empty());
    seeds.map(str::to_owned).collect()
}

/// The packages lie one folder deeper than in the repository: cargo tells packages of one target folder apart by their places
/// below the root, and must not take a defective build for one of the sources.
const DEEPER: &str = "mutant";

fn copy_sources(root: &Path, copy: &Path, all: &[Mutation]) -> anyhow::Result<()> {
    let deeper = copy.join(DEEPER);
    fs::create_dir_all(&deeper)?;
    let mut planted = mutations::plant(all, root).map_err(anyhow::Error::msg)?;
    let (file, switch) = mutations::switch();
    let text = match planted.remove(&file) {
        Some(text) => text,
        None => fs::read_to_string(root.join(&file))?,
    };
    planted.insert(file, text + &switch);
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name != "target" && name != ".git" && name != "Cargo.toml" && name != "Cargo.lock" {
            copy_tree(&path, &deeper.join(name), root, &planted)?;
        }
    }
    put(
        &copy.join("Cargo.lock"),
        &fs::read(root.join("Cargo.lock"))?,
    )?;
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
    put(&copy.join("Cargo.toml"), manifest.as_bytes())
}

type Planted = std::collections::BTreeMap<String, String>;

fn copy_tree(from: &Path, to: &Path, root: &Path, planted: &Planted) -> anyhow::Result<()> {
    if !from.is_dir() {
        let name = from.strip_prefix(root).ok().and_then(Path::to_str);
        return match name.and_then(|name| planted.get(name)) {
            Some(text) => put(to, text.as_bytes()),
            None => put(to, &fs::read(from)?),
        };
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        copy_tree(&path, &to.join(name), root, planted)?;
    }
    // What has gone from the sources goes from the copy.
    for entry in fs::read_dir(to)? {
        let path = entry?.path();
        if path.is_file() && !from.join(path.file_name().unwrap_or_default()).exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Writes what has changed, so that cargo builds only what it must.
fn put(to: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(to).unwrap_or_default() != bytes || !to.exists() {
        fs::write(to, bytes)?;
    }
    Ok(())
}
