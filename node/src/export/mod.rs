//! The devices of this host as applications see them: exports of the NBD protocol.
//!
//! [`Exports`] is the list of what can be opened, kept by the main loop; [`Device`] is what stands
//! behind an entry, implemented by the logger; [`NbdServer`] is between clients and both.
//!
//! ```text
//! listen ─ server ─┬─ nbd_handshake                              negotiation, pure
//!                  └─ nbd_serve ─ inbox ─ nbd_request ─ device   one client's requests
//!                               └ outbox ─ nbd_reply ─ in_flight ┘
//! ```

mod device;
mod exports;
mod in_flight;
mod inbox;
mod listen;
mod nbd_handshake;
mod nbd_reply;
mod nbd_request;
mod nbd_serve;
pub mod nbd_wire;
mod outbox;
mod server;
mod tls;
mod usage;

pub use device::{Answer, BLOCK_MAX, BLOCK_MIN, BLOCK_PREFERRED, Device, DeviceError, Extent};
pub use exports::{ExportError, ExportState, Exports, NAME_BYTES_MAX, Opened, Refusal};
pub use listen::{ListenError, Listening, TcpSafety};
pub use nbd_handshake::{Catalog, ExportInfo, Handshake, HandshakeError, Session, Step, Tls};
pub use server::{NbdServer, Stream};
pub use tls::{NbdTls, NbdTlsError};
pub use transport::buffers::{Buffer, Buffers};
pub use usage::{Usage, UsageNow};
