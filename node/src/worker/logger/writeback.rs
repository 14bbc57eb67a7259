//! Moving what is durable in the log to the underlying disk.
//!
//! One unit at a time, sorted and coalesced by the write buffer, newest durable version only. While the application is busy
//! it has the disks for itself, until the buffer is half full or its oldest write has become old; then
//! one long sweep goes over the disk (data-path reference 1.12). A disk that refuses is tried again and shown; its
//! writes stay readable in the buffer, and the replay position stays where it is (invariant 41).

use std::sync::Arc;
use std::time::Duration;

use storage::DiskOp;

use super::Shared;
use super::core::{DiskWork, Gate};

/// Pause before a refused unit is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let work = shared.core.lock().disk_work(shared.now());
        match work {
            DiskWork::Sleep(until) => shared.rest(until).await,
            DiskWork::Write { unit, newest } => {
                let (id, bytes) = (unit.id, bytes_of(&unit.ops));
                match shared.replica.apply(unit.ops, newest).await {
                    Ok(()) => shared.note_written(id, bytes),
                    Err(error) => {
                        shared.core.lock().buffer.failed(id);
                        tracing::warn!(res = %shared.site.res, %error, "writeback refused");
                        shared.show(|progress| progress.disk_error = Some(error.to_string()));
                        shared.site.ports.clock.sleep(RETRY_PAUSE).await;
                    }
                }
            }
        }
    }
}

impl Shared {
    async fn rest(&self, until: Option<Duration>) {
        let Some(until) = until else {
            return self.disk_call.notified().await;
        };
        // A call says only that something became durable, which does not make a pause shorter.
        self.site
            .ports
            .clock
            .sleep(until.saturating_sub(self.now()))
            .await;
    }

    fn note_written(&self, unit: u64, bytes: u64) {
        let (now, wall_ns) = (self.now(), self.wall_ns());
        let mut core = self.core.lock();
        core.unit_written(unit, bytes, now);
        core.admit(now, wall_ns);
        let wake = core.must_wake_log();
        let (closing, buffered) = (core.gate != Gate::Open, core.buffer.used_bytes());
        drop(core);
        self.wake_log(wake);
        self.publish_call.notify_one();
        if closing || self.progress.borrow().disk_error.is_some() {
            self.show(|progress| {
                progress.disk_error = None;
                progress.buffered_bytes = buffered;
            });
        }
    }
}

fn bytes_of(ops: &[DiskOp]) -> u64 {
    let len = |op: &DiskOp| match op {
        DiskOp::Write { bytes, .. } => bytes.iter().map(|b| b.len() as u64).sum(),
        DiskOp::Zero { len, .. } | DiskOp::Trim { len, .. } => *len,
    };
    ops.iter().map(len).sum()
}
