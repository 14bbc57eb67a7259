//! A file that is only there to be removed.
//!
//! Before the first write goes past the log, the key tree must be able to say so, and it lies in the same directory
//! that is full. When space runs out, this file goes first; when there is plenty again, it comes back.

use std::io;
use std::path::Path;

use storage::io::{FreeSpace, Fs, OpenHow, write_at};

/// Its name in the state directory.
const NAME: &str = "ballast";

/// Its size: enough for the key tree to store many changes.
const BALLAST_BYTES: u64 = 8 << 20;

/// Reserves smaller than this many times the file are for tests and toys: no file then.
const RESERVE_TIMES_MIN: u64 = 2;

/// It is made only where so many times its size is free: it would be removed again at once.
const FREE_TIMES_MIN: u64 = 3;

/// Written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Removes the file when nearly nothing else is left, makes it again when there is plenty. `jammed` is the reserve of the
/// hardest level in bytes.
///
/// # Errors
/// What the file system says.
pub fn keep(fs: &dyn Fs, dir: &Path, jammed: u64, space: FreeSpace) -> io::Result<()> {
    let path = dir.join(NAME);
    let have = fs.len_of(&path)?;
    if space.free < BALLAST_BYTES / 2 {
        if release(fs, dir)? {
            tracing::warn!("the reserve for the key tree is used now");
        }
        return Ok(());
    }
    let worth_it = jammed >= RESERVE_TIMES_MIN * BALLAST_BYTES;
    let fits = space.free >= FREE_TIMES_MIN * BALLAST_BYTES;
    match have != Some(BALLAST_BYTES) && worth_it && fits {
        true => make(fs, &path),
        false => Ok(()),
    }
}

/// Removes the file, if it is there. Says whether it was.
///
/// # Errors
/// What the file system says.
pub fn release(fs: &dyn Fs, dir: &Path) -> io::Result<bool> {
    let path = dir.join(NAME);
    match fs.len_of(&path)? {
        Some(_) => fs.remove(&path).map(|()| true),
        None => Ok(false),
    }
}

fn make(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    let file = fs.open(path, OpenHow::CreateOrOpen)?;
    // Written, not only reserved: some file systems cannot reserve.
    let zeros = vec![0; CHUNK_BYTES];
    for at in (0..BALLAST_BYTES).step_by(CHUNK_BYTES) {
        write_at(&*file, &zeros, at)?;
    }
    file.flush()
}
