//! The command lines: `mars`, `marsadm`, `mars-status`.
//!
//! They change the cluster only by setting keys through the daemon of this host, and read it only as a
//! [`snapshot::Snapshot`]; whether that came from the daemon or from a saved file, no verb and no view knows.
//!
//! The binary is thin; everything lies here so that tests can call it.

pub mod bench;
pub mod demo;
pub mod human;
pub mod nbd;
pub mod options;
pub mod output;
pub mod snapshot;
pub mod split_brain;
pub mod status;
pub mod view;

mod front;
pub use front::main;
