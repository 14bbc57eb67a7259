//! What an application knows about its device: every change it asked for, in order, and how much of it
//! must survive.
//!
//! A device is divided into units. Every write fills whole units with its own number, so each unit of an
//! image tells which write it came from; zeroes and trims leave 0. A [`Branch`] is one total order of
//! writes (data-path invariant 1): an image is right when it equals some prefix of it that is long
//! enough (invariants 6 to 8, 16). A forced failover begins another branch.

use std::collections::BTreeSet;
use std::ops::Range;

/// Bytes filled with one number. Not a multiple of a sector on purpose: changes are torn inside sectors.
pub const UNIT_BYTES: u64 = 256;

/// One total order of changes.
#[derive(Clone, Debug)]
pub struct Branch {
    /// For each unit the changes that touched it: position in the order, and number written.
    units: Vec<Vec<(u64, u64)>>,
    /// Changes so far.
    len: u64,
    /// So many must survive a crash: covered by a flush or FUA that was answered.
    durable: u64,
    /// So many were answered; positions behind may have been answered, too.
    answered: u64,
    /// Changes that were answered with an error: any part of them may be there.
    failed: BTreeSet<u64>,
}

/// Stands for anything: what a write left of a unit that it was not able to finish.
const ANYTHING: u64 = u64::MAX;

/// Why an image is not what any prefix gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The image has another size than the device.
    #[error("image of {have} units, the device has {want}")]
    Size {
        /// Units in the image.
        have: usize,
        /// Units of the device.
        want: usize,
    },
    /// One unit holds pieces of several changes (invariant 5).
    #[error("unit {0} is torn")]
    Torn(usize),
    /// One unit holds a number that was never written to it on this branch.
    #[error("unit {unit} holds change {number}, which this history does not know there")]
    Unknown {
        /// The unit.
        unit: usize,
        /// What it holds.
        number: u64,
    },
    /// Each unit is from the history, but from different times.
    #[error(
        "no moment of the history looks so: unit {early} is at most at {high}, unit {late} at least at {low}"
    )]
    Mixture {
        /// Unit that is too old.
        early: usize,
        /// It looked so only before this position.
        high: u64,
        /// Unit that is too new.
        late: usize,
        /// It looked so only from this position on.
        low: u64,
    },
    /// The image is a state of the past, but one that is too old.
    #[error("only the first {found} changes are there, {promised} were promised")]
    Lost {
        /// Changes in the image.
        found: u64,
        /// Changes that had to survive.
        promised: u64,
    },
}

impl Branch {
    /// The history of a device of zero bytes.
    pub fn new(size: u64) -> Branch {
        let units = usize::try_from(size / UNIT_BYTES).unwrap_or(0);
        Branch {
            units: vec![Vec::new(); units],
            len: 0,
            durable: 0,
            answered: 0,
            failed: BTreeSet::new(),
        }
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Changes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was ever changed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Changes that must survive.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Changes that were answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Notes a change of `units` to `number` (0 for zeroes); returns its position in the order.
    pub fn change(&mut self, units: Range<usize>, number: u64) -> u64 {
        let at = self.len;
        for unit in units {
            self.units[unit].push((at, number));
        }
        self.len += 1;
        at
    }

    /// The change at `at` was answered, and with it everything before counts as ordered.
    pub fn note_answered(&mut self, at: u64) {
        self.answered = self.answered.max(at + 1);
    }

    /// The change at `at` was answered with an error.
    pub fn note_failed(&mut self, at: u64) {
        self.failed.insert(at);
    }

    /// The first `count` changes must survive from now on.
    pub fn note_durable(&mut self, count: u64) {
        self.durable = self.durable.max(count).min(self.len);
    }

    /// The device has answered an error: what was answered but not flushed may be gone (invariant 40).
    pub fn note_error(&mut self) {
        self.answered = self.durable;
    }

    /// How long a prefix gives this image: the range of possible lengths.
    ///
    /// # Errors
    /// [`Mismatch`] when no prefix does.
    pub fn prefix(&self, image: &[u8]) -> Result<Range<u64>, Mismatch> {
        let chunks = image.chunks(UNIT_BYTES as usize);
        if chunks.len() != self.units.len() {
            return Err(Mismatch::Size {
                have: chunks.len(),
                want: self.units.len(),
            });
        }
        let (mut low, mut late) = (0, 0);
        let (mut high, mut early) = (self.len + 1, 0);
        for (unit, bytes) in chunks.enumerate() {
            let (number, torn) = match number_of(unit, bytes) {
                Ok(number) => (number, None),
                Err(torn) => (ANYTHING, Some(torn)),
            };
            let unknown = torn.unwrap_or(Mismatch::Unknown { unit, number });
            let span = self.looked_so(unit, number).ok_or(unknown)?;
            if span.start > low {
                (low, late) = (span.start, unit);
            }
            if span.end < high {
                (high, early) = (span.end, unit);
            }
        }
        match self.greatest(image, high.saturating_sub(1)) {
            Some(len) if low < high && len >= low => Ok(low..len + 1),
            _ => Err(Mismatch::Mixture {
                early,
                high,
                late,
                low,
            }),
        }
    }

    /// The greatest length up to `len` for which every unit looks as in `image`. Zeroes come again and again, so what each
    /// unit allows by itself is not an answer.
    fn greatest(&self, image: &[u8], mut len: u64) -> Option<u64> {
        loop {
            let before = len;
            for (unit, bytes) in image.chunks(UNIT_BYTES as usize).enumerate() {
                let number = number_of(unit, bytes).unwrap_or(ANYTHING);
                len = self.last_looked_so(unit, number, len)?;
            }
            if len == before {
                return Some(len);
            }
        }
    }

    /// The greatest length up to `len` for which `unit` holds `number`.
    fn last_looked_so(&self, unit: usize, number: u64, len: u64) -> Option<u64> {
        let changes = &self.units[unit];
        let adopted = changes.first().is_some_and(|(_, first)| *first == ANYTHING);
        let seen = changes.partition_point(|(at, _)| *at < len);
        let fits = |nr: &usize| match nr.checked_sub(1).map(|last| changes[last].1) {
            Some(written) => written == number || written == ANYTHING,
            None => number == 0 && !adopted,
        };
        let nr = (0..=seen).rev().find(fits)?;
        Some(changes.get(nr).map_or(len, |(next, _)| len.min(*next)))
    }

    /// Lengths of the prefix for which `unit` holds `number`. For zeroes the last such stretch that is
    /// long enough is a guess that stays on the safe side: it spans from the first to the last one.
    fn looked_so(&self, unit: usize, number: u64) -> Option<Range<u64>> {
        let changes = &self.units[unit];
        let end_of = |nr: usize| changes.get(nr).map_or(self.len + 1, |(at, _)| at + 1);
        let adopted = changes.first().is_some_and(|(_, first)| *first == ANYTHING);
        let blank = (number == 0 && !adopted).then(|| 0..end_of(0));
        let mut found = blank;
        for (nr, (at, written)) in changes.iter().enumerate() {
            if *written == number || *written == ANYTHING {
                let from = found.map_or(at + 1, |span| span.start);
                found = Some(from..end_of(nr + 1));
            }
        }
        found
    }

    /// Checks that an image is a prefix of at least `promised` changes; returns its greatest length.
    ///
    /// # Errors
    /// [`Mismatch`] when it is none, or too short a one.
    pub fn check(&self, image: &[u8], promised: u64) -> Result<u64, Mismatch> {
        let lengths = self.prefix(image)?;
        let found = lengths.end - 1;
        if found < promised {
            return Err(Mismatch::Lost { found, promised });
        }
        Ok(found)
    }

    /// Goes on from `image`, which no log has put in order: every unit has to show its last change that must survive or
    /// a later one, or a mixture when there is a later one. The image becomes the beginning of the history.
    ///
    /// # Errors
    /// The first unit that has lost more.
    pub fn adopt(&mut self, image: &[u8]) -> Result<(), Mismatch> {
        let found: Vec<Option<u64>> = image
            .chunks(UNIT_BYTES as usize)
            .map(|bytes| number_of(0, bytes).ok())
            .collect();
        let mut begin = Vec::new();
        for (unit, number) in found.iter().enumerate() {
            let changes = self.units.get(unit).map_or(&[][..], Vec::as_slice);
            let sure = changes.partition_point(|(at, _)| *at < self.durable);
            let base = match sure.checked_sub(1).map(|last| changes[last]) {
                Some((at, _)) if self.failed.contains(&at) => ANYTHING,
                last => last.map_or(0, |(_, number)| number),
            };
            let later = &changes[sure..];
            let fine = match number {
                None => !later.is_empty() || base == ANYTHING,
                Some(n) => {
                    *n == base || base == ANYTHING || later.iter().any(|(_, written)| written == n)
                }
            };
            if !fine {
                let number = number.unwrap_or(ANYTHING);
                return Err(Mismatch::Unknown { unit, number });
            }
            begin.push(vec![(0, number.unwrap_or(ANYTHING))]);
        }
        self.units = begin;
        (self.len, self.durable, self.answered) = (1, 1, 1);
        self.failed.clear();
        Ok(())
    }

    /// What is behind the first `len` changes has never happened.
    pub fn truncate(&mut self, len: u64) {
        for changes in &mut self.units {
            while changes.last().is_some_and(|(at, _)| *at >= len) {
                changes.pop();
            }
        }
        self.failed.retain(|at| *at < len);
        self.len = self.len.min(len);
        self.durable = self.durable.min(len);
        self.answered = self.answered.min(len);
    }

    /// May a read of `units` that was asked for when `since` changes had been answered give `image`?
    ///
    /// # Errors
    /// The first unit that cannot look so, what it holds, and the newest it should hold.
    pub fn check_read(&self, first: usize, since: u64, image: &[u8]) -> Result<(), ReadError> {
        for (nr, bytes) in image.chunks(UNIT_BYTES as usize).enumerate() {
            let unit = first + nr;
            let changes = &self.units[unit];
            let settled = changes.partition_point(|(at, _)| *at < since);
            let last = settled.checked_sub(1).map(|last| changes[last]);
            let doubtful = |(at, number)| number == ANYTHING || self.failed.contains(&at);
            if last.is_some_and(doubtful) {
                continue;
            }
            let base = last.map_or(0, |(_, number)| number);
            let number = number_of(unit, bytes).map_err(|e| ReadError(e.to_string()))?;
            let later = &changes[settled..];
            if number != base && later.iter().all(|(_, written)| *written != number) {
                let text =
                    format!("unit {unit} reads as change {number} instead of {base} or newer");
                return Err(ReadError(text));
            }
        }
        Ok(())
    }
}

/// A read that gave something else than the newest completed write (invariant 2).
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(String);

/// The bytes of one unit written by change `number`.
pub fn fill(number: u64, units: usize) -> Vec<u8> {
    number.to_le_bytes().repeat(units * UNIT_BYTES as usize / 8)
}

/// The number in one unit of an image.
fn number_of(unit: usize, bytes: &[u8]) -> Result<u64, Mismatch> {
    let (words, _) = bytes.as_chunks::<8>();
    let first = words.first().copied().unwrap_or_default();
    match words.iter().all(|word| *word == first) {
        true => Ok(u64::from_le_bytes(first)),
        false => Err(Mismatch::Torn(unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_that_come_again_do_not_make_a_history_longer_than_it_is() {
        let mut branch = Branch::new(2 * UNIT_BYTES);
        branch.change(1..2, 7);
        branch.change(0..1, 8);
        branch.change(0..1, 0);
        branch.change(1..2, 9);
        let image = [fill(0, 1), fill(7, 1)].concat();
        assert_eq!(branch.check(&image, 0), Ok(3));
        branch.change(0..1, 10);
        branch.change(0..1, 0);
        assert_eq!(branch.check(&image, 0), Ok(3));
        let mixture = [fill(0, 1), fill(0, 1)].concat();
        assert_eq!(branch.check(&mixture, 0), Ok(0));
    }

    fn branch() -> Branch {
        let mut branch = Branch::new(4 * UNIT_BYTES);
        branch.change(0..2, 11);
        branch.change(1..3, 12);
        branch.change(3..4, 13);
        branch.note_durable(2);
        branch
    }

    fn image(numbers: [u64; 4]) -> Vec<u8> {
        numbers.iter().flat_map(|n| fill(*n, 1)).collect()
    }

    fn check(numbers: [u64; 4], want: Result<u64, &str>) {
        let branch = branch();
        let found = branch.check(&image(numbers), branch.durable());
        assert_eq!(
            found.map_err(|e| e.to_string()),
            want.map_err(str::to_owned)
        );
    }

    #[test]
    fn prefixes_that_are_long_enough_are_fine() {
        check([11, 12, 12, 13], Ok(3));
        check([11, 12, 12, 0], Ok(2));
    }

    #[test]
    fn a_flushed_change_that_is_gone_is_a_loss() {
        check(
            [11, 11, 0, 0],
            Err("only the first 1 changes are there, 2 were promised"),
        );
    }

    #[test]
    fn writes_past_the_log_may_be_lost_one_by_one_but_not_those_that_were_flushed() {
        let adopt = |numbers| {
            let mut branch = branch();
            let adopted = branch.adopt(&image(numbers));
            adopted.map(|()| branch)
        };
        // Only the last change was not flushed: it may be there or not, torn or whole.
        assert!(adopt([11, 12, 12, 13]).is_ok());
        assert!(adopt([11, 11, 12, 13]).is_err());
        let mut torn = image([11, 12, 12, 13]);
        torn[3 * UNIT_BYTES as usize] ^= 1;
        let mut branch = branch();
        assert_eq!(branch.adopt(&torn), Ok(()));
        assert_eq!(branch.check(&torn, 1), Ok(1));
        assert_eq!(branch.check(&image([11, 12, 12, 0]), 1), Ok(1));
        branch.change(3..4, 14);
        assert_eq!(branch.check(&image([11, 12, 12, 14]), 2), Ok(2));
        assert!(branch.check(&torn, 2).is_err());
        torn[0] ^= 1;
        assert!(branch.check(&torn, 1).is_err());
    }

    #[test]
    fn a_lost_change_before_a_kept_one_is_a_mixture() {
        check(
            [11, 11, 0, 13],
            Err("no moment of the history looks so: unit 1 is at most at 2, unit 3 at least at 3"),
        );
    }

    #[test]
    fn a_change_of_another_history_is_not_known() {
        check(
            [11, 12, 12, 99],
            Err("unit 3 holds change 99, which this history does not know there"),
        );
    }
}
