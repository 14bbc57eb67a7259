//! Received bytes one behind the other, placed so that whole blocks of the file are whole blocks of memory: what is
//! written past the page cache has to be.

use crate::io::BULK_ALIGN_BYTES;
use bytes::Bytes;
use std::sync::Arc;

/// Memory that was lent and may come back.
const LENT_MAX: usize = 6;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Gathered {
    mem: Vec<u8>,
    from: usize,
    /// Fresh memory comes from the system page by page, zeroed; used again it costs nothing.
    lent: Vec<Arc<Vec<u8>>>,
}

/// Memory somebody else reads too.
struct Lent(Arc<Vec<u8>>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Gathered {
    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        &self.mem[self.from..]
    }

    /// How much.
    pub fn len(&self) -> usize {
        self.mem.len() - self.from
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes behind the others.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.mem.extend_from_slice(bytes);
    }

    /// Makes room for `more` bytes, and moves those which are there to memory that suits their place in the file.
    pub fn place_for(&mut self, file_at: u64, more: usize) {
        let len = self.len();
        let needed = BULK_ALIGN_BYTES + len + more;
        if self.mem.capacity() < needed {
            // In few sizes, so that what comes back fits the next time.
            let mut larger = Vec::with_capacity(needed.next_power_of_two());
            larger.extend_from_slice(self.bytes());
            (self.mem, self.from) = (larger, 0);
        }
        let to = place_in(&self.mem, file_at);
        self.mem.resize(self.mem.len().max(to + len), 0);
        self.mem.copy_within(self.from..self.from + len, to);
        self.mem.truncate(to + len);
        self.from = to;
    }

    /// Drops the first `done` bytes. The memory is kept as long as about as much of it is used.
    pub fn drop_first(&mut self, done: usize) {
        let used = self.mem.len();
        self.from += done;
        if used < self.mem.capacity() / 4 {
            (self.mem, self.from) = (self.bytes().to_vec(), 0);
        }
    }

    /// Memory that was lent is not wanted back.
    pub fn forget_lent(&mut self) {
        self.lent.clear();
    }

    /// Takes the first `done` bytes off, for somebody who keeps them; `rest_at` is the place of the rest in the file. Their
    /// memory is used again when it is free.
    pub fn lend_first(&mut self, done: usize, rest_at: u64) -> Bytes {
        let mut next = self.returned();
        let rest = &self.bytes()[done..];
        next.reserve(BULK_ALIGN_BYTES + rest.len());
        let to = place_in(&next, rest_at);
        next.resize(to, 0);
        next.extend_from_slice(rest);
        let lent = Arc::new(std::mem::replace(&mut self.mem, next));
        let from = std::mem::replace(&mut self.from, to);
        self.lent.truncate(LENT_MAX - 1);
        self.lent.insert(0, lent.clone());
        Bytes::from_owner(Lent(lent)).slice(from..from + done)
    }

    /// Memory that nobody reads any more, or none.
    fn returned(&mut self) -> Vec<u8> {
        let free = |lent: &Arc<Vec<u8>>| Arc::strong_count(lent) == 1;
        let place = self.lent.iter().rposition(free);
        let memory = place.and_then(|place| Arc::into_inner(self.lent.remove(place)));
        let mut memory = memory.unwrap_or_default();
        memory.clear();
        memory
    }
}

/// Where bytes have to begin in `mem` so that blocks of it are blocks of the file.
fn place_in(mem: &[u8], file_at: u64) -> usize {
    let suits = (file_at % BULK_ALIGN_BYTES as u64) as usize;
    let here = mem.as_ptr().addr() % BULK_ALIGN_BYTES;
    (BULK_ALIGN_BYTES + suits - here) % BULK_ALIGN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_place(gathered: &Gathered, file_at: u64, expected: &[u8]) {
        let place = gathered.bytes().as_ptr().addr() as u64;
        let align = BULK_ALIGN_BYTES as u64;
        assert_eq!(place % align, file_at % align, "for place {file_at}");
        assert_eq!(gathered.bytes(), expected);
    }

    #[test]
    fn bytes_lie_in_memory_as_in_the_file_whatever_was_taken_before() {
        let mut gathered = Gathered::default();
        let mut expected: Vec<u8> = Vec::new();
        let mut at = 4096 + 64;
        for round in 0..50usize {
            let more = vec![round as u8; 3000 + 777 * round];
            gathered.place_for(at, more.len());
            gathered.extend(&more);
            expected.extend_from_slice(&more);
            check_place(&gathered, at, &expected);
            let done = expected.len() / 2;
            gathered.drop_first(done);
            expected.drain(..done);
            at += done as u64;
        }
    }

    #[test]
    fn memory_that_was_needed_once_is_not_kept_for_little() {
        let mut gathered = Gathered::default();
        gathered.place_for(0, 1 << 20);
        gathered.extend(&vec![1; 1 << 20]);
        gathered.drop_first((1 << 20) - 10);
        gathered.place_for(7, 10);
        gathered.extend(&[2; 10]);
        assert_eq!(gathered.len(), 20);
        gathered.drop_first(20);
        gathered.place_for(7, 10);
        gathered.drop_first(0);
        assert!(gathered.mem.capacity() < 1 << 18);
        assert!(gathered.is_empty());
    }

    #[test]
    fn what_is_lent_stays_as_it_is_and_its_memory_comes_back() {
        let mut gathered = Gathered::default();
        let mut at = 4096 + 64;
        let mut kept = std::collections::VecDeque::new();
        for round in 0..50u8 {
            gathered.place_for(at, 300_000);
            gathered.extend(&vec![round; 300_000]);
            let done = gathered.len() - usize::from(round) * 100;
            at += done as u64;
            let lent = gathered.lend_first(done, at);
            check_place(&gathered, at, &vec![round; usize::from(round) * 100]);
            // Four are kept at once, so from the fifth on one is free.
            let fresh = gathered.mem.capacity() < 300_000;
            assert_eq!(fresh, round < 4, "memory of round {round}");
            kept.push_back((round, lent));
            if kept.len() > 3 {
                kept.pop_front();
            }
            for (round, lent) in &kept {
                assert_eq!(lent.last(), Some(round));
            }
        }
    }
}
