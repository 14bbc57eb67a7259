//! UDP proxies between hosts: they forward, delay, or drop datagrams, by pair of hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;

/// One proxy in front of every host.
pub struct Proxies {
    rules: Arc<Mutex<Rules>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Rules {
    /// Pairs (smaller index first) that cannot talk.
    cut: BTreeSet<(usize, usize)>,
    /// One-way delay of every datagram.
    delay: Duration,
    /// Of 1,000 datagrams so many are lost.
    loss_permille: u64,
    counter: u64,
}

impl Rules {
    fn verdict(&mut self, a: usize, b: usize) -> Option<Duration> {
        self.counter += 1;
        let lost = self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let cut = self.cut.contains(&(a.min(b), a.max(b)));
        (!cut && lost % 1000 >= self.loss_permille).then_some(self.delay)
    }
}

impl Proxies {
    /// Proxy `i` listens on `ports[i]` and forwards to `targets[i]`.
    pub fn start(
        runtime: &tokio::runtime::Runtime,
        ports: &[u16],
        targets: Vec<SocketAddr>,
    ) -> Proxies {
        let rules = Arc::new(Mutex::new(Rules::default()));
        let mut tasks = Vec::new();
        for (i, port) in ports.iter().enumerate() {
            let address = SocketAddr::from(([127, 0, 0, 1], *port));
            let front = runtime
                .block_on(UdpSocket::bind(address))
                .expect("bind the proxy");
            tasks.push(runtime.spawn(forward(i, Arc::new(front), targets.clone(), rules.clone())));
        }
        Proxies { rules, tasks }
    }

    /// Hosts `a` and `b` cannot talk any more.
    pub fn cut(&self, a: usize, b: usize) {
        self.rules
            .lock()
            .expect("rules")
            .cut
            .insert((a.min(b), a.max(b)));
    }

    /// Everybody can talk again, without delay or loss.
    pub fn heal(&self) {
        let mut rules = self.rules.lock().expect("rules");
        rules.cut.clear();
        rules.delay = Duration::ZERO;
        rules.loss_permille = 0;
    }

    /// Delays every datagram one way and loses some.
    pub fn worsen(&self, delay: Duration, loss_permille: u64) {
        let mut rules = self.rules.lock().expect("rules");
        rules.delay = delay;
        rules.loss_permille = loss_permille;
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Forwards what arrives at `front` to host `to`, through one socket per sender, and back.
async fn forward(
    to: usize,
    front: Arc<UdpSocket>,
    targets: Vec<SocketAddr>,
    rules: Arc<Mutex<Rules>>,
) {
    let mut sockets: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut backs = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 65536];
    loop {
        let Ok((len, sender)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        // A joining host talks from a port of its own; it is nobody yet and is never cut.
        let from = targets.iter().position(|t| *t == sender).unwrap_or(to);
        let out = match sockets.get(&sender) {
            Some(out) => out.clone(),
            None => {
                let out = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
                out.connect(targets[to]).await.expect("connect");
                let out = Arc::new(out);
                sockets.insert(sender, out.clone());
                backs.spawn(back(
                    from,
                    to,
                    out.clone(),
                    front.clone(),
                    sender,
                    rules.clone(),
                ));
                out
            }
        };
        let verdict = rules.lock().expect("rules").verdict(from, to);
        pass(verdict, buffer[..len].to_vec(), move |bytes| async move {
            // A lost datagram is what UDP promises.
            let _ = out.send(&bytes).await;
        })
        .await;
    }
}

async fn back(
    from: usize,
    to: usize,
    out: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    sender: SocketAddr,
    rules: Arc<Mutex<Rules>>,
) {
    let mut buffer = vec![0; 65536];
    loop {
        // The target may be down for a while.
        let Ok(len) = out.recv(&mut buffer).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let front = front.clone();
        let verdict = rules.lock().expect("rules").verdict(from, to);
        pass(verdict, buffer[..len].to_vec(), move |bytes| async move {
            let _ = front.send_to(&bytes, sender).await;
        })
        .await;
    }
}

async fn pass<F: Future<Output = ()> + Send + 'static>(
    verdict: Option<Duration>,
    bytes: Vec<u8>,
    send: impl FnOnce(Vec<u8>) -> F + Send + 'static,
) {
    match verdict {
        None => {}
        Some(Duration::ZERO) => send(bytes).await,
        Some(delay) => {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                send(bytes).await;
            });
        }
    }
}
