//! `rap dev`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// Start a whole fabric on this machine, to try it and to develop against it.
///
/// A control plane and three nodes (entry, relay, egress) run in this process and speak over
/// loopback as they would over a network: the nodes enroll with join tokens, get certificates and
/// signed configuration, and carry QUIC. There are an organization, a user, a web page and, where
/// sshd is installed, an ssh server to reach. What to type next is printed when all is ready.
///
/// Without --data-dir nothing is kept: the log is in memory, and the one temporary folder goes
/// when the program ends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap dev
  rap dev --data-dir ./fabric      on PostgreSQL and nats-server, kept between starts")]
pub(crate) struct Dev {
    /// Keep everything in this folder, on a private PostgreSQL and nats-server. Both must be
    /// installed; they are started and stopped with this program.
    #[arg(long, env = "RAP_DEV_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the control plane listens. Without this: a free port of 127.0.0.1, and the same one
    /// again with --data-dir.
    #[arg(long, env = "RAP_DEV_LISTEN", value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
}
