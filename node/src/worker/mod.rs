//! The workers of the data path: one loop each, told what to do by a job, ending with a value.

pub mod bypass;
mod digests;
pub mod fetcher;
pub mod gate;
pub mod hand;
pub mod logger;
pub mod replayer;
pub mod replica;
pub mod shelf;
pub mod source;
pub mod syncer;
