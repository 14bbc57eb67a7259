//! Which resources must a command read?
//!
//! A cluster may have thousands of resources, and most commands are about one of them. Such a command asks the daemon for the
//! keys of its resource and for whatever belongs to no resource; what looks around in the cluster gets the whole tree.

use crate::marsadm::is_view;
use crate::options::Options;
use crate::view;

/// Commands which work on the resources they name, and on nothing else.
const ABOUT_THEIR_RESOURCES: &[&str] = &[
    "attach",
    "connect",
    "connect-global",
    "connect-local",
    "detach",
    "disconnect",
    "disconnect-global",
    "disconnect-local",
    "down",
    "emergency-limit",
    "fake-sync",
    "get-emergency-limit",
    "get-systemd-unit",
    "get-systemd-want",
    "invalidate",
    "mars-state",
    "pause-fetch",
    "pause-fetch-global",
    "pause-fetch-local",
    "pause-replay",
    "pause-replay-global",
    "pause-replay-local",
    "pause-sync",
    "pause-sync-global",
    "pause-sync-local",
    "primary",
    "resize",
    "resume-fetch",
    "resume-fetch-global",
    "resume-fetch-local",
    "resume-replay",
    "resume-replay-global",
    "resume-replay-local",
    "resume-sync",
    "resume-sync-global",
    "resume-sync-local",
    "role",
    "secondary",
    "set-emergency-limit",
    "show-state",
    "state",
    "up",
    "wait-connect",
    "wait-resource",
    "wait-umount",
];

/// The resources whose keys the command needs; `None` when it may need those of all.
pub fn resources_needed(options: &Options, words: &[String]) -> Option<Vec<String>> {
    let (command, selector) = (words.first()?, words.get(1)?);
    let narrow = match is_view(command) {
        // Macro text of the operator may ask for anything.
        true => options.macro_text.is_none() && words.len() == 2 && view::is_about_one(command),
        false => ABOUT_THEIR_RESOURCES.contains(&command.as_str()),
    };
    let names: Vec<String> = selector
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    let named = !names.is_empty() && names.iter().all(|name| name != "all");
    (narrow && named).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs;

    fn check(line: &str, expected: Option<&[&str]>) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let found = resources_needed(&Options::default(), &words);
        let expected = expected.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn a_command_about_one_resource_needs_only_that() {
        check("pause-fetch data", Some(&["data"]));
        check("primary data,mail", Some(&["data", "mail"]));
        check("view-role data", Some(&["data"]));
        check("view-replay-pos data", Some(&["data"]));
        check("view data", Some(&["data"]));
    }

    #[test]
    fn what_looks_around_needs_all() {
        check("view all", None);
        check("view", None);
        check("pause-fetch all", None);
        check("pause-fetch data,all", None);
        check("create-resource data /dev/x", None);
        check("cron data", None);
        check("view-cluster-peers data", None);
        check("view-count-cluster-peers data", None);
        check("view-my-resources data", None);
        check("view-role data %my-resources{}", None);
        check("view-nosuch data", None);
        check("prettyprint-role data", None);
        let words = ["view".to_owned(), "data".to_owned()];
        let options = Options {
            macro_text: Some("%my-resources{}".to_owned()),
            ..Options::default()
        };
        assert_eq!(resources_needed(&options, &words), None);
    }

    #[test]
    fn every_command_of_the_list_exists() {
        for name in ABOUT_THEIR_RESOURCES {
            assert!(verbs::find(name).is_some(), "{name}");
        }
    }
}
