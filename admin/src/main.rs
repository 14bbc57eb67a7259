//! `mars`: asynchronous block replication in user space. See `admin::main`.

use std::process::ExitCode;

fn main() -> ExitCode {
    admin::main()
}
