//! A file system in memory that loses what was not flushed and fails when told to, and helpers for
//! logs on it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use storage::{
    AheadOptions, BlockFile, Body, Extent, ExtentKind, FreeSpace, Fs, LogHeader, LogIdentity,
    LogWriter, NewRecord, OpenHow,
};
use tree::{Digest128, Host, LogName, Resource};

const SECTOR: usize = 512;

/// Clones are the same file system.
#[derive(Clone, Default)]
pub struct MemFs {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changing operations so far.
    ops: u64,
    /// The first changing operation that fails, and with what. Later ones fail, too.
    fail_from: Option<(u64, io::ErrorKind)>,
    fail_once: bool,
}

#[derive(Default, Clone)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

impl MemFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changing operations so far: writes, flushes, new names, …
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// From the `n`th changing operation from now on (0 is the next) all of them fail.
    pub fn fail_after(&self, n: u64, kind: io::ErrorKind) {
        let mut state = self.state();
        state.fail_from = Some((state.ops + n, kind));
    }

    /// Only the next changing operation fails.
    pub fn fail_next(&self, kind: io::ErrorKind) {
        self.fail_after(0, kind);
        self.state().fail_once = true;
    }

    pub fn heal(&self) {
        self.state().fail_from = None;
    }

    /// Every sector that was not flushed is the old or the new one, every name that was not made
    /// durable is there or not.
    pub fn power_cut(&self, seed: u64) {
        let mut chance = Chance(seed);
        let mut state = self.state();
        let (now, old) = (state.names.clone(), state.durable_names.clone());
        state.names.clear();
        for name in now.keys().chain(old.keys()) {
            let (new, old) = (now.get(name), old.get(name));
            let left = if new == old || chance.yes() { new } else { old };
            if let Some(file) = left {
                state.names.insert(name.clone(), *file);
            }
        }
        state.durable_names = state.names.clone();
        for file in &mut state.files {
            let len = if chance.yes() {
                file.bytes.len()
            } else {
                file.durable.len()
            };
            let mut left = file.durable.clone();
            left.resize(len, 0);
            for (i, sector) in left.chunks_mut(SECTOR).enumerate() {
                let new = file.bytes.get(i * SECTOR..).unwrap_or_default();
                if chance.yes() && new.len() >= sector.len() {
                    sector.copy_from_slice(&new[..sector.len()]);
                }
            }
            *file = File {
                bytes: left.clone(),
                durable: left,
            };
        }
        state.fail_from = None;
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[path]].bytes.clone()
    }

    /// Replaces the contents, durably.
    pub fn set_bytes(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        state.files.push(File {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
        });
        let file = state.files.len() - 1;
        state.names.insert(path.to_owned(), file);
        state.durable_names.insert(path.to_owned(), file);
    }
}

impl State {
    fn change(&mut self) -> io::Result<()> {
        let nr = self.ops;
        self.ops += 1;
        match self.fail_from {
            Some((from, kind)) if nr >= from => {
                if std::mem::take(&mut self.fail_once) {
                    self.fail_from = None;
                }
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Fs for MemFs {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn BlockFile>> {
        let mut state = self.state();
        let create = match (state.find(path), how) {
            (Ok(_), OpenHow::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(_), _) => false,
            (Err(_), OpenHow::CreateNew | OpenHow::CreateOrOpen) => true,
            (Err(e), _) => return Err(e),
        };
        if create {
            state.change()?;
            state.files.push(File::default());
            let file = state.files.len() - 1;
            state.names.insert(path.to_owned(), file);
        }
        let file = state.find(path)?;
        Ok(Box::new(MemFile {
            fs: self.clone(),
            file,
        }))
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let within = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(within
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let file = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        state.change()?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let within = |path: &PathBuf| path.parent() == Some(dir);
        let now: Vec<_> = state
            .names
            .iter()
            .filter(|(path, _)| within(path))
            .map(|(p, f)| (p.clone(), *f))
            .collect();
        state.durable_names.retain(|path, _| !within(path));
        state.durable_names.extend(now);
        Ok(())
    }

    fn len_of(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.state();
        Ok(state
            .names
            .get(path)
            .map(|file| state.files[*file].bytes.len() as u64))
    }

    fn free_space(&self, _path: &Path) -> io::Result<FreeSpace> {
        Ok(FreeSpace {
            free: 1 << 40,
            total: 1 << 40,
        })
    }
}

struct MemFile {
    fs: MemFs,
    file: usize,
}

impl MemFile {
    fn change<T>(&self, change: impl FnOnce(&mut File) -> T) -> io::Result<T> {
        let mut state = self.fs.state();
        state.change()?;
        Ok(change(&mut state.files[self.file]))
    }
}

impl BlockFile for MemFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.fs.state();
        let rest = state.files[self.file]
            .bytes
            .get(at as usize..)
            .unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        if bytes.is_empty() {
            return Ok(());
        }
        let (at, half) = (at as usize, bytes.len() / 2);
        let put = |file: &mut File, bytes: &[u8]| {
            let end = at + bytes.len();
            if file.bytes.len() < end {
                file.bytes.resize(end, 0);
            }
            file.bytes[at..end].copy_from_slice(bytes);
        };
        self.change(|file| put(file, &bytes)).inspect_err(|_| {
            // A failed write has done a part of its work.
            put(&mut self.fs.state().files[self.file], &bytes[..half]);
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.change(|file| file.durable.clone_from(&file.bytes))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.fs.state().files[self.file].bytes.len() as u64)
    }

    fn set_size(&self, len: u64) -> io::Result<()> {
        self.change(|file| file.bytes.resize(len as usize, 0))
    }

    fn zero_range(&self, at: u64, len: u64) -> io::Result<()> {
        self.write_vectored_at(&[IoSlice::new(&vec![0; len as usize])], at)
    }

    fn punch_hole(&self, at: u64, len: u64) -> io::Result<()> {
        self.zero_range(at, len)
    }

    fn map(&self, at: u64, len: u64) -> io::Result<Vec<Extent>> {
        Ok(vec![Extent {
            at,
            len,
            kind: ExtentKind::Data,
        }])
    }
}

/// Seeded chance.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n.max(1)
    }

    pub fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

pub const DIR: &str = "/mars/resource-data";

pub fn log_name(seq: u64) -> LogName {
    LogName::new(seq, &Host::new("alpha").unwrap())
}

pub fn log_path(seq: u64) -> PathBuf {
    Path::new(DIR).join(log_name(seq).to_string())
}

pub fn identity(seq: u64) -> LogIdentity {
    LogIdentity {
        cluster: "2f6c7d7e-7a40-4c55-9d3e-0a8d6f1b2c3d".to_owned(),
        resource: Resource::new("data").unwrap(),
        log: log_name(seq),
    }
}

pub fn header(seq: u64) -> LogHeader {
    LogHeader {
        identity: identity(seq),
        predecessor: Digest128([7; 16]),
    }
}

/// No zeros ahead.
pub const PLAIN: AheadOptions = AheadOptions {
    ahead_bytes: 0,
    step_bytes: 0,
    until_bytes: 0,
};

pub fn create(fs: &MemFs, seq: u64) -> LogWriter {
    LogWriter::create(fs, Path::new(DIR), &header(seq), PLAIN).unwrap()
}

pub fn data(at: u64, bytes: impl Into<Vec<u8>>) -> NewRecord {
    let bytes: Vec<u8> = bytes.into();
    NewRecord {
        stamp_ns: 1_700_000_000_000_000_000 + at,
        body: Body::Data {
            at,
            bytes: Bytes::from(bytes),
        },
    }
}

/// A record of any kind, told by chance.
pub fn any_record(chance: &mut Chance) -> NewRecord {
    let (at, len) = (chance.below(1 << 40), 1 + chance.below(3000));
    let body = match chance.below(6) {
        0 => Body::Zeroes { at, len },
        1 => Body::Discard { at, len: len << 30 },
        2 => Body::Mark,
        _ => {
            return data(
                at,
                (0..len)
                    .map(|_| chance.below(256) as u8)
                    .collect::<Vec<_>>(),
            );
        }
    };
    NewRecord { stamp_ns: at, body }
}
