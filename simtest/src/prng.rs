//! Chance from one seed: every part of a world draws from its own stream, so that one more draw in
//! one part does not change what another part sees.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of chance. Clones share the stream.
#[derive(Clone)]
pub struct Prng(Arc<Mutex<ChaCha8Rng>>);

impl Prng {
    /// The stream of `part` in the world of `seed`.
    pub fn new(seed: u64, part: &str) -> Prng {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(part.as_bytes());
        Prng(Arc::new(Mutex::new(ChaCha8Rng::from_seed(
            *hasher.finalize().as_bytes(),
        ))))
    }

    /// A number drawn evenly from all 64-bit numbers.
    pub fn u64(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.u64() % bound }
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `permille` of 1,000 cases.
    pub fn chance(&self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of `items`; `None` when there are none.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }
}

impl node::ports::Chance for Prng {
    fn u64(&self) -> u64 {
        Prng::u64(self)
    }
}
