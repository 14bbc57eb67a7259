//! A cluster in one thread: the shipping code of several nodes under virtual time, with seeded chance.
//!
//! Time advances only when nobody can run; a seed and a commit reproduce a run exactly. Faults come in
//! through the ports: [`clock`], [`exec`], [`disk`], [`net`], [`prng`].

pub mod app;
pub mod clock;
pub mod disk;
pub mod exec;
pub mod history;
pub mod host;
pub mod known;
pub mod many;
pub mod mutations;
pub mod net;
pub mod prng;
pub mod promises;
pub mod random;
pub mod trace;
pub mod typed;
pub mod world;
