//! node

pub mod export;
