//! The seam between whoever talks to peers and the network: [`Net`] and [`Channel`].
//!
//! A channel carries [`Message`]s of one [`Class`] between two hosts: whole, in order, none twice, until it
//! breaks; what was under way then is lost, and both sides start again from what they have made durable. The
//! real network is [`crate::quic`]; simulations bring their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tree::Host;

use crate::counters::PeerStats;
use crate::wire::Message;

/// A future that can be kept behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a channel is for. Classes have their own limits and counters; state goes before log, log before sync,
/// so that the cluster stays able to act however much data is under way (design section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// The key tree: greetings, exchanges, pushes.
    State,
    /// Transaction logs.
    Log,
    /// First copies and repairs of whole disks.
    Sync,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Class; 3] = [Class::State, Class::Log, Class::Sync];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::State => "state",
            Class::Log => "log",
            Class::Sync => "sync",
        })
    }
}

/// Messages to and from other hosts.
pub trait Net: Send + Sync {
    /// Opens a channel to a peer, over a connection that exists or a new one. Waits out the peer's back-off
    /// first, so a caller may simply try again after an error.
    ///
    /// # Errors
    /// [`NetError`]; after a bounded time in any case.
    fn open(&self, to: &Host, class: Class) -> BoxFuture<'static, Result<Channel, NetError>>;

    /// The next channel a peer has opened to us; `None` once the network is shut down. Only one caller at a time.
    fn accept(&self) -> BoxFuture<'static, Option<Incoming>>;

    /// Who the peers are and where they listen (`ips/ip-<host>`, "address" or "address:port"). Replaces what was
    /// known; connections to hosts which are no longer named are closed.
    fn set_peers(&self, addresses: BTreeMap<Host, String>);

    /// Hosts that get nothing although their certificates are good: they have left the cluster. Replaces what was
    /// known; their connections are closed.
    fn set_refused(&self, _hosts: BTreeSet<Host>) {}

    /// Limits what this host sends of a class to all peers together, bytes per second; at once. `None` lifts the limit.
    fn set_rate(&self, _class: Class, _rate: Option<u64>) {}

    /// Counters and connections of all peers met since the start.
    fn stats(&self) -> BTreeMap<Host, PeerStats> {
        BTreeMap::new()
    }
}

/// A channel that a peer has opened.
pub struct Incoming {
    /// Who opened it, as its certificate says.
    pub from: Host,
    /// What for.
    pub class: Class,
    /// The channel.
    pub channel: Channel,
}

/// Both directions of one channel. Dropping a half closes that direction, dropping both closes the channel.
pub struct Channel {
    /// Towards the peer.
    pub tx: Box<dyn ChannelTx>,
    /// From the peer.
    pub rx: Box<dyn ChannelRx>,
}

/// The sending half.
pub trait ChannelTx: Send {
    /// Sends one message. Ready once the message is queued, not once it has arrived; waits while the queue is full,
    /// which is how a slow line is felt. Cancel-safe: a message that was given up is not sent.
    ///
    /// # Errors
    /// [`NetError`] once the channel is broken; every later call fails too.
    fn send(&mut self, message: Message) -> BoxFuture<'_, Result<(), NetError>>;
}

/// The receiving half.
pub trait ChannelRx: Send {
    /// The next message. Cancel-safe: a message is delivered or still there.
    ///
    /// # Errors
    /// [`NetError`] once the channel is broken, after all messages which had arrived before; every later call
    /// fails too.
    fn recv(&mut self) -> BoxFuture<'_, Result<Message, NetError>>;
}

impl Channel {
    /// Sends one message, see [`ChannelTx::send`].
    ///
    /// # Errors
    /// As [`ChannelTx::send`].
    pub async fn send(&mut self, message: Message) -> Result<(), NetError> {
        self.tx.send(message).await
    }

    /// The next message, see [`ChannelRx::recv`].
    ///
    /// # Errors
    /// As [`ChannelRx::recv`].
    pub async fn recv(&mut self) -> Result<Message, NetError> {
        self.rx.recv().await
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

/// Why there is no channel, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Nobody has told us where that host listens.
    #[error("no address is known for {peer}; see key ips/ip-{peer}")]
    NoAddress {
        /// The host asked for.
        peer: Host,
    },
    /// The peer does not answer, or not in time.
    #[error("{peer} is not reachable at {address}: {why}")]
    Unreachable {
        /// The host asked for.
        peer: Host,
        /// Where we tried.
        address: String,
        /// What happened.
        why: String,
    },
    /// Somebody answers, but it is not who it should be, or it does not want us.
    #[error("{peer} at {address} is not trusted: {why}")]
    NotTrusted {
        /// The host asked for.
        peer: Host,
        /// Where we tried.
        address: String,
        /// What is wrong with its certificate, or ours.
        why: String,
    },
    /// The peer closed the channel, or this side did.
    #[error("the channel to {peer} was closed")]
    Closed {
        /// The other end.
        peer: Host,
    },
    /// The connection broke.
    #[error("the connection to {peer} broke: {why}")]
    Lost {
        /// The other end.
        peer: Host,
        /// What happened.
        why: String,
    },
    /// The peer sent what it must not send.
    #[error("{peer} breaks the protocol: {why}")]
    Protocol {
        /// The other end.
        peer: Host,
        /// Which rule was broken.
        why: String,
    },
    /// This side is shutting down.
    #[error("the network of this host is shut down")]
    ShutDown,
}
