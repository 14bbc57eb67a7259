//! The workers of the data path on disks that lose what was not flushed.
//!
//! `SEED=n cargo test -p simtest --test power_cuts` runs one seed again, `SEEDS=n` that many.

#![expect(clippy::panic, reason = "a failed check ends the test and says why")]

mod kit;
mod primary;
mod secondary;
