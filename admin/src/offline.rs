//! What works while the daemon is not running: making a cluster, joining one, reading the stored tree.
//!
//! The only place of the command lines that touches the state directory itself. Order matters: the tree and the small files come
//! first, the host certificate last; a host is a member once that is there, so an interrupted command can simply be repeated.
//!
//! Manual: "Creating and Maintaining a Cluster".

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use certs::{ClusterId, JoinToken, PkiDir};
use storage::{Layout, RealFs, SledOptions, SledStore, TreeStore, read_small, write_small};
use transport::join::{Admitted, JoinOrder};
use tree::{Entry, Host, Issue, Path, Stamp, Value};

use crate::options::Options;
use crate::session::{Refusal, refuse};
use crate::snapshot::{Item, Kind, Snapshot, TOMBSTONE, Time};
use crate::verb::logs::MARSADM_VERSION;

/// Stamp of keys learnt from somebody else: whatever the cluster says is newer.
const PROVISIONAL_NS: u64 = 1;

/// Any error of this file, as the sentence the operator reads.
fn sentence(error: impl std::fmt::Display) -> Refusal {
    Refusal(error.to_string())
}

/// The state directory of a node, opened for work without its daemon.
struct Place<'o> {
    layout: Layout,
    pki: PkiDir,
    host: String,
    options: &'o Options,
    now_ns: u64,
}

/// `create-cluster`. Answers the id of the new cluster.
pub fn create_cluster(options: &Options) -> Result<String, Refusal> {
    let place = Place::open(options)?;
    if let Some(cluster) = place.pki.cluster().map_err(sentence)? {
        return Err(Refusal(format!(
            "cluster is already created (uuid '{cluster}')"
        )));
    }
    let address = place.own_address()?;
    let now = Time::from_ns(place.now_ns);
    let cluster = ClusterId::of(&place.host, now.sec, now.nsec).map_err(sentence)?;
    let mut keys = place.own_keys(&address);
    keys.push(("uuid".to_owned(), cluster.to_string(), place.now_ns));
    place.write(&cluster, keys)?;
    place
        .pki
        .create_cluster(&place.host, cluster.clone(), now.sec)
        .map_err(sentence)?;
    Ok(cluster.to_string())
}

/// `join-cluster PEER [PEER_IP]`. Answers the id of the cluster.
pub fn join_cluster(
    options: &Options,
    peer: &str,
    peer_ip: Option<&str>,
) -> Result<String, Refusal> {
    let place = Place::open(options)?;
    let (peer_host, has_port) = peer
        .split_once(':')
        .map_or((peer, false), |(host, _)| (host, true));
    if peer_host == place.host {
        return Err(Refusal(format!(
            "Cannot join myself (peer='{peer_host}', host='{}')",
            place.host
        )));
    }
    if let Some(cluster) = place.pki.cluster().map_err(sentence)? {
        return Err(Refusal(format!(
            "this host belongs to the cluster '{cluster}' already; to begin afresh remove the state directory '{}'",
            options.dir.display()
        )));
    }
    let token = JoinToken::from_text(&place.token(peer_host)?).map_err(sentence)?;
    if token.issuer != peer_host {
        return Err(Refusal(format!(
            "the token was issued by host '{}', not by '{peer_host}'",
            token.issuer
        )));
    }
    let said = peer_ip
        .map(str::to_owned)
        .or_else(|| options.peer_ips.get(peer_host).cloned());
    let ask_at = said.or_else(|| has_port.then(|| peer.to_owned()));
    let address = place.own_address()?;
    let key = place.pki.host_key().map_err(sentence)?;
    let now_s = Time::from_ns(place.now_ns).sec;
    let order = JoinOrder {
        token: &token,
        ask_at,
        host: &place.host,
        address: &address,
        key: &key,
        now_s,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(sentence)?;
    let admitted = runtime
        .block_on(transport::join::join(&order))
        .map_err(sentence)?;
    place.keep(&admitted, &address)
}

impl<'o> Place<'o> {
    fn open(options: &'o Options) -> Result<Place<'o>, Refusal> {
        let dir = make_dir(&options.dir)?;
        let layout = Layout::new(&dir);
        if std::os::unix::net::UnixStream::connect(layout.control_socket()).is_ok() {
            return Err(Refusal(
                "the mars daemon is running: stop it first".to_owned(),
            ));
        }
        let host = host_name(options)?;
        Host::new(&host).map_err(sentence)?;
        let now_ns = wall_ns();
        Ok(Place {
            pki: PkiDir::of(&dir),
            layout,
            host,
            options,
            now_ns,
        })
    }

    fn own_address(&self) -> Result<String, Refusal> {
        let said = self
            .options
            .own_ip
            .clone()
            .or_else(|| self.options.peer_ips.get(&self.host).cloned());
        let nowhere = || Refusal("cannot find out the address of this host: use --ip=".to_owned());
        said.or_else(first_address).ok_or_else(nowhere)
    }

    /// From the command line, the environment or the file an operator has left.
    fn token(&self, peer: &str) -> Result<String, Refusal> {
        if let Some(token) = self
            .options
            .token
            .clone()
            .or_else(|| std::env::var("MARS_TOKEN").ok())
        {
            return Ok(token);
        }
        let file = self.layout.join_token();
        std::fs::read_to_string(&file).map_err(|_| {
            Refusal(format!(
                "a join token is missing: get one with 'mars cluster token' on host '{peer}', and use --token=, MARS_TOKEN or \
                 the file '{}'",
                file.display()
            ))
        })
    }

    /// What every host says of itself when it becomes a member.
    fn own_keys(&self, address: &str) -> Vec<(String, String, u64)> {
        let host = &self.host;
        [
            (format!("actual-{host}/marsadm-version"), MARSADM_VERSION),
            (format!("defaults-{host}/sync-limit"), "0"),
            (format!("defaults-{host}/sync-pref-list"), "(none)"),
            (format!("ips/ip-{host}"), address),
        ]
        .map(|(path, value)| (path, value.to_owned(), self.now_ns))
        .to_vec()
    }

    fn keep(&self, admitted: &Admitted, address: &str) -> Result<String, Refusal> {
        let cluster = admitted.authority.cluster();
        let mut keys = vec![("uuid".to_owned(), cluster.to_string(), PROVISIONAL_NS)];
        for (host, address) in admitted
            .addresses
            .iter()
            .filter(|(host, _)| host.as_str() != self.host)
        {
            keys.push((format!("ips/ip-{host}"), address.clone(), PROVISIONAL_NS));
        }
        keys.extend(self.own_keys(address));
        self.write(cluster, keys)?;
        self.pki
            .install_joined(&admitted.authority, &admitted.cert)
            .map_err(sentence)?;
        Ok(cluster.to_string())
    }

    /// Stores keys (path, value, stamp) and the small files.
    fn write(&self, cluster: &ClusterId, keys: Vec<(String, String, u64)>) -> Result<(), Refusal> {
        let writer = Host::new(&self.host).map_err(sentence)?;
        let mut changes = Vec::new();
        for (at, (path, value, stamp_ns)) in keys.into_iter().enumerate() {
            let entry = Entry {
                value: Value::text(&value).map_err(sentence)?,
                stamp: Stamp::new(stamp_ns, &writer),
                issue: Issue {
                    nr: self.now_ns + at as u64,
                    writer: writer.clone(),
                },
                lazy: false,
            };
            changes.push((Path::new(&path).map_err(sentence)?, Some(entry)));
        }
        let mut store = open_store(&self.layout)?;
        store.commit(&changes).map_err(sentence)?;
        drop(store);
        write_small(
            &RealFs,
            &self.layout.cluster_id(),
            format!("{cluster}\n").as_bytes(),
        )
        .map_err(sentence)?;
        write_small(
            &RealFs,
            &self.layout.host_name(),
            format!("{}\n", self.host).as_bytes(),
        )
        .map_err(sentence)
    }
}

/// The state directory, made if it is not there, readable by its owner only.
fn make_dir(dir: &FilePath) -> Result<std::path::PathBuf, Refusal> {
    let failed =
        |error: io::Error| Refusal(format!("state directory '{}': {error}", dir.display()));
    if !dir.exists() {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(dir)
            .map_err(failed)?;
    }
    let dir = dir.canonicalize().map_err(failed)?;
    let mode = std::fs::metadata(&dir)
        .map_err(failed)?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(dir)
}

fn open_store(layout: &Layout) -> Result<SledStore, Refusal> {
    let (store, _) = SledStore::open(&layout.tree(), SledOptions::default()).map_err(sentence)?;
    Ok(store)
}

/// The tree as the daemon has left it.
pub fn stored_tree(options: &Options) -> Result<Snapshot, Refusal> {
    let layout = Layout::new(&options.dir);
    if !layout.tree().is_dir() {
        return Err(Refusal(format!(
            "'{}' is not the state directory of a node: use create-cluster or join-cluster first",
            options.dir.display()
        )));
    }
    let host = host_name(options)?;
    let mut store = open_store(&layout)?;
    let entries = store.load().map_err(sentence)?;
    let items = entries.into_iter().map(|(path, entry)| {
        let time = Time::from_ns(entry.stamp.ns);
        let value = entry.text().unwrap_or(TOMBSTONE).to_owned();
        let kind = kind_of(&layout, path.as_str());
        (
            path.to_string(),
            Item {
                value,
                sec: time.sec,
                nsec: time.nsec,
                kind,
            },
        )
    });
    Ok(Snapshot {
        host,
        now: Time::from_ns(wall_ns()),
        entries: Arc::new(items.collect()),
        daemon_runs: false,
    })
}

/// A log is a file when this host holds it.
fn kind_of(layout: &Layout, path: &str) -> Kind {
    match path.rsplit_once('/') {
        Some((dir, name)) if name.starts_with("log-") && dir.starts_with("resource-") => {
            if layout.dir().join(dir).join(name).is_file() {
                Kind::File
            } else {
                Kind::Remote
            }
        }
        _ => Kind::Key,
    }
}

/// The name of this host: kept in the state directory, else said, else that of the machine without its domain.
pub fn host_name(options: &Options) -> Result<String, Refusal> {
    let kept = read_small(&RealFs, &Layout::new(&options.dir).host_name()).map_err(sentence)?;
    if let Some(kept) = kept {
        return Ok(String::from_utf8_lossy(&kept).trim().to_owned());
    }
    if let Some(said) = &options.host {
        return Ok(said.clone());
    }
    let machine = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let written = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    name_of_machine(&machine, &written)
}

/// The name under which this machine would enter a cluster, for good. `written` is what `/etc/hostname` says, if anything.
fn name_of_machine(machine: &str, written: &str) -> Result<String, Refusal> {
    let without_domain = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let name = without_domain(machine);
    let written = written.lines().next().unwrap_or_default().trim();
    if !written.is_empty() && without_domain(written) != name {
        return refuse(format!(
            "CRITICAL RISK: this machine calls itself '{name}', but /etc/hostname says '{written}'. A host keeps its name for \
             ever: correct one of them, or use --host="
        ));
    }
    Ok(name)
}

/// The first IPv4 address of an interface other than the loopback.
pub fn first_address() -> Option<String> {
    let addresses = if_addrs::get_if_addrs().ok()?;
    let v4 = addresses
        .iter()
        .filter(|found| !found.is_loopback())
        .map(|found| found.ip());
    v4.into_iter()
        .find(IpAddr::is_ipv4)
        .map(|ip| ip.to_string())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the first stamp of a cluster is the time of day"
)]
fn wall_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::name_of_machine;

    #[test]
    fn a_machine_with_two_names_has_none() {
        let name = |machine, written| name_of_machine(machine, written).map_err(|e| e.to_string());
        assert_eq!(name("alpha", ""), Ok("alpha".to_owned()));
        assert_eq!(name("alpha.example.org", "alpha\n"), Ok("alpha".to_owned()));
        assert_eq!(name("alpha", "alpha.example.org"), Ok("alpha".to_owned()));
        let refused = name("alpha", "beta\n").expect_err("contradictory");
        assert!(refused.starts_with("CRITICAL RISK"), "{refused}");
    }
}
