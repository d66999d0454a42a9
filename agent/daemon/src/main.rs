//! `rap-node-agent`: joins a host to a cluster, and runs its agent.

mod command;
mod notify;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
