//! The steps of the demo, in the order an operator would take them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use comfy_table::Table;

use super::DemoArgs;
use super::cluster::{Host, make_disk};
use super::workload::{BLOCK_BYTES, Picture, bar, short_digest};
use crate::nbd::NbdClient;

const RESOURCE: &str = "data";
const MIB: u64 = 1 << 20;
/// What the application writes in each phase of replication.
const PHASE_MIB: u64 = 32;
/// Longest wait for a replica to become up to date, or for a device to appear.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

struct Demo {
    hosts: Vec<Host>,
    base: PathBuf,
    picture: Picture,
    size: u64,
    runtime: tokio::runtime::Runtime,
}

/// Tells the whole story; an error ends it and every daemon with it.
pub fn tell(args: &DemoArgs) -> Result<()> {
    let base = work_dir(args)?;
    let mars = std::env::current_exe().context("find the program mars")?;
    let names = ["alpha", "beta", "gamma"];
    let hosts: Result<Vec<Host>> = names.iter().map(|n| Host::new(&mars, &base, n)).collect();
    let size = args.size_mib * MIB;
    let mut demo = Demo {
        hosts: hosts?,
        base: base.clone(),
        picture: Picture::new(size),
        size,
        runtime: tokio::runtime::Runtime::new()?,
    };
    let started = now();
    demo.first_cluster()?;
    demo.first_resource()?;
    demo.replicas()?;
    demo.more_writes(0, "two secondaries follow while alpha is written")?;
    demo.handover()?;
    demo.more_writes(1, "now beta is written, alpha and gamma follow")?;
    let rows = demo.compare()?;
    print_table(&rows, args.json)?;
    say(&format!(
        "All replicas are byte-equal to what was acknowledged ({:.1?}).",
        started.elapsed()
    ));
    if args.keep {
        return demo.leave_running();
    }
    if args.work.is_none() {
        std::fs::remove_dir_all(&base).with_context(|| format!("remove {}", base.display()))?;
    }
    Ok(())
}

impl Demo {
    fn first_cluster(&mut self) -> Result<()> {
        say("A cluster: alpha creates it, beta and gamma join with a one-time token.");
        typed(&self.hosts[0], "marsadm create-cluster");
        self.hosts[0].create_cluster()?;
        typed(&self.hosts[0], "mars node &");
        self.hosts[0].start()?;
        for i in 1..self.hosts.len() {
            typed(&self.hosts[0], "mars cluster token");
            typed(&self.hosts[i], "marsadm join-cluster alpha --token=…");
            self.hosts[i].join_cluster(&self.hosts[0])?;
            typed(&self.hosts[i], "mars node &");
            self.hosts[i].start()?;
        }
        Ok(())
    }

    fn first_resource(&mut self) -> Result<()> {
        say("A resource: alpha's disk becomes a replicated device, written over NBD.");
        let disk = self.disk(0)?;
        self.type_marsadm(0, &["create-resource", RESOURCE, &disk])?;
        self.writes(0, 48, "application writes")
    }

    fn replicas(&mut self) -> Result<()> {
        say("Two secondaries: each compares its disk with alpha's and copies what differs.");
        for i in 1..self.hosts.len() {
            let disk = self.disk(i)?;
            self.type_marsadm(i, &["join-resource", RESOURCE, &disk])?;
        }
        for i in 1..self.hosts.len() {
            self.watch_sync(i)?;
            self.wait_up_to_date(i)?;
        }
        Ok(())
    }

    fn more_writes(&mut self, at: usize, why: &str) -> Result<()> {
        say(&format!("Replication: {why}."));
        let before = last_position(&self.hosts[at])?;
        self.writes(at, PHASE_MIB, "application writes")?;
        let goal = self.reported_end(at, before)?;
        for i in (0..self.hosts.len()).filter(|i| *i != at) {
            self.watch_replay(goal, i)?;
            self.wait_up_to_date(i)?;
        }
        Ok(())
    }

    fn handover(&mut self) -> Result<()> {
        say("Planned handover: beta becomes primary, alpha goes on as a secondary.");
        let started = now();
        self.type_marsadm(1, &["primary", RESOURCE])?;
        let device = self.runtime.block_on(connect(&self.hosts[1]))?;
        println!(
            "      the device answers on beta after {:.2?}",
            started.elapsed()
        );
        self.runtime
            .block_on(self.picture.verify(&device, "reading all back"))?;
        self.runtime.block_on(device.close())?;
        Ok(())
    }

    fn writes(&mut self, at: usize, mib: u64, what: &str) -> Result<()> {
        let socket = self.hosts[at].nbd_socket();
        println!("      nbd+unix:///{RESOURCE}?socket={}", socket.display());
        let device = self.runtime.block_on(connect(&self.hosts[at]))?;
        ensure!(
            device.size() == self.size,
            "the device has {} bytes",
            device.size()
        );
        let count = mib * MIB / BLOCK_BYTES;
        self.runtime
            .block_on(self.picture.write(&device, count, what))?;
        self.runtime.block_on(device.close())?;
        Ok(())
    }

    fn disk(&self, i: usize) -> Result<String> {
        let path = self.disk_path(i);
        make_disk(&path, self.size)?;
        Ok(path.display().to_string())
    }

    fn disk_path(&self, i: usize) -> PathBuf {
        self.base.join(format!("{}-disk", self.hosts[i].name()))
    }

    fn type_marsadm(&self, i: usize, args: &[&str]) -> Result<()> {
        let command = format!("marsadm {}", args.join(" "));
        typed(&self.hosts[i], &command);
        let ran = self.hosts[i].marsadm(args)?.ok();
        ran.with_context(|| format!("{command}\n{}", self.hosts[i].log_tail()))?;
        Ok(())
    }

    fn watch_sync(&self, i: usize) -> Result<()> {
        let host = &self.hosts[i];
        let key = format!("resource-{RESOURCE}/syncstatus-{}", host.name());
        let bar = bar(self.size, &format!("{} syncs", host.name()));
        wait(|| {
            let done = host.key(&key)?.and_then(|v| v.parse().ok()).unwrap_or(0);
            bar.set_position(done);
            Ok(done >= self.size)
        })
        .with_context(|| format!("sync of {}\n{}", host.name(), host.log_tail()))?;
        bar.finish();
        Ok(())
    }

    /// End of the log of the primary once it has reported what was written behind `before`.
    fn reported_end(&self, primary: usize, before: (u64, u64)) -> Result<(u64, u64)> {
        let host = &self.hosts[primary];
        let least = (before.0, before.1 + PHASE_MIB * MIB);
        let mut end = before;
        wait(|| {
            end = last_position(host)?;
            Ok(end >= least)
        })
        .with_context(|| format!("report of {}\n{}", host.name(), host.log_tail()))?;
        Ok(end)
    }

    fn watch_replay(&self, goal: (u64, u64), i: usize) -> Result<()> {
        let host = &self.hosts[i];
        let bar = bar(goal.1.max(1), &format!("{} replays", host.name()));
        wait(|| {
            let here = last_position(host)?;
            if here.0 == goal.0 {
                bar.set_position(here.1);
            }
            Ok(here >= goal)
        })
        .with_context(|| format!("replay of {}\n{}", host.name(), host.log_tail()))?;
        bar.finish();
        Ok(())
    }

    fn wait_up_to_date(&self, i: usize) -> Result<()> {
        let host = &self.hosts[i];
        let state = host.wait_view("diskstate", RESOURCE, SETTLE_WITHIN, |s| s == "UpToDate");
        let state = state.with_context(|| host.log_tail())?;
        println!("      {}: {state}", host.name());
        Ok(())
    }

    /// Role and position of every host; then the daemons are stopped, so that the underlying disks
    /// themselves can be compared with what was acknowledged.
    fn compare(&mut self) -> Result<Vec<Row>> {
        say("Comparison: what lies on each disk, against what was written and acknowledged.");
        let mut rows = self.hosts.iter().map(Row::of).collect::<Result<Vec<_>>>()?;
        for host in &mut self.hosts {
            typed(host, "kill %1");
            host.stop()?;
        }
        let want = self.picture.digest();
        for (i, row) in rows.iter_mut().enumerate() {
            let disk = std::fs::read(self.disk_path(i))?;
            row.digest = short_digest(&disk);
            ensure!(
                row.digest == want,
                "disk of {} has digest {}, written was {want}",
                row.node,
                row.digest
            );
        }
        Ok(rows)
    }

    fn leave_running(mut self) -> Result<()> {
        println!(
            "The cluster keeps running in {}. Talk to it:",
            self.base.display()
        );
        let mut pids = Vec::new();
        for host in &mut self.hosts {
            pids.push(host.start_detached()?.to_string());
            println!(
                "  MARS_DIR={} marsadm view {RESOURCE}",
                host.dir().display()
            );
        }
        let socket = self.hosts[1].nbd_socket();
        println!(
            "  nbdinfo 'nbd+unix:///{RESOURCE}?socket={}'",
            socket.display()
        );
        println!("Stop it with:\n  kill {}", pids.join(" "));
        Ok(())
    }
}

#[derive(Debug, serde::Serialize)]
struct Row {
    node: String,
    role: String,
    position: String,
    digest: String,
}

impl Row {
    fn of(host: &Host) -> Result<Row> {
        let role = host
            .marsadm(&["view-role", RESOURCE])?
            .ok()?
            .trim()
            .to_owned();
        let key = format!("resource-{RESOURCE}/replay-{}", host.name());
        let position = host.key(&key)?.unwrap_or_else(|| "unknown".into());
        Ok(Row {
            node: host.name().into(),
            role,
            position,
            digest: String::new(),
        })
    }
}

fn print_table(rows: &[Row], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(rows)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.set_header(["node", "role", "position", "digest"]);
    for r in rows {
        table.add_row([&r.node, &r.role, &r.position, &r.digest]);
    }
    println!("{table}");
    Ok(())
}

/// Log number and offset up to which `host` has, or may have, data on its disk.
fn last_position(host: &Host) -> Result<(u64, u64)> {
    let key = format!("resource-{RESOURCE}/replay-{}", host.name());
    let text = host.key(&key)?.unwrap_or_default();
    let parsed: Result<tree::ReplayPos, _> = text.parse();
    Ok(parsed.map_or((0, 0), |p| (p.log.seq, p.offset + p.dirty)))
}

async fn connect(host: &Host) -> Result<NbdClient> {
    let started = now();
    loop {
        match NbdClient::connect(&host.nbd_socket(), RESOURCE).await {
            Ok(device) => return Ok(device),
            Err(e) if started.elapsed() > SETTLE_WITHIN => {
                bail!("no device on {}: {e}\n{}", host.name(), host.log_tail())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn wait(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = now();
    while !done()? {
        ensure!(
            started.elapsed() < SETTLE_WITHIN,
            "not reached within {SETTLE_WITHIN:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn work_dir(args: &DemoArgs) -> Result<PathBuf> {
    let base = match &args.work {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("mars-demo-{}", std::process::id())),
    };
    ensure!(
        is_empty(&base),
        "{} is not empty; choose another --work",
        base.display()
    );
    std::fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
    Ok(base.canonicalize()?)
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

fn say(text: &str) {
    println!("\n{text}");
}

fn typed(host: &Host, command: &str) {
    println!("   {}# {command}", host.name());
}

#[expect(
    clippy::disallowed_methods,
    reason = "the demo shows people how long things take"
)]
fn now() -> Instant {
    Instant::now()
}
