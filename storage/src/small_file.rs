//! Small files that are either the old or the new one, never half of one: host name, cluster id,
//! clock lease, markers.
//!
//! They live outside the tree store, because a node must know who it is even when the store had to
//! be given up.

use crate::io::{Fs, OpenHow, read_full_at, write_at};
use std::io;
use std::path::Path;

/// Nothing that is kept in a small file is longer.
pub const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;

/// Replaces the contents of `path`. Durable, name included, when it returns. Its directory must
/// exist.
pub fn write_small(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    {
        let file = fs.open(new, OpenHow::CreateOrOpen)?;
        file.set_size(0)?;
        write_at(&*file, bytes, 0)?;
        file.flush()?;
    }
    fs.rename(new, path)?;
    fs.sync_dir(dir)
}

/// The contents of `path`; `None` when there is no such file.
pub fn read_small(fs: &dyn Fs, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match fs.open(path, OpenHow::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let len = file.size()?;
    if len > SMALL_FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{len} bytes where a small file belongs"),
        ));
    }
    let mut bytes = vec![0; len as usize];
    let n = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(n);
    Ok(Some(bytes))
}

/// Removes `path` durably. No error when there is none.
pub fn remove_small(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => done?,
    }
    fs.sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)
}
