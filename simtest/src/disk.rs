//! A file system in memory that keeps apart what is visible and what is durable, and that tears,
//! forgets, fails and fills up.
//!
//! A power cut takes away any part of what was not flushed: sectors one by one (kept, dropped or torn),
//! changes of length, and names that no [`storage::Fs::sync_dir`] made durable (the changes of one
//! directory survive up to some point in their order, as a journal keeps them).

mod write_ahead;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use node::export::Exports;
use node::node::Hub;
use storage::io::{BlockFile, Extent, ExtentKind, FreeSpace, Fs, OpenHow};

use self::write_ahead::WriteAhead;
use crate::prng::Prng;

const SECTOR: usize = 512;

/// What a planned failure does to the next call that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reading answers an input/output error.
    ReadError,
    /// Writing answers an input/output error, after writing some part.
    WriteError,
    /// Flushing answers an input/output error; some of the bytes are lost.
    FlushError,
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: Sectors,
    locked: bool,
    /// Another one after every change.
    version: u64,
}

/// Numbers of sectors, as bits.
#[derive(Clone, Default)]
struct Sectors(Vec<u64>);

impl Sectors {
    fn add(&mut self, sectors: RangeInclusive<usize>) {
        let words = sectors.end() / 64 + 1;
        if self.0.len() < words {
            self.0.resize(words, 0);
        }
        for sector in sectors {
            self.0[sector / 64] |= 1 << (sector % 64);
        }
    }

    /// All of them in order; none is left.
    fn take(&mut self) -> impl Iterator<Item = usize> + use<> {
        let words = std::mem::take(&mut self.0).into_iter().enumerate();
        words.flat_map(|(nr, word)| {
            let bits = (0..64).filter(move |bit| word & 1 << bit != 0);
            bits.map(move |bit| nr * 64 + bit)
        })
    }
}

#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: BTreeMap<PathBuf, Vec<Change>>,
    dirs: BTreeSet<PathBuf>,
    /// Visible bytes of all files.
    used: u64,
    capacity: u64,
    faults: Vec<(PathBuf, Fault)>,
    /// Changing calls until the power goes; `None` = never.
    fuse: Option<u64>,
    off: bool,
    epoch: u64,
    chance: Prng,
    counts: Counts,
    /// While a node runs.
    write_ahead: Option<WriteAhead>,
}

/// What was done to this file system so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that change something.
    pub changes: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Sectors that a power cut dropped or tore.
    pub sectors_lost: u64,
    /// Names that a power cut took away or brought back.
    pub names_lost: u64,
    /// Calls that failed on purpose.
    pub faults: u64,
}

/// The file system of one host. Clones share it.
#[derive(Clone)]
pub struct SimFs(Arc<Mutex<State>>);

impl SimFs {
    /// An empty file system of `capacity` bytes.
    pub fn new(chance: Prng, capacity: u64) -> SimFs {
        SimFs(Arc::new(Mutex::new(State {
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: BTreeMap::new(),
            dirs: BTreeSet::from([PathBuf::from("/")]),
            used: 0,
            capacity,
            faults: Vec::new(),
            fuse: None,
            off: false,
            epoch: 0,
            chance,
            counts: Counts::default(),
            write_ahead: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a durable file of `size` zero bytes: a disk.
    pub fn make_disk(&self, path: &Path, size: u64) {
        let mut state = self.state();
        let id = state.new_inode();
        let zeros = vec![0; size as usize];
        let inode = Inode {
            now: zeros.clone(),
            durable: zeros,
            ..Inode::default()
        };
        state.inodes.insert(id, inode);
        state.used += size;
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    /// A disk becomes larger by `more` bytes of whatever was there before, as when a volume is extended.
    pub fn grow_disk(&self, path: &Path, more: u64) {
        let mut state = self.state();
        let (chance, id) = (state.chance.clone(), state.names.get(path).copied());
        let Some(id) = id else { return };
        state.edit(id, |inode| {
            let garbage = chance.u64() as u8;
            for bytes in [&mut inode.now, &mut inode.durable] {
                let len = bytes.len() + more as usize;
                bytes.resize(len, garbage);
            }
        });
    }

    /// What is visible of a file now.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let id = state.names.get(path)?;
        state.inodes.get(id).map(|i| i.now.clone())
    }

    /// What would be there after a power cut that drops everything it can.
    pub fn read_durable(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let id = state.durable_names.get(path)?;
        state.inodes.get(id).map(|i| i.durable.clone())
    }

    /// Lets `look` see the bytes of a file: those a power cut would leave at least when `durable`, otherwise
    /// those that are visible now. `None` when there is no such file.
    pub fn bytes<T>(&self, path: &Path, durable: bool, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let state = self.state();
        let names = if durable {
            &state.durable_names
        } else {
            &state.names
        };
        let inode = state.inodes.get(names.get(path)?)?;
        Some(look(if durable { &inode.durable } else { &inode.now }))
    }

    /// Another answer as soon as [`SimFs::bytes`] of the file may have changed. `None` when there is no such file.
    pub fn version(&self, path: &Path, durable: bool) -> Option<(u64, u64)> {
        let state = self.state();
        let names = if durable {
            &state.durable_names
        } else {
            &state.names
        };
        let id = *names.get(path)?;
        Some((id, state.inodes.get(&id)?.version))
    }

    /// From now on only `bytes` more fit.
    pub fn leave_room(&self, bytes: u64) {
        let mut state = self.state();
        state.capacity = state.used + bytes;
    }

    /// No more faults that were planned, no fuse, and room again.
    pub fn end_faults(&self, capacity: u64) {
        let mut state = self.state();
        state.faults.clear();
        state.fuse = None;
        state.capacity = capacity;
    }

    /// Paths of all files below `dir`.
    pub fn files_below(&self, dir: &Path) -> Vec<PathBuf> {
        self.state()
            .names
            .keys()
            .filter(|p| p.starts_with(dir))
            .cloned()
            .collect()
    }

    /// The next call on a file below `path` that `fault` concerns fails.
    pub fn plan_fault(&self, path: &Path, fault: Fault) {
        self.state().faults.push((path.to_owned(), fault));
    }

    /// Flips one bit, on the medium and in what is visible. False when there is no such byte.
    pub fn flip_bit(&self, path: &Path, at: u64, bit: u8) -> bool {
        let mut state = self.state();
        let Some(id) = state.names.get(path).copied() else {
            return false;
        };
        let (at, mut flipped) = (at as usize, false);
        state.edit(id, |inode| {
            flipped = at < inode.now.len();
            let both = [&mut inode.now, &mut inode.durable].into_iter();
            for byte in both.filter_map(|bytes| bytes.get_mut(at)) {
                *byte ^= u8::from(flipped) << (bit % 8);
            }
        });
        flipped
    }

    /// From now on so many bytes fit.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// The power goes after so many more changing calls.
    pub fn cut_power_after(&self, changes: u64) {
        self.state().fuse = Some(changes);
    }

    /// Is the power gone?
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// The power goes now: every call fails until [`SimFs::power_on`].
    pub fn power_off(&self) {
        self.state().off = true;
    }

    /// The power is back: what was not durable is partly gone. Old handles stay dead.
    pub fn power_on(&self) {
        self.state().lose_what_is_not_durable();
    }

    /// The processes are gone but the power stayed: nothing is lost, old handles are dead.
    pub fn restart_process(&self) {
        let mut state = self.state();
        state.off = false;
        state.fuse = None;
        state.epoch += 1;
        for inode in state.inodes.values_mut() {
            inode.locked = false;
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// From now on nothing may reach a disk that this node offers before it is durable in a log.
    pub fn watch_write_ahead(&self, hub: &Arc<Hub>, exports: &Arc<Exports>) {
        let mut watch = WriteAhead::new(hub, exports);
        let mut state = self.state();
        watch.early = state.write_ahead.take().and_then(|before| before.early);
        state.write_ahead = Some(watch);
    }

    /// What has reached a disk too early.
    pub fn written_early(&self) -> Option<String> {
        self.state().write_ahead.as_ref()?.early.clone()
    }
}

impl State {
    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    fn check_power(&self) -> io::Result<()> {
        if self.off {
            Err(io::Error::other("the power is off"))
        } else {
            Ok(())
        }
    }

    /// Before every changing call: counts it and burns the fuse.
    fn change(&mut self) -> io::Result<()> {
        self.check_power()?;
        self.counts.changes += 1;
        if let Some(fuse) = self.fuse.as_mut() {
            if *fuse == 0 {
                self.off = true;
                return self.check_power();
            }
            *fuse -= 1;
        }
        Ok(())
    }

    fn fault(&mut self, path: &Path, fault: Fault) -> io::Result<()> {
        let planned = self
            .faults
            .iter()
            .position(|(p, f)| *f == fault && path.starts_with(p));
        match planned {
            Some(i) => {
                self.faults.remove(i);
                self.counts.faults += 1;
                self.note_failed();
                Err(io::Error::from_raw_os_error(5))
            }
            None => Ok(()),
        }
    }

    /// Works on a file, if it is there, and counts what it has grown. Nothing else changes what is in a file.
    fn edit(&mut self, id: u64, work: impl FnOnce(&mut Inode)) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            self.used -= inode.now.len() as u64;
            inode.version += 1;
            work(inode);
            self.used += inode.now.len() as u64;
        }
    }

    fn sum(&self) -> u64 {
        self.inodes.values().map(|i| i.now.len() as u64).sum()
    }

    fn note_failed(&mut self) {
        if let Some(watch) = &mut self.write_ahead {
            watch.failed = true;
        }
    }

    fn reserve(&mut self, more: u64) -> io::Result<()> {
        debug_assert_eq!(self.used, self.sum(), "every change of length is counted");
        if more > 0 && self.used + more > self.capacity {
            self.note_failed();
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn pend(&mut self, dir: &Path, change: Change) {
        self.pending.entry(dir.to_owned()).or_default().push(change);
    }

    fn lose_what_is_not_durable(&mut self) {
        self.off = false;
        self.fuse = None;
        self.epoch += 1;
        self.counts.cuts += 1;
        for (_, changes) in std::mem::take(&mut self.pending) {
            let kept = self.chance.below(changes.len() as u64 + 1) as usize;
            self.counts.names_lost += (changes.len() - kept) as u64;
            for change in &changes[..kept] {
                apply(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
        let alive: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| alive.contains(id));
        let chance = self.chance.clone();
        let lost = self
            .inodes
            .values_mut()
            .map(|i| i.lose(&chance))
            .sum::<u64>();
        self.counts.sectors_lost += lost;
        self.used = self.sum();
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: &Change) {
    match change {
        Change::Add(path, id) => {
            names.insert(path.clone(), *id);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
        Change::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

impl Inode {
    /// Keeps, drops or tears every sector that was not flushed. Returns how many did not survive whole.
    fn lose(&mut self, chance: &Prng) -> u64 {
        let mut lost = 0;
        if self.now.len() != self.durable.len() && chance.chance(500) {
            self.durable.resize(self.now.len(), 0);
        }
        for sector in self.dirty.take() {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.now.len()).min(self.durable.len());
            if from >= to {
                lost += 1;
                continue;
            }
            let kept = match chance.below(8) {
                0..=3 => to - from,
                4 => chance.below((to - from) as u64) as usize,
                _ => 0,
            };
            self.durable[from..from + kept].copy_from_slice(&self.now[from..from + kept]);
            lost += u64::from(kept < to - from);
        }
        self.now = self.durable.clone();
        self.locked = false;
        self.version += 1;
        lost
    }

    fn flush(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for sector in self.dirty.take() {
            let from = (sector * SECTOR).min(self.now.len());
            let to = (from + SECTOR).min(self.now.len());
            self.durable[from..to].copy_from_slice(&self.now[from..to]);
        }
    }

    fn touch(&mut self, at: usize, len: usize) {
        if len > 0 {
            self.dirty.add(at / SECTOR..=(at + len - 1) / SECTOR);
        }
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        if self.now.len() < at {
            self.now.resize(at, 0);
        }
        let over = bytes.len().min(self.now.len() - at);
        self.now[at..at + over].copy_from_slice(&bytes[..over]);
        self.now.extend_from_slice(&bytes[over..]);
        self.touch(at, bytes.len());
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} does not exist", path.display()),
    )
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

impl Fs for SimFs {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn BlockFile>> {
        let mut state = self.state();
        state.check_power()?;
        let existing = state.names.get(path).copied();
        let id = match (how, existing) {
            (OpenHow::CreateNew, Some(_)) => {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            (OpenHow::CreateNew | OpenHow::CreateOrOpen, None) => {
                state.change()?;
                let id = state.new_inode();
                state.inodes.insert(id, Inode::default());
                state.names.insert(path.to_owned(), id);
                state.pend(&parent(path), Change::Add(path.to_owned(), id));
                id
            }
            (_, Some(id)) => id,
            (_, None) => return Err(not_found(path)),
        };
        if how == OpenHow::Exclusive {
            let inode = state.inodes.get_mut(&id).ok_or_else(|| not_found(path))?;
            if std::mem::replace(&mut inode.locked, true) {
                return Err(io::Error::from(io::ErrorKind::WouldBlock));
            }
        }
        let file = SimFile {
            fs: self.clone(),
            path: path.to_owned(),
            id,
            epoch: state.epoch,
            exclusive: how == OpenHow::Exclusive,
        };
        Ok(Box::new(file))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.dirs.contains(dir) {
            return Ok(());
        }
        state.change()?;
        let above: Vec<PathBuf> = dir.ancestors().map(Path::to_owned).collect();
        state.dirs.extend(above);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        if !state.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let files = state.names.keys().filter(|p| p.parent() == Some(dir));
        let dirs = state.dirs.iter().filter(|p| p.parent() == Some(dir));
        let mut names: Vec<String> = files
            .chain(dirs)
            .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let change = Change::Rename(from.to_owned(), to.to_owned());
        if !state.names.contains_key(from) {
            return Err(not_found(from));
        }
        apply(&mut state.names, &change);
        state.pend(&parent(to), change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if state.names.remove(path).is_none() {
            return Err(not_found(path));
        }
        state.pend(&parent(path), Change::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        for change in state.pending.remove(dir).unwrap_or_default() {
            apply(&mut state.durable_names, &change);
        }
        Ok(())
    }

    fn len_of(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.state();
        state.check_power()?;
        let inode = state.names.get(path).and_then(|id| state.inodes.get(id));
        Ok(inode.map(|i| i.now.len() as u64))
    }

    fn free_space(&self, _path: &Path) -> io::Result<FreeSpace> {
        let state = self.state();
        state.check_power()?;
        let free = state.capacity.saturating_sub(state.used);
        Ok(FreeSpace {
            free,
            total: state.capacity,
        })
    }
}

/// An open file of a [`SimFs`]. Dead after a crash of its host.
struct SimFile {
    fs: SimFs,
    path: PathBuf,
    id: u64,
    epoch: u64,
    exclusive: bool,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.fs.state();
        state.check_power()?;
        if state.epoch != self.epoch || !state.inodes.contains_key(&self.id) {
            return Err(io::Error::other("this handle died with its host"));
        }
        Ok(state)
    }

    /// Runs `work` on the file after counting the change and failing as planned.
    fn change(&self, fault: Fault, work: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        state.fault(&self.path, fault)?;
        state.edit(self.id, work);
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.fs.state();
        if self.exclusive
            && state.epoch == self.epoch
            && let Some(inode) = state.inodes.get_mut(&self.id)
        {
            inode.locked = false;
        }
    }
}

impl BlockFile for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        state.fault(&self.path, Fault::ReadError)?;
        let Some(inode) = state.inodes.get(&self.id) else {
            return Ok(0);
        };
        let from = (at as usize).min(inode.now.len());
        let len = buf.len().min(inode.now.len() - from);
        buf[..len].copy_from_slice(&inode.now[from..from + len]);
        Ok(len)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        let all: usize = bufs.iter().map(|b| b.len()).sum();
        let mut state = self.state()?;
        state.change()?;
        state.look_at_log(&self.path, at, bufs);
        let failed = state.fault(&self.path, Fault::WriteError);
        let have = state.inodes.get(&self.id).map_or(0, |i| i.now.len() as u64);
        state.reserve((at + all as u64).saturating_sub(have))?;
        let mut rest = match failed {
            Ok(()) => all,
            Err(_) => state.chance.below(all as u64 + 1) as usize,
        };
        let mut at = at as usize;
        state.edit(self.id, |inode| {
            for buf in bufs {
                let part = buf.len().min(rest);
                inode.write(&buf[..part], at);
                (at, rest) = (at + part, rest - part);
            }
        });
        failed
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let failed = state.fault(&self.path, Fault::FlushError);
        let chance = state.chance.clone();
        state.edit(self.id, |inode| match failed {
            Ok(()) => inode.flush(),
            // The kernel has dropped the pages: some reached the medium, nobody knows which.
            Err(_) => {
                let locked = inode.locked;
                inode.lose(&chance);
                inode.locked = locked;
            }
        });
        failed
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.state()?;
        Ok(state.inodes.get(&self.id).map_or(0, |i| i.now.len() as u64))
    }

    fn set_size(&self, len: u64) -> io::Result<()> {
        let have = self.size()?;
        self.state()?.reserve(len.saturating_sub(have))?;
        self.change(Fault::WriteError, |inode| {
            let old = inode.now.len();
            inode.now.resize(len as usize, 0);
            if inode.now.len() > old {
                inode.touch(old, inode.now.len() - old);
            }
        })
    }

    fn zero_range(&self, at: u64, len: u64) -> io::Result<()> {
        self.change(Fault::WriteError, |inode| {
            let from = (at as usize).min(inode.now.len());
            let to = ((at + len) as usize).min(inode.now.len());
            inode.now[from..to].fill(0);
            inode.touch(from, to - from);
        })
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.zero_range(at, len)
    }

    fn map(&self, at: u64, len: u64) -> io::Result<Vec<Extent>> {
        drop(self.state()?);
        Ok(vec![Extent {
            at,
            len,
            kind: ExtentKind::Data,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::io::write_at;

    fn fs(seed: u64) -> SimFs {
        let fs = SimFs::new(Prng::new(seed, "disk"), 1 << 20);
        fs.create_dir(Path::new("/d")).expect("directory");
        fs
    }

    #[test]
    fn what_was_flushed_and_named_durably_survives_every_power_cut() {
        for seed in 0..50 {
            let fs = fs(seed);
            let path = Path::new("/d/file");
            let file = fs.open(path, OpenHow::CreateNew).expect("create");
            write_at(&*file, &[7; 3000], 0).expect("write");
            file.flush().expect("flush");
            fs.sync_dir(Path::new("/d")).expect("sync");
            write_at(&*file, &[8; 3000], 3000).expect("write");
            fs.power_off();
            assert!(file.flush().is_err());
            fs.power_on();
            let bytes = fs.read(path).expect("still there");
            assert_eq!(bytes[..3000], [7; 3000]);
            assert!(bytes[3000..].iter().all(|b| *b == 8 || *b == 0));
        }
    }

    #[test]
    fn a_name_that_was_not_made_durable_is_sometimes_lost() {
        let survived = (0..50)
            .filter(|seed| {
                let fs = fs(*seed);
                let file = fs
                    .open(Path::new("/d/file"), OpenHow::CreateNew)
                    .expect("create");
                file.flush().expect("flush");
                fs.power_off();
                fs.power_on();
                fs.read(Path::new("/d/file")).is_some()
            })
            .count();
        assert!((5..45).contains(&survived), "{survived} of 50");
    }

    #[test]
    fn whatever_changes_the_bytes_of_a_file_changes_its_version() {
        let fs = fs(1);
        let path = Path::new("/d/file");
        let file = fs.open(path, OpenHow::CreateNew).expect("create");
        let changes: [&dyn Fn(); 8] = [
            &|| write_at(&*file, &[7; 3000], 0).expect("write"),
            &|| file.flush().expect("flush"),
            &|| file.set_size(5000).expect("size"),
            &|| file.zero_range(10, 20).expect("zero"),
            &|| assert!(fs.flip_bit(path, 5, 1)),
            &|| fs.sync_dir(Path::new("/d")).expect("sync"),
            &|| fs.grow_disk(path, 10),
            &|| fs.power_on(),
        ];
        let seen = |durable| {
            let bytes = fs.bytes(path, durable, <[u8]>::to_vec);
            (bytes, fs.version(path, durable))
        };
        for (nr, change) in changes.iter().enumerate() {
            let before = [false, true].map(seen);
            change();
            for (before, after) in before.iter().zip([false, true].map(seen)) {
                assert!(before.0 == after.0 || before.1 != after.1, "change {nr}");
            }
        }
    }

    #[test]
    fn a_full_file_system_says_so_and_changes_nothing() {
        let fs = fs(1);
        let file = fs
            .open(Path::new("/d/file"), OpenHow::CreateNew)
            .expect("create");
        fs.set_capacity(1000);
        let error = write_at(&*file, &[1; 2000], 0).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size().expect("size"), 0);
    }
}
