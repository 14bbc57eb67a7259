//! Log shipping and sync over a long line: a UDP proxy of our own gives it a rate, a delay and losses.
//!
//! What counts is the share of the line's rate. On lines without losses TCP is measured beside it (see `relay.rs`, which
//! says why not on the others). The bytes of the headers below UDP and TCP are not counted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;

use super::lab::{Lab, Stopwatch, bar};
use super::relay;
use super::replication::ship_within;
use super::sync::{fill, until_synced};
use super::table::{Row, Target};
use super::{Common, Found};
use crate::demo::cluster::{Host, free_udp_port};

/// A line between two places.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Bits per second.
    pub bits: u64,
    /// One way.
    pub delay: Duration,
    /// Of a million datagrams so many are lost.
    pub loss_ppm: u64,
}

/// The grid: rates in Mbit/s, one way in ms, loss in ppm.
const RATES: &[u64] = &[1000, 100];
const DELAYS: &[u64] = &[10, 50, 100];
const LOSSES: &[u64] = &[0, 100, 1000, 10_000];

/// The least share wanted of log shipping.
fn wanted(mbit: u64, ms: u64, ppm: u64) -> Option<f64> {
    match (mbit, ms, ppm) {
        (1000, 100, 0 | 100) => Some(0.9),
        (1000, 100, 10_000) => Some(0.8),
        _ => None,
    }
}

/// What is shipped would keep the line busy for so long, so that its beginning hardly counts.
const SECONDS: u64 = 12;

/// All of the grid; the longest fast line with `--quick`.
pub fn wan(common: &Common) -> Result<Found> {
    let mut rows = Vec::new();
    let bar = bar(cells().count() as u64, "wan");
    for (mbit, ms, ppm) in cells() {
        bar.inc(1);
        let name = format!(
            "{mbit} Mbit/s, {ms} ms one way, {} % loss",
            ppm as f64 / 10_000.0
        );
        let left_out = common.quick && (mbit, ms) != (1000, 100);
        if !left_out && common.wants(&name) {
            let line = Line {
                bits: mbit * 1_000_000,
                delay: Duration::from_millis(ms),
                loss_ppm: ppm,
            };
            rows.extend(rows_of(&name, shares(common, line)?, wanted(mbit, ms, ppm)));
            if ppm == 0 {
                rows.push(tcp(common, &name, line)?);
            }
        }
    }
    bar.finish_and_clear();
    let curves = Vec::new();
    Ok(Found { rows, curves })
}

fn cells() -> impl Iterator<Item = (u64, u64, u64)> {
    let delays = |mbit| DELAYS.iter().map(move |ms| (mbit, *ms));
    let lines = RATES.iter().flat_map(move |mbit| delays(*mbit));
    lines.flat_map(|(mbit, ms)| LOSSES.iter().map(move |ppm| (mbit, ms, *ppm)))
}

fn rows_of(name: &str, shares: Shares, wanted: Option<f64>) -> [Row; 3] {
    let row = |what: &str, shares| Row::new(format!("{what}, {name}"), "of the line", shares);
    let mut shipping = row("log shipping", shares.running);
    shipping.target = wanted.map(Target::AtLeast);
    let in_all = row("… from the command on", shares.in_all);
    [shipping, in_all, row("sync", shares.sync)]
}

/// What one TCP connection makes of an equal line, from its first byte until the other end has everything.
fn tcp(common: &Common, name: &str, line: Line) -> Result<Row> {
    let share = || {
        let rate = relay::tcp_rate(line, bytes_for(common, line))?;
        Ok(rate * 8.0 / line.bits as f64)
    };
    let shares: Result<Vec<f64>> = (0..common.rounds().min(3)).map(|_| share()).collect();
    let what = format!("TCP through an equal relay, {name}");
    Ok(Row::new(what, "of the line", shares?))
}

/// Bytes that keep the line busy long enough.
fn bytes_for(common: &Common, line: Line) -> u64 {
    (line.bits / 8 * seconds(common)) >> 20 << 20
}

fn seconds(common: &Common) -> u64 {
    if common.quick { 3 } else { SECONDS }
}

/// Shares of the line's rate, one per round.
#[derive(Default)]
struct Shares {
    /// From the first bytes of the log on.
    running: Vec<f64>,
    /// From the command on: with the wake-up, the connection, the first round trips.
    in_all: Vec<f64>,
    /// The first copy of the disk, from the command on.
    sync: Vec<f64>,
}

fn shares(common: &Common, line: Line) -> Result<Shares> {
    let (seconds, size) = (seconds(common), bytes_for(common, line));
    let common = &Common {
        bytes: Some(size),
        ..common.clone()
    };
    let rules: Rules = Arc::default();
    let mut proxies = Vec::new();
    let mut lab = Lab::with(&common.work()?, 2, |host| {
        let front = format!("127.0.0.1:{}", free_udp_port()?);
        proxies.push(Proxy::start(&front, host.listen(), &rules)?);
        configure(&host, line)?;
        Ok(host.advertised_at(&front))
    })?;
    fill(&lab.disk(0), size)?;
    lab.create(size)?;
    // Before there is a connection for logs: the sending rate follows the smallest round trip a connection has ever seen.
    *rules.lock() = Some(line);
    let mut found = Shares::default();
    let line_bytes = line.bits as f64 / 8.0;
    let watch = Stopwatch::start();
    lab.member(1, size, "join-resource")?;
    let asked = watch.seconds();
    // How far it is the host says now and then only, so the beginning is the command.
    until_synced(&lab, size)?;
    let synced = size as f64 / (watch.seconds() - asked);
    found.sync.push(synced / line_bytes);
    lab.wait_up_to_date(1)?;
    for round in 0..common.rounds().min(3) {
        let limit = Duration::from_secs(seconds * SLOWEST);
        let arrived = ship_within(common, &lab, size, round as u8, limit)?;
        found.running.push(arrived.running / line_bytes);
        let in_all = arrived.bytes as f64 / arrived.seconds;
        found.in_all.push(in_all / line_bytes);
        if arrived.bytes < size {
            // The rest would be counted for the next round.
            break;
        }
    }
    *rules.lock() = None;
    lab.stop()?;
    Ok(found)
}

/// What an operator would write about such a line.
fn configure(host: &Host, line: Line) -> Result<()> {
    let text = format!(
        "[limits]\nline_rate_mbit = {}\nline_rtt_max_ms = {}\n",
        line.bits / 1_000_000,
        2 * line.delay.as_millis()
    );
    std::fs::write(host.dir().join("mars.toml"), text)?;
    Ok(())
}

/// After so many times what the line itself would need, what has arrived until then is what counts.
const SLOWEST: u64 = 6;

/// What the line is like now; `None`: as good as it gets.
type Rules = Arc<Mutex<Option<Line>>>;

/// In front of one host. Ends when dropped.
struct Proxy {
    stop: Arc<AtomicBool>,
}

impl Proxy {
    fn start(front: &str, target: &str, rules: &Rules) -> Result<Proxy> {
        let stop = Arc::new(AtomicBool::new(false));
        let front = Arc::new(socket(front)?);
        let target: SocketAddr = target.parse()?;
        let (rules, ended) = (rules.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut ways: BTreeMap<SocketAddr, Way> = BTreeMap::new();
            let mut buffer = vec![0; 65536];
            while !ended.load(Ordering::Relaxed) {
                let Ok((len, from)) = front.recv_from(&mut buffer) else {
                    continue;
                };
                let way = match ways.entry(from) {
                    Entry::Occupied(way) => way.into_mut(),
                    Entry::Vacant(place) => {
                        match open(&front, from, target, &rules, &ended) {
                            Ok(way) => place.insert(way),
                            // No socket left: for the sender that is a loss like others.
                            Err(_) => continue,
                        }
                    }
                };
                way.pass(&buffer[..len]);
            }
        });
        Ok(Proxy { stop })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn socket(at: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(at)?;
    // The threads look now and then whether they are still wanted.
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    // As much as the kernel grants; a proxy must not lose anything by itself.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, 8 << 20);
    Ok(socket)
}

/// A sender that is new gets a socket of its own towards the host, and a thread that brings the answers back.
fn open(
    front: &Arc<UdpSocket>,
    sender: SocketAddr,
    target: SocketAddr,
    rules: &Rules,
    stop: &Arc<AtomicBool>,
) -> Result<Way> {
    let out = Arc::new(socket("127.0.0.1:0")?);
    out.connect(target)?;
    let (front, back, ended) = (front.clone(), out.clone(), stop.clone());
    let mut home = Way::new(rules, move |bytes| front.send_to(bytes, sender).is_ok());
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while !ended.load(Ordering::Relaxed) {
            if let Ok(len) = back.recv(&mut buffer) {
                home.pass(&buffer[..len]);
            }
        }
    });
    Ok(Way::new(rules, move |bytes| out.send(bytes).is_ok()))
}

/// One direction of one flow: when datagrams leave, and when they arrive.
struct Way {
    rules: Rules,
    /// When the line has sent everything given to it.
    free: Instant,
    count: u64,
    arrivals: Sender<(Instant, Vec<u8>)>,
}

impl Way {
    fn new(rules: &Rules, deliver: impl Fn(&[u8]) -> bool + Send + 'static) -> Way {
        let (arrivals, queue) = channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            for (at, bytes) in queue {
                std::thread::sleep(at.saturating_duration_since(now()));
                // The host may be down; that is a loss like others.
                deliver(&bytes);
            }
        });
        Way {
            rules: rules.clone(),
            free: now(),
            count: 0,
            arrivals,
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        let (line, now) = (*self.rules.lock(), now());
        let Some(line) = line else {
            // An error says that the thread is gone, and so is the measurement.
            let _ = self.arrivals.send((now, bytes.to_vec()));
            return;
        };
        self.count += 1;
        let dice = self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        if dice % 1_000_000 < line.loss_ppm {
            return;
        }
        let takes = Duration::from_secs_f64(bytes.len() as f64 * 8.0 / line.bits as f64);
        let leaves = self.free.max(now) + takes;
        // A queue of one round trip; what does not fit is lost.
        if leaves > now + 2 * line.delay {
            return;
        }
        self.free = leaves;
        let _ = self.arrivals.send((leaves + line.delay, bytes.to_vec()));
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_delays_loses_and_keeps_the_order() {
        let line = Line {
            bits: 8_000_000,
            delay: Duration::from_millis(5),
            loss_ppm: 0,
        };
        let rules: Rules = Arc::new(Mutex::new(Some(line)));
        let (tell, told) = channel();
        let mut way = Way::new(&rules, move |bytes| tell.send(bytes.to_vec()).is_ok());
        let begun = now();
        // Each takes 1 ms; the queue holds 10 ms.
        for nr in 0..30u8 {
            way.pass(&[nr; 1000]);
        }
        drop(way);
        let arrived: Vec<u8> = told.iter().map(|bytes| bytes[0]).collect();
        assert!(begun.elapsed() >= line.delay);
        assert!((9..30).contains(&arrived.len()), "{arrived:?}");
        assert!(arrived.is_sorted());
    }
}
