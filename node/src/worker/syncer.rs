//! Copies the disk of the acting primary to this host, while replay goes on.
//!
//! ```text
//! chunk ─► digests of 1 MiB ─► where they differ: digests of 4 KiB ─► where they differ: contents ─► disk
//!          (both sides)        (both sides)                          (what replay has not renewed)
//! ```
//!
//! Many chunks are under way at once, so neither the line nor the disks wait. Every answer says up to which log position
//! its contents may reach. The disk is a mixture until replay has passed the greatest of these positions: that is the
//! consistency point, stored durably as `syncpos-<me>` *before* `syncstatus-<me>` says that all is copied. On the way
//! `syncstatus-<me>` follows what is contiguous and flushed, so a sync goes on where it was interrupted.
//!
//! Data-path reference 5; invariants 33, 34, 36; lessons L-C3 to L-C5.

mod asker;
mod chunk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use transport::{Class, NetError};
use tree::{LogPos, ReplayPos, key};

use self::asker::Asker;
use self::chunk::{Copied, copy_chunk};
use crate::job::{Ended, Site, Stop, SyncJob, SyncProgress};
use crate::watch;

/// Bytes of one chunk: what is repeated at most per chunk under way after an interruption.
const CHUNK_BYTES: u64 = 4 << 20;

/// Chunks under way. How much of their contents may be on the line is bounded by the asker.
const CHUNKS_MAX: usize = 32;

/// How often the contiguous end is flushed and stored.
const STORE_INTERVAL: Duration = Duration::from_secs(5);

/// Copies from `job.start` to `job.size`. Ends when all is copied, when it is told to, or when the source is of no use any more.
pub async fn sync(
    job: SyncJob,
    site: Site,
    stop: Stop,
    progress: watch::Sender<SyncProgress>,
) -> Ended {
    let (res, from) = (site.res.clone(), job.from.clone());
    let opened = site.ports.net.open(&job.from, Class::Sync).await;
    let channel = match opened {
        Ok(channel) => channel,
        Err(error) => return lost(&job, &error),
    };
    let (asker, talk) = asker::begin(site.res.clone(), channel);
    let mut syncer = Syncer {
        next: job.start,
        front: Front::new(job.start),
        stored: job.start,
        last_store: site.ports.clock.mono(),
        chunks: JoinSet::new(),
        asker,
        progress,
        stop,
        site,
        job,
    };
    let ended = tokio::select! {
        biased;
        error = talk => lost(&syncer.job, &error),
        ended = syncer.run() => match ended {
            Ok(ended) | Err(ended) => ended,
        },
    };
    tracing::info!(%res, %from, %ended, synced = syncer.front.end(), "sync ended");
    ended
}

struct Syncer {
    job: SyncJob,
    site: Site,
    stop: Stop,
    progress: watch::Sender<SyncProgress>,
    asker: Arc<Asker>,
    chunks: JoinSet<Result<Copied, Ended>>,
    /// Where the next chunk begins.
    next: u64,
    front: Front,
    stored: u64,
    last_store: Duration,
}

impl Syncer {
    async fn run(&mut self) -> Result<Ended, Ended> {
        loop {
            self.start_chunks();
            if self.chunks.is_empty() {
                return self.finish().await;
            }
            let due = self.last_store + STORE_INTERVAL;
            let pause = due.saturating_sub(self.site.ports.clock.mono());
            tokio::select! {
                biased;
                () = self.stop.wait() => {
                    self.chunks.shutdown().await;
                    self.store().await?;
                    return Ok(Ended::Stopped);
                }
                Some(done) = self.chunks.join_next() => match done {
                    Ok(copied) => self.note(copied?),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return Ok(Ended::Stopped),
                },
                () = self.site.ports.clock.sleep(pause) => self.store().await?,
            }
        }
    }

    fn start_chunks(&mut self) {
        while self.chunks.len() < CHUNKS_MAX && self.next < self.job.size {
            let range = self.next..(self.next + CHUNK_BYTES).min(self.job.size);
            self.next = range.end;
            let (asker, replica) = (self.asker.clone(), self.job.replica.clone());
            let from = self.job.from.clone();
            let copying = self.site.copying.clone();
            self.chunks
                .spawn(copy_chunk(range, from, asker, replica, copying));
        }
    }

    fn note(&mut self, copied: Copied) {
        self.front.add(copied.range);
        let synced = self.front.end();
        self.progress.send_modify(|progress| {
            progress.synced = synced;
            progress.equal_bytes += copied.equal_bytes;
            progress.copied_bytes += copied.copied_bytes;
            progress.chunks += 1;
            let seen = progress.consistent_after.take();
            progress.consistent_after = seen.max(Some(copied.not_after));
        });
    }

    /// What is contiguous, after a flush that began later (invariant 36).
    async fn store(&mut self) -> Result<(), Ended> {
        self.last_store = self.site.ports.clock.mono();
        let end = self.front.end();
        if end > self.stored {
            self.flush().await?;
            let path = key::syncstatus(&self.site.res, &self.site.here);
            self.site
                .keys
                .commit_lazy(vec![(path, Some(end.to_string()))]);
            self.stored = end;
        }
        Ok(())
    }

    /// All is copied: first where it becomes consistent, then that it is complete.
    async fn finish(&mut self) -> Result<Ended, Ended> {
        self.flush().await?;
        // Chunks copied by earlier runs may reach up to any position of their time, which was before now.
        let now = self
            .asker
            .position()
            .await
            .map_err(|error| error.ended(&self.job.from))?;
        let at = self
            .progress
            .borrow()
            .consistent_after
            .clone()
            .max(Some(now));
        let at = at.expect("one position was just asked for");
        self.progress
            .send_modify(|progress| progress.consistent_after = Some(at.clone()));
        let (res, here) = (&self.site.res, &self.site.here);
        let point = position_text(&at);
        self.commit(key::syncpos(res, here), point).await?;
        self.commit(key::syncstatus(res, here), self.job.size.to_string())
            .await?;
        Ok(Ended::Done(None))
    }

    async fn flush(&self) -> Result<(), Ended> {
        let flushed = self.job.replica.flush().await;
        flushed.map_err(|error| Ended::DiskFailed(error.to_string()))
    }

    async fn commit(&self, path: tree::Path, text: String) -> Result<(), Ended> {
        let stored = self.site.keys.commit(vec![(path, Some(text))]).await;
        stored
            .map(drop)
            .map_err(|error| Ended::KeysFailed(error.to_string()))
    }
}

/// Which part has been copied without a gap.
struct Front {
    end: u64,
    /// Beyond the first gap, by start.
    islands: BTreeMap<u64, u64>,
}

impl Front {
    fn new(start: u64) -> Front {
        Front {
            end: start,
            islands: BTreeMap::new(),
        }
    }

    fn add(&mut self, range: std::ops::Range<u64>) {
        self.islands.insert(range.start, range.end);
        while let Some(end) = self.islands.remove(&self.end) {
            self.end = end;
        }
    }

    fn end(&self) -> u64 {
        self.end
    }
}

fn position_text(at: &LogPos) -> String {
    let point = ReplayPos {
        log: at.log.clone(),
        offset: at.offset,
        dirty: 0,
    };
    point.to_string()
}

fn lost(job: &SyncJob, error: &NetError) -> Ended {
    Ended::Lost {
        from: job.from.clone(),
        error: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_stands_before_the_first_gap_whatever_lies_behind_it() {
        let mut front = Front::new(100);
        front.add(300..400);
        front.add(200..300);
        assert_eq!(front.end(), 100);
        front.add(100..200);
        assert_eq!(front.end(), 400);
    }
}
