//! Which devices can be opened here, under which name, and how many clients have each one open.
//!
//! The main loop adds an export when this host has become actual primary and begins to close it
//! when the role leaves; the server opens one for every client that enters the transmission phase.
//! An export being closed takes no new clients and stays until the last client has left: a planned
//! handover never aborts a request. Counts can be watched because the decision about the role
//! depends on them. Nothing here does I/O.
//!
//! Manual: data-path reference section 6 (open count, primary to secondary), invariant 32.

use crate::watch;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::device::Device;
use super::usage::{Usage, UsageNow};

/// Longest name of an export in bytes, as the NBD protocol has it.
pub const NAME_BYTES_MAX: usize = 4096;

/// Why an export could not be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// There is one already, perhaps one that still waits for its last client.
    #[error("export {name} exists already, open {opens} times; close it first")]
    Exists {
        /// Its name.
        name: String,
        /// How many clients have it open.
        opens: u64,
    },
    /// The name cannot be sent to clients.
    #[error("export name of {len} bytes: must be 1 to {NAME_BYTES_MAX} bytes without NUL")]
    BadName {
        /// Length of the offered name in bytes.
        len: usize,
    },
}

/// Why a client could not open an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no export of this name, at least not on this host.
    #[error("no such export on this host; it exists on the actual primary only")]
    Unknown,
    /// It is being closed, because the role moves elsewhere or the daemon stops.
    #[error("export is being closed")]
    Closing,
}

/// What an export looks like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportState {
    /// Clients in the transmission phase.
    pub opens: u64,
    /// Whether it takes no more clients.
    pub closing: bool,
}

struct Export {
    device: Arc<dyn Device>,
    opens: watch::Sender<u64>,
    closing: bool,
    /// Becomes true when clients have to go at once.
    cut: watch::Sender<bool>,
    usage: Arc<Usage>,
}

/// The exports of this host. Shared by the main loop and the server.
pub struct Exports {
    all: Mutex<BTreeMap<String, Export>>,
    generation: watch::Sender<u64>,
}

impl Default for Exports {
    fn default() -> Self {
        Exports {
            all: Mutex::default(),
            generation: watch::Sender::new(0),
        }
    }
}

impl Exports {
    /// No exports yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on clients can open `device` as `name`.
    pub fn add(&self, name: &str, device: Arc<dyn Device>) -> Result<(), ExportError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(ExportError::BadName { len: name.len() });
        }
        let mut all = self.all.lock();
        if let Some(old) = all.get(name) {
            return Err(ExportError::Exists {
                name: name.to_owned(),
                opens: *old.opens.borrow(),
            });
        }
        let export = Export {
            device,
            opens: watch::Sender::new(0),
            closing: false,
            cut: watch::Sender::new(false),
            usage: Arc::default(),
        };
        all.insert(name.to_owned(), export);
        drop(all);
        self.changed_something();
        Ok(())
    }

    /// No new clients for `name`; it disappears with its last client, at once if there is none.
    /// The receiver shows the open count and is closed when the export is gone; `None` if there is
    /// no such export.
    pub fn begin_close(&self, name: &str) -> Option<watch::Receiver<u64>> {
        let opens = {
            let mut all = self.all.lock();
            let export = all.get_mut(name)?;
            export.closing = true;
            let opens = export.opens.subscribe();
            if *opens.borrow() == 0 {
                all.remove(name);
            }
            opens
        };
        self.changed_something();
        Some(opens)
    }

    /// Takes back [`Exports::begin_close`], for a handover that failed. `false` if the export is
    /// gone already and has to be added again.
    pub fn cancel_close(&self, name: &str) -> bool {
        let found = match self.all.lock().get_mut(name) {
            // Who was told to go at once cannot be called back.
            Some(export) if !*export.cut.borrow() => {
                export.closing = false;
                true
            }
            _ => false,
        };
        self.changed_something();
        found
    }

    /// Like [`Exports::begin_close`], and the clients are sent away: requests already begun are
    /// answered, further ones get ESHUTDOWN, then the connection is closed. Doing so again changes nothing, and
    /// wakes nobody: the main loop does it in every round while a client stays.
    pub fn cut(&self, name: &str) -> Option<watch::Receiver<u64>> {
        let export = |e: &Export| e.cut.send_replace(true);
        let again = self.all.lock().get(name).is_some_and(export);
        match again {
            true => self.watch_opens(name),
            false => self.begin_close(name),
        }
    }

    /// [`Exports::cut`] for all exports, when the daemon stops.
    pub fn cut_all(&self) {
        let names: Vec<String> = self.all.lock().keys().cloned().collect();
        for name in names {
            self.cut(&name);
        }
    }

    /// Waits until `name` is gone; returns at once if it never was there.
    pub async fn gone(&self, name: &str) {
        let mut generation = self.changes();
        while self.all.lock().contains_key(name) {
            if generation.changed().await.is_err() {
                return;
            }
        }
    }

    /// How many clients have `name` open; 0 if there is no such export.
    pub fn opens(&self, name: &str) -> u64 {
        self.all
            .lock()
            .get(name)
            .map_or(0, |export| *export.opens.borrow())
    }

    /// What its clients do with `name`; nothing if there is no such export.
    pub fn usage(&self, name: &str) -> UsageNow {
        let all = self.all.lock();
        all.get(name)
            .map_or_else(UsageNow::default, |export| export.usage.now())
    }

    /// The open count of `name` to be watched; closed when the export is gone.
    pub fn watch_opens(&self, name: &str) -> Option<watch::Receiver<u64>> {
        self.all
            .lock()
            .get(name)
            .map(|export| export.opens.subscribe())
    }

    /// All exports with their state, by name.
    pub fn states(&self) -> BTreeMap<String, ExportState> {
        let all = self.all.lock();
        all.iter()
            .map(|(name, export)| (name.clone(), export.state()))
            .collect()
    }

    /// A number that rises whenever an export comes, goes, is opened or closed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Names a client may open now.
    pub fn names(&self) -> Vec<String> {
        let all = self.all.lock();
        all.iter()
            .filter(|(_, export)| !export.closing)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The device of `name`, without opening it.
    pub fn look(&self, name: &str) -> Result<Arc<dyn Device>, Refusal> {
        let all = self.all.lock();
        let export = all.get(name).ok_or(Refusal::Unknown)?;
        if export.closing {
            return Err(Refusal::Closing);
        }
        Ok(Arc::clone(&export.device))
    }

    /// Opens `name` for one client; the count falls when the result is dropped.
    pub fn open(self: &Arc<Self>, name: &str) -> Result<Opened, Refusal> {
        let opened = {
            let all = self.all.lock();
            let export = all.get(name).ok_or(Refusal::Unknown)?;
            if export.closing {
                return Err(Refusal::Closing);
            }
            export.opens.send_modify(|opens| *opens += 1);
            Opened {
                device: Arc::clone(&export.device),
                cut: export.cut.subscribe(),
                usage: Arc::clone(&export.usage),
                name: name.to_owned(),
                exports: Arc::clone(self),
            }
        };
        self.changed_something();
        Ok(opened)
    }

    fn left(&self, name: &str) {
        {
            let mut all = self.all.lock();
            // An export with clients is never removed, so a guard always finds its own.
            let Some(export) = all.get_mut(name) else {
                return;
            };
            export.opens.send_modify(|opens| *opens -= 1);
            let last = *export.opens.borrow() == 0;
            if last && export.closing {
                all.remove(name);
            }
        }
        self.changed_something();
    }

    fn changed_something(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Export {
    fn state(&self) -> ExportState {
        ExportState {
            opens: *self.opens.borrow(),
            closing: self.closing,
        }
    }
}

/// One client's hold on an export; dropping it is the close.
pub struct Opened {
    device: Arc<dyn Device>,
    cut: watch::Receiver<bool>,
    usage: Arc<Usage>,
    name: String,
    exports: Arc<Exports>,
}

impl Opened {
    /// The device behind the export.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Where its clients are counted.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Name of the export.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Becomes true when the client has to go at once.
    pub fn cut(&self) -> watch::Receiver<bool> {
        self.cut.clone()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.exports.left(&self.name);
    }
}
