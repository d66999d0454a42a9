//! `rap-stream-worker`: started by the node agent, never by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    rap_stream_worker::program::main("info")
}
