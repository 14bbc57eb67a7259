//! Chance from the operating system's generator.

use crate::ports::Chance;

/// Random numbers of the process, seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealChance;

impl Chance for RealChance {
    fn u64(&self) -> u64 {
        rand::random()
    }
}
