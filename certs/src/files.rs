//! Small private files: whole or not at all, and nobody else's business.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::PkiError;

/// Makes a directory only its owner may enter, and its parents where missing.
pub(crate) fn make_dir(path: &Path) -> Result<(), PkiError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|why| at(path, why))
}

/// Replaces a file by new contents; after a crash there are either the old ones or the new ones.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<(), PkiError> {
    let temporary = path.with_extension("new");
    let replace = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    replace().map_err(|why| at(path, why))
}

/// Removes a file for good.
pub(crate) fn remove(path: &Path) -> Result<(), PkiError> {
    fs::remove_file(path)
        .and_then(|()| sync_parent(path))
        .map_err(|why| at(path, why))
}

/// The contents of a file that is small by nature; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    match fs::metadata(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(at(path, why)),
        Ok(found) if found.size() > BYTES_MAX => {
            return Err(damaged(path, format!("{} bytes long", found.size())));
        }
        Ok(_) => {}
    }
    fs::read(path).map(Some).map_err(|why| at(path, why))
}

/// As [`read`], for a private key: refused when others may read it too.
pub(crate) fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    let contents = read(path)?;
    if contents.is_some() {
        let mode = fs::metadata(path).map_err(|why| at(path, why))?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(PkiError::Open {
                path: path.to_owned(),
                mode,
            });
        }
    }
    Ok(contents)
}

/// Names in a directory, sorted; empty when there is none.
pub(crate) fn list(path: &Path) -> Result<Vec<String>, PkiError> {
    let entries = match fs::read_dir(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(at(path, why)),
        Ok(entries) => entries,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|why| at(path, why))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// No key, certificate or token record comes near this.
const BYTES_MAX: u64 = 1 << 20;

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

pub(crate) fn at(path: &Path, why: io::Error) -> PkiError {
    PkiError::File {
        path: path.to_owned(),
        why,
    }
}

pub(crate) fn damaged(path: &Path, why: impl ToString) -> PkiError {
    PkiError::Damaged {
        path: path.to_owned(),
        why: why.to_string(),
    }
}
