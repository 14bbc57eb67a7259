//! Memory for the data of large requests, used again and again.
//!
//! Large pieces of memory come from the system page by page, zeroed, and go back to it when they
//! are freed; for a stream of 1 MiB requests that costs more than copying the data. A pool keeps a
//! bounded amount of such pieces. The bytes in a piece are those of its last use until they are
//! overwritten, so whoever takes one has to fill it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Pieces below this length are not worth keeping; the allocator is good at them.
const POOLED_BYTES_MIN: usize = 64 << 10;

/// What one pool keeps at most, in bytes.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// A pool of buffers. Cloning shares it.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    free: Vec<Vec<u8>>,
    bytes: usize,
}

/// A buffer of the wanted length, with any content. Goes back to its pool when it is dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Option<Buffers>,
}

impl Buffers {
    /// A buffer of `len` bytes.
    pub fn take(&self, len: usize) -> Buffer {
        if len < POOLED_BYTES_MIN {
            return Buffer {
                bytes: vec![0; len],
                pool: None,
            };
        }
        let mut bytes = self.kept(len).unwrap_or_else(|| Vec::with_capacity(len));
        bytes.resize(len, 0);
        Buffer {
            bytes,
            pool: Some(self.clone()),
        }
    }

    /// The latest one that is large enough but not much larger: whoever accounts for its length
    /// must not be far from the truth.
    fn kept(&self, len: usize) -> Option<Vec<u8>> {
        let mut kept = self.0.lock();
        let fits = |bytes: &Vec<u8>| (len..=len + len / 4).contains(&bytes.capacity());
        let place = kept.free.iter().rposition(fits)?;
        let bytes = kept.free.remove(place);
        kept.bytes -= bytes.capacity();
        Some(bytes)
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut kept = self.0.lock();
        if kept.bytes + bytes.capacity() <= KEPT_BYTES_MAX {
            kept.bytes += bytes.capacity();
            kept.free.push(bytes);
        }
    }
}

impl Buffer {
    /// The content, no longer to be changed. The buffer goes back when the last clone is dropped.
    pub fn freeze(self) -> Bytes {
        match self.pool {
            Some(_) => Bytes::from_owner(self),
            None => Bytes::from(std::mem::take(&mut { self }.bytes)),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_used_again_and_has_the_wanted_length() {
        let pool = Buffers::default();
        let first = pool.take(1 << 20).freeze();
        let place = first.as_ptr();
        let clone = first.clone();
        drop(first);
        assert_ne!(
            pool.take(1 << 20).as_ptr(),
            place,
            "still in use by a clone"
        );
        drop(clone);
        let again = pool.take(900_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 900_000));
    }

    #[test]
    fn what_is_kept_is_bounded_and_fits_its_use() {
        let pool = Buffers::default();
        let many: Vec<Buffer> = (0..40).map(|_| pool.take(1 << 20)).collect();
        drop(many);
        assert!(pool.0.lock().bytes <= KEPT_BYTES_MAX);
        assert!(!pool.0.lock().free.is_empty());
        assert!(
            pool.kept(100_000).is_none(),
            "a small one would hold a large one"
        );
        let small = pool.take(100);
        assert_eq!((small.len(), small.pool.is_none()), (100, true));
    }
}
