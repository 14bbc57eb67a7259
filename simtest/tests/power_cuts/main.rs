//! The workers of the data path on disks that lose what was not flushed.
//!
//! `SEED=n cargo test -p simtest --test power_cuts` runs one seed again, `SEEDS=n` that many.

mod kit;
mod primary;
mod secondary;
