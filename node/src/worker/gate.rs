//! The device as applications hold it, whatever works behind it at the moment.
//!
//! An application opens a device once; behind it a logger may end and another one begin, with or
//! without a bypass between them. While nobody is there requests wait, they are never refused
//! (front gate of requirement L-B1), and are let through in the order in which they came.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use crate::export::{Answer, Device, DeviceError, Extent};

/// See the head of this file. Cloning is cheap.
#[derive(Clone)]
pub struct Gate {
    behind: Arc<RwLock<Behind>>,
    /// The caller calls [`Device::help`].
    helped: bool,
}

enum Behind {
    /// Requests go through; the same device for callers that help.
    Open(Arc<dyn Device>, Arc<dyn Device>),
    /// Requests wait; the size stays what it was.
    Held {
        size: u64,
        waiting: Mutex<Vec<Waiting>>,
    },
    /// Requests are refused, because of this.
    Shut(DeviceError),
}

/// A request that waits for a device, or for a reason why there is none.
type Waiting = Box<dyn FnOnce(Result<&dyn Device, DeviceError>) + Send>;

impl Gate {
    /// A gate with this device behind it.
    pub fn to(device: Arc<dyn Device>) -> Gate {
        Gate {
            behind: Arc::new(RwLock::new(opened(device))),
            helped: false,
        }
    }

    /// From now on requests go to `device`, those that wait first.
    pub fn open(&self, device: Arc<dyn Device>) {
        let mut behind = self.behind.write();
        for asked in waiting(&mut behind) {
            asked(Ok(&*device));
        }
        *behind = opened(device);
    }

    /// From now on requests wait. Those let through before may still be under way.
    pub fn hold(&self) {
        let mut behind = self.behind.write();
        if let Behind::Open(device, _) = &*behind {
            let (size, waiting) = (device.size(), Mutex::default());
            *behind = Behind::Held { size, waiting };
        }
    }

    /// From now on requests are refused, also those that wait.
    pub fn shut(&self, why: DeviceError) {
        let mut behind = self.behind.write();
        for asked in waiting(&mut behind) {
            asked(Err(why.clone()));
        }
        *behind = Behind::Shut(why);
    }

    /// Passes a request on, at once where that is possible, so that the order of calls is kept.
    fn pass<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Device) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        match &*self.behind.read() {
            Behind::Open(_, device) if self.helped => ask(&**device),
            Behind::Open(device, _) => ask(&**device),
            Behind::Shut(why) => Answer::Now(Err(why.clone())),
            Behind::Held { waiting, .. } => {
                let (tell, asked) = oneshot::channel();
                waiting.lock().push(Box::new(move |device| {
                    // The client may be gone; its request is carried out all the same.
                    let _ = tell.send(device.map(ask));
                }));
                Answer::later(async move {
                    let answer = asked.await.unwrap_or(Err(DeviceError::ShuttingDown));
                    answer?.wait().await
                })
            }
        }
    }
}

fn opened(device: Arc<dyn Device>) -> Behind {
    let helped = device.for_helper().unwrap_or_else(|| device.clone());
    Behind::Open(device, helped)
}

fn waiting(behind: &mut Behind) -> Vec<Waiting> {
    match behind {
        Behind::Held { waiting, .. } => std::mem::take(waiting.get_mut()),
        Behind::Open(..) | Behind::Shut(_) => Vec::new(),
    }
}

impl Device for Gate {
    fn size(&self) -> u64 {
        match &*self.behind.read() {
            Behind::Open(device, _) => device.size(),
            Behind::Held { size, .. } => *size,
            Behind::Shut(_) => 0,
        }
    }

    fn zero_is_fast(&self) -> bool {
        match &*self.behind.read() {
            Behind::Open(device, _) => device.zero_is_fast(),
            Behind::Held { .. } | Behind::Shut(_) => false,
        }
    }

    fn for_helper(&self) -> Option<Arc<dyn Device>> {
        Some(Arc::new(Gate {
            behind: self.behind.clone(),
            helped: true,
        }))
    }

    fn help(&self) -> bool {
        // Not under the lock: it may block for a moment.
        let device = match &*self.behind.read() {
            Behind::Open(_, device) => device.clone(),
            // Whoever opens or ends the device wakes whom the requests need.
            Behind::Held { .. } | Behind::Shut(_) => return false,
        };
        device.help()
    }

    fn read(&self, off: u64, len: u32) -> Answer<Bytes> {
        self.pass(move |device| device.read(off, len))
    }

    fn write(&self, off: u64, data: Bytes, fua: bool) -> Answer<()> {
        self.pass(move |device| device.write(off, data, fua))
    }

    fn flush(&self) -> Answer<()> {
        self.pass(|device| device.flush())
    }

    fn zero(&self, off: u64, len: u64, fua: bool, may_trim: bool) -> Answer<()> {
        self.pass(move |device| device.zero(off, len, fua, may_trim))
    }

    fn trim(&self, off: u64, len: u64, fua: bool) -> Answer<()> {
        self.pass(move |device| device.trim(off, len, fua))
    }

    fn cache(&self, off: u64, len: u64) -> Answer<()> {
        self.pass(move |device| device.cache(off, len))
    }

    fn map(&self, off: u64, len: u64) -> Answer<Vec<Extent>> {
        self.pass(move |device| device.map(off, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes the order of writes.
    #[derive(Default)]
    struct Notes(Mutex<Vec<u64>>);

    impl Device for Notes {
        fn size(&self) -> u64 {
            4096
        }
        fn read(&self, _off: u64, len: u32) -> Answer<Bytes> {
            Answer::Now(Ok(vec![0; len as usize].into()))
        }
        fn write(&self, off: u64, _data: Bytes, _fua: bool) -> Answer<()> {
            self.0.lock().push(off);
            Answer::Now(Ok(()))
        }
        fn flush(&self) -> Answer<()> {
            Answer::Now(Ok(()))
        }
        fn zero(&self, _off: u64, _len: u64, _fua: bool, _may_trim: bool) -> Answer<()> {
            Answer::Now(Ok(()))
        }
        fn trim(&self, _off: u64, _len: u64, _fua: bool) -> Answer<()> {
            Answer::Now(Ok(()))
        }
        fn cache(&self, _off: u64, _len: u64) -> Answer<()> {
            Answer::Now(Ok(()))
        }
        fn map(&self, _off: u64, _len: u64) -> Answer<Vec<Extent>> {
            Answer::Now(Ok(Vec::new()))
        }
    }

    #[tokio::test]
    async fn requests_wait_and_are_let_through_in_their_order_also_those_nobody_waits_for() {
        let gate = Gate::to(Arc::new(Notes::default()));
        gate.hold();
        assert_eq!(Device::size(&gate), 4096, "the size stays what it was");
        let first = gate.write(1, Bytes::new(), false);
        drop(gate.write(2, Bytes::new(), false));
        let third = gate.write(3, Bytes::new(), false);
        let next = Arc::new(Notes::default());
        gate.open(next.clone());
        third.wait().await.expect("let through");
        first.wait().await.expect("let through");
        assert_eq!(*next.0.lock(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn who_waits_at_a_gate_that_is_shut_is_told_why() {
        let gate = Gate::to(Arc::new(Notes::default()));
        gate.hold();
        let waits = gate.flush();
        gate.shut(DeviceError::Io("no disk".to_owned()));
        assert_eq!(
            waits.wait().await,
            Err(DeviceError::Io("no disk".to_owned()))
        );
        assert!(gate.read(0, 1).wait().await.is_err());
    }
}
