//! The devices of this host as applications see them: exports of the NBD protocol.
//!
//! [`Exports`] is the list of what can be opened, kept by the main loop; [`Device`] is what stands
//! behind an entry, implemented by the logger.

mod device;
mod exports;

pub use device::{
    Answer, BLOCK_MAX, BLOCK_MIN, BLOCK_PREFERRED, BoxFuture, Device, DeviceError, Extent,
};
pub use exports::{ExportError, ExportState, Exports, NAME_BYTES_MAX, Opened, Refusal};
