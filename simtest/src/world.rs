//! Several simulated hosts, the network between them, and what operators and applications do there.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::config::NodeConfig;
use tokio::task::JoinSet;
use tree::{Entry, Host, Issue, Stamp, Value};

use crate::app::App;
use crate::clock::BEGIN_NS;
use crate::host::{self, Crash, SimHost};
use crate::many;
use crate::net::SimNet;
use crate::prng::Prng;
use crate::trace::Trace;
use crate::typed::{self, Typed};

/// Size of every device unless a story says otherwise.
pub const DEVICE_BYTES: u64 = 1 << 20;

/// Whoever takes the place of a lost host draws from another seed, so far away.
const SEEDS_OF_A_WORLD: u64 = 1 << 40;

/// What a host knows when it starts for the first time.
type Known = Vec<(tree::Path, Entry)>;

/// A world of one seed.
pub struct World {
    /// The seed.
    pub seed: u64,
    /// Chance for whoever acts on the world.
    pub chance: Prng,
    /// What happened.
    pub trace: Trace,
    /// The network.
    pub net: SimNet,
    /// All hosts, by name.
    pub hosts: BTreeMap<String, SimHost>,
    /// All applications, by resource.
    pub apps: BTreeMap<String, App>,
    /// Commands being typed, by host; they end with their host.
    typing: BTreeMap<String, JoinSet<()>>,
    counts: BTreeMap<String, u64>,
    /// Every command that was typed, with its host.
    typed: RefCell<Vec<(String, String)>>,
    /// One of them forced a host to be primary.
    forced: Cell<bool>,
    /// Promises broken that no application knows of.
    broken: Vec<String>,
    /// Hosts that have lost all they knew, or were told to forget some of it, and how often.
    forgot: BTreeMap<String, u64>,
    /// Hosts whose clocks were so far ahead that others do not take what they say.
    far_ahead: BTreeSet<String>,
    /// Copies of logs that were damaged on the medium on purpose, by host.
    damaged: BTreeSet<(String, PathBuf)>,
    config: NodeConfig,
    began: tokio::time::Instant,
    cluster: String,
}

/// Runs `story` in a new world of `seed`, on this thread, in virtual time.
pub fn run<T, F: Future<Output = T>>(seed: u64, show: bool, story: impl FnOnce(World) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => unreachable!("a runtime without I/O needs nothing from the system: {e}"),
    };
    let _shown = show.then(|| {
        let lines = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .without_time()
            .with_ansi(false);
        tracing::subscriber::set_default(lines.finish())
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { story(World::new(seed, show)).await })
}

impl World {
    fn new(seed: u64, show: bool) -> World {
        World {
            seed,
            chance: Prng::new(seed, "world"),
            trace: Trace::new(show),
            net: SimNet::new(Prng::new(seed, "network")),
            hosts: BTreeMap::new(),
            apps: BTreeMap::new(),
            typing: BTreeMap::new(),
            counts: BTreeMap::new(),
            typed: RefCell::default(),
            forced: Cell::default(),
            broken: Vec::new(),
            forgot: BTreeMap::new(),
            far_ahead: BTreeSet::new(),
            damaged: BTreeSet::new(),
            config: host::config(),
            began: tokio::time::Instant::now(),
            cluster: format!("simulated_{seed}.000000000"),
        }
    }

    /// Virtual time since the world began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes an event in the trace.
    pub fn note(&self, host: &str, what: &str) {
        self.trace.note(self.now(), host, what);
    }

    /// Lets time pass.
    pub async fn run_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Waits until `holds`, at most `limit` of virtual time; says whether it did.
    pub async fn run_until(&self, limit: Duration, mut holds: impl FnMut(&World) -> bool) -> bool {
        let deadline = self.now() + limit;
        loop {
            if holds(self) {
                return true;
            }
            if self.now() >= deadline {
                return false;
            }
            self.run_for(Duration::from_millis(100)).await;
        }
    }

    /// A running cluster of `names`.
    pub async fn cluster(&mut self, names: &[&str]) -> anyhow::Result<()> {
        for name in names {
            self.join(name).await?;
        }
        Ok(())
    }

    /// One more host: gets what joining gives it (cluster id, addresses) and starts.
    pub async fn join(&mut self, name: &str) -> anyhow::Result<()> {
        let host = Host::new(name)?;
        let known = match self.running() {
            Some(member) => self.introduce(&member, std::slice::from_ref(&host)).await?,
            None => vec![
                (
                    tree::Path::new("uuid")?,
                    first_entry(&host, &self.cluster, 1)?,
                ),
                (tree::key::ip(&host), first_entry(&host, name, 2)?),
            ],
        };
        self.settle(&host, known).await
    }

    /// A running cluster of so many hosts, all made known by the first of them.
    pub async fn crowd(&mut self, count: usize) -> anyhow::Result<()> {
        // So little that no ballast is kept: hundreds of simulated disks lie in memory.
        self.config.free_bytes = [1 << 20; 4];
        let hosts: Vec<Host> = (0..count).map(many::name).collect::<anyhow::Result<_>>()?;
        let Some((first, others)) = hosts.split_first() else {
            return Ok(());
        };
        self.join(first.as_str()).await?;
        let known = self.introduce(first.as_str(), others).await?;
        for host in others {
            self.settle(host, known.clone()).await?;
        }
        Ok(())
    }

    /// Has `member` make hosts known; what they have to know themselves (cluster id, addresses).
    async fn introduce(&self, member: &str, hosts: &[Host]) -> anyhow::Result<Known> {
        let node = self.hosts[member]
            .node()
            .ok_or_else(|| anyhow::anyhow!("{member} is down"))?;
        let ips = hosts
            .iter()
            .map(|host| (tree::key::ip(host), Some(host.to_string())));
        node::ports::Keys::commit(&**node.keys(), ips.collect()).await?;
        let tree = node.keys().read();
        let wanted =
            |path: &tree::Path| path.as_str() == "uuid" || path.as_str().starts_with("ips/");
        let known = tree.iter().filter(|(path, _)| wanted(path));
        Ok(known.map(|(p, e)| (p.clone(), e.clone())).collect())
    }

    /// Starts a host that has never run and knows this much.
    async fn settle(&mut self, host: &Host, known: Known) -> anyhow::Result<()> {
        let name = host.as_str();
        let seed = self.seed + self.forgot(name) * SEEDS_OF_A_WORLD;
        let sim = SimHost::new(host, &self.cluster, self.began, seed, self.config.clone());
        sim.seed(known);
        self.hosts.insert(name.to_owned(), sim);
        self.start(name).await
    }

    fn running(&self) -> Option<String> {
        let mut names = self
            .hosts
            .iter()
            .filter(|(_, h)| h.node().is_some())
            .map(|(n, _)| n.clone());
        names.next()
    }

    /// The host of that name; it must exist.
    pub fn host(&self, name: &str) -> &SimHost {
        match self.hosts.get(name) {
            Some(host) => host,
            None => unreachable!("stories name hosts they have made: {name}"),
        }
    }

    /// Starts a host that is down.
    pub async fn start(&mut self, name: &str) -> anyhow::Result<()> {
        self.note(name, "starts");
        let net = self.net.clone();
        let Some(host) = self.hosts.get_mut(name) else {
            anyhow::bail!("no host {name}")
        };
        host.start(&net).await?;
        for app in self.apps.values() {
            attend(app, name, host);
        }
        Ok(())
    }

    /// An application for `res`, which does not write yet.
    pub fn app(&mut self, res: &str, size: u64) -> App {
        let chance = Prng::new(self.seed, &format!("application {res}"));
        let app = App::new(res, size, chance, self.trace.clone());
        for (name, host) in &self.hosts {
            attend(&app, name, host);
        }
        self.apps.insert(res.to_owned(), app.clone());
        app
    }

    /// Tells the applications which hosts write past the log now.
    pub fn note_past_log(&self) {
        for (name, host) in &self.hosts {
            let Some(node) = host.node() else { continue };
            for (res, plan) in node.hub().plans() {
                let ceased = matches!(plan.logger.reason(), Some(node::plan::Reason::Ceased(_)));
                // There may be space again, and yet the log cannot begin: the disk is lost.
                let lamp = tree::key::actual(&res, &host.name, "is-emergency");
                let past = ceased || node.keys().read().text(lamp.as_str()) == Some("1");
                if let Some(app) = self.apps.get(res.as_str()).filter(|_| past) {
                    app.note_past_log(name);
                }
            }
        }
    }

    /// Ends a host at once.
    pub fn crash(&mut self, name: &str, how: Crash) {
        self.note_past_log();
        self.note(name, &format!("crashes ({how:?})"));
        self.typing.remove(name);
        self.apps.values().for_each(|app| app.leave(name));
        let net = self.net.clone();
        if let Some(host) = self.hosts.get_mut(name) {
            host.crash(&net, how);
        }
    }

    /// Stops a host in order.
    pub async fn stop(&mut self, name: &str) {
        self.note_past_log();
        self.note(name, "stops");
        self.typing.remove(name);
        let net = self.net.clone();
        if let Some(host) = self.hosts.get_mut(name) {
            host.stop(&net).await;
        }
        self.apps.values().for_each(|app| app.leave(name));
    }

    /// Every promise that was broken so far.
    pub fn broken(&self) -> Vec<String> {
        let by_apps = self.apps.values().flat_map(App::broken);
        let early = self.hosts.iter().filter_map(|(name, host)| {
            let early = host.fs.written_early()?;
            Some(format!(
                "{name}: {early} was on the disk before it was durable in a log (10)"
            ))
        });
        self.broken
            .iter()
            .cloned()
            .chain(by_apps)
            .chain(early)
            .collect()
    }

    /// Notes a broken promise.
    pub fn break_promise(&mut self, what: String) {
        self.note("", &format!("PROMISE BROKEN: {what}"));
        self.broken.push(what);
    }

    fn note_typed(&self, name: &str, command: &str) {
        if let Some(host) = forced(name, command) {
            self.apps.values().for_each(|app| app.note_forced(host));
            self.forced.set(true);
        }
        let typed = (name.to_owned(), command.to_owned());
        self.typed.borrow_mut().push(typed);
    }

    /// How many commands with this word were typed at a host.
    pub fn typed_at(&self, name: &str, word: &str) -> usize {
        let typed = self.typed.borrow();
        let with = |(at, command): &&(String, String)| at == name && has_word(command, word);
        typed.iter().filter(with).count()
    }

    /// How many different keys were set by hand.
    pub fn keys_typed(&self) -> usize {
        let typed = self.typed.borrow();
        let set = typed.iter().filter_map(|(_, command)| {
            let key = command.strip_prefix("mars tree set ")?;
            key.split(' ').next()
        });
        set.collect::<BTreeSet<_>>().len()
    }

    /// Was a host forced to be primary?
    pub fn was_forced(&self) -> bool {
        self.forced.get()
    }

    /// Is the device of `res` offered at a host?
    pub fn shows(&self, name: &str, res: &str) -> bool {
        let node = self.host(name).node();
        node.is_some_and(|node| node.exports().names().iter().any(|n| n == res))
    }

    /// A planned handover as operators do it: the application closes the device, the role moves, the
    /// application goes on.
    ///
    /// # Panics
    /// When the command fails: a story has failed.
    pub async fn hand_over(&self, res: &str, to: &str) {
        let limit = Duration::from_secs(120);
        let app = self.apps.get(res);
        if let Some(app) = app {
            app.rest();
            assert!(
                self.run_until(limit, |_| app.is_closed()).await,
                "the application does not end"
            );
        }
        self.must(to, &format!("marsadm primary {res}")).await;
        if let Some(app) = app {
            app.work();
        }
    }

    /// Cuts the network between two hosts, both ways.
    pub fn cut(&self, a: &str, b: &str) {
        self.note(a, &format!("cut from {b}"));
        self.net.cut(&self.host(a).name, &self.host(b).name);
    }

    /// Waits until nobody has the device open and all of `names` are up to date, stops them, and compares
    /// their disks with each other and with what the application knows (invariants 16, 29, 44).
    ///
    /// # Panics
    /// When they differ: a story has failed.
    pub async fn must_be_equal(&mut self, res: &str, names: &[&str]) {
        let minutes = Duration::from_secs(300);
        if let Some(app) = self.apps.get(res).cloned() {
            app.rest();
            assert!(
                self.run_until(minutes, |_| app.is_closed()).await,
                "the application does not end"
            );
        }
        for name in names {
            let done = self.up_to_date(name, res, minutes).await;
            assert!(done.is_ok(), "{done:?}");
        }
        // The primary first: what it still has to say arrives before the others stop.
        self.run_for(Duration::from_secs(10)).await;
        for name in names {
            self.stop(name).await;
        }
        let first = self.host(names[0]).disk(res);
        if let Some(app) = self.apps.get(res) {
            let newest = app.check_newest(names[0], &first);
            assert!(newest.is_ok(), "{}: {newest:?}", names[0]);
        }
        for name in names {
            let differs = first
                .iter()
                .zip(&self.host(name).disk(res))
                .position(|(a, b)| a != b);
            assert_eq!(
                differs, None,
                "{name} differs from {} at this byte",
                names[0]
            );
        }
    }

    /// For stories: no promise was broken.
    pub fn must_be_sound(&self) {
        let broken = self.broken();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    /// Types a command at a host; a host that is down answers with an error.
    pub async fn type_at(&self, name: &str, command: &str) -> Typed {
        let host = self.host(name);
        let Some(node) = host.node() else {
            return Typed {
                exit: 1,
                stderr: format!("{name} is down"),
                ..Typed::default()
            };
        };
        self.note(name, &format!("# {command}"));
        self.note_typed(name, command);
        let hub = node.hub().clone();
        let typed = typed::type_at(hub, host.clock.clone(), host.fs.clone(), command).await;
        self.note(
            name,
            &format!(
                "= {} {}",
                typed.exit,
                typed.stderr.trim().replace('\n', " | ")
            ),
        );
        typed
    }

    /// Types a command that must succeed.
    pub async fn must(&self, name: &str, command: &str) -> String {
        let typed = self.type_at(name, command).await;
        assert_eq!(
            typed.exit, 0,
            "{name}# {command}\n{}{}",
            typed.stdout, typed.stderr
        );
        typed.stdout
    }

    /// Like [`World::must`], for worlds without people watching.
    ///
    /// # Errors
    /// What the command printed when it failed.
    pub async fn try_must(&self, name: &str, command: &str) -> Result<(), String> {
        let typed = self.type_at(name, command).await;
        match typed.exit {
            0 => Ok(()),
            exit => Err(format!(
                "{name}# {command} exits with {exit}: {}",
                typed.stderr
            )),
        }
    }

    /// Types a command at a host while the world goes on; nothing happens when the host is down.
    pub fn type_later(&mut self, name: &str, command: &str) {
        let host = self.host(name);
        let Some(node) = host.node() else { return };
        self.note(name, &format!("# {command} &"));
        self.note_typed(name, command);
        let (hub, clock, fs) = (node.hub().clone(), host.clock.clone(), host.fs.clone());
        let (trace, began) = (self.trace.clone(), self.began);
        let (name, command) = (name.to_owned(), command.to_owned());
        let typing = self.typing.entry(name.clone()).or_default();
        typing.spawn(async move {
            let typed = typed::type_at(hub, clock, fs, &command).await;
            let error = typed.stderr.trim().replace('\n', " | ");
            trace.note(
                began.elapsed(),
                &name,
                &format!("= {} {command}: {error}", typed.exit),
            );
        });
    }

    /// Whatever is still being typed is broken off.
    pub fn end_commands(&mut self) {
        self.typing.clear();
    }

    /// Starts a host if it is down; one whose file system does not let it start stays down.
    pub async fn start_again(&mut self, name: &str) {
        if self.host(name).node().is_some() {
            return;
        }
        if let Err(error) = self.start(name).await {
            self.note(name, &format!("does not start: {error}"));
            self.crash(name, Crash::Process);
        }
    }

    /// Limits and intervals of all hosts that join from now on.
    pub fn configure(&mut self, change: impl FnOnce(&mut NodeConfig)) {
        change(&mut self.config);
    }

    /// Shall a host forget at its next start what it wrote while its clock was ahead (`mars node --forget-future`)?
    pub fn forget_future(&mut self, name: &str, forget: bool) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.set_config(|config| config.forget_future = forget);
            *self.forgot.entry(name.to_owned()).or_default() += u64::from(forget);
            self.far_ahead.remove(name);
        }
    }

    /// From now on the time of day at a host is wrong by so much.
    pub fn set_clock(&mut self, name: &str, skew_ns: i64) {
        self.host(name).clock.set_skew_ns(skew_ns);
        if skew_ns > tree::clock::MAX_FUTURE_NS_DEFAULT as i64 {
            self.far_ahead.insert(name.to_owned());
        }
    }

    /// Has another host than `name` been too far ahead?
    pub fn any_far_ahead_but(&self, name: &str) -> bool {
        self.far_ahead.iter().any(|host| host != name)
    }

    /// Was its clock too far ahead since it was last told to forget the future?
    pub fn was_far_ahead(&self, name: &str) -> bool {
        self.far_ahead.contains(name)
    }

    /// How often a host has lost what it knew for good: it was replaced, or told to forget.
    pub fn forgot(&self, name: &str) -> u64 {
        self.forgot.get(name).copied().unwrap_or(0)
    }

    /// The machine is gone with all that was on it; an empty one of the same name joins the cluster and starts.
    pub async fn replace(&mut self, name: &str) -> anyhow::Result<()> {
        self.crash(name, Crash::Power);
        let Some(old) = self.hosts.remove(name) else {
            anyhow::bail!("no host {name}")
        };
        *self.forgot.entry(name.to_owned()).or_default() += 1;
        self.note(name, "is an empty host now");
        let new = self.join(name).await;
        match self.hosts.get_mut(name) {
            Some(host) => host.count_starts_of(&old),
            None => drop(self.hosts.insert(name.to_owned(), old)),
        }
        new
    }

    /// A copy of a log at `name` was damaged on purpose.
    pub fn note_damaged(&mut self, name: &str, path: &Path) {
        self.damaged.insert((name.to_owned(), path.to_owned()));
    }

    /// Was it?
    pub fn is_damaged(&self, name: &str, path: &Path) -> bool {
        // No key of a set of pairs can be borrowed in two parts.
        self.damaged.iter().any(|(n, p)| n == name && p == path)
    }

    /// How many events of a kind were counted.
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Counts one more event of a kind.
    pub fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// What happened so far: own counts, storage, network, applications.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = self.counts.clone();
        let mut add = |what: &str, count: u64| *counts.entry(what.to_owned()).or_default() += count;
        for host in self.hosts.values() {
            let storage = host.fs.counts();
            add("storage: calls that change", storage.changes);
            add("storage: power cuts", storage.cuts);
            add("storage: sectors lost or torn", storage.sectors_lost);
            add("storage: names lost", storage.names_lost);
            add("storage: calls that failed", storage.faults);
            add("hosts: starts", host.starts());
        }
        let net = self.net.counts();
        add("network: messages", net.messages);
        add("network: repeated", net.repeated);
        add("network: channels broken", net.broken);
        add("network: messages torn", net.torn);
        add("network: messages swallowed", net.swallowed);
        for app in self.apps.values() {
            let app = app.counts();
            add("application: device opened and checked", app.opened);
            add("application: changes", app.changes);
            add("application: flushes", app.flushes);
            add("application: reads checked", app.reads);
            add("application: errors", app.errors);
            add("application: unflushed changes lost", app.unflushed_lost);
            add("application: histories forked by force", app.forks);
            add(
                "application: went on after writes past the log",
                app.adopted,
            );
        }
        counts
    }

    /// Has the host a disk for the resource, as it believes itself?
    pub fn is_member(&self, name: &str, res: &str) -> bool {
        let node = self.host(name).node();
        node.is_some_and(|node| {
            node.keys()
                .read()
                .text(&format!("resource-{res}/data-{name}"))
                .is_some()
        })
    }

    /// Has the host heard of a member of the resource?
    pub fn has_heard_of(&self, name: &str, res: &str) -> bool {
        let members = format!("resource-{res}/data-");
        let node = self.host(name).node();
        node.is_some_and(|node| node.keys().read().texts(&members).next().is_some())
    }

    /// `create-resource` at one host with a new empty disk, `join-resource` at the others.
    pub async fn resource(&self, res: &str, size: u64, members: &[&str]) {
        for (i, name) in members.iter().enumerate() {
            if i > 0 {
                self.resource_join(res, size, name).await;
                continue;
            }
            let disk = SimHost::disk_path(res);
            self.host(name).fs.make_disk(&disk, size);
            self.must(
                name,
                &format!("marsadm create-resource {res} {}", disk.display()),
            )
            .await;
        }
    }

    /// `join-resource` at a host with a new empty disk.
    pub async fn resource_join(&self, res: &str, size: u64, name: &str) {
        let disk = SimHost::disk_path(res);
        self.host(name).fs.make_disk(&disk, size);
        self.must(
            name,
            &format!("marsadm join-resource {res} {}", disk.display()),
        )
        .await;
    }

    /// What `view-MACRO RES` prints at a host, trimmed.
    pub async fn view(&self, name: &str, macro_name: &str, res: &str) -> String {
        let typed = self
            .type_at(name, &format!("marsadm view-{macro_name} {res}"))
            .await;
        typed.stdout.trim().to_owned()
    }

    /// What every running host knows and wants about `res`, for people who look for a mistake.
    pub fn explain(&self, res: &str) -> String {
        let mut text = String::new();
        for (name, host) in &self.hosts {
            let Some(node) = host.node() else {
                text += &format!("{name} is down\n");
                continue;
            };
            for (path, entry) in node.keys().read().iter() {
                if path.as_str().starts_with(&format!("resource-{res}/"))
                    && !path.as_str().contains("/msg-")
                {
                    text += &format!("{name}  {path} = {:?}\n", entry.value);
                }
            }
            for (_, plan) in node.hub().plans() {
                text += &format!("{name}  {plan:#?}\n");
            }
        }
        text
    }

    /// Waits until `view-diskstate` says `UpToDate` at a host.
    pub async fn up_to_date(&self, name: &str, res: &str, limit: Duration) -> Result<(), String> {
        let deadline = self.now() + limit;
        loop {
            let state = self.view(name, "diskstate", res).await;
            if state == "UpToDate" {
                return Ok(());
            }
            if self.now() >= deadline {
                return Err(format!(
                    "{name} is {state} after {limit:?}\n{}",
                    self.explain(res)
                ));
            }
            self.run_for(Duration::from_millis(500)).await;
        }
    }
}

fn has_word(command: &str, word: &str) -> bool {
    command.split_whitespace().any(|w| w == word)
}

/// The host which a command makes primary whatever the others say: `--force`, and the key set by hand, which passes by all
/// that `marsadm primary` asks of the others before.
fn forced<'a>(name: &'a str, command: &'a str) -> Option<&'a str> {
    if has_word(command, "primary") && has_word(command, "--force") {
        return Some(name);
    }
    let set = command.strip_prefix("mars tree set resource-")?;
    set.split_once("/primary ").map(|(_, host)| host)
}

fn attend(app: &App, name: &str, host: &SimHost) {
    if let Some(node) = host.node() {
        app.attend(name, node.exports().clone());
    }
}

fn first_entry(writer: &Host, text: &str, nr: u64) -> anyhow::Result<Entry> {
    let ns = BEGIN_NS + nr;
    Ok(Entry {
        value: Value::text(text)?,
        stamp: Stamp {
            ns,
            writer: writer.clone(),
        },
        issue: Issue {
            writer: writer.clone(),
            nr: ns,
        },
        lazy: false,
    })
}
