//! Received bytes one behind the other, placed so that whole blocks of the file are whole blocks of memory: what is
//! written past the page cache has to be.

use crate::io::BULK_ALIGN_BYTES;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Gathered {
    mem: Vec<u8>,
    from: usize,
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
            let mut larger = Vec::with_capacity(needed);
            larger.extend_from_slice(self.bytes());
            (self.mem, self.from) = (larger, 0);
        }
        let suits = (file_at % BULK_ALIGN_BYTES as u64) as usize;
        let here = self.mem.as_ptr().addr() % BULK_ALIGN_BYTES;
        let to = (BULK_ALIGN_BYTES + suits - here) % BULK_ALIGN_BYTES;
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
}
