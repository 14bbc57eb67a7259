//! Contents of the disk for the syncers of other hosts, while this host is the acting primary.
//!
//! Every answer is read as an application would read, and settled before it leaves: the log is durable up to everything
//! that can be in it. That holds for digests too, because a block that is found equal counts as copied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transport::wire::{BODY_BYTES_MAX, Piece, RANGES_MAX};
use transport::{Channel, Message, NetError};
use tree::Resource;

use super::{Served, Stock, SyncSource};

/// Questions of one syncer which are being answered at the same time. Each may hold [`BODY_BYTES_MAX`] in memory.
const ANSWERS_MAX: u64 = 32;

/// Largest block for which a digest is computed, in bytes.
const DIGEST_BLOCK_BYTES_MAX: u32 = 1 << 20;

/// Digested by one call: as much as a chunk of our own syncer has. The write buffer is looked through once for it.
const DIGEST_STEP_BYTES: u32 = 4 << 20;

/// Most bytes one question for digests may cover: bounds what a peer can make us read.
pub(in crate::worker) const DIGEST_BYTES_MAX: u64 = 16 << 20;

/// Answers the questions of a syncer in their order; several are worked on at once.
pub(super) async fn serve_sync(channel: Channel, stock: Arc<dyn Stock>) -> Result<(), NetError> {
    let Channel { mut tx, mut rx } = channel;
    let (hand_in, mut ready) = mpsc::unbounded_channel();
    let mut working = JoinSet::new();
    let mut early = BTreeMap::new();
    let (mut asked, mut answered) = (0, 0);
    loop {
        tokio::select! {
            biased;
            Some((nr, answer)) = ready.recv() => {
                early.insert(nr, answer);
                while let Some(answer) = early.remove(&answered) {
                    tx.send(answer).await?;
                    answered += 1;
                }
            }
            question = rx.recv(), if asked - answered < ANSWERS_MAX => {
                let (question, nr) = (question?, asked);
                asked += 1;
                let (stock, hand_in) = (stock.clone(), hand_in.clone());
                let counted = stock.served().map(|served| Counted::new(served, &question));
                working.spawn(async move {
                    let answer = answer(question, &*stock).await;
                    if let Some(counted) = counted {
                        counted.answered_by(&answer);
                    }
                    // Nobody takes it when the syncer has gone meanwhile.
                    let _ = hand_in.send((nr, answer));
                });
            }
            Some(_) = working.join_next() => {}
        }
    }
}

/// One question under way, as the counters know it.
struct Counted {
    served: Arc<Served>,
    bytes: u64,
}

impl Counted {
    fn new(served: Arc<Served>, question: &Message) -> Counted {
        let bytes = match question {
            Message::SyncDigests { ranges, .. } | Message::SyncBlocks { ranges, .. } => ranges
                .iter()
                .fold(0, |sum: u64, (_, len)| sum.saturating_add(*len)),
            _ => 0,
        };
        served.flying.fetch_add(1, Relaxed);
        Counted { served, bytes }
    }

    fn answered_by(self, answer: &Message) {
        if !matches!(answer, Message::SyncRefused { .. }) {
            self.served.bytes.fetch_add(self.bytes, Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.served.flying.fetch_sub(1, Relaxed);
    }
}

/// The answer to one question.
async fn answer(question: Message, stock: &dyn Stock) -> Message {
    let (id, worked) = match question {
        Message::SyncDigests {
            resource,
            id,
            ranges,
            block,
        } => {
            let asked = Asked::new(stock, resource, id, ranges);
            (id, digests(asked, block).await)
        }
        Message::SyncBlocks {
            resource,
            id,
            ranges,
        } => {
            let asked = Asked::new(stock, resource, id, ranges);
            (id, contents(asked).await)
        }
        _ => (0, Err("that is no question of a syncer".to_owned())),
    };
    worked.unwrap_or_else(|reason| Message::SyncRefused { id, reason })
}

/// A question about ranges of a device.
struct Asked {
    resource: Resource,
    id: u64,
    ranges: Vec<(u64, u64)>,
    source: Option<Arc<dyn SyncSource>>,
}

impl Asked {
    fn new(stock: &dyn Stock, resource: Resource, id: u64, ranges: Vec<(u64, u64)>) -> Asked {
        Asked {
            source: stock.sync_source(&resource),
            resource,
            id,
            ranges,
        }
    }

    /// Nothing a peer asks for may cost more than a bounded amount.
    fn check(&self, bytes_max: u64) -> Result<&Arc<dyn SyncSource>, String> {
        let Some(source) = &self.source else {
            return Err(format!(
                "this host is not the acting primary of {}",
                self.resource
            ));
        };
        if self.ranges.len() > RANGES_MAX {
            return Err(format!("{} ranges are too many", self.ranges.len()));
        }
        let mut total = 0u64;
        for (at, len) in &self.ranges {
            let end = at.checked_add(*len);
            if *len == 0 || end.is_none_or(|end| end > source.size()) {
                return Err(format!("{len} bytes at {at} are not within the device"));
            }
            total = total.saturating_add(*len);
        }
        match total <= bytes_max {
            true => Ok(source),
            false => Err(format!("{total} bytes are too many for one question")),
        }
    }
}

async fn digests(asked: Asked, block: u32) -> Result<Message, String> {
    let source = asked.check(DIGEST_BYTES_MAX)?;
    if block == 0 || block > DIGEST_BLOCK_BYTES_MAX {
        return Err(format!("digests of {block} bytes are not offered"));
    }
    let count = |(_, len): &(u64, u64)| len.div_ceil(block.into());
    let count: u64 = asked.ranges.iter().map(count).sum();
    if count > RANGES_MAX as u64 {
        return Err(format!("{count} digests are too many for one answer"));
    }
    let mut digests = Vec::with_capacity(count as usize);
    for (at, len) in &asked.ranges {
        for (at, len) in parts(*at, *len, DIGEST_STEP_BYTES / block * block) {
            digests.extend(source.digests(at, len.into(), block).await?);
        }
    }
    let at = source.settle().await?;
    let id = asked.id;
    Ok(Message::SyncDigestsAre { id, digests, at })
}

async fn contents(asked: Asked) -> Result<Message, String> {
    let source = asked.check(BODY_BYTES_MAX as u64)?;
    let not_before = source.newest();
    let mut pieces = Vec::with_capacity(asked.ranges.len());
    for (at, len) in &asked.ranges {
        let bytes = source.read(*at, *len as u32).await?;
        pieces.push(Piece { offset: *at, bytes });
    }
    let not_after = source.settle().await?;
    Ok(Message::SyncBlocksAre {
        id: asked.id,
        pieces,
        not_before,
        not_after,
    })
}

/// Cuts a range into pieces of at most `max` bytes.
pub(in crate::worker) fn parts(at: u64, len: u64, max: u32) -> impl Iterator<Item = (u64, u32)> {
    (0..len.div_ceil(max.into())).map(move |nr| {
        let done = nr * u64::from(max);
        (at + done, (len - done).min(max.into()) as u32)
    })
}
