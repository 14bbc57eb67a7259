//! The command lines: `mars`, `marsadm`, `mars-status`.
//!
//! They change the cluster only by setting keys through the daemon of this host, and read it only as a
//! [`snapshot::Snapshot`]; whether that came from the daemon or from a saved file, no verb and no view knows.
//!
//! The binary is thin; everything lies here so that tests can call it.

pub mod args;
pub mod bench;
pub mod chain;
pub mod check;
pub mod completions;
pub mod console;
pub mod daemon;
pub mod demo;
pub mod disk;
pub mod dump;
pub mod gate;
pub mod help;
pub mod hooks;
pub mod human;
pub mod json;
pub mod man;
pub mod mars;
pub mod marsadm;
pub mod natural;
pub mod nbd;
pub mod node_dir;
pub mod offline;
pub mod options;
pub mod output;
pub mod parallel;
pub mod phases;
pub mod ping;
pub mod scope;
pub mod session;
pub mod snapshot;
pub mod split_brain;
pub mod state_dir;
pub mod status;
pub mod syslog;
pub mod tree_cli;
pub mod verb;
pub mod verbs;
pub mod view;
pub mod wait;

mod front;
mod node_cmd;
pub use front::main;
