//! The program `rap`: access client, admin commands and the development fabric.

mod api;
mod args;
mod command;
mod config;
#[cfg(feature = "dev")]
mod dev;
mod failure;
mod home;
mod link;
mod output;
mod profile;
mod prompt;
mod random;

use std::{io, process::ExitCode};

use clap::Parser as _;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

use crate::{args::Cli, failure::Failure};

/// As in `rap-node-agent`: the buffers of a busy flow come and go by the thousand.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "dev")]
    if dev::is_worker_process() {
        return dev::work();
    }
    let cli = Cli::parse();
    if let Err(failure) = start_log(&cli.global.log) {
        return failure.report();
    }
    match command::run(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn start_log(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("the log filter is wrong: {error}"))
            .hint("write it as in --log debug or --log rap_mesh=trace")
    })?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    Ok(())
}
