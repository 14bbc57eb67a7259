//! The real ports: the only place of this package with threads, blocking calls, the time of day
//! and randomness. Nothing here decides anything.

pub mod chance;
pub mod clock;
pub mod control_socket;
pub mod exec;
pub mod host_lock;
pub mod own_thread;
pub mod panics;
pub mod signals;
