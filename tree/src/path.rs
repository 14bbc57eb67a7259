//! Paths of keys, as in `resource-data/primary`: always relative to the root of the tree, never with `/mars/`.
//!
//! A path is valid once it exists: at most [`PATH_BYTES_MAX`] bytes, components of 1 to [`COMPONENT_BYTES_MAX`]
//! bytes separated by single slashes, none of them `.` or `..`, no control characters. So it can be printed,
//! used below a directory, and sent to any peer. What a path *means* is said by the key table in `keys.rs`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest path. The original's limit is that of a symlink below `/mars`.
pub const PATH_BYTES_MAX: usize = 1024;
/// Longest component: what common file systems accept as a file name.
pub const COMPONENT_BYTES_MAX: usize = 255;
const _: () = assert!(PATH_BYTES_MAX >= 4 * COMPONENT_BYTES_MAX);

/// Why a text is no path of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The whole path is too long.
    #[error("path has {bytes} bytes, expected at most {PATH_BYTES_MAX}")]
    TooLong {
        /// How many bytes were offered.
        bytes: usize,
    },
    /// One component is too long.
    #[error(
        "path {path:?} has a component of {bytes} bytes, expected at most {COMPONENT_BYTES_MAX}"
    )]
    ComponentTooLong {
        /// The path that was offered.
        path: String,
        /// Length of that component.
        bytes: usize,
    },
    /// The path is empty, begins or ends with a slash, or has two in a row.
    #[error(
        "path {path:?} has an empty component, expected names separated by single slashes and none in front"
    )]
    EmptyComponent {
        /// The path that was offered.
        path: String,
    },
    /// One component was expected, but there is a slash in it.
    #[error("name {name:?} contains a slash, expected a single component")]
    Slash {
        /// The name that was offered.
        name: String,
    },
    /// A component is `.` or `..`.
    #[error("path {path:?} has a component {found:?}, expected only real names")]
    Dots {
        /// The path that was offered.
        path: String,
        /// The component.
        found: String,
    },
    /// A control character such as newline or TAB.
    #[error("path {path:?} has the control character {found:?} at byte {at}, expected none")]
    Control {
        /// The path that was offered.
        path: String,
        /// The character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

/// Where an entry of the tree lives. Ordered by bytes, so all keys below one prefix lie side by side.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path(Arc<str>);

impl Path {
    /// Checks `text` and makes it a path.
    ///
    /// # Errors
    /// [`PathError`] names the component or character which is not allowed.
    pub fn new(text: &str) -> Result<Path, PathError> {
        check(text)?;
        Ok(Path(text.into()))
    }

    /// For paths built from checked names only; `keys.rs` uses it.
    pub(crate) fn known_good(text: &str) -> Path {
        debug_assert_eq!(check(text), Ok(()));
        Path(text.into())
    }

    /// Less than every path; only to begin a range with.
    pub(crate) fn least() -> Path {
        Path("".into())
    }

    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path {}", self.0)
    }
}

impl FromStr for Path {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        Path::new(text)
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Path::new(&text)
    }
}

impl From<Path> for String {
    fn from(path: Path) -> String {
        path.0.as_ref().to_owned()
    }
}

impl AsRef<str> for Path {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

// Sound because order, equality and hash of `Path` are those of its text.
impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Would `text` be a path?
///
/// # Errors
/// As [`Path::new`].
pub(crate) fn check(text: &str) -> Result<(), PathError> {
    if text.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong { bytes: text.len() });
    }
    if let Some((at, found)) = first_control(text) {
        let path = text.to_owned();
        return Err(PathError::Control { path, found, at });
    }
    let mut components = text.as_bytes().split(|byte| *byte == b'/');
    components.try_for_each(|name| match name {
        b"" => Err(PathError::EmptyComponent {
            path: text.to_owned(),
        }),
        b"." | b".." => Err(PathError::Dots {
            path: text.to_owned(),
            found: String::from_utf8_lossy(name).into_owned(),
        }),
        name if name.len() > COMPONENT_BYTES_MAX => Err(PathError::ComponentTooLong {
            path: text.to_owned(),
            bytes: name.len(),
        }),
        _ => Ok(()),
    })
}

/// The first control character and its byte offset. Characters are looked at only where there are others than ASCII.
pub(crate) fn first_control(text: &str) -> Option<(usize, char)> {
    if text.is_ascii() {
        let at = text.bytes().position(|byte| byte.is_ascii_control())?;
        return Some((at, char::from(text.as_bytes()[at])));
    }
    text.char_indices().find(|(_, c)| c.is_control())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_refused(text: &str, why: &str) {
        let error = Path::new(text).expect_err("must be refused");
        assert!(error.to_string().contains(why), "{error}");
    }

    #[test]
    fn a_path_that_leaves_its_place_is_refused() {
        check_refused("", "empty component");
        check_refused("/primary", "empty component");
        check_refused("resource-data//primary", "empty component");
        check_refused("resource-data/", "empty component");
        check_refused("resource-data/../uuid", "\"..\"");
        check_refused("./uuid", "\".\"");
        check_refused("uuid\n", "'\\n' at byte 4");
        check_refused("\u{e4}\u{80}", "'\\u{80}' at byte 2");
        check_refused(&"x".repeat(256), "256 bytes");
        check_refused(&"ab/".repeat(400), "1200 bytes");
    }

    #[test]
    fn dots_inside_a_name_are_allowed() {
        assert!(Path::new("userspace/a.b/...").is_ok());
        assert!(Path::new("4.fatal.status").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_either_refused_or_kept_as_it_is(text in "[a./\\PC\\n]{0,40}") {
            match Path::new(&text) {
                Ok(path) => {
                    prop_assert_eq!(path.as_str(), &text);
                    prop_assert!(path.components().all(|c| !c.is_empty() && c != "." && c != ".."));
                }
                Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control)),
            }
        }
    }
}
