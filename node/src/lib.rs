//! What one host does: the daemon `mars node`.

pub mod export;
pub mod job;
pub mod ports;
pub mod real;
pub mod worker;
