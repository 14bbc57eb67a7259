//! Completion scripts for bash, zsh and fish, and the words they ask for.
//!
//! The script for `mars` comes from its definition. Those for `marsadm` and `mars-status` ask `mars words` while the operator
//! types, so they know the resources and hosts of the running node.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::help;
use crate::session::Refusal;
use crate::status::USAGE;
use crate::tree_cli;
use crate::verbs::{Class, VERBS};
use crate::view;

/// What can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Words {
    /// Commands of `marsadm`.
    Commands,
    /// Options of `marsadm`.
    Options,
    /// Options of `mars-status`.
    StatusOptions,
    /// Resources and hosts of the node.
    Names,
}

const BASH: &str = r#"
_marsadm() {
    local cur=${COMP_WORDS[COMP_CWORD]} kind=names word
    COMPREPLY=()
    case $cur in
        -*) kind=options ;;
        *) kind=commands
           for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
               case $word in -*) ;; *) kind=names ;; esac
           done ;;
    esac
    COMPREPLY=($(compgen -W "$(mars words $kind 2>/dev/null)" -- "$cur"))
}
complete -F _marsadm marsadm

_mars_status() {
    local cur=${COMP_WORDS[COMP_CWORD]} kind=status-options
    case ${COMP_WORDS[COMP_CWORD-1]} in --resource | --host) kind=names ;; esac
    COMPREPLY=($(compgen -W "$(mars words $kind 2>/dev/null)" -- "$cur"))
}
complete -o default -F _mars_status mars-status
"#;

const ZSH: &str = r#"
_marsadm() {
    local kind=commands word
    for word in "${words[@]:1:$((CURRENT-2))}"; do
        case $word in -*) ;; *) kind=names ;; esac
    done
    case $PREFIX in -*) kind=options ;; esac
    compadd -- ${(f)"$(mars words $kind 2>/dev/null)"}
}
compdef _marsadm marsadm

_mars_status() {
    local kind=status-options
    case ${words[CURRENT-1]} in --resource | --host) kind=names ;; esac
    compadd -- ${(f)"$(mars words $kind 2>/dev/null)"}
}
compdef _mars_status mars-status
"#;

const FISH: &str = r#"
complete -c marsadm -f
complete -c marsadm -n __fish_is_first_arg -a '(mars words commands 2>/dev/null)'
complete -c marsadm -n 'not __fish_is_first_arg' -a '(mars words names 2>/dev/null)'
complete -c marsadm -a '(mars words options 2>/dev/null)'
complete -c mars-status -f -a '(mars words status-options 2>/dev/null)'
complete -c mars-status -n '__fish_prev_arg_in --resource --host' -a '(mars words names 2>/dev/null)'
"#;

/// The whole script for a shell.
pub fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut crate::mars::Mars::command(),
        "mars",
        &mut script,
    );
    let marsadm = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
        _ => "",
    };
    String::from_utf8_lossy(&script).into_owned() + marsadm
}

/// The words of one kind, one a line.
pub fn words(dir: &Path, kind: Words) -> Result<Vec<String>, Refusal> {
    match kind {
        Words::Commands => {
            let verbs = VERBS
                .iter()
                .filter(|verb| verb.class < Class::Deprecated)
                .map(|verb| verb.name.to_owned());
            let macros = view::macro_table().into_iter().filter(|line| line.view);
            let views = macros.map(|line| format!("view-{}", line.name));
            Ok(verbs
                .chain(views)
                .chain(["help", "version", "view"].map(str::to_owned))
                .collect())
        }
        Words::Options => {
            // Up to the value: `--host=`, `--verbose`.
            let bare = |option: &str| match option.split_once(['=', '[']) {
                Some((name, _)) if option.starts_with(&format!("{name}=")) => format!("{name}="),
                Some((name, _)) => name.to_owned(),
                None => option.to_owned(),
            };
            Ok(help::OPTIONS
                .iter()
                .map(|(option, _)| bare(option))
                .collect())
        }
        Words::StatusOptions => {
            let first = USAGE
                .lines()
                .filter_map(|line| line.split_whitespace().next());
            let options = first.filter(|word| word.starts_with("--"));
            Ok(options
                .map(|word| word.trim_end_matches(',').to_owned())
                .collect())
        }
        Words::Names => {
            let tree = tree_cli::read(dir, "")?;
            let mut names: BTreeSet<String> =
                tree.resources().into_iter().map(str::to_owned).collect();
            names.extend(tree.owners("ips/ip-").into_iter().map(str::to_owned));
            names.insert("all".to_owned());
            Ok(names.into_iter().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_complete_both_command_lines() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            assert!(
                script.contains("mars words") && script.contains("tree"),
                "{shell}"
            );
        }
    }

    #[test]
    fn every_option_of_mars_status_is_completed() {
        let words = words(Path::new("/nosuch"), Words::StatusOptions).expect("no daemon is asked");
        for word in &words {
            let line = match word.as_str() {
                "--interval" => "--interval=1".to_owned(),
                "--now" => "--now=1".to_owned(),
                "--resource" | "--dir" | "--tree-file" | "--host" => format!("{word}=x"),
                word => word.to_owned(),
            };
            assert!(
                crate::status::StatusOptions::parse(&[line]).is_ok(),
                "{word}"
            );
        }
        assert!(words.len() > 10, "{words:?}");
    }

    #[test]
    fn options_are_completed_up_to_their_value() {
        let words = words(Path::new("/nosuch"), Words::Options).expect("no daemon is asked");
        for word in ["--force", "--host=", "--verbose", "--timeout="] {
            assert!(words.iter().any(|known| known == word), "{word}");
        }
    }
}
