//! The logger as a worker in its place: started with a job, steered through a [`Grip`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tree::LogName;

use super::Desk;
use crate::export::Device;
use crate::job::{Ended, LoggerJob, LoggerProgress, Site, Stop};
use crate::watch;
use crate::worker::hand::Bell;
use crate::worker::logger::{LoggerHandle, start_logger};
use crate::worker::source::SyncSource;

/// What can be asked of a running logger.
enum Order {
    /// Go on in this log.
    Rotate(LogName),
    /// The device has this size now.
    Resize(u64),
}

/// A hand on the running logger.
#[derive(Clone)]
pub struct Grip {
    /// What applications use.
    pub device: Arc<dyn Device>,
    /// What syncers of other hosts read.
    pub source: Arc<dyn SyncSource>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Grip {
    /// Goes on in `log`. A refusal is only logged: the plan asks again as long as it is due.
    pub fn rotate(&self, log: LogName) {
        // A logger that has ended needs no orders.
        let _ = self.orders.send(Order::Rotate(log));
    }

    /// Enlarges the device.
    pub fn resize(&self, size: u64) {
        let _ = self.orders.send(Order::Resize(size));
    }
}

/// How the main loop leads a logger.
pub(super) struct Reins {
    /// Shows how far it is; nothing before it has begun.
    pub progress: watch::Sender<Option<LoggerProgress>>,
    /// Set when it shall come to an end.
    pub stop: Stop,
}

/// Runs a logger until it is told to stop, then releases it in order.
pub(super) async fn work(
    job: LoggerJob,
    site: Site,
    desk: Arc<Desk>,
    bell: Bell,
    reins: Reins,
) -> Ended {
    let handle = match start_logger(job, site).await {
        Ok(handle) => handle,
        Err(ended) => return ended,
    };
    let (orders, mut inbox) = mpsc::unbounded_channel();
    let held = Held::new(&desk.grip, &handle, orders);
    bell();
    let mut progress = handle.progress();
    let mut stop = reins.stop;
    loop {
        let seen = progress.borrow_and_update().clone();
        let disk_lost = seen.disk_lost;
        reins.progress.send_replace(Some(seen));
        if disk_lost {
            break;
        }
        tokio::select! {
            biased;
            () = stop.wait() => break,
            order = inbox.recv() => obey(&handle, order).await,
            changed = progress.changed() => {
                if changed.is_err() {
                    // Its tasks are gone; the release below says how it ended.
                    break;
                }
                bell();
            }
        }
    }
    drop(held);
    let seal = desk.hands_over.load(Ordering::Relaxed);
    let (ended, rest) = handle.release(seal).await;
    *desk.rest.lock() = rest;
    ended
}

async fn obey(handle: &LoggerHandle, order: Option<Order>) {
    match order {
        Some(Order::Rotate(log)) => {
            if let Err(refused) = handle.rotate(log) {
                tracing::debug!(%refused, "no rotation now");
            }
        }
        Some(Order::Resize(size)) => {
            if let Err(error) = handle.resize(size).await {
                tracing::error!(size, %error, "device not enlarged");
            }
        }
        None => std::future::pending().await,
    }
}

/// The grip lies on the desk as long as this lives.
struct Held<'a>(&'a Mutex<Option<Grip>>);

impl<'a> Held<'a> {
    fn new(
        desk: &'a Mutex<Option<Grip>>,
        handle: &LoggerHandle,
        orders: mpsc::UnboundedSender<Order>,
    ) -> Self {
        *desk.lock() = Some(Grip {
            device: handle.device(),
            source: handle.sync_source(),
            orders,
        });
        Held(desk)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}
