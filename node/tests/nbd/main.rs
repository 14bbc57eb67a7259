//! The NBD server, tried with bytes of our own and with the clients people use.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

mod handshake;
mod harness;
mod leaving;
mod memory_device;
mod nonsense;
mod real_clients;
mod requests;
mod tls;
