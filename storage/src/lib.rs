//! What survives a power cut: transaction logs, the underlying disk, the tree store, small files.
//!
//! Everything here is blocking and single-minded: no network, no asynchronous runtime, no time of
//! day, no chance. Callers decide when and on which thread. What this crate promises:
//!
//! - **Durable means on the medium.** Whatever says it is durable has been flushed, names in
//!   directories included.
//! - **A failed flush is final.** Nobody retries it and believes the second answer.
//! - **Nothing doubtful is applied.** Every byte of a log is covered by a checksum; reading stops
//!   at the first that does not fit.
//! - **Reads see what was acknowledged**, whatever writeback is doing ([`WriteBuffer`]).
//! - **All file access goes through [`Fs`] and [`BlockFile`]**, so a simulator can tear, forget,
//!   fail and fill up. The one exception is [`SledStore`], whose database does its own.

pub mod disk;
pub mod error;
pub mod io;
pub mod layout;
pub mod log;
pub mod reserve;
pub mod small_file;
pub mod space;
pub mod tree_store;
pub mod write_buffer;

mod interval;
mod real_fs;

pub use disk::Disk;
pub use error::{Damage, DiskError, HeaderFlaw, LogError, LogPlace, StoreError};
pub use io::{BULK_ALIGN_BYTES, BlockFile, Extent, ExtentKind, FreeSpace, Fs, OpenHow};
pub use layout::Layout;
pub use log::{
    AheadOptions, Body, Bound, Boundary, FetchedLog, HEADER_BYTES, LogEnd, LogFile, LogHeader,
    LogIdentity, LogReader, LogWriter, NewRecord, Recent, Record, Recovered, Unflushed, ZeroAhead,
    recover,
};
pub use real_fs::RealFs;
pub use reserve::Reserve;
pub use small_file::{read_small, remove_small, write_small};
pub use space::{Space, SpaceGauge, SpaceLimits};
pub use tree_store::{
    MemMedium, MemStore, Opened, SledOptions, SledStore, TreeStore, panic_is_expected,
};
pub use write_buffer::{DiskOp, Source, Unit, WriteBuffer};

/// Whether an error of the operating system says that there was no space, on the medium or in a
/// quota.
pub fn is_no_space(e: &std::io::Error) -> bool {
    matches!(
        e.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}
