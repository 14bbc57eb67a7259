//! What views use besides the tree: macro files, time zone, mounts, the time of day. Looked up once, at the edge.
//!
//! A saved tree is looked at without mounts and time of day: those belong to the host which looks, not to the tree.

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::library::search_path;
use crate::options::Options;
use crate::snapshot::Time;

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub device: String,
    /// Where.
    pub path: String,
    /// Type of the file system.
    pub fstype: String,
    /// Mount options.
    pub flags: String,
}

/// What views use besides the tree.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where macros of the operator lie; the first directory that has a name wins.
    pub macro_dirs: Vec<PathBuf>,
    /// For times of day.
    pub zone: TimeZone,
    /// What is mounted on this host.
    pub mounts: Vec<Mount>,
    /// The time of day here; unknown for a saved tree.
    pub wall: Option<Time>,
    /// The host which this is, where another one is acted for.
    pub real_host: Option<String>,
}

impl Surroundings {
    /// The search path of the manual, the local time zone, and what is mounted here now.
    pub fn of_this_host(options: &Options) -> Surroundings {
        let saved = options.tree_file.is_some();
        Surroundings {
            macro_dirs: search_path(),
            zone: TimeZone::system(),
            mounts: if saved { Vec::new() } else { mounts() },
            wall: if saved { None } else { wall() },
            real_host: None,
        }
    }

    /// Nothing but Greenwich time, for tests and saved trees.
    pub fn none() -> Surroundings {
        Surroundings {
            macro_dirs: Vec::new(),
            zone: TimeZone::UTC,
            mounts: Vec::new(),
            wall: None,
            real_host: None,
        }
    }
}

fn wall() -> Option<Time> {
    let now = Timestamp::now();
    let sec = u64::try_from(now.as_second()).ok()?;
    let nsec = u32::try_from(now.subsec_nanosecond()).ok()?;
    Some(Time { sec, nsec })
}

/// What is mounted here; nothing where the system does not tell.
pub fn mounts() -> Vec<Mount> {
    parse_mounts(&std::fs::read_to_string("/proc/mounts").unwrap_or_default())
}

/// Reads the format of `/proc/mounts`.
fn parse_mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').map(|word| word.replace("\\040", " "));
            Some(Mount {
                device: words.next()?,
                path: words.next()?,
                fstype: words.next()?,
                flags: words.next()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_blanks() {
        let mounts = parse_mounts("/dev/mars/x /mnt/my\\040data ext4 rw,noatime 0 0\nbroken\n");
        let [mount] = &mounts[..] else {
            unreachable!("one mount");
        };
        assert_eq!(
            (mount.path.as_str(), mount.flags.as_str()),
            ("/mnt/my data", "rw,noatime")
        );
    }
}
