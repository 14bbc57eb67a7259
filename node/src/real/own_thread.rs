//! A thread with a small runtime of its own, for work that must not share one.

use std::io;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Runs `work` to its end on a new thread named `name`, in a runtime that runs nothing else, so that it may block
/// for a moment. Dropping the returned future drops `work` as soon as it waits for anything.
///
/// # Errors
/// No thread or no runtime could be had; `work` has not begun then.
///
/// # Panics
/// When `work` did.
pub async fn run(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (alive, mut gone) = oneshot::channel::<()>();
    let (done, end) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = work => {}
                    // Only ever an error: nothing is sent, the sender was dropped.
                    _ = &mut gone => {}
                }
            });
            // Nobody listens when the caller was dropped.
            let _ = done.send(());
        })?;
    let ended = end.await;
    drop(alive);
    assert!(ended.is_ok(), "the work on thread {name} panicked");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn work_runs_elsewhere_and_its_end_is_awaited() {
        let (tell, told) = oneshot::channel();
        let here = std::thread::current().id();
        let work = async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let there = std::thread::current().id();
            tell.send(there).expect("the test listens");
        };
        run("test", work).await.expect("a thread");
        assert_ne!(told.await.expect("it ran"), here);
    }

    #[tokio::test]
    async fn work_is_dropped_with_the_one_who_waits_for_it() {
        let (tell, told) = oneshot::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let work = async move {
            begun.send(()).expect("the test listens");
            std::future::pending::<()>().await;
            drop(tell);
        };
        let waiting = tokio::spawn(async move { run("test", work).await });
        begins.await.expect("it began");
        waiting.abort();
        assert!(told.await.is_err(), "dropped without a word");
    }
}
