//! The newest verified bytes of a copy that is being fetched fast, for whoever reads right behind the fetcher.
//!
//! Large batches are written past the page cache ([`BlockFile::write_bulk_at`](crate::BlockFile::write_bulk_at)); without this the
//! replayer would read each of them back from the medium. Only bytes that are verified and in the file come in here, so
//! they are what a reader of the file would get; how far may be read is decided elsewhere, as for the file.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// What is kept of one log at most. A replayer that is further behind reads the file.
const KEPT_BYTES_MAX: u64 = 32 << 20;

/// One unbroken stretch of a log, in the pieces it came in.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    pieces: VecDeque<Bytes>,
    start: u64,
    end: u64,
}

impl Recent {
    /// Adds verified bytes. What does not continue the stretch begins a new one.
    pub(super) fn note(&self, offset: u64, bytes: Bytes) {
        let mut kept = self.0.lock();
        if kept.end != offset {
            *kept = Kept {
                start: offset,
                end: offset,
                ..Kept::default()
            };
        }
        kept.end += bytes.len() as u64;
        kept.pieces.push_back(bytes);
        let oldest = kept.end.saturating_sub(KEPT_BYTES_MAX);
        kept.forget_before(oldest);
    }

    /// Somebody who reads in order has come to `offset`: pieces before it are not needed any more.
    pub(super) fn forget_before(&self, offset: u64) {
        self.0.lock().forget_before(offset);
    }

    /// `len` bytes at `offset`, if all of them are here.
    pub(super) fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        let kept = self.0.lock();
        let end = offset.checked_add(len as u64)?;
        if len == 0 || offset < kept.start || kept.end < end {
            return None;
        }
        let (mut at, mut parts) = (kept.start, Vec::new());
        for piece in &kept.pieces {
            let behind = at + piece.len() as u64;
            if at >= end {
                break;
            }
            if behind > offset {
                let from = offset.saturating_sub(at) as usize;
                let to = (end - at).min(piece.len() as u64) as usize;
                parts.push(piece.slice(from..to));
            }
            at = behind;
        }
        drop(kept);
        Some(joined(parts, len))
    }
}

impl Kept {
    fn forget_before(&mut self, offset: u64) {
        while let Some(first) = self.pieces.front()
            && self.start + first.len() as u64 <= offset
        {
            self.start += first.len() as u64;
            self.pieces.pop_front();
        }
    }
}

/// Without copying where one piece holds all of it.
fn joined(mut parts: Vec<Bytes>, len: usize) -> Bytes {
    if let [_] = parts[..] {
        return parts.swap_remove(0);
    }
    let mut all = BytesMut::with_capacity(len);
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(range: std::ops::Range<u64>) -> Bytes {
        range.map(|nr| nr as u8).collect::<Vec<_>>().into()
    }

    fn kept() -> Recent {
        let recent = Recent::default();
        recent.note(100, bytes(100..110));
        recent.note(110, bytes(110..140));
        recent
    }

    #[test]
    fn what_is_kept_is_read_across_pieces_and_nothing_else() {
        let recent = kept();
        assert_eq!(recent.read(102, 3), Some(bytes(102..105)));
        assert_eq!(recent.read(100, 40), Some(bytes(100..140)));
        assert_eq!(recent.read(109, 2), Some(bytes(109..111)));
        assert_eq!(recent.read(99, 2), None);
        assert_eq!(recent.read(139, 2), None);
        assert_eq!(recent.read(120, 0), None);
    }

    #[test]
    fn a_reader_frees_what_lies_behind_it() {
        let recent = kept();
        recent.forget_before(115);
        assert_eq!(recent.read(109, 2), None);
        assert_eq!(recent.read(110, 30), Some(bytes(110..140)));
    }

    #[test]
    fn bytes_from_elsewhere_begin_a_new_stretch() {
        let recent = kept();
        recent.note(150, bytes(150..160));
        assert_eq!(recent.read(110, 5), None);
        assert_eq!(recent.read(150, 10), Some(bytes(150..160)));
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let recent = Recent::default();
        let piece = Bytes::from(vec![7; 1 << 20]);
        let pieces = KEPT_BYTES_MAX / piece.len() as u64;
        for nr in 0..=pieces {
            recent.note(nr << 20, piece.clone());
        }
        assert_eq!(recent.read(0, 1), None);
        assert!(recent.read(1 << 20, 1).is_some());
    }
}
