//! An application with several writers that knows what it was promised.
//!
//! It opens the device wherever it appears, checks that what it finds is a state of the past that is new
//! enough, and goes on writing from there: overlapping ranges, flushes, FUA, zeroes, trims, and reads
//! that check what they read. When the device is about to go it closes it, as an operator would make it.

use node::watch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use node::export::{Answer, Device, DeviceError, Exports, Opened};
use tokio::task::JoinSet;

use crate::disk::SimFs;
use crate::history::{Branch, UNIT_BYTES, fill};
use crate::prng::Prng;
use crate::trace::Trace;

/// Longest pause of a writer between two requests.
const PAUSE_MAX_MS: u64 = 400;
/// How often, in thousandths, a writer in a hurry asks for several things without waiting for the answers between them.
const RUSH_PERMILLE: u64 = 60;
/// The requests of a rush begin within so many microseconds: some before, some after a batch of the log has begun.
const RUSH_MAX_US: u64 = 600;
/// No request of a writer is longer than so many units.
const REQUEST_UNITS_MAX: u64 = 128;
/// The same in bytes.
pub const REQUEST_BYTES_MAX: u64 = REQUEST_UNITS_MAX * UNIT_BYTES;
/// The application reads at most so much at once when it checks the whole device.
const READ_BYTES_MAX: u64 = 1 << 20;

/// What the application did and saw so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The device was opened and checked.
    pub opened: u64,
    /// Writes, zeroes and trims that were answered.
    pub changes: u64,
    /// Flushes that were answered.
    pub flushes: u64,
    /// Reads that were checked.
    pub reads: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Answered but not flushed changes that a crash took away, as it may.
    pub unflushed_lost: u64,
    /// Other histories begun by forced failovers.
    pub forks: u64,
    /// The device was opened after writes past the log of which only the flushed ones were sure.
    pub adopted: u64,
}

/// One history and who writes it.
struct Line {
    branch: Branch,
    writer: Option<String>,
    /// Changes not yet answered.
    under_way: BTreeSet<u64>,
    /// The device was closed in order at this host when so many changes had been answered.
    closed: Option<(String, u64)>,
    open: bool,
    /// Writes went past the log: what was not flushed has no order.
    unordered: bool,
    /// Nobody writes it any more: it is what replicas may still hold of a history that went on from what a disk showed.
    is_past: bool,
}

impl Line {
    /// A history nobody writes yet, or any more.
    fn of(branch: Branch, is_past: bool) -> Line {
        Line {
            branch,
            writer: None,
            under_way: BTreeSet::new(),
            closed: None,
            open: false,
            unordered: false,
            is_past,
        }
    }

    /// So many changes had to survive whatever happened since.
    fn promised(&self) -> u64 {
        let closed = self.closed.as_ref().map_or(0, |(_, answered)| *answered);
        self.branch.durable().max(closed)
    }

    /// All changes before this place have been answered.
    fn settled(&self) -> u64 {
        self.under_way.first().copied().unwrap_or(self.branch.len())
    }
}

struct State {
    lines: Vec<Line>,
    /// Hosts whose operator has forced them to be primary and that have not shown a device since.
    forced: BTreeSet<String>,
    broken: Vec<String>,
    counts: Counts,
    next_number: u64,
}

/// The application of one resource. Clones share it.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

/// What the next answers do to a host.
struct Fuse {
    host: String,
    fs: SimFs,
    count: u64,
}

struct Shared {
    res: String,
    size: u64,
    chance: Prng,
    trace: Trace,
    began: tokio::time::Instant,
    state: Mutex<State>,
    working: watch::Sender<bool>,
    hurried: AtomicBool,
    fuse: Mutex<Option<Fuse>>,
    sessions: Mutex<BTreeMap<String, JoinSet<()>>>,
}

impl App {
    /// An application for the device `res` of `size` bytes, full of zeroes, which does not write yet.
    pub fn new(res: &str, size: u64, chance: Prng, trace: Trace) -> App {
        let state = State {
            lines: vec![Line::of(Branch::new(size), false)],
            forced: BTreeSet::new(),
            broken: Vec::new(),
            counts: Counts::default(),
            next_number: 1,
        };
        App {
            shared: Arc::new(Shared {
                res: res.to_owned(),
                size,
                chance,
                trace,
                began: tokio::time::Instant::now(),
                state: Mutex::new(state),
                working: watch::Sender::new(false),
                hurried: AtomicBool::new(false),
                fuse: Mutex::default(),
                sessions: Mutex::default(),
            }),
        }
    }

    /// Begins to write, wherever the device is or will be.
    pub fn work(&self) {
        self.shared.working.send_replace(true);
    }

    /// From now on its writers do not always wait for one answer before they ask for more.
    pub fn hurry(&self) {
        self.shared.hurried.store(true, Relaxed);
    }

    /// The power of `host` goes in the moment in which it answers for the `count`th time from now that something is durable.
    /// Until then the application is in a great hurry.
    pub fn cut_power_at_answer(&self, host: &str, fs: &SimFs, count: u64) {
        *self.shared.fuse() = Some(Fuse {
            host: host.to_owned(),
            fs: fs.clone(),
            count,
        });
    }

    /// No power goes because of an answer.
    pub fn forget_cut(&self) {
        *self.shared.fuse() = None;
    }

    /// Ends in order: everything is flushed and the device is closed soon.
    pub fn rest(&self) {
        self.shared.working.send_replace(false);
    }

    /// Has nobody the device open?
    pub fn is_closed(&self) -> bool {
        self.shared.state().lines.iter().all(|line| !line.open)
    }

    /// A host has started: the application watches its exports.
    pub fn attend(&self, host: &str, exports: Arc<Exports>) {
        let mut session = JoinSet::new();
        session.spawn(self.shared.clone().session(host.to_owned(), exports));
        let mut sessions = self.shared.sessions();
        sessions.insert(host.to_owned(), session);
    }

    /// A host has gone down, with or without warning: so has the application there.
    pub fn leave(&self, host: &str) {
        self.shared.sessions().remove(host);
        let mut state = self.shared.state();
        for line in &mut state.lines {
            if line.writer.as_deref() == Some(host) && line.open {
                line.open = false;
                line.under_way.clear();
            }
            line.closed.take_if(|(at, _)| at == host);
        }
    }

    /// The operator has forced `host` to be primary, with all that this may cost.
    pub fn note_forced(&self, host: &str) {
        self.shared.state().forced.insert(host.to_owned());
    }

    /// The device at `host` is written past the log: from now on only what is flushed is sure.
    pub fn note_past_log(&self, host: &str) {
        let mut state = self.shared.state();
        for line in &mut state.lines {
            line.unordered |= line.writer.as_deref() == Some(host);
        }
    }

    /// Promises that were broken so far.
    pub fn broken(&self) -> Vec<String> {
        self.shared.state().broken.clone()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// Have all histories an order? Not where writes went past the log.
    pub fn is_ordered(&self) -> bool {
        let state = self.shared.state();
        state.counts.adopted == 0 && state.lines.iter().all(|line| !line.unordered)
    }

    /// Is `image` a state of some history (invariant 16)? Says which: history and number of changes.
    ///
    /// # Errors
    /// Why it is a state of none of them.
    pub fn recognize(&self, image: &[u8]) -> Result<(usize, u64), String> {
        let state = self.shared.state();
        let mut why = Vec::new();
        for (nr, line) in state.lines.iter().enumerate().rev() {
            match line.branch.check(image, 0) {
                Ok(len) => return Ok((nr, len)),
                Err(e) => why.push(format!("history {nr}: {e}")),
            }
        }
        Err(why.join("; "))
    }

    /// Does `image` hold everything that was answered on the history the device was last written on?
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn check_newest(&self, host: &str, image: &[u8]) -> Result<(), String> {
        let state = self.shared.state();
        let mine = state
            .lines
            .iter()
            .rfind(|line| line.writer.as_deref() == Some(host));
        let newest = state.lines.iter().rfind(|line| !line.is_past);
        let Some(line) = mine.or(newest) else {
            return Ok(());
        };
        let found = line.branch.check(image, line.branch.answered());
        found.map(drop).map_err(|e| e.to_string())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, JoinSet<()>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fuse(&self) -> MutexGuard<'_, Option<Fuse>> {
        self.fuse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was answered to be durable.
    fn burn_fuse(&self, host: &str) {
        let mut fuse = self.fuse();
        let Some(burning) = fuse.as_mut().filter(|fuse| fuse.host == host) else {
            return;
        };
        burning.count = burning.count.saturating_sub(1);
        if burning.count == 0 {
            burning.fs.power_off();
            *fuse = None;
            drop(fuse);
            self.note(host, "app: the power goes at an answer");
        }
    }

    fn note(&self, host: &str, what: &str) {
        self.trace.note(self.began.elapsed(), host, what);
    }

    fn detail(&self, host: &str, what: impl FnOnce() -> String) {
        self.trace.detail(self.began.elapsed(), host, what);
    }

    fn break_promise(&self, host: &str, what: &str) {
        let text = format!("{} at {host}: {what}", self.res);
        self.note(host, &format!("PROMISE BROKEN: {text}"));
        self.state().broken.push(text);
    }

    fn pause(&self, max_ms: u64) -> Duration {
        Duration::from_micros(self.chance.below(max_ms * 1000))
    }

    /// Opens the device whenever it is there, and works with it until it goes.
    async fn session(self: Arc<Self>, host: String, exports: Arc<Exports>) {
        let mut changes = exports.changes();
        let mut working = self.working.subscribe();
        loop {
            let may = *working.borrow_and_update();
            if may && let Ok(opened) = exports.open(&self.res) {
                self.use_device(&host, &exports, &opened).await;
                drop(opened);
                tokio::time::sleep(self.pause(2000)).await;
                continue;
            }
            tokio::select! {
                biased;
                Ok(()) = changes.changed() => {}
                Ok(()) = working.changed() => {}
                else => return,
            }
        }
    }

    async fn use_device(self: &Arc<Self>, host: &str, exports: &Arc<Exports>, opened: &Opened) {
        let device = opened.device().clone();
        let image = match self.read_all(&*device).await {
            Ok(image) => image,
            Err(error) => {
                return self.note(host, &format!("app: cannot read {}: {error}", self.res));
            }
        };
        let Some(line) = self.take_up(host, &image) else {
            return;
        };
        let mut writers = JoinSet::new();
        for _ in 0..3 {
            let (shared, exports) = (self.clone(), exports.clone());
            let (host, device) = (host.to_owned(), device.clone());
            writers.spawn(async move { shared.write(line, &host, &exports, &*device).await });
        }
        let mut failed = false;
        while let Some(ended) = writers.join_next().await {
            failed |= !matches!(ended, Ok(Ok(())));
        }
        let cut = *opened.cut().borrow();
        self.close(line, host, &*device, failed, cut).await;
    }

    async fn read_all(&self, device: &dyn Device) -> Result<Vec<u8>, DeviceError> {
        let mut image = Vec::new();
        while (image.len() as u64) < self.size {
            let at = image.len() as u64;
            let len = (self.size - at).min(READ_BYTES_MAX) as u32;
            image.extend_from_slice(&device.read(at, len).wait().await?);
        }
        Ok(image)
    }

    /// Finds out which history the device shows and how much of it; goes on from there.
    fn take_up(&self, host: &str, image: &[u8]) -> Option<usize> {
        let mut state = self.state();
        let forced = state.forced.remove(host);
        let mut why = Vec::new();
        let mut fits = Vec::new();
        let may_show = |line: &Line| forced || !line.is_past;
        let shown = state.lines.iter().enumerate();
        for (nr, line) in shown.filter(|(_, line)| may_show(line)) {
            let own = line.writer.as_deref() == Some(host);
            let promised = if forced { 0 } else { line.promised() };
            match line.branch.check(image, promised) {
                Ok(len) => fits.push((own, len, nr)),
                Err(e) => why.push(format!("history {nr}: {e}")),
            }
        }
        if fits.is_empty()
            && let Some(nr) = state.adopt(host, image)
        {
            fits.push((true, 1, nr));
        }
        let Some((own, len, mut nr)) = fits.into_iter().max() else {
            drop(state);
            self.break_promise(
                host,
                &format!(
                    "the device shows no history it may show: {}",
                    why.join("; ")
                ),
            );
            return None;
        };
        if forced && !own {
            nr = state.fork(nr);
        }
        let line = &mut state.lines[nr];
        let twice = line.open.then(|| line.writer.clone()).flatten();
        let lost = line.branch.len() - len;
        line.branch.truncate(len);
        line.writer = Some(host.to_owned());
        line.closed = None;
        line.under_way.clear();
        line.open = true;
        state.counts.opened += 1;
        state.counts.unflushed_lost += lost;
        drop(state);
        self.note(
            host,
            &format!(
                "app: {} history {nr} with {len} changes, {lost} lost",
                self.res
            ),
        );
        if let Some(other) = twice {
            self.break_promise(
                host,
                &format!("the same history is being written at {other} (31)"),
            );
        }
        Some(nr)
    }

    /// One writer: until the device goes, the application rests, or an error comes.
    async fn write(
        &self,
        nr: usize,
        host: &str,
        exports: &Exports,
        device: &dyn Device,
    ) -> Result<(), DeviceError> {
        loop {
            tokio::time::sleep(self.pause(PAUSE_MAX_MS)).await;
            let stays = exports.names().contains(&self.res) && *self.working.borrow();
            if !stays {
                return Ok(());
            }
            let great = self.fuse().is_some();
            let hurried = self.hurried.load(Relaxed);
            let rushes = hurried && (great || self.chance.chance(RUSH_PERMILLE));
            let done = match rushes {
                true => self.rush(nr, host, device).await,
                false => self.one_request(nr, host, device).await,
            };
            if let Err(error) = done {
                self.state().counts.errors += 1;
                self.note(host, &format!("app: {} answers {error}", self.res));
                return Err(error);
            }
        }
    }

    /// Four requests that overlap.
    async fn rush(&self, nr: usize, host: &str, device: &dyn Device) -> Result<(), DeviceError> {
        let soon = async || {
            let late = Duration::from_micros(self.chance.below(RUSH_MAX_US));
            tokio::time::sleep(late).await;
            self.one_request(nr, host, device).await
        };
        let (a, b, c, d) = tokio::join!(soon(), soon(), soon(), soon());
        a.and(b).and(c).and(d)
    }

    async fn one_request(
        &self,
        nr: usize,
        host: &str,
        device: &dyn Device,
    ) -> Result<(), DeviceError> {
        let units = self.size / UNIT_BYTES;
        let len = match self.chance.below(10) {
            0 => self.chance.between(1, units.min(REQUEST_UNITS_MAX)),
            _ => self.chance.between(1, 12),
        };
        let spot = if self.chance.chance(500) {
            units / 8
        } else {
            units
        };
        let first = self.chance.below(spot).min(units - len);
        let fua = self.chance.chance(150);
        match self.chance.below(20) {
            0..=11 => {
                self.change((nr, host), first, len, fua, device, Kind::Data)
                    .await
            }
            12 => {
                self.change((nr, host), first, len, fua, device, Kind::Zeroes)
                    .await
            }
            13 => {
                self.change((nr, host), first, len, fua, device, Kind::Trim)
                    .await
            }
            14 | 15 => self.flush(nr, host, device).await,
            _ => self.read(nr, host, first, len, device).await,
        }
    }

    async fn change(
        &self,
        (nr, host): (usize, &str),
        first: u64,
        len: u64,
        fua: bool,
        device: &dyn Device,
        kind: Kind,
    ) -> Result<(), DeviceError> {
        let number = {
            let mut state = self.state();
            state.next_number += 1;
            state.next_number
        };
        let (off, bytes) = (first * UNIT_BYTES, len * UNIT_BYTES);
        let answer = match kind {
            Kind::Data => device.write(off, Bytes::from(fill(number, len as usize)), fua),
            Kind::Zeroes => device.zero(off, bytes, fua, false),
            Kind::Trim => device.trim(off, bytes, fua),
        };
        if let Answer::Now(Err(error)) = answer {
            return Err(error);
        }
        // The order of the calls is the order of the changes.
        let number = if matches!(kind, Kind::Data) {
            number
        } else {
            0
        };
        let units = first as usize..(first + len) as usize;
        let at = {
            let line = &mut self.state().lines[nr];
            let at = line.branch.change(units, number);
            line.under_way.insert(at);
            at
        };
        let done = answer.wait().await;
        self.detail(host, || {
            format!(
                "change {at} of history {nr}: {len} units from {first} become {number}: {done:?}"
            )
        });
        let mut state = self.state();
        let line = &mut state.lines[nr];
        line.under_way.remove(&at);
        if done.is_err() {
            line.branch.note_failed(at);
        }
        done?;
        line.branch.note_answered(at);
        if fua {
            line.branch.note_durable(at + 1);
        }
        state.counts.changes += 1;
        drop(state);
        if fua {
            self.burn_fuse(host);
        }
        Ok(())
    }

    async fn flush(&self, nr: usize, host: &str, device: &dyn Device) -> Result<(), DeviceError> {
        let covered = self.state().lines[nr].settled();
        let done = device.flush().wait().await;
        self.detail(host, || {
            format!("flush of the first {covered} changes of history {nr}: {done:?}")
        });
        done?;
        let mut state = self.state();
        state.lines[nr].branch.note_durable(covered);
        state.counts.flushes += 1;
        drop(state);
        self.burn_fuse(host);
        Ok(())
    }

    async fn read(
        &self,
        nr: usize,
        host: &str,
        first: u64,
        len: u64,
        device: &dyn Device,
    ) -> Result<(), DeviceError> {
        let since = self.state().lines[nr].settled();
        let bytes = device
            .read(first * UNIT_BYTES, (len * UNIT_BYTES) as u32)
            .wait()
            .await?;
        let checked = self.state().lines[nr]
            .branch
            .check_read(first as usize, since, &bytes);
        self.detail(host, || {
            format!(
                "{len} units from {first} of history {nr}, {since} changes settled: {checked:?}"
            )
        });
        self.state().counts.reads += 1;
        if let Err(error) = checked {
            self.break_promise(host, &format!("{error} (2)"));
        }
        Ok(())
    }

    /// Closes the device: sometimes flushed, always with everything answered. Whoever was sent away asks whether what
    /// was answered is safe; an orderly end says so.
    async fn close(&self, nr: usize, host: &str, device: &dyn Device, failed: bool, cut: bool) {
        let mut failed = failed;
        if !failed && (cut || self.chance.chance(500)) {
            let flushed = self.flush(nr, host, device).await;
            failed = cut && flushed.is_err();
        }
        let mut state = self.state();
        let line = &mut state.lines[nr];
        line.open = false;
        line.under_way.clear();
        if failed {
            line.branch.note_error();
        } else {
            line.closed = Some((host.to_owned(), line.branch.answered()));
        }
        drop(state);
        self.note(
            host,
            &format!(
                "app: closed {}{}",
                self.res,
                if failed { " after an error" } else { "" }
            ),
        );
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Data,
    Zeroes,
    Trim,
}

impl State {
    /// Goes on with a history that was written past the log at `host`. What it was before is not forgotten: a replica that
    /// stopped at the hole still holds some state of it, and may be forced to go on from there.
    fn adopt(&mut self, host: &str, image: &[u8]) -> Option<usize> {
        let mine = |line: &Line| line.unordered && line.writer.as_deref() == Some(host);
        let nr = self.lines.iter().rposition(mine)?;
        let before = self.lines[nr].branch.clone();
        self.lines[nr].branch.adopt(image).ok()?;
        self.lines[nr].unordered = false;
        self.lines.push(Line::of(before, true));
        self.counts.adopted += 1;
        Some(nr)
    }

    /// Another history which begins like `nr`.
    fn fork(&mut self, nr: usize) -> usize {
        let mut copy = Line::of(self.lines[nr].branch.clone(), false);
        copy.unordered = self.lines[nr].unordered;
        self.lines.push(copy);
        self.counts.forks += 1;
        self.lines.len() - 1
    }
}
