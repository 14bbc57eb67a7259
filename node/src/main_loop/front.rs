//! What applications have open, and what works behind it: a logger, for a while nobody, or the
//! bypass of a primary that has ceased logging.
//!
//! ```text
//!         logger_runs          cease             logger_ended          bypass
//!   Shut ─────────────► Logged ──────► Ceasing ───────────────► Left ─────────► Bypassed
//!     │                   ▲                                      ▲                 │ resume
//!     │                   │ logger_runs             logger_ended │                 ▼
//!     │                   └───────────────────────────────────────────────────  Resuming
//!     └── bypass (start of a host that had ceased) ──────────────────────────► Bypassed
//! ```
//!
//! Requests wait while it is `Ceasing`, `Left` or `Resuming`.

use std::sync::Arc;

use crate::export::{Device, DeviceError};
use crate::job::Ended;
use crate::ports::Clock;
use crate::worker::bypass::Bypass;
use crate::worker::gate::Gate;
use crate::worker::logger::Rest;
use crate::worker::replica::Replica;
use tree::Resource;

/// See the head of this file.
#[derive(Default)]
pub(super) struct Front {
    gate: Option<Gate>,
    behind: Behind,
    /// Why the disk did not take what the log could not take either. Until something writes again.
    failed: Option<String>,
}

/// Error number published when the disk refuses what the log could not take (EIO).
const CODE_REFUSED: i32 = -5;

#[derive(Default)]
enum Behind {
    /// No device, or one that refuses everything.
    #[default]
    Shut,
    /// A logger.
    Logged,
    /// The logger drains; the bypass follows.
    Ceasing,
    /// Nobody. The logger has left this over.
    Left(Option<Rest>),
    /// The bypass.
    Bypassed(Arc<Bypass>),
    /// The next logger begins.
    Resuming,
}

impl Front {
    /// Is the device written past the log?
    pub fn is_bypassing(&self) -> bool {
        matches!(self.behind, Behind::Bypassed(_))
    }

    /// Do requests wait?
    pub fn is_held(&self) -> bool {
        matches!(
            self.behind,
            Behind::Ceasing | Behind::Left(_) | Behind::Resuming
        )
    }

    /// Does the device go on without a logger?
    pub fn is_behind(&self) -> bool {
        self.is_bypassing() || self.is_held()
    }

    /// Why neither the log nor the disk could be written, and the number for it.
    pub fn error(&self) -> Option<(i32, String)> {
        self.failed.clone().map(|text| (CODE_REFUSED, text))
    }

    /// The disk was detached: what it refused is history.
    pub fn forget_error(&mut self) {
        self.failed = None;
    }

    /// What applications open; `None` while there is nothing behind it.
    pub fn device(&self) -> Option<Arc<dyn Device>> {
        let gate = self.gate.clone()?;
        Some(Arc::new(gate))
    }

    /// A logger has begun, or goes on.
    pub fn logger_runs(&mut self, device: Arc<dyn Device>) {
        match (&self.gate, &self.behind) {
            (Some(_), Behind::Logged) => return,
            (Some(gate), Behind::Resuming) => gate.open(device),
            (_, Behind::Shut | Behind::Logged) => self.gate = Some(Gate::to(device)),
            _ => return,
        }
        self.behind = Behind::Logged;
        self.failed = None;
    }

    /// The logger is about to be stopped, but the application goes on: its requests wait.
    pub fn cease(&mut self) {
        if let Some(gate) = &self.gate {
            gate.hold();
        }
        self.behind = Behind::Ceasing;
    }

    /// The logger has ended, and has left something over.
    pub fn logger_ended(&mut self, ended: &Ended, rest: Option<Rest>) {
        let disk_failed = matches!(ended, Ended::DiskFailed(_));
        self.behind = match self.behind {
            Behind::Ceasing if !disk_failed => Behind::Left(rest),
            Behind::Resuming => Behind::Left(None),
            _ => {
                let why = match ended {
                    Ended::DiskFailed(error) => DeviceError::Io(error.clone()),
                    _ => DeviceError::ShuttingDown,
                };
                return self.shut(why);
            }
        };
    }

    /// From now on the device is written past the log, beginning with what the logger has left over.
    pub async fn bypass(&mut self, replica: Arc<Replica>, res: &Resource, clock: &dyn Clock) {
        let bypass = Bypass::new(replica);
        let behind = std::mem::replace(&mut self.behind, Behind::Ceasing);
        if let Behind::Left(Some(rest)) = behind
            && let Err(error) = bypass.absorb(rest, clock).await
        {
            // Neither log nor disk: nobody can be told that anything is safe.
            tracing::error!(%res, %error, "neither the log nor the disk can be written");
            self.failed = Some(error.to_string());
            return self.shut(DeviceError::Io(error.to_string()));
        }
        self.failed = None;
        match &self.gate {
            Some(gate) => gate.open(bypass.clone()),
            None => self.gate = Some(Gate::to(bypass.clone())),
        }
        tracing::warn!(%res, "applications write past the log");
        self.behind = Behind::Bypassed(bypass);
    }

    /// A logger is about to begin: requests wait, and what went past the log is made durable first.
    /// When that is not possible the bypass stays.
    pub async fn resume(&mut self) {
        let Behind::Bypassed(bypass) = &self.behind else {
            return;
        };
        if let Some(gate) = &self.gate {
            gate.hold();
        }
        match bypass.settle().await {
            Ok(()) => self.behind = Behind::Resuming,
            Err(error) => {
                tracing::error!(%error, "the disk cannot be flushed; logging does not begin again");
                if let Some(gate) = &self.gate {
                    gate.open(bypass.clone());
                }
            }
        }
    }

    /// The last client has left and no logger follows.
    pub async fn close(&mut self) {
        if let Behind::Bypassed(bypass) = &self.behind
            && let Err(error) = bypass.settle().await
        {
            tracing::error!(%error, "the disk cannot be flushed");
        }
        self.shut(DeviceError::ShuttingDown);
    }

    fn shut(&mut self, why: DeviceError) {
        if let Some(gate) = self.gate.take() {
            gate.shut(why);
        }
        self.behind = Behind::Shut;
    }
}
