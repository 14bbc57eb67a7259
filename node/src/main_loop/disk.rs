//! The underlying disk of one resource: attached while the plan wants it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tree::Resource;

use crate::job::Site;
use crate::plan::{DiskWant, Want};
use crate::ports::Ports;
use crate::worker::replica::Replica;

/// A disk that could not be opened is tried again after this time.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Error number published when a disk cannot be opened (ENXIO).
const CODE_NO_DISK: i32 = -6;

/// Error number published for a disk of which a flush has failed (EIO).
const CODE_LOST: i32 = -5;

/// The place for the disk.
pub struct DiskPlace {
    res: Resource,
    ports: Ports,
    open: Option<Open>,
    error: Option<String>,
    /// Not before this moment (monotonic time).
    try_at: Duration,
}

struct Open {
    replica: Arc<Replica>,
    path: PathBuf,
    real_bytes: u64,
}

impl DiskPlace {
    /// A place without a disk.
    pub fn new(site: &Site) -> DiskPlace {
        DiskPlace {
            res: site.res.clone(),
            ports: site.ports.clone(),
            open: None,
            error: None,
            try_at: Duration::ZERO,
        }
    }

    /// The disk, if it is attached.
    pub fn replica(&self) -> Option<Arc<Replica>> {
        self.open.as_ref().map(|open| open.replica.clone())
    }

    /// Real size of the attached disk in bytes.
    pub fn bytes(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.real_bytes)
    }

    /// Why it could not be attached, or cannot be used until it is attached again.
    pub fn error(&self) -> Option<(i32, String)> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.replica.is_lost())
        {
            let text =
                "a flush has failed: what the disk holds is unknown until it is attached again";
            return Some((CODE_LOST, text.to_owned()));
        }
        self.error.clone().map(|text| (CODE_NO_DISK, text))
    }

    /// How long the next try has to wait at `now`.
    pub fn pause(&self, now: Duration) -> Duration {
        self.try_at.saturating_sub(now)
    }

    /// Detaches a disk of which a flush has failed; the next round attaches it again, as soon as no worker holds it.
    /// Returns whether it has.
    pub fn drop_lost(&mut self) -> bool {
        let lost = self.open.take_if(|open| open.replica.is_lost());
        if let Some(open) = &lost {
            let disk = open.path.display();
            tracing::error!(res = %self.res, %disk, "a flush has failed: attaching again, then replay");
        }
        lost.is_some()
    }

    /// Attaches or detaches. Returns whether anything has changed.
    pub async fn steer(&mut self, want: &Want<DiskWant>) -> bool {
        match want {
            Want::Rest(_) => {
                self.error = None;
                self.try_at = Duration::ZERO;
                self.open.take().is_some()
            }
            Want::Run(job) => match &self.open {
                Some(open) if open.path.as_os_str() == job.path.as_str() => self.grow(job).await,
                Some(_) => {
                    // The key names another disk: detach; the next round attaches that one.
                    self.open = None;
                    true
                }
                None => self.attach(job).await,
            },
        }
    }

    async fn attach(&mut self, job: &DiskWant) -> bool {
        let now = self.ports.clock.mono();
        if now < self.try_at {
            return false;
        }
        let path = PathBuf::from(&job.path);
        let attached = Replica::attach(self.res.clone(), &path, job.size, self.ports.clone()).await;
        let sized = match attached {
            Ok(replica) => replica.real_size().await.map(|bytes| (replica, bytes)),
            Err(error) => Err(error),
        };
        match sized {
            Ok((replica, real_bytes)) => {
                tracing::info!(res = %self.res, disk = %job.path, real_bytes, "attached");
                self.error = None;
                self.try_at = Duration::ZERO;
                self.open = Some(Open {
                    replica,
                    path,
                    real_bytes,
                });
            }
            Err(error) => {
                let text = error.to_string();
                if self.error.as_ref() != Some(&text) {
                    tracing::error!(res = %self.res, disk = %job.path, error = %text, "not attached");
                }
                self.error = Some(text);
                self.try_at = now + TRY_AGAIN_AFTER;
            }
        }
        true
    }

    /// `resize` has raised the size of the resource.
    async fn grow(&mut self, job: &DiskWant) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        if let Ok(bytes) = open.replica.real_size().await {
            open.real_bytes = bytes;
        }
        if open.replica.size() >= job.size {
            return false;
        }
        match open.replica.grow(job.size).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(res = %self.res, size = job.size, %error, "disk not enlarged");
                self.error = Some(error.to_string());
                false
            }
        }
    }
}
