//! What works while the daemon is not running: making a cluster, joining one, reading.
//!
//! The only place of the command lines that touches the state directory itself.

use std::net::IpAddr;

/// The first IPv4 address of an interface other than the loopback.
pub fn first_address() -> Option<String> {
    let addresses = if_addrs::get_if_addrs().ok()?;
    let v4 = addresses
        .iter()
        .filter(|found| !found.is_loopback())
        .map(|found| found.ip());
    v4.into_iter()
        .find(IpAddr::is_ipv4)
        .map(|ip| ip.to_string())
}
