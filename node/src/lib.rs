//! What one host does: the daemon `mars node`.

pub mod config;
pub mod control;
pub mod daemon;
pub mod export;
pub mod facts;
pub mod gossip_loop;
pub mod job;
pub mod joining;
pub mod keys;
pub mod main_loop;
pub mod node;
pub mod plan;
pub mod ports;
pub mod real;
pub mod watch;
pub mod worker;

pub use config::{Config, Flags};
pub use daemon::run;
