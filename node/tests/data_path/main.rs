//! The workers of the data path on real files, real threads and channels in memory.
//!
//! What a power cut does to them is the business of the simulation; here a crash is what `kill -9` leaves behind.

#![expect(clippy::panic, reason = "a failed check ends the test and says why")]

mod crash;
mod failing;
mod fetching;
mod kit;
mod logging;
mod replaying;
mod syncing;
