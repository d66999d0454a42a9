//! `rap-node-agent`: joins a host to a cluster, and runs its agent.

mod command;
mod notify;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// The buffers of a busy flow come and go by the thousand. glibc's allocator gives the top of its
/// heap back to the kernel each time and takes it again page by page: a tenth of a forward's CPU.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    command::main()
}
