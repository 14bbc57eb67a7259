//! What is known about the line to the peers, and the QUIC settings that follow from it.
//!
//! The settings are measured ones; what goes wrong without them is said at each.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::rate_control::RateControlFactory;
use crate::wire::{BODY_BYTES_MAX, BULK_HEAD_BYTES_MAX, STATE_HEAD_BYTES_MAX};

const MIB: u64 = 1 << 20;

/// Window of one stream. A receiver gives up the whole connection when one stream has more than 1024 separate
/// gaps, which a single burst of loss can do; a window of less than 2 × 1024 packets makes that impossible. So no
/// stream is larger, and bulk data goes as one stream per chunk.
pub const STREAM_WINDOW_BYTES: u64 = 5 * MIB / 2;
const _: () = assert!(STREAM_WINDOW_BYTES < 2 * 1024 * 1300);
const _: () = assert!(STREAM_WINDOW_BYTES >= 2 * MIB + 64 * 1024);

/// Chunks one peer may have under way at a time on one connection.
pub const CHUNK_STREAMS_MAX: u32 = 256;

/// Channels one peer may have open at a time on one connection. Each can make us keep one channel window.
pub const CHANNELS_MAX: u32 = 256;

/// A packet counts as lost only when so many later ones have arrived: with the usual 3, a line that reorders
/// (1 ms of jitter at 1 Gbit/s) falls to a hundredth of its rate. Beyond 128 the receiver forgets anyway.
const PACKET_THRESHOLD: u32 = 128;

/// Silence is broken this often …
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// … and a peer that is silent for so long is gone.
pub const IDLE_MAX: Duration = Duration::from_secs(12);
const _: () = assert!(IDLE_MAX.as_millis() >= 4 * KEEP_ALIVE.as_millis());

/// Largest datagram tried on ordinary networks: an Ethernet frame less the headers.
pub const MTU_ETHERNET: u16 = 1452;
/// Largest datagram tried on the loopback interface; 2.6 times the throughput of small ones.
pub const MTU_LOOPBACK: u16 = 8952;
/// What every line carries; where the search for more begins.
const MTU_LEAST: u16 = 1200;

/// What a line carries of which nothing is said, bytes per second.
const RATE_ASSUMED: u64 = 125_000_000;

/// Given to a connection at a time at least: more than it sends within a short round trip of a fast network.
const HELD_BYTES_MIN: u64 = 8 * MIB;
const _: () = assert!(HELD_BYTES_MIN > (BULK_HEAD_BYTES_MAX + BODY_BYTES_MAX) as u64);

/// How the sending rate is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// By the configured rate when there is one, else Cubic.
    #[default]
    Auto,
    /// Cubic, whatever is configured: shares fairly, cannot use long lines that lose packets.
    Cubic,
    /// BBR version 1: for long lines of unknown rate; unfair on shallow queues.
    Bbr,
}

/// What the operator says about the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it carries, bytes per second; `None` if unknown.
    pub rate: Option<u64>,
    /// Its longest round trip.
    pub rtt_max: Duration,
    /// How the sending rate is found.
    pub congestion: Congestion,
    /// Largest datagram to try towards other machines.
    pub mtu_max: u16,
    /// Largest datagram to try towards this machine.
    pub mtu_loopback_max: u16,
}

impl Default for Line {
    /// 1 Gbit/s at 100 ms is kept filled; more needs configuration.
    fn default() -> Line {
        Line {
            rate: None,
            rtt_max: Duration::from_millis(100),
            congestion: Congestion::Auto,
            mtu_max: MTU_ETHERNET,
            mtu_loopback_max: MTU_LOOPBACK,
        }
    }
}

impl Line {
    /// Bytes that are under way when the line is full.
    pub fn bytes_in_flight(&self) -> u64 {
        let rate = self.rate.unwrap_or(RATE_ASSUMED);
        (rate as f64 * self.rtt_max.as_secs_f64()) as u64
    }

    /// Window of one channel: what the receiver keeps for a consumer that does not take it. One round trip of bytes is under
    /// way, one waits until what was lost in front of it has come again, a third until that was lost again, and the
    /// credit for all that travels back.
    pub fn channel_window(&self) -> u64 {
        (4 * self.bytes_in_flight()).clamp(CHANNEL_WINDOW_MIN, CHANNEL_WINDOW_MAX)
    }

    /// Window of one connection, both ways. A chunk counts until all of it has come, so the same holds here.
    pub fn connection_window(&self) -> u64 {
        (4 * self.bytes_in_flight() + 16 * MIB).min(1 << 31)
    }

    /// What one channel gives a connection to send at a time when a round trip takes `rtt`.
    pub fn bytes_held(&self, rtt: Duration) -> u64 {
        let rate = self.rate.unwrap_or(RATE_ASSUMED);
        let held = (4.0 * rate as f64 * rtt.as_secs_f64()) as u64;
        held.clamp(HELD_BYTES_MIN, self.connection_window())
    }

    /// Largest datagram to try towards `address`.
    pub fn mtu(&self, address: std::net::IpAddr) -> u16 {
        if address.is_loopback() {
            self.mtu_loopback_max
        } else {
            self.mtu_max
        }
    }

    /// Largest datagram on any path, for the socket.
    pub fn mtu_any(&self) -> u16 {
        self.mtu_max.max(self.mtu_loopback_max)
    }

    /// Settings for connections with `address`. Connections begin closed to streams; who is known opens them.
    pub fn settings(&self, address: std::net::IpAddr) -> Arc<TransportConfig> {
        let mut probes = MtuDiscoveryConfig::default();
        probes.upper_bound(self.mtu(address));
        self.settings_with(probes)
    }

    /// The same for a connection that carries the key tree. The search for the largest datagram costs 70 KiB each way
    /// on loopback and 6 KiB on Ethernet, more than most exchanges ever save: one probe for an Ethernet frame, or
    /// small datagrams.
    pub fn state_settings(&self, address: std::net::IpAddr) -> Arc<TransportConfig> {
        let most = self.mtu(address).clamp(MTU_LEAST, MTU_ETHERNET);
        let mut probes = MtuDiscoveryConfig::default();
        probes
            .upper_bound(most)
            .minimum_change((most - MTU_LEAST).max(1));
        self.settings_with(probes)
    }

    fn settings_with(&self, probes: MtuDiscoveryConfig) -> Arc<TransportConfig> {
        let mut settings = TransportConfig::default();
        let window = self.connection_window();
        settings
            .stream_receive_window(var(STREAM_WINDOW_BYTES))
            .receive_window(var(window))
            .send_window(window)
            .max_concurrent_bidi_streams(var(1))
            .max_concurrent_uni_streams(var(0))
            // Older chunks first: the receiver delivers in order.
            .send_fairness(false)
            .packet_threshold(PACKET_THRESHOLD)
            .keep_alive_interval(Some(KEEP_ALIVE))
            .max_idle_timeout(IdleTimeout::try_from(IDLE_MAX).ok())
            .mtu_discovery_config(Some(probes))
            .datagram_receive_buffer_size(None)
            .initial_rtt(Duration::from_millis(100));
        match (self.congestion, self.rate) {
            (Congestion::Auto, Some(rate)) => {
                settings.congestion_controller_factory(Arc::new(RateControlFactory { rate }))
            }
            (Congestion::Bbr, _) => {
                settings.congestion_controller_factory(Arc::new(BbrConfig::default()))
            }
            (Congestion::Auto | Congestion::Cubic, _) => {
                settings.congestion_controller_factory(Arc::new(CubicConfig::default()))
            }
        };
        Arc::new(settings)
    }
}

/// Smallest window of a channel: any one message fits into the three quarters that are always granted.
pub const CHANNEL_WINDOW_MIN: u64 = 6 * MIB;
const _: () = assert!(CHANNEL_WINDOW_MIN * 3 / 4 > STATE_HEAD_BYTES_MAX as u64 + 64 * 1024);
const _: () =
    assert!(CHANNEL_WINDOW_MIN * 3 / 4 > (BULK_HEAD_BYTES_MAX + BODY_BYTES_MAX) as u64 + 64 * 1024);
/// Largest window of a channel, so that a receiver whose disk is slow keeps no more than this of each log.
pub const CHANNEL_WINDOW_MAX: u64 = 128 * MIB;
/// All channels of one connection together stay near this: the more there are, the smaller are their windows.
pub const CONNECTION_BUFFER_BYTES: u64 = 256 * MIB;

/// A number as QUIC writes them; ours are far below its limit of 2^62.
pub(crate) fn var(number: u64) -> VarInt {
    VarInt::from_u64(number).unwrap_or(VarInt::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_fat_line_gets_windows_for_all_that_is_under_way() {
        let line = Line {
            rate: Some(125_000_000),
            rtt_max: Duration::from_millis(200),
            ..Line::default()
        };
        assert_eq!(line.bytes_in_flight(), 25_000_000);
        assert!(line.channel_window() >= 4 * 25_000_000);
        assert!(line.connection_window() >= 100_000_000 + 16 * MIB);
    }

    #[test]
    fn a_short_line_is_given_little_at_a_time_and_a_long_one_enough() {
        let line = Line::default();
        let ms = Duration::from_millis;
        assert_eq!(line.bytes_held(ms(1)), HELD_BYTES_MIN);
        assert!(line.bytes_held(ms(100)) >= 3 * line.bytes_in_flight());
        assert!(line.bytes_held(Duration::MAX / 2) <= line.connection_window());
    }

    #[test]
    fn any_line_leaves_room_for_one_message() {
        let line = Line {
            rate: Some(1),
            rtt_max: Duration::ZERO,
            ..Line::default()
        };
        assert_eq!(line.channel_window(), CHANNEL_WINDOW_MIN);
        let line = Line {
            rate: Some(u64::MAX),
            ..line
        };
        assert!(line.channel_window() <= CHANNEL_WINDOW_MAX);
    }
}
