//! What one host does: the daemon `mars node`.

pub mod config;
pub mod export;
pub mod facts;
pub mod job;
pub mod keys;
pub mod plan;
pub mod ports;
pub mod real;
pub mod worker;
