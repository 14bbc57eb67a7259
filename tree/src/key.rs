//! Paths of keys from their parts: `key::primary(&res)` is `resource-<res>/primary`.
//!
//! One function for every key the programs use; the patterns stand in the key table (`keys.rs`).

use crate::keys::Key;
use crate::log_name::LogName;
use crate::name::{Host, Resource};
use crate::path::{self, Path, PathError};

/// A wish of the operator for one member of a resource, on or off.
/// What operators call fetch and replay is stored as `connect` and `allow-replay`; only here is that known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// May the host use its disk? The master switch.
    Attach,
    /// May it sync?
    Sync,
    /// May it fetch logs?
    Fetch,
    /// May it replay?
    Replay,
}

impl Switch {
    /// All of them, in the order the commands use.
    pub const ALL: [Switch; 4] = [Switch::Attach, Switch::Fetch, Switch::Replay, Switch::Sync];

    /// Name of the key below `todo-<host>/`.
    pub fn stored_name(self) -> &'static str {
        self.todo_key()
            .def()
            .pattern
            .rsplit('/')
            .next()
            .unwrap_or_default()
    }

    /// Its key.
    pub fn todo_key(self) -> Key {
        match self {
            Switch::Attach => Key::TodoAttach,
            Switch::Sync => Key::TodoSync,
            Switch::Fetch => Key::TodoFetch,
            Switch::Replay => Key::TodoReplay,
        }
    }

    /// The actual indicator which shows that the wish has come true.
    pub fn actual_key(self) -> Key {
        match self {
            Switch::Attach => Key::IsAttached,
            Switch::Sync => Key::IsSyncing,
            Switch::Fetch => Key::IsCopying,
            Switch::Replay => Key::IsReplaying,
        }
    }
}

/// `uuid`
pub fn uuid() -> Path {
    Key::Uuid.path(&[])
}

/// `ips/ip-<host>`
pub fn ip(host: &Host) -> Path {
    Key::Ip.path(&[host.as_str()])
}

/// `ips/left-<host>`
pub fn left_cluster(host: &Host) -> Path {
    Key::LeftCluster.path(&[host.as_str()])
}

/// `defaults/<name>`
///
/// # Errors
/// [`PathError`] when `name` cannot be a component.
pub fn default(name: &str) -> Result<Path, PathError> {
    component(name)?;
    Ok(Key::Default.path(&[name]))
}

/// `defaults-<host>/<name>`
///
/// # Errors
/// [`PathError`] when `name` cannot be a component.
pub fn host_default(host: &Host, name: &str) -> Result<Path, PathError> {
    component(name)?;
    Ok(Key::HostDefault.path(&[host.as_str(), name]))
}

/// A key with a fixed path, such as `defaults/sync-limit` for [`Key::DefaultSyncLimit`].
///
/// # Panics
/// When the pattern of `key` has placeholders.
pub fn of_all(key: Key) -> Path {
    key.path(&[])
}

/// A key about a whole host, such as `actual-<host>/time` for [`Key::Time`].
///
/// # Panics
/// When the pattern of `key` has other placeholders than one `<host>`.
pub fn of_host(key: Key, host: &Host) -> Path {
    key.path(&[host.as_str()])
}

/// `actual-<host>/<name>`; for a name known when the program is written. Prefer [`of_host`].
///
/// # Panics
/// When `name` is no component of a path.
pub fn host_actual(host: &Host, name: &'static str) -> Path {
    assert!(component(name).is_ok(), "{name:?} cannot be an indicator");
    Key::HostActual.path(&[host.as_str(), name])
}

/// `actual-<host>/`: the prefix of all that a host says about itself.
pub fn host_actual_folder(host: &Host) -> String {
    format!("actual-{host}/")
}

/// `actual-<host>/msg-needed-connection-with-<peer>`
pub fn needs_connection(host: &Host, peer: &Host) -> Path {
    Key::NeedsConnection.path(&[host.as_str(), peer.as_str()])
}

/// A key of a resource as a whole, such as `resource-<res>/maxnr` for [`Key::MaxNr`].
///
/// # Panics
/// When the pattern of `key` has other placeholders than one `<res>`.
pub fn of_resource(key: Key, res: &Resource) -> Path {
    key.path(&[res.as_str()])
}

/// A key of one member of a resource, such as `resource-<res>/actual-<host>/is-primary` for [`Key::IsPrimary`].
///
/// # Panics
/// When the pattern of `key` has other placeholders than `<res>` and `<host>`.
pub fn of_member(key: Key, res: &Resource, host: &Host) -> Path {
    key.path(&[res.as_str(), host.as_str()])
}

/// `resource-<res>/primary`
pub fn primary(res: &Resource) -> Path {
    of_resource(Key::Primary, res)
}

/// `resource-<res>/size`
pub fn size(res: &Resource) -> Path {
    of_resource(Key::Size, res)
}

/// `resource-<res>/maxnr`
pub fn maxnr(res: &Resource) -> Path {
    of_resource(Key::MaxNr, res)
}

/// `resource-<res>/data-<host>`
pub fn data(res: &Resource, host: &Host) -> Path {
    of_member(Key::Data, res, host)
}

/// `resource-<res>/device-<host>`
pub fn device(res: &Resource, host: &Host) -> Path {
    of_member(Key::Device, res, host)
}

/// `resource-<res>/actsize-<host>`
pub fn actsize(res: &Resource, host: &Host) -> Path {
    of_member(Key::ActSize, res, host)
}

/// `resource-<res>/replay-<host>`
pub fn replay(res: &Resource, host: &Host) -> Path {
    of_member(Key::Replay, res, host)
}

/// `resource-<res>/version-<seq>-<host>`: log `seq` as `host` has it.
pub fn version(res: &Resource, seq: u64, host: &Host) -> Path {
    Key::Version.path(&[res.as_str(), &format!("{seq:09}"), host.as_str()])
}

/// `resource-<res>/log-<seq>-<creator>`
pub fn log(res: &Resource, log: &LogName) -> Path {
    Key::Log.path(&[res.as_str(), &log.to_string()])
}

/// `resource-<res>/skip-check-<host>`
pub fn skip_check(res: &Resource, host: &Host) -> Path {
    of_member(Key::SkipCheck, res, host)
}

/// `resource-<res>/syncstatus-<host>`
pub fn syncstatus(res: &Resource, host: &Host) -> Path {
    of_member(Key::SyncStatus, res, host)
}

/// `resource-<res>/syncpos-<host>`
pub fn syncpos(res: &Resource, host: &Host) -> Path {
    of_member(Key::SyncPos, res, host)
}

/// `resource-<res>/verifystatus-<host>`
pub fn verifystatus(res: &Resource, host: &Host) -> Path {
    of_member(Key::VerifyStatus, res, host)
}

/// `resource-<res>/connect-<host>`: preferred sources of logs. The fetch switch is [`todo()`].
pub fn fetch_from(res: &Resource, host: &Host) -> Path {
    of_member(Key::FetchFrom, res, host)
}

/// `resource-<res>/todo-<host>/<switch>`
pub fn todo(res: &Resource, host: &Host, switch: Switch) -> Path {
    of_member(switch.todo_key(), res, host)
}

/// `resource-<res>/todo-<host>/emergency-limit`
pub fn emergency_limit(res: &Resource, host: &Host) -> Path {
    of_member(Key::EmergencyLimit, res, host)
}

/// `resource-<res>/actual-<host>/<name>`; for a name known when the program is written.
///
/// # Panics
/// When `name` is no component of a path. For names from outside see [`Path::new`].
pub fn actual(res: &Resource, host: &Host, name: &'static str) -> Path {
    assert!(component(name).is_ok(), "{name:?} cannot be an indicator");
    Key::ResActual.path(&[res.as_str(), host.as_str(), name])
}

/// `resource-<res>/actual-<host>/`: the prefix of all that a member says about itself.
pub fn actual_folder(res: &Resource, host: &Host) -> String {
    format!("resource-{res}/actual-{host}/")
}

/// `resource-<res>/`: the prefix of all keys of a resource.
pub fn resource_prefix(res: &Resource) -> String {
    format!("resource-{res}/")
}

/// The prefix of all version links of a resource; read the host with [`Key::parse`].
pub fn version_prefix(res: &Resource) -> String {
    format!("resource-{res}/version-")
}

/// The prefix of all logs of a resource.
pub fn log_prefix(res: &Resource) -> String {
    format!("resource-{res}/log-")
}

fn component(name: &str) -> Result<(), PathError> {
    path::check(name)?;
    if name.contains('/') {
        let name = name.to_owned();
        return Err(PathError::Slash { name });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_key_begins_with_the_prefix_it_is_looked_for_with() {
        let host = Host::new("alpha").expect("valid name");
        let res = Resource::new("data").expect("valid name");
        let below = |path: Path, prefix: String| {
            let rest = path.as_str().strip_prefix(&prefix);
            rest.map(str::to_owned)
        };
        let name = Some("x-y".to_owned());
        assert_eq!(
            below(actual(&res, &host, "x-y"), actual_folder(&res, &host)),
            name
        );
        assert_eq!(
            below(host_actual(&host, "x-y"), host_actual_folder(&host)),
            name
        );
        assert!(below(version(&res, 7, &host), version_prefix(&res)).is_some());
        let log_name = LogName::new(7, &host);
        assert!(below(log(&res, &log_name), log_prefix(&res)).is_some());
        assert!(below(primary(&res), resource_prefix(&res)).is_some());
    }
}
