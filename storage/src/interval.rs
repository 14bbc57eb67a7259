//! A map from byte ranges to values: pieces never overlap, and a value can be cut where its range
//! is cut.
//!
//! Every operation costs O(log n) plus the pieces it touches.

use std::collections::BTreeMap;
use std::ops::Range;

/// A value that belongs to a range and can be narrowed with it.
pub(crate) trait Cut {
    /// The value for `range` relative to the start of the present one.
    fn cut(&self, range: Range<u64>) -> Self;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct IntervalMap<V> {
    /// By first byte; the end lies in the value.
    pieces: BTreeMap<u64, Piece<V>>,
}

#[derive(Debug)]
struct Piece<V> {
    end: u64,
    value: V,
}

impl<V: Cut> IntervalMap<V> {
    pub fn new() -> IntervalMap<V> {
        IntervalMap {
            pieces: BTreeMap::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Adds a piece where none is.
    pub fn put(&mut self, range: Range<u64>, value: V) {
        debug_assert!(!self.touches(&range), "pieces never overlap");
        self.pieces.insert(
            range.start,
            Piece {
                end: range.end,
                value,
            },
        );
    }

    /// Takes out everything within `range`, ascending. Pieces that reach beyond are cut.
    pub fn carve(&mut self, range: Range<u64>) -> Vec<(Range<u64>, V)> {
        // The usual cases with as few searches as possible: nothing there, or exactly this range.
        match self.pieces.range(..range.end).next_back() {
            Some((&start, piece)) if piece.end > range.start => {
                if (start..piece.end) == range {
                    return self.take(start).into_iter().collect();
                }
            }
            _ => return Vec::new(),
        }
        self.split_at(range.start);
        self.split_at(range.end);
        let mut out = Vec::new();
        while let Some((&start, _)) = self.pieces.range(range.clone()).next() {
            let piece = self.pieces.remove(&start).expect("just found");
            out.push((start..piece.end, piece.value));
        }
        out
    }

    /// Parts of pieces within `range`, ascending, with the range they cover.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, V)> {
        self.overlapping(range.clone()).map(move |(piece, value)| {
            let cut = piece.start.max(range.start)..piece.end.min(range.end);
            let value = value.cut(cut.start - piece.start..cut.end - piece.start);
            (cut, value)
        })
    }

    /// Whole pieces that overlap `range`, ascending.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &V)> {
        let first = match self.pieces.range(..range.start).next_back() {
            Some((&start, piece)) if piece.end > range.start => start,
            _ => range.start,
        };
        let end = range.end.max(first);
        self.pieces
            .range(first..end)
            .map(|(&start, piece)| (start..piece.end, &piece.value))
    }

    /// Whole pieces that begin at or behind `from`, ascending.
    pub fn from(&self, from: u64) -> impl Iterator<Item = (Range<u64>, &V)> {
        self.pieces
            .range(from..)
            .map(|(&start, piece)| (start..piece.end, &piece.value))
    }

    /// Whether any piece overlaps `range`.
    pub fn touches(&self, range: &Range<u64>) -> bool {
        self.overlapping(range.clone()).next().is_some()
    }

    /// Parts of `range` without a piece, ascending.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        let mut here = range.start;
        for (piece, _) in self.overlapping(range.clone()) {
            if piece.start > here {
                out.push(here..piece.start);
            }
            here = piece.end;
        }
        if here < range.end {
            out.push(here..range.end);
        }
        out
    }

    /// Takes out the whole piece that begins at `start`.
    pub fn take(&mut self, start: u64) -> Option<(Range<u64>, V)> {
        self.pieces
            .remove(&start)
            .map(|piece| (start..piece.end, piece.value))
    }

    fn split_at(&mut self, at: u64) {
        let Some((&start, piece)) = self.pieces.range_mut(..at).next_back() else {
            return;
        };
        if piece.end <= at {
            return;
        }
        let right = Piece {
            end: piece.end,
            value: piece.value.cut(at - start..piece.end - start),
        };
        piece.value = piece.value.cut(0..at - start);
        piece.end = at;
        self.pieces.insert(at, right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The name of a write, and how far into it a piece begins.
    impl Cut for (u32, u64) {
        fn cut(&self, range: Range<u64>) -> Self {
            (self.0, self.1 + range.start)
        }
    }

    proptest! {
        #[test]
        fn carving_and_putting_equals_painting_single_bytes(
            writes in prop::collection::vec((0u64..64, 1u64..32), 1..40),
        ) {
            let mut map = IntervalMap::new();
            let mut bytes = vec![None; 96];
            for (name, (at, len)) in writes.into_iter().enumerate() {
                let range = at..at + len;
                let removed: u64 = map.carve(range.clone()).iter().map(|(r, _)| r.end - r.start).sum();
                let painted = bytes[at as usize..(at + len) as usize].iter().flatten().count();
                prop_assert_eq!(removed, painted as u64);
                map.put(range, (name as u32, 0));
                for i in 0..len {
                    bytes[(at + i) as usize] = Some((name as u32, i));
                }
            }
            for at in 0..96 {
                let seen = map.within(at..at + 1).map(|(_, v)| v).next();
                prop_assert_eq!(seen, bytes[at as usize]);
            }
            let free: u64 = map.gaps(0..96).iter().map(|r| r.end - r.start).sum();
            prop_assert_eq!(free, bytes.iter().filter(|b| b.is_none()).count() as u64);
        }
    }
}
