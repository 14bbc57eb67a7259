//! Space kept back for the key tree: a file that is cut shorter when nothing else is left.
//!
//! Before the first write goes past the log, the key tree must be able to say so, and it lies in the same directory
//! that is full; its database cannot even be opened without room. The file gives its space back step by step, each
//! at the moment when something could not be stored, so that nobody else takes it first; and it grows again when
//! there is plenty (main-loop reference 4.15, invariant 39).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::io::{Fs, OpenHow, write_at};

/// Its name in the state directory.
const NAME: &str = "ballast";

/// Given back and grown at once.
const STEP_BYTES: u64 = 1 << 20;

/// Longest file: the database of a million keys opens in less.
const RESERVE_BYTES_MAX: u64 = 64 << 20;

/// The file takes at most this part of the reserve of the hardest level.
const PART_OF_JAMMED: u64 = 2;

/// It grows only while this many times its size is free: it would be given back again at once.
const FREE_TIMES_MIN: u64 = 3;

/// See the head of this file.
pub struct Reserve {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    /// One changes the file at a time.
    turn: Mutex<()>,
}

impl Reserve {
    /// The reserve in state directory `dir`, whether or not there is one yet.
    pub fn new(fs: Arc<dyn Fs>, dir: &Path) -> Reserve {
        Reserve {
            fs,
            path: dir.join(NAME),
            turn: Mutex::new(()),
        }
    }

    /// Lets the file grow by one step, if it is too short and `free` bytes are enough for that. `jammed` is the reserve
    /// of the hardest level in bytes. Says whether it grew.
    ///
    /// # Errors
    /// What the file system says.
    pub fn grow(&self, jammed: u64, free: u64) -> io::Result<bool> {
        let _turn = self.turn.lock();
        let steps = (jammed / PART_OF_JAMMED).min(RESERVE_BYTES_MAX) / STEP_BYTES;
        let (have, want) = (self.len()?, steps * STEP_BYTES);
        if have >= want || free < FREE_TIMES_MIN * want {
            return Ok(false);
        }
        let file = self.fs.open(&self.path, OpenHow::CreateOrOpen)?;
        // Written, not only reserved: some file systems cannot reserve.
        let zeros = vec![0; STEP_BYTES as usize];
        write_at(&*file, &zeros, have / STEP_BYTES * STEP_BYTES)?;
        file.flush()?;
        Ok(true)
    }

    /// Gives one step back. `false` when there is nothing to give.
    ///
    /// # Errors
    /// What the file system says.
    pub fn give(&self) -> io::Result<bool> {
        let _turn = self.turn.lock();
        let have = self.len()?;
        if have == 0 {
            return Ok(false);
        }
        let file = self.fs.open(&self.path, OpenHow::CreateOrOpen)?;
        file.set_size(have.saturating_sub(STEP_BYTES))?;
        // Some file systems hand out the space only then.
        file.flush()?;
        tracing::warn!(
            path = %self.path.display(),
            left_bytes = have.saturating_sub(STEP_BYTES),
            "no space left: the reserve for the key tree is used"
        );
        Ok(true)
    }

    /// Does something that needs space, and again as long as it is refused for lack of it and the reserve has
    /// something to give.
    ///
    /// # Errors
    /// Those of `act`.
    pub fn spend<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        mut act: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            match act() {
                Err(error) if is_full(&error) => match self.give() {
                    Ok(true) => {}
                    Ok(false) => return Err(error),
                    Err(source) => {
                        tracing::warn!(path = %self.path.display(), %source, "the reserve cannot be given back");
                        return Err(error);
                    }
                },
                done => return done,
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.fs.len_of(&self.path)?.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealFs;

    const JAMMED: u64 = 6 << 20;

    fn reserve() -> (tempfile::TempDir, Reserve) {
        let dir = tempfile::tempdir().expect("directory");
        let reserve = Reserve::new(Arc::new(RealFs), dir.path());
        (dir, reserve)
    }

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn it_grows_to_half_of_the_hardest_level_and_only_where_there_is_plenty() {
        let (_dir, reserve) = reserve();
        assert!(!reserve.grow(JAMMED, 8 << 20).expect("asked"));
        let grown = (0..10).filter(|_| reserve.grow(JAMMED, 9 << 20).expect("grows"));
        assert_eq!(grown.count(), 3);
        assert_eq!(reserve.len().expect("length"), 3 << 20);
        assert!(!reserve.grow(1 << 20, 1 << 40).expect("asked"), "too small");
    }

    #[test]
    fn what_does_not_fit_takes_as_many_steps_as_it_needs_and_no_more() {
        let (_dir, reserve) = reserve();
        while reserve.grow(JAMMED, 1 << 30).expect("grows") {}
        let mut tries = 0;
        let done = reserve.spend(crate::is_no_space, || {
            tries += 1;
            match tries {
                3 => Ok("stored"),
                _ => Err(full()),
            }
        });
        assert_eq!(done.expect("room in the end"), "stored");
        assert_eq!(reserve.len().expect("length"), 1 << 20);
    }

    #[test]
    fn with_nothing_left_to_give_the_refusal_shows() {
        let (_dir, reserve) = reserve();
        while reserve.grow(JAMMED, 1 << 30).expect("grows") {}
        let mut tries = 0;
        let done: io::Result<()> = reserve.spend(crate::is_no_space, || {
            tries += 1;
            Err(full())
        });
        assert!(crate::is_no_space(&done.expect_err("still full")));
        assert_eq!((tries, reserve.len().expect("length")), (4, 0));
        let other: io::Result<()> = reserve.spend(crate::is_no_space, || {
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert!(other.is_err());
    }
}
