//! Clusters of real daemons: separate processes, real QUIC, real sled, real files, real NBD clients.
//!
//! What the simulation cannot show is shown here. Every process is ended by its process id, also
//! when a test fails; every wait has a limit.

#![expect(
    clippy::panic,
    reason = "a failed check ends the test and shows the logs of all daemons"
)]

mod clients;
mod commands;
mod completions;
mod gone;
mod handover;
mod kill;
mod lab;
mod logs;
mod many;
mod mars;
mod partition;
mod proxy;
mod space;
mod surroundings;
mod writer;
