//! What one host does: the daemon `mars node`.

pub mod export;
pub mod ports;
