//! The device of a primary that has ceased logging: straight to the underlying disk.
//!
//! Emergency mode: the state directory is full, so nothing can be logged any more, but the application
//! must go on (manual: "Emergency Mode and its Resolution"). The replicas fall behind for good; a hole
//! in the log numbers tells them so. Used between a logger that has drained and the next one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage::{DiskOp, ExtentKind};

use super::logger::Rest;
use super::replica::{Replica, ReplicaError};
use crate::export::{Answer, Device, DeviceError, Extent};
use crate::ports::Clock;
use crate::watch;

/// So often a disk is tried that refuses what a logger has left over.
const ABSORB_TRIES_MAX: u32 = 8;

/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// See the head of this file.
pub struct Bypass {
    replica: Arc<Replica>,
    /// Requests begun and not answered.
    under_way: Arc<watch::Sender<u64>>,
}

/// Counts one request as long as it lives.
struct UnderWay(Arc<watch::Sender<u64>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Bypass {
    /// A device on a disk that holds everything the log has.
    pub fn new(replica: Arc<Replica>) -> Arc<Bypass> {
        Arc::new(Bypass {
            replica,
            under_way: Arc::new(watch::Sender::new(0)),
        })
    }

    /// Brings to the disk what a logger has left over, and tells those who wait when it is durable. A disk that stumbles
    /// is tried again: nobody else has these bytes.
    ///
    /// # Errors
    /// What the disk says in the end. Whoever waits is told, too.
    pub async fn absorb(&self, rest: Rest, clock: &dyn Clock) -> Result<(), ReplicaError> {
        let mut done = self.put(&rest).await;
        for _ in 1..ABSORB_TRIES_MAX {
            let Err(error) = &done else { break };
            tracing::warn!(%error, "the disk refuses what the log could not take, trying again");
            clock.sleep(RETRY_PAUSE).await;
            done = self.put(&rest).await;
        }
        for tell in rest.tell {
            // The client may be gone.
            let _ = tell.send(done.as_ref().copied().map_err(failed));
        }
        done
    }

    async fn put(&self, rest: &Rest) -> Result<(), ReplicaError> {
        if !rest.ops.is_empty() {
            self.replica.write_past_log(rest.ops.clone()).await?;
        }
        self.replica.flush().await
    }

    /// Waits until all requests are answered, then makes everything durable. New requests must not
    /// come meanwhile.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn settle(&self) -> Result<(), ReplicaError> {
        let mut count = self.under_way.subscribe();
        // The sender lives in self.
        let _ = count.wait_for(|count| *count == 0).await;
        self.replica.flush().await
    }

    fn begin(&self) -> UnderWay {
        self.under_way.send_modify(|count| *count += 1);
        UnderWay(self.under_way.clone())
    }

    fn change(&self, op: DiskOp, fua: bool) -> Answer<()> {
        let (replica, guard) = (self.replica.clone(), self.begin());
        let writing = replica.write_past_log(vec![op]);
        Answer::later(async move {
            let _guard = guard;
            writing.await.map_err(|e| failed(&e))?;
            if fua {
                replica.flush().await.map_err(|e| failed(&e))?;
            }
            Ok(())
        })
    }
}

fn failed(error: &ReplicaError) -> DeviceError {
    DeviceError::Io(error.to_string())
}

impl Device for Bypass {
    fn size(&self) -> u64 {
        self.replica.size()
    }

    fn read(&self, off: u64, len: u32) -> Answer<Bytes> {
        let (replica, guard) = (self.replica.clone(), self.begin());
        Answer::later(async move {
            let _guard = guard;
            replica
                .read(off, len as usize)
                .await
                .map_err(|e| failed(&e))
        })
    }

    fn write(&self, off: u64, data: Bytes, fua: bool) -> Answer<()> {
        let bytes = vec![data];
        self.change(DiskOp::Write { at: off, bytes }, fua)
    }

    fn flush(&self) -> Answer<()> {
        let (replica, guard) = (self.replica.clone(), self.begin());
        Answer::later(async move {
            let _guard = guard;
            replica.flush().await.map_err(|e| failed(&e))
        })
    }

    fn zero(&self, off: u64, len: u64, fua: bool, may_trim: bool) -> Answer<()> {
        let op = match may_trim {
            true => DiskOp::Trim { at: off, len },
            false => DiskOp::Zero { at: off, len },
        };
        self.change(op, fua)
    }

    fn trim(&self, off: u64, len: u64, fua: bool) -> Answer<()> {
        self.change(DiskOp::Trim { at: off, len }, fua)
    }

    fn cache(&self, _off: u64, _len: u64) -> Answer<()> {
        Answer::Now(Ok(()))
    }

    fn map(&self, off: u64, len: u64) -> Answer<Vec<Extent>> {
        let (replica, guard) = (self.replica.clone(), self.begin());
        Answer::later(async move {
            let _guard = guard;
            let below = replica.map(off, len).await.map_err(|e| failed(&e))?;
            let extents = below.iter().map(|extent| {
                let hole = extent.kind == ExtentKind::Hole;
                Extent {
                    len: extent.len,
                    hole,
                    zero: hole,
                }
            });
            Ok(extents.collect())
        })
    }
}
