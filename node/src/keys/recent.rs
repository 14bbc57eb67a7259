//! The last items of an endless numbered row, so that a reader who is not far behind can catch up.

use std::collections::VecDeque;

/// Items numbered from 1; only the newest are kept.
#[derive(Debug)]
pub struct Recent<T> {
    items: VecDeque<(u64, T)>,
    kept_max: usize,
    /// Number of the newest item that is not kept any more.
    lost: u64,
    last: u64,
}

impl<T> Recent<T> {
    /// An empty row.
    pub fn new(kept_max: usize) -> Self {
        Recent {
            items: VecDeque::new(),
            kept_max,
            lost: 0,
            last: 0,
        }
    }

    /// Appends an item under a number of the caller, not less than the last one.
    pub fn push_at(&mut self, nr: u64, item: T) {
        assert!(nr >= self.last, "numbers of recent items must not fall");
        self.last = nr;
        self.items.push_back((nr, item));
        if self.items.len() > self.kept_max
            && let Some((lost, _)) = self.items.pop_front()
        {
            self.lost = lost;
        }
    }

    /// Appends an item under the next number.
    pub fn push(&mut self, item: T) {
        self.push_at(self.last + 1, item);
    }

    /// Number of the newest item, 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// All items with a greater number, oldest first; `None` when some of them are not kept any more.
    pub fn after(&self, nr: u64) -> Option<impl Iterator<Item = &T>> {
        if nr < self.lost {
            return None;
        }
        // From the end, for readers are rarely far behind.
        let newer = self.items.iter().rev().take_while(|(own, _)| *own > nr);
        let from = self.items.len() - newer.count();
        Some(self.items.range(from..).map(|(_, item)| item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_after(recent: &Recent<u64>, nr: u64, expected: Option<&[u64]>) {
        let found: Option<Vec<u64>> = recent.after(nr).map(|items| items.copied().collect());
        assert_eq!(found.as_deref(), expected, "after {nr}");
    }

    #[test]
    fn a_reader_gets_what_is_new_or_learns_that_it_is_too_late() {
        let mut recent = Recent::new(3);
        check_after(&recent, 0, Some(&[]));
        for item in 1..=5 {
            recent.push(item);
        }
        check_after(&recent, 5, Some(&[]));
        check_after(&recent, 3, Some(&[4, 5]));
        check_after(&recent, 2, Some(&[3, 4, 5]));
        check_after(&recent, 1, None);
    }

    #[test]
    fn several_items_may_share_a_number() {
        let mut recent = Recent::new(9);
        recent.push_at(7, 1);
        recent.push_at(7, 2);
        check_after(&recent, 6, Some(&[1, 2]));
        check_after(&recent, 7, Some(&[]));
    }
}
