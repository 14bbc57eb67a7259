//! A daemon in which one part has panicked ends as a whole.
//!
//! The parts rely on each other: without the one that stores keys, say, the others would wait for ever, and so would
//! applications. A process that has ended is started again, and a start is known to lose nothing (promise 3).

/// Threads of the database: what they leave behind shows as an error of the next call.
const THREADS_OF_OTHERS: [&str; 3] = ["sled", "log flusher", "open-tree"];

/// From now on a panic that nobody expects ends the process with SIGABRT, after it was reported.
pub fn end_the_process() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        let foreign = THREADS_OF_OTHERS
            .iter()
            .any(|other| name.starts_with(other));
        if !foreign && !storage::panic_is_expected() {
            std::process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Tells the child process which thread panics.
    const THREAD: &str = "MARS_TEST_PANIC_IN";

    /// Not a test of its own: what the child processes of the test below do.
    #[test]
    fn child_process() {
        let Ok(name) = std::env::var(THREAD) else {
            return;
        };
        end_the_process();
        let thread = std::thread::Builder::new().name(name);
        let panics = thread.spawn(|| panic!("on purpose")).expect("thread");
        assert!(panics.join().is_err(), "it has panicked");
    }

    /// The signal that ended a child with a panic in a thread of this name.
    fn signal_after_panic_in(thread: &str) -> Option<i32> {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "real::panics::tests::child_process"]);
        child.stdout(Stdio::null()).stderr(Stdio::null());
        let status = child.env(THREAD, thread).status().expect("child");
        assert_eq!(status.success(), status.signal().is_none(), "{status}");
        status.signal()
    }

    #[test]
    fn a_panic_in_a_part_of_the_daemon_ends_it_and_one_in_the_database_does_not() {
        assert_eq!(signal_after_panic_in("tokio-rt-worker"), Some(6));
        assert_eq!(signal_after_panic_in("log-data"), Some(6));
        assert_eq!(signal_after_panic_in("open-tree"), None);
    }
}
