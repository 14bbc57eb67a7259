//! `mars`: the command line of today. Short, structured, with `--json`; `marsadm` is the one of always.
//!
//! Manual of this command line: `mars --help`, `mars man DIR`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::completions;
use crate::demo::DemoArgs;
use crate::session::Refusal;
use crate::tree_cli;

/// Asynchronous block replication in user space.
#[derive(Debug, Parser)]
#[command(name = "mars", version, about, disable_help_subcommand = true)]
pub struct Mars {
    /// State directory of the node.
    #[arg(long, env = "MARS_DIR", default_value = "/mars", global = true)]
    pub dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// The commands of `mars`.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Run the daemon of this host in the foreground.
    Node(NodeArgs),
    /// Read and change the key tree.
    #[command(subcommand)]
    Tree(TreeWhat),
    /// Let other hosts into the cluster.
    #[command(subcommand)]
    Cluster(ClusterWhat),
    /// Show on three nodes on this machine what the product does.
    Demo(DemoArgs),
    /// Measure.
    Bench(BenchArgs),
    /// The compatible command line (the same as the program name marsadm).
    Marsadm(Rest),
    /// The state of a node at a glance (the same as the program name mars-status).
    Status(Rest),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the words a completion script asks for.
    #[command(hide = true)]
    Words {
        /// Which words.
        kind: completions::Words,
    },
    /// Write the man pages into a directory, or print one of them.
    Man {
        /// Where to; made if it is not there.
        #[arg(required_unless_present = "print")]
        dir: Option<PathBuf>,
        /// Print this page: mars, marsadm, mars-status or mars.toml.
        #[arg(long, value_name = "PAGE", conflicts_with = "dir")]
        print: Option<String>,
    },
}

/// Words for another command line.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Rest {
    /// Its words.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// Options of the daemon; all but the directory may also stand in `mars.toml`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Name of this host; needed only until create-cluster or join-cluster has stored it.
    #[arg(long)]
    pub host: Option<String>,
    /// UDP address to listen on.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// Address other hosts shall use for this one.
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<std::net::SocketAddr>,
    /// TCP address for NBD clients, besides the unix socket.
    #[arg(long, value_name = "IP:PORT")]
    pub nbd_listen: Option<std::net::SocketAddr>,
    /// The clock of this host was far ahead and is right now: stamp its own facts anew, let the wishes of others win.
    #[arg(long)]
    pub forget_future: bool,
}

/// `mars tree …`. Paths may begin with `/mars/`.
#[derive(Debug, Subcommand)]
pub enum TreeWhat {
    /// Print the value of a key; exit code 1 when there is none.
    Get {
        /// Path of the key.
        path: String,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Set a key, durably.
    Set {
        /// Path of the key.
        path: String,
        /// New value.
        value: String,
        /// Print its stamp as a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Delete a key.
    Del {
        /// Path of the key.
        path: String,
        /// Print the stamp as a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List what lies below a prefix: names, or with -r all keys with their values.
    Ls {
        /// All keys below, path TAB value.
        #[arg(short)]
        recursive: bool,
        /// A directory of the tree; all of it when absent.
        prefix: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print every change below a prefix as it comes: path TAB value TAB stamp TAB writer.
    Watch {
        /// Beginning of the paths of interest; all when absent.
        prefix: Option<String>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print value, stamp and writer of a key, also of a deleted one.
    Stat {
        /// Path of the key.
        path: String,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print the whole tree: path TAB value TAB stamp TAB type. For --tree-file=.
    Dump {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// `mars cluster …`
#[derive(Debug, Subcommand)]
pub enum ClusterWhat {
    /// Print a join token, one line; valid for marsadm join-cluster on new hosts.
    Token {
        /// How long it is valid: 1h, 30m, 2d.
        #[arg(long, default_value = "1h", value_parser = seconds)]
        ttl: u64,
        /// How many hosts may join with it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// A duration such as `1h30m`, `45s` or a bare number of seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a duration (for example 1h, 30m, 90s)");
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let total = span
        .total((
            jiff::Unit::Second,
            jiff::SpanRelativeTo::days_are_24_hours(),
        ))
        .map_err(|_| wrong())?;
    if total < 1.0 {
        Err(wrong())
    } else {
        Ok(total as u64)
    }
}

/// Runs `mars` with the words after the program name.
pub fn main(words: &[OsString]) -> ExitCode {
    let name = std::iter::once(OsString::from("mars"));
    let parsed = match Mars::try_parse_from(name.chain(words.iter().cloned())) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version go to stdout and are no errors; clap knows which is which.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    run(parsed)
}

fn run(mars: Mars) -> ExitCode {
    let dir = mars.dir;
    let with_dir = |rest: Rest| -> Vec<OsString> {
        let mut option = OsString::from("--dir=");
        option.push(&dir);
        std::iter::once(option).chain(rest.words).collect()
    };
    match mars.what {
        What::Node(args) => crate::node_cmd::run(&dir, args),
        What::Tree(what) => done(tree_cli::tree(&dir, what)),
        What::Cluster(ClusterWhat::Token { ttl, uses, json }) => {
            done(tree_cli::token(&dir, ttl, uses, json))
        }
        What::Demo(args) => crate::demo::run(&args),
        What::Bench(args) => crate::bench::run(&args),
        What::Marsadm(rest) => crate::marsadm::main(&with_dir(rest)),
        What::Status(rest) => crate::status::main(&with_dir(rest)),
        What::Completions { shell } => {
            print!("{}", completions::script(shell));
            ExitCode::SUCCESS
        }
        What::Words { kind } => match completions::words(&dir, kind) {
            Ok(words) => {
                words.iter().for_each(|word| println!("{word}"));
                ExitCode::SUCCESS
            }
            Err(error) => failed(error),
        },
        What::Man { dir, print } => done(man(dir, print).map(|()| true)),
    }
}

fn man(dir: Option<PathBuf>, page: Option<String>) -> Result<(), Refusal> {
    if let Some(page) = page {
        print!("{}", crate::man::page(&page)?);
    }
    dir.map_or(Ok(()), |dir| crate::man::write_pages(&dir))
}

/// `Ok(false)`: it was understood and there was no error, but the answer is no.
fn done<E: std::fmt::Display>(outcome: Result<bool, E>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => failed(error),
    }
}

fn failed(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("mars: {error}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Mars::command().debug_assert();
    }

    #[test]
    fn durations_are_read_with_units() {
        assert_eq!(seconds("1h"), Ok(3600));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("2d"), Ok(172_800));
        assert_eq!(seconds("90"), Ok(90));
        assert!(seconds("soon").is_err() && seconds("-1h").is_err());
    }
}
