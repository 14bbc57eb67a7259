//! The workers of the data path: one loop each, told what to do by a job, ending with a value.

pub mod replica;
pub mod shelf;
pub mod source;
