//! By which name was the program called, and which command line does that mean?
//!
//! `marsadm` and `mars-status` may be links to `mars`, or the words `mars marsadm …` and `mars status …`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// One of the three command lines in this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Mars,
    Marsadm,
    Status,
}

/// Runs the command line that the program name and the first word select.
pub fn main() -> ExitCode {
    // What a command creates is for its owner only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let words: Vec<OsString> = std::env::args_os().collect();
    let (front, args) = choose(&words);
    match front {
        Front::Status => crate::status::main(args),
        Front::Marsadm => crate::marsadm::main(args),
        Front::Mars => crate::mars::main(args),
    }
}

/// The command line and the words that are left for it.
fn choose(words: &[OsString]) -> (Front, &[OsString]) {
    let name = words
        .first()
        .and_then(|w| Path::new(w).file_name())
        .and_then(|n| n.to_str());
    let rest = words.get(1..).unwrap_or(&[]);
    match name {
        Some("marsadm") => return (Front::Marsadm, rest),
        Some("mars-status") => return (Front::Status, rest),
        _ => {}
    }
    match rest.first().and_then(|w| w.to_str()) {
        Some("marsadm") => (Front::Marsadm, &rest[1..]),
        Some("status") => (Front::Status, &rest[1..]),
        _ => (Front::Mars, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], front: Front, rest: &[&str]) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let rest: Vec<OsString> = rest.iter().map(OsString::from).collect();
        assert_eq!(choose(&words), (front, rest.as_slice()));
    }

    #[test]
    fn the_program_name_selects_the_command_line() {
        check(&["/usr/sbin/marsadm", "view"], Front::Marsadm, &["view"]);
        check(&["mars-status"], Front::Status, &[]);
        check(&["target/debug/mars", "tree"], Front::Mars, &["tree"]);
    }

    #[test]
    fn the_first_word_selects_it_when_called_as_mars() {
        check(
            &["mars", "marsadm", "up", "r"],
            Front::Marsadm,
            &["up", "r"],
        );
        check(&["mars", "status", "--ascii"], Front::Status, &["--ascii"]);
    }
}
