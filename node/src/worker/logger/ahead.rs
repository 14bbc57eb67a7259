//! Zeros ahead of the log, on a lane of their own so that no record waits for them.
//!
//! See [`storage::ZeroAhead`] for what they are good for. A primary fetches nothing, so that lane is free.

use std::sync::Arc;

use super::Shared;
use crate::ports::{Lane, blocking};

/// Runs for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let lane = Lane::Fetch(shared.site.res.clone());
    loop {
        shared.ahead_call.notified().await;
        let ahead = shared.ahead.lock().clone();
        if !ahead.is_due() {
            continue;
        }
        let mut more = true;
        while more {
            let step = ahead.clone();
            let stepped = blocking(&*shared.site.ports.exec, &lane, move || step.step()).await;
            more = match stepped {
                Some(Ok(more)) => more,
                Some(Err(error)) => {
                    tracing::warn!(res = %shared.site.res, %error, "no zeros ahead of the log any more");
                    false
                }
                None => return,
            };
        }
    }
}
