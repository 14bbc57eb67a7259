//! From the words of a `marsadm` command line to options and positional words.
//!
//! Options may stand anywhere. Blanks around `=` inside one word are tolerated, as the original does. A word which begins
//! with `-` and is no option is refused before anything happens.

use crate::human;
use crate::options::{Options, Timeout};

/// The option for programs; looked for by [`crate::json`], too.
pub const JSON: &str = "--json";

/// Days for a bare `--autoclean`.
const AUTOCLEAN_DAYS_DEFAULT: u64 = 30;

/// What the words mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The options.
    pub options: Options,
    /// What is left: the command and its words.
    pub words: Vec<String>,
    /// All words as the operator typed them.
    pub typed: Vec<String>,
    /// Which of them are the positional ones.
    pub words_at: Vec<usize>,
    /// `--help` or `-h` was among them.
    pub help: bool,
    /// `--version` was among them.
    pub version: bool,
    /// Remarks about obsolete options, for stdout.
    pub notices: Vec<String>,
    /// `--host=` named a host besides the one the saved tree belongs to.
    pub acts_for_other: bool,
}

/// Why the words were refused. Nothing has happened then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgError {
    /// No such option, or an option with a value it does not take.
    #[error("unrecognized argument '{0}' (bad syntax)")]
    Unrecognized(String),
    /// The value of `--threshold=` is no size.
    #[error(transparent)]
    Size(#[from] human::SizeError),
    /// The value of `--now=` is no time.
    #[error(transparent)]
    Now(#[from] crate::snapshot::SnapshotError),
}

/// Takes the command line apart. `args` are the words after the program name.
pub fn parse(args: &[String]) -> Result<Parsed, ArgError> {
    let mut parsed = Parsed {
        typed: args.to_vec(),
        ..Parsed::default()
    };
    let mut hosts: Vec<(usize, String)> = Vec::new();
    let mut tree_file_at = None;
    for (at, word) in args.iter().enumerate() {
        if !word.starts_with('-') {
            parsed.words.push(word.clone());
            parsed.words_at.push(at);
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim())),
            None => (word.trim_end(), None),
        };
        match (name, value) {
            ("--host", Some(host)) => hosts.push((at, host.to_owned())),
            ("--tree-file", Some(file)) => {
                tree_file_at = Some(at);
                parsed.options.tree_file = Some(file.into());
            }
            _ if set_flag(&mut parsed, name, value) => {}
            (name, Some(value)) if set_value(&mut parsed, name, value)? => {}
            _ => return Err(ArgError::Unrecognized(word.clone())),
        }
    }
    choose_host(&mut parsed, hosts, tree_file_at);
    strip_force_prefix(&mut parsed);
    Ok(parsed)
}

/// Options without a value.
fn set_flag(parsed: &mut Parsed, name: &str, value: Option<&str>) -> bool {
    if value.is_some() {
        return false;
    }
    let options = &mut parsed.options;
    match name {
        "--force" | "-f" => options.force += 1,
        "--dry-run" | "-d" => options.dry_run = true,
        "--verbose" | "-v" => options.verbose += 1,
        "--singlestep" => {
            options.singlestep = true;
            options.parallel = None;
        }
        "--parallel" => set_parallel(options, 0),
        "--ignore-sync" => options.ignore_sync = true,
        "--autoclean" => options.autoclean_days = AUTOCLEAN_DAYS_DEFAULT,
        "--daemon-down" => options.daemon_down = true,
        "--no-ssh" => {}
        JSON => options.json = true,
        "--help" | "-h" => parsed.help = true,
        "--version" => parsed.version = true,
        _ => return false,
    }
    true
}

/// Options with a value; `Ok(false)` when there is no such option or the value does not fit it.
fn set_value(parsed: &mut Parsed, name: &str, value: &str) -> Result<bool, ArgError> {
    let options = &mut parsed.options;
    match name {
        "--threshold" => options.threshold = human::parse_size(value)?,
        "--now" => options.now = Some(value.parse()?),
        "--delta-file" => options.delta_file = Some(value.into()),
        "--dir" => options.dir = value.into(),
        "--token" => options.token = Some(value.to_owned()),
        "--macro" => options.macro_text = Some(value.to_owned()),
        "--logger" => options.logger = Some(value.to_owned()),
        "--backup-dir" if value.starts_with('/') => options.backup_dir = Some(value.to_owned()),
        "--ip" if is_address(value) => options.own_ip = Some(value.to_owned()),
        "--ssh-port" | "--ssh_port" | "--ssh-opts" | "--ssh_opts" | "--max-deletions" => {}
        "--delete-method" => parsed
            .notices
            .push("Option --delete-method is obsolete and has no effect".into()),
        _ => match name.strip_prefix("--ip-") {
            Some(peer) if !peer.is_empty() && is_address(value) => {
                options.peer_ips.insert(peer.to_owned(), value.to_owned());
            }
            Some(_) => return Ok(false),
            None => return Ok(set_number(options, name, value)),
        },
    }
    Ok(true)
}

/// Options with a number; `false` when there is no such option or the value is no number.
fn set_number(options: &mut Options, name: &str, value: &str) -> bool {
    match (name, value) {
        ("--timeout", "-1") => {
            options.timeout = Timeout::Forever;
            return true;
        }
        ("--verbose", _) => {
            let Ok(level) = value.parse() else {
                return false;
            };
            options.verbose = level;
            return true;
        }
        _ => {}
    }
    let Some(n) = number(value) else { return false };
    match name {
        "--timeout" => options.timeout = Timeout::Seconds(n),
        "--window" => options.window = n,
        "--stuck-seconds" => options.stuck_seconds = n,
        "--keep-backup-hours" | "--keep-backups" => options.keep_backup_hours = n,
        "--thresh-logfiles" => options.thresh_logfiles = n,
        "--thresh-logsize" => options.thresh_logsize = n,
        "--parallel" => set_parallel(options, n),
        "--error-injection-phase" => options.error_injection_phase = n as u32,
        "--ignore-sync" => options.ignore_sync = n != 0,
        "--ignore-deleted-peers" => options.ignore_deleted_peers = n as u32,
        "--autoclean" => options.autoclean_days = n,
        "--systemd-enable" if n <= 1 => options.systemd_enable = n == 1,
        _ => return false,
    }
    true
}

/// Digits; a unit `s` behind seconds does no harm. At most nine digits, so that no sum of times can overflow.
fn number(value: &str) -> Option<u64> {
    let digits = value.strip_suffix('s').unwrap_or(value);
    (digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

fn set_parallel(options: &mut Options, limit: u64) {
    options.parallel = Some(limit);
    options.singlestep = false;
}

/// Digits, letters a to f, dots, colons and brackets: IPv4, IPv6, with or without a port.
pub fn is_address(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':' | b'[' | b']'))
}

/// With a saved tree one `--host=` says whose tree it is: the one nearest to `--tree-file`. Any other one is acted for.
fn choose_host(parsed: &mut Parsed, hosts: Vec<(usize, String)>, tree_file_at: Option<usize>) {
    let Some(tree_at) = tree_file_at else {
        parsed.acts_for_other = !hosts.is_empty();
        parsed.options.host = hosts.into_iter().next_back().map(|(_, host)| host);
        return;
    };
    let own = hosts
        .iter()
        .min_by_key(|(at, _)| at.abs_diff(tree_at))
        .map(|(_, host)| host.clone());
    let other = hosts
        .into_iter()
        .map(|(_, host)| host)
        .find(|host| Some(host) != own.as_ref());
    parsed.acts_for_other = other.is_some();
    parsed.options.tree_host = own.clone();
    parsed.options.host = other.or(own);
}

/// `force-primary R` means `--force primary R`.
fn strip_force_prefix(parsed: &mut Parsed) {
    if let Some(command) = parsed.words.first_mut()
        && let Some(plain) = command.strip_prefix("force-")
    {
        *command = plain.to_owned();
        parsed.options.force += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Parsed, ArgError> {
        parse(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    fn check_refused(line: &str, word: &str) {
        assert_eq!(read(line), Err(ArgError::Unrecognized(word.to_owned())));
    }

    #[test]
    fn options_may_stand_anywhere() {
        let parsed = read("up --timeout=5 data --force -v").expect("all known");
        assert_eq!(parsed.words, ["up", "data"]);
        assert_eq!(
            (
                parsed.options.timeout,
                parsed.options.force,
                parsed.options.verbose
            ),
            (Timeout::Seconds(5), 1, 1)
        );
    }

    #[test]
    fn minus_one_waits_forever_and_a_unit_behind_seconds_is_tolerated() {
        assert_eq!(
            read("up --timeout=-1").map(|p| p.options.timeout),
            Ok(Timeout::Forever)
        );
        assert_eq!(
            read("up --timeout=10s").map(|p| p.options.timeout),
            Ok(Timeout::Seconds(10))
        );
    }

    #[test]
    fn a_misspelled_option_is_refused() {
        check_refused("up --forec data", "--forec");
        check_refused("up --hots=beta data", "--hots=beta");
        check_refused("up --timeout=soon data", "--timeout=soon");
        check_refused("up --force=yes data", "--force=yes");
        check_refused("up -x data", "-x");
    }

    #[test]
    fn the_prefix_force_counts_for_the_command_only() {
        let parsed = read("force-primary force-data").expect("all known");
        assert_eq!(
            (parsed.words, parsed.options.force),
            (vec!["primary".to_owned(), "force-data".to_owned()], 1)
        );
    }

    #[test]
    fn the_host_beside_the_tree_file_owns_the_tree_and_another_one_is_acted_for() {
        let parsed = read("--tree-file=t --host=alpha --host=beta up data").expect("all known");
        assert_eq!(parsed.options.tree_host.as_deref(), Some("alpha"));
        assert_eq!(parsed.options.host.as_deref(), Some("beta"));
        assert!(parsed.acts_for_other);
    }
}
