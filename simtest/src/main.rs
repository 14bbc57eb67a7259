//! Random worlds by number: `cargo run --release -p simtest -- --seeds 300`.
//!
//! A seed that breaks a promise is printed with the last lines of its trace and the command that runs it
//! again; the exit code is 1 then.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use simtest::random::{self, Outcome};
use simtest::{known, many, world};

/// Runs random worlds.
#[derive(Parser)]
struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Begin no further seed after so many minutes of real time.
    #[arg(long)]
    minutes: Option<u64>,
    /// Show every event as it happens.
    #[arg(long)]
    trace: bool,
    /// Run every seed twice: both traces must be equal.
    #[arg(long)]
    twice: bool,
    /// Print the digest of every trace: a change that changes no behaviour leaves them as they are.
    #[arg(long)]
    digests: bool,
    /// Go on after a seed that broke a promise.
    #[arg(long)]
    keep_going: bool,
    /// Run the seeds with known defects, too.
    #[arg(long)]
    all: bool,
    /// Leave these seeds out: numbers with commas between.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<u64>,
    /// How many seeds run side by side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Instead: clusters of so many hosts without faults; how fast keys travel, and what the hosts cost.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["from", "twice", "trace"])]
    hosts: Vec<usize>,
}

#[derive(Default)]
struct Total {
    seeds: u64,
    failed: Vec<u64>,
    time: Duration,
    counts: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if !options.hosts.is_empty() {
        return many_hosts(&options.hosts);
    }
    leave_out_known(&mut options);
    let watch = stopwatch();
    let next = AtomicU64::new(options.from);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                while let Some(seed) = another(&options, &next, &stop, watch.elapsed()) {
                    let outcome = run(seed, &options);
                    if !outcome.broken.is_empty() && !options.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if options.digests {
                        println!("trace {} {}", outcome.seed, outcome.digest);
                    }
                    report(&outcome);
                    add(&total, &outcome);
                }
            });
        }
    });
    summary(&total, watch.elapsed())
}

fn many_hosts(counts: &[usize]) -> ExitCode {
    for count in counts {
        match world::run(1, false, |world| many::measure(world, *count)) {
            Ok(found) => println!("{found}"),
            Err(error) => {
                eprintln!("{count} hosts: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long real people wait is real time"
)]
fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}

fn another(
    options: &Options,
    next: &AtomicU64,
    stop: &AtomicBool,
    elapsed: Duration,
) -> Option<u64> {
    let late = options
        .minutes
        .is_some_and(|limit| elapsed > Duration::from_secs(60 * limit));
    if late || stop.load(Ordering::Relaxed) {
        return None;
    }
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= options.from + options.seeds {
            return None;
        }
        if !options.skip.contains(&seed) {
            return Some(seed);
        }
    }
}

/// Seeds of the list of known defects are left out, and said to be; one that is asked for alone is not.
fn leave_out_known(options: &mut Options) {
    if options.all || options.seeds == 1 {
        return;
    }
    for (seed, why) in known::parse(include_str!("../known.txt")) {
        if (options.from..options.from + options.seeds).contains(&seed) {
            println!("left out: seed {seed}: {why}");
            options.skip.push(seed);
        }
    }
}

/// Runs a seed once or twice; a panic of the product is a broken promise, too.
fn run(seed: u64, options: &Options) -> Outcome {
    let once = |show| {
        let caught = std::panic::catch_unwind(|| random::run(seed, show));
        caught.unwrap_or_else(|panic| random::panicked(seed, &*panic))
    };
    let mut outcome = once(options.trace);
    if options.twice && outcome.broken.is_empty() {
        let again = once(false);
        if again.digest != outcome.digest {
            let text = format!("two runs differ: {} and {}", outcome.digest, again.digest);
            outcome.broken.push(text);
        }
    }
    outcome
}

fn report(outcome: &Outcome) {
    if outcome.broken.is_empty() {
        return;
    }
    let mut text = format!("seed {} breaks a promise:\n", outcome.seed);
    for line in &outcome.broken {
        text += &format!("  {line}\n");
    }
    for line in &outcome.tail {
        text += &format!("    {line}\n");
    }
    text += &format!(
        "again: cargo run --release -p simtest -- --seeds 1 --from {} --trace\n",
        outcome.seed
    );
    print!("{text}");
}

fn add(total: &Mutex<Total>, outcome: &Outcome) {
    let mut total = total
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    total.seeds += 1;
    total.time += outcome.time;
    if !outcome.broken.is_empty() {
        total.failed.push(outcome.seed);
    }
    for (what, count) in &outcome.counts {
        *total.counts.entry(what.clone()).or_default() += count;
    }
}

fn summary(total: &Mutex<Total>, elapsed: Duration) -> ExitCode {
    let total = total
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("what happened, and how often:");
    for (what, count) in &total.counts {
        println!("  {count:>9}  {what}");
    }
    let (hours, minutes) = (
        total.time.as_secs_f64() / 3600.0,
        elapsed.as_secs_f64() / 60.0,
    );
    let rate = total.seeds as f64 / minutes.max(1e-9);
    println!(
        "{} seeds, {hours:.1} hours of virtual time, {rate:.0} seeds per minute",
        total.seeds
    );
    match total.failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => {
            println!("failed: {:?}", total.failed);
            ExitCode::FAILURE
        }
    }
}
