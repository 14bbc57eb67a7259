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

/// Written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Removes the file at the hardest `level`, makes it again at level 0. `jammed` is the reserve of the hardest level in bytes.
///
/// # Errors
/// What the file system says.
pub(super) fn keep(
    fs: &dyn Fs,
    dir: &Path,
    level: u8,
    jammed: u64,
    space: FreeSpace,
) -> io::Result<()> {
    let path = dir.join(NAME);
    let have = fs.len_of(&path)?;
    let worth_it = jammed >= RESERVE_TIMES_MIN * BALLAST_BYTES;
    match (level, have) {
        (crate::plan::emergency::LEVEL_JAMMED.., Some(_)) => {
            fs.remove(&path)?;
            tracing::warn!("the reserve for the key tree is used now");
            Ok(())
        }
        (0, have) if worth_it && have != Some(BALLAST_BYTES) && space.free > jammed => {
            make(fs, &path)
        }
        _ => Ok(()),
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
