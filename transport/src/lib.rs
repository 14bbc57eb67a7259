//! How hosts talk: messages, channels, the real network, and the local control socket.
//!
//! - [`wire`] and [`frame`]: what is said, byte by byte, with the limits that keep a hostile peer small.
//! - [`net`]: the seam: [`Net`](net::Net) opens and accepts [`Channel`](net::Channel)s.
//! - [`control`]: the local socket between the daemon and its command lines.
//!
//! Nothing here opens a data file or changes the tree.

pub mod bucket;
pub mod buffers;
mod channel;
pub mod control;
pub mod counters;
pub mod dial;
pub mod frame;
pub mod join;
pub mod line;
mod link;
pub mod net;
pub mod peers;
pub mod quic;
pub mod rate_control;
pub mod socket;
pub mod tls;
pub mod wire;

pub use net::{BoxFuture, Channel, ChannelRx, ChannelTx, Class, Incoming, Net, NetError};
pub use wire::Message;
