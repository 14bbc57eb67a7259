//! One chunk of a sync: compare coarsely, compare finely, fetch what differs.
//!
//! A block that is found equal needs no protection from replay: whatever replay brings to it is right, and replay will pass
//! the position up to which the compared block may reach. A block that is fetched is watched from before the
//! question until it is on the disk, see [`Replica`].

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::try_join_all;
use transport::wire::BODY_BYTES_MAX;
use tree::{Host, LogPos};

use super::asker::Asker;
use crate::job::{Copying, Ended, UnderWay};
use crate::worker::replica::Replica;
use crate::worker::source::{BlockDigest, DIGEST_BYTES_MAX, parts};

/// Blocks of the first comparison.
const COARSE_BYTES: u32 = 1 << 20;

/// Blocks of the second one, and the unit of copying.
const FINE_BYTES: u32 = 4096;

/// Ranges in one question for contents.
const RANGES_PER_QUESTION_MAX: usize = 256;

const _: () = assert!(super::CHUNK_BYTES <= DIGEST_BYTES_MAX);

/// A chunk that is now as the source had it.
#[derive(Debug)]
pub(super) struct Copied {
    pub range: Range<u64>,
    pub equal_bytes: u64,
    pub copied_bytes: u64,
    /// Nothing in it is from behind this position.
    pub not_after: LogPos,
}

/// Makes a chunk equal to that of the source.
pub(super) async fn copy_chunk(
    range: Range<u64>,
    from: Host,
    asker: Arc<Asker>,
    replica: Arc<Replica>,
    copying: Arc<Copying>,
) -> Result<Copied, Ended> {
    let work = Chunk {
        from: &from,
        asker: &asker,
        replica: &replica,
        copying: &copying,
    };
    let whole = vec![(range.start, range.end - range.start)];
    let (coarse, mut not_after) = work.differing(whole, COARSE_BYTES).await?;
    let mut copied_bytes = 0;
    if !coarse.is_empty() {
        let (fine, at) = work.differing(joined(coarse), FINE_BYTES).await?;
        not_after = not_after.max(at);
        // All at once: one after the other, each of them would cost a round trip of a long line.
        let copies = questions(joined(fine)).into_iter();
        for (bytes, at) in try_join_all(copies.map(|question| work.copy(question))).await? {
            copied_bytes += bytes;
            not_after = not_after.max(at);
        }
    }
    Ok(Copied {
        equal_bytes: range.end - range.start - copied_bytes,
        copied_bytes,
        not_after,
        range,
    })
}

struct Chunk<'a> {
    from: &'a Host,
    asker: &'a Asker,
    replica: &'a Arc<Replica>,
    copying: &'a Copying,
}

impl Chunk<'_> {
    /// The blocks of the ranges which are not the same on both sides.
    async fn differing(
        &self,
        ranges: Vec<(u64, u64)>,
        block: u32,
    ) -> Result<(Vec<(u64, u64)>, LogPos), Ended> {
        let asked = async {
            let _reading = UnderWay::new(&self.copying.reading);
            self.asker.digests(ranges.clone(), block).await
        };
        let (theirs, ours) = tokio::join!(asked, self.own_digests(&ranges, block));
        let (theirs, at) = theirs.map_err(|error| error.ended(self.from))?;
        let blocks = ranges.iter().flat_map(|(at, len)| parts(*at, *len, block));
        let pairs = theirs.into_iter().zip(ours?);
        let unequal = blocks
            .zip(pairs)
            .filter(|(_, (theirs, ours))| theirs != ours);
        let unequal = unequal.map(|((at, len), _)| (at, u64::from(len)));
        Ok((unequal.collect(), at))
    }

    async fn own_digests(
        &self,
        ranges: &[(u64, u64)],
        block: u32,
    ) -> Result<Vec<BlockDigest>, Ended> {
        let mut digests = Vec::new();
        for (at, len) in ranges {
            let read = self.replica.digests(*at, *len, block).await;
            digests.extend(read.map_err(|error| Ended::DiskFailed(error.to_string()))?);
        }
        Ok(digests)
    }

    /// Fetches ranges and writes them, except where replay was faster with something newer.
    async fn copy(&self, ranges: Vec<(u64, u64)>) -> Result<(u64, LogPos), Ended> {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
            unreachable!("questions are never empty");
        };
        let _room = self.asker.room_for_contents().await;
        let watch = self.replica.watch(first.0..last.0 + last.1);
        let bytes = ranges.iter().map(|(_, len)| len).sum();
        let reading = UnderWay::new(&self.copying.reading);
        let contents = self.asker.contents(ranges).await;
        drop(reading);
        let contents = contents.map_err(|error| error.ended(self.from))?;
        for piece in contents.pieces {
            let _writing = UnderWay::new(&self.copying.writing);
            let not_before = contents.not_before.clone();
            let placed = self
                .replica
                .place(&watch, piece.offset, piece.bytes, not_before);
            placed
                .await
                .map_err(|error| Ended::DiskFailed(error.to_string()))?;
        }
        Ok((bytes, contents.not_after))
    }
}

/// Adjacent ranges as one.
fn joined(ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (at, len) in ranges {
        match out.last_mut() {
            Some(last) if last.0 + last.1 == at => last.1 += len,
            _ => out.push((at, len)),
        }
    }
    out
}

/// Cuts ascending ranges into questions whose answers fit into one message.
fn questions(ranges: Vec<(u64, u64)>) -> Vec<Vec<(u64, u64)>> {
    let pieces = ranges
        .into_iter()
        .flat_map(|(at, len)| parts(at, len, BODY_BYTES_MAX as u32));
    let (mut out, mut rest) = (Vec::new(), 0);
    for (at, len) in pieces {
        let full = out
            .last()
            .is_none_or(|question: &Vec<_>| question.len() >= RANGES_PER_QUESTION_MAX);
        if full || u64::from(len) > rest {
            out.push(Vec::new());
            rest = BODY_BYTES_MAX as u64;
        }
        rest -= u64::from(len);
        let last = out.last_mut().expect("one was just pushed or was there");
        last.push((at, u64::from(len)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_gaps_kept() {
        let ranges = vec![(0, 10), (10, 5), (20, 5)];
        assert_eq!(joined(ranges), [(0, 15), (20, 5)]);
    }

    #[test]
    fn no_answer_is_larger_than_a_message_and_nothing_is_forgotten() {
        let mib = 1 << 20;
        let asked = questions(vec![(0, mib / 2), (mib, mib), (3 * mib, 2 * mib + 7)]);
        let sums = asked
            .iter()
            .map(|question| question.iter().map(|(_, len)| len).sum::<u64>());
        assert!(sums.clone().all(|sum| sum <= mib));
        assert_eq!(sums.sum::<u64>(), mib / 2 + mib + 2 * mib + 7);
    }

    #[test]
    fn a_question_names_a_bounded_number_of_ranges() {
        let scattered = (0..1000).map(|nr| (nr * 8192, 4096)).collect();
        let asked = questions(scattered);
        assert!(
            asked
                .iter()
                .all(|question| question.len() <= RANGES_PER_QUESTION_MAX)
        );
        assert_eq!(asked.iter().map(Vec::len).sum::<usize>(), 1000);
    }
}
