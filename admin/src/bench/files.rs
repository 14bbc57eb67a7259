//! The same without us: what disk and line of this machine do for a plain program.
//!
//! [`ship`] carries a file to another file by bare QUIC with our settings: read at one end, written and flushed at the
//! other. No checksum, no digest, no order of records, no replica: what is left is what any program has to pay that
//! moves bytes between two files of one machine in this way. [`write`] is the disk alone.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;

use super::lab::Stopwatch;
use super::streams::{self, PIECE_BYTES};

/// Written by one call.
const WRITE_BYTES: usize = 4 << 20;
/// Of memory and of places in the file, for writing past the page cache.
const ALIGN_BYTES: usize = 4096;

/// Carries `bytes` from a file to a new one below `work`; MB/s until they are durable there.
pub fn ship(work: &Path, bytes: u64) -> Result<f64> {
    let (from, to) = (work.join("plain-source"), work.join("plain-copy"));
    make_source(&from, bytes)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let rate = runtime.block_on(carry(&from, &to, bytes))?;
    std::fs::remove_file(&from)?;
    std::fs::remove_file(&to)?;
    Ok(rate)
}

/// Writes `bytes` to each of `copies` new files below `work` at the same time and flushes them; MB/s of one.
pub fn write(work: &Path, bytes: u64, copies: usize) -> Result<f64> {
    let write_one = |nr: usize| {
        let path = work.join(format!("plain-copy-{nr}"));
        let mut copy = Copy::create(&path)?;
        let piece = vec![7; PIECE_BYTES];
        for _ in 0..bytes / PIECE_BYTES as u64 {
            copy.add(&piece)?;
        }
        copy.finish()?;
        anyhow::Ok(path)
    };
    let watch = Stopwatch::start();
    let paths = std::thread::scope(|scope| {
        let write_one = &write_one;
        let running: Vec<_> = (0..copies)
            .map(|nr| scope.spawn(move || write_one(nr)))
            .collect();
        let ended = running
            .into_iter()
            .map(|one| one.join().expect("a writing thread does not panic"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let rate = bytes as f64 / 1e6 / watch.seconds();
    for path in paths {
        std::fs::remove_file(path)?;
    }
    Ok(rate)
}

/// Contents that lie in the page cache, as those of a log do that was just written, and are on the disk.
fn make_source(path: &Path, bytes: u64) -> Result<()> {
    let file = File::create(path)?;
    let piece = vec![7; PIECE_BYTES];
    for nr in 0..bytes / PIECE_BYTES as u64 {
        file.write_all_at(&piece, nr * PIECE_BYTES as u64)?;
    }
    Ok(file.sync_data()?)
}

async fn carry(from: &Path, to: &Path, bytes: u64) -> Result<f64> {
    let (here, there) = streams::quic_pair().await?;
    let (source, mut copy) = (File::open(from)?, Copy::create(to)?);
    let receiving = tokio::spawn(async move {
        let (mut send, mut receive) = there.accept_bi().await?;
        while let Some(chunk) = receive.read_chunk(PIECE_BYTES, true).await? {
            tokio::task::block_in_place(|| copy.add(&chunk.bytes))?;
        }
        tokio::task::block_in_place(|| copy.finish())?;
        send.write_all(b"!").await?;
        send.finish()?;
        // The other end closes once it has heard that.
        there.closed().await;
        anyhow::Ok(())
    });
    let (mut send, mut receive) = here.open_bi().await?;
    let watch = Stopwatch::start();
    for nr in 0..bytes / PIECE_BYTES as u64 {
        let mut piece = vec![0; PIECE_BYTES];
        source.read_exact_at(&mut piece, nr * PIECE_BYTES as u64)?;
        send.write_chunk(piece.into()).await?;
    }
    send.finish()?;
    receive.read_to_end(1).await?;
    let seconds = watch.seconds();
    here.close(0u32.into(), b"");
    receiving.await??;
    ensure!(std::fs::metadata(to)?.len() == bytes, "bytes were lost");
    Ok(bytes as f64 / 1e6 / seconds)
}

/// A file that is written from its beginning to its end, past the page cache, by a thread of its own.
struct Copy {
    filling: Aligned,
    full: Option<SyncSender<Aligned>>,
    empty: Receiver<Aligned>,
    writing: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Copy {
    fn create(path: &Path) -> Result<Copy> {
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(true);
        let file = how
            .custom_flags(OFlags::DIRECT.bits() as i32)
            .open(path)
            .or_else(|_| how.custom_flags(0).open(path))?;
        let (full, filled) = sync_channel::<Aligned>(2);
        let (give_back, empty) = sync_channel(4);
        for _ in 0..2 {
            give_back.send(Aligned::new())?;
        }
        let writing = std::thread::spawn(move || {
            let mut at = 0;
            for mut buffer in filled {
                file.write_all_at(buffer.bytes(), at)?;
                at += buffer.len as u64;
                buffer.len = 0;
                // Nobody needs it any more once everything has come.
                let _ = give_back.send(buffer);
            }
            Ok(file.sync_data()?)
        });
        Ok(Copy {
            filling: Aligned::new(),
            full: Some(full),
            empty,
            writing: Some(writing),
        })
    }

    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            bytes = self.filling.fill(bytes);
            if self.filling.len == WRITE_BYTES {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        let next = self.empty.recv().context("the writing thread has failed")?;
        let full = std::mem::replace(&mut self.filling, next);
        let to = self.full.as_ref().context("finished already")?;
        to.send(full).context("the writing thread has failed")
    }

    /// Everything is durable on return. All of it must be a multiple of [`ALIGN_BYTES`].
    fn finish(&mut self) -> Result<()> {
        if self.filling.len > 0 {
            self.hand_over()?;
        }
        self.full = None;
        let thread = self.writing.take().context("finished already")?;
        thread.join().expect("the writing thread does not panic")
    }
}

/// Memory for [`WRITE_BYTES`], placed for a disk.
struct Aligned {
    memory: Vec<u8>,
    from: usize,
    len: usize,
}

impl Aligned {
    fn new() -> Aligned {
        let memory = vec![0; WRITE_BYTES + ALIGN_BYTES];
        let from = memory.as_ptr().align_offset(ALIGN_BYTES);
        Aligned {
            memory,
            from,
            len: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.len]
    }

    /// Takes what has room; the rest of it.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(WRITE_BYTES - self.len));
        let at = self.from + self.len;
        self.memory[at..at + now.len()].copy_from_slice(now);
        self.len += now.len();
        later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_arrives_as_it_was() {
        let work = tempfile::tempdir().expect("a directory");
        assert!(ship(work.path(), 9 << 20).expect("a rate") > 0.0);
        let mut copy = Copy::create(&work.path().join("copy")).expect("created");
        let contents: Vec<u8> = (0..6u32 << 20).map(|nr| (nr >> 7) as u8).collect();
        contents
            .chunks(9999)
            .for_each(|part| copy.add(part).expect("added"));
        copy.finish().expect("flushed");
        let written = std::fs::read(work.path().join("copy")).expect("read");
        assert!(written == contents, "other bytes");
    }
}
