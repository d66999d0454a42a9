//! `rap vpn`: connections that one node at a time carries.

use clap::Subcommand;
use rap_proto::{LeaseClass, Name, api::Reference};

#[derive(Debug, Subcommand)]
pub(crate) enum VpnCommand {
    #[command(flatten)]
    Of(ConnectionCommand),
    /// Show whether a failover of the database lost leases.
    ///
    /// HELD UP counts the connections, of all organizations, that nobody is granted because the
    /// database shows less of them than was granted before. For the platform's roles.
    Loss,
    /// Give up what a failover of the database lost, so that leases are granted again.
    ///
    /// For the platform's owner, who first finds out what was lost. TIMELINE is what `rap vpn loss`
    /// shows: a failover that comes later has to be looked at anew.
    AcceptLoss { timeline: u64 },
}

/// What is about the connections of one organization.
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionCommand {
    /// List the organization's connections.
    Ls,
    /// Show one connection, and who carries it.
    Get { connection: Reference },
    /// Create a connection; without --enable it is not wanted yet.
    #[command(after_help = "\
Example:
  rap vpn create office --class fast --node edge-1 --node edge-2 --enable")]
    Create {
        name: Name,
        /// How soon another node takes over: `fast` within seconds, `steady` within a minute
        #[arg(long, default_value = "steady")]
        class: LeaseClass,
        /// A node that may carry it; repeat. Without any, each of your nodes may.
        #[arg(long = "node", value_name = "NODE")]
        nodes: Vec<Reference>,
        /// Want it from the start
        #[arg(long)]
        enable: bool,
    },
    /// Say which nodes may carry a connection; without any, each of your nodes may.
    Nodes {
        connection: Reference,
        #[arg(long = "node", value_name = "NODE")]
        nodes: Vec<Reference>,
    },
    /// Want a connection.
    Enable { connection: Reference },
    /// Want a connection no more.
    Disable { connection: Reference },
    /// Ask the node that carries a connection to hand over.
    Drain { connection: Reference },
    /// Remove a connection that nobody carries.
    Rm { connection: Reference },
}
