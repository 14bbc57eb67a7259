//! The options of `mars-status`. All of them combine freely; an unknown one is refused.

use std::path::PathBuf;

use crate::snapshot::Time;

/// What `mars-status` was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusOptions {
    /// Only this resource.
    pub resource: Option<String>,
    /// Repeat for ever, with so many seconds between.
    pub interval: Option<u64>,
    /// Log versions and their state.
    pub history: bool,
    /// Bars.
    pub status: bool,
    /// Operating parameters.
    pub system: bool,
    /// Internal messages.
    pub debug: bool,
    /// No box characters.
    pub ascii: bool,
    /// As JSON.
    pub json: bool,
    /// Usage only.
    pub help: bool,
    /// Version block only.
    pub version: bool,
    /// Look at this saved tree.
    pub tree_file: Option<PathBuf>,
    /// Look as this host.
    pub host: Option<String>,
    /// The time to assume with a saved tree.
    pub now: Option<Time>,
    /// Assume that the daemon of a saved tree does not run.
    pub daemon_down: bool,
    /// State directory of the node.
    pub dir: Option<PathBuf>,
}

/// Printed with `--help` and behind a refusal.
pub const USAGE: &str = "\
Usage: mars-status [options]
  --resource NAME     only this resource
  --interval SECONDS  repeat for ever
  --history           log versions and their state on every node
  --status            bars for resize, sync, fetch and replay
  --system            operating parameters
  --debug             internal messages
  --ascii             draw lines with | - +
  --json              the same as JSON
  --dir DIR           state directory of the node (default MARS_DIR, else /mars)
  --tree-file FILE    look at a tree saved with 'mars tree dump'
  --host NAME         look as this host (with --tree-file)
  --now SEC[.NSEC]    the time to assume (with --tree-file)
  --help, -h          this text
  --version, -v       versions only
";

/// Why the options were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("unknown option '{0}'")]
    Unknown(String),
    /// A value is missing behind an option.
    #[error("option '{0}' needs a value")]
    MissingValue(String),
    /// The value has another form.
    #[error("option '{option}': '{value}' is not {expected}")]
    BadValue {
        /// Which option.
        option: String,
        /// What was given.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl StatusOptions {
    /// Reads the words behind the program name.
    pub fn parse(words: &[String]) -> Result<StatusOptions, OptionError> {
        let mut options = StatusOptions::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if options.set_switch(name, value.is_some()) {
                continue;
            }
            if !takes_value(name) {
                return Err(OptionError::Unknown(word.clone()));
            }
            let value = value
                .or_else(|| words.next().cloned())
                .ok_or_else(|| OptionError::MissingValue(name.to_owned()))?;
            options.set_value(name, value)?;
        }
        Ok(options)
    }

    fn set_switch(&mut self, name: &str, has_value: bool) -> bool {
        let switch = match name {
            "--history" => &mut self.history,
            "--status" => &mut self.status,
            "--system" => &mut self.system,
            "--debug" => &mut self.debug,
            "--ascii" => &mut self.ascii,
            "--json" => &mut self.json,
            "--daemon-down" => &mut self.daemon_down,
            "--help" | "-h" => &mut self.help,
            "--version" | "-v" => &mut self.version,
            _ => return false,
        };
        if !has_value {
            *switch = true;
        }
        !has_value
    }

    fn set_value(&mut self, name: &str, value: String) -> Result<(), OptionError> {
        let bad = |value: &str, expected| OptionError::BadValue {
            option: name.to_owned(),
            value: value.to_owned(),
            expected,
        };
        match name {
            "--resource" | "--ressource" => self.resource = Some(value),
            "--interval" => {
                let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                self.interval = Some(seconds.ok_or_else(|| bad(&value, "a number of seconds"))?);
            }
            "--host" => self.host = Some(value),
            "--dir" => self.dir = Some(value.into()),
            "--tree-file" => self.tree_file = Some(value.into()),
            _ => {
                let time = value
                    .parse()
                    .map_err(|_| bad(&value, "a time (SEC or SEC.NSEC)"))?;
                self.now = Some(time);
            }
        }
        Ok(())
    }
}

fn takes_value(name: &str) -> bool {
    matches!(
        name,
        "--resource" | "--ressource" | "--interval" | "--host" | "--dir" | "--tree-file" | "--now"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<StatusOptions, OptionError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        StatusOptions::parse(&words)
    }

    #[test]
    fn all_options_combine() {
        let options = parse(&[
            "--history",
            "--ressource",
            "r",
            "--interval=5",
            "--ascii",
            "-v",
        ]);
        let options = options.expect("accepted");
        assert!(options.history && options.ascii && options.version && !options.status);
        assert_eq!(options.resource.as_deref(), Some("r"));
        assert_eq!(options.interval, Some(5));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(
            parse(&["--foo"]),
            Err(OptionError::Unknown("--foo".to_owned()))
        );
        assert_eq!(
            parse(&["data"]),
            Err(OptionError::Unknown("data".to_owned()))
        );
        assert_eq!(
            parse(&["--resource"]),
            Err(OptionError::MissingValue("--resource".to_owned()))
        );
        for word in ["--interval=x", "--interval=0", "--interval=-1", "--now=x"] {
            assert!(
                matches!(parse(&[word]), Err(OptionError::BadValue { .. })),
                "{word}"
            );
        }
        assert_eq!(
            parse(&["--ascii=1"]),
            Err(OptionError::Unknown("--ascii=1".to_owned()))
        );
    }
}
