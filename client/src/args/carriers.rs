//! `rap carriers`: what the flows of each lane run on.

use clap::{Args, Subcommand};
use rap_proto::{Lane, carriers::CarrierRule};

#[derive(Debug, Subcommand)]
pub(crate) enum CarriersCommand {
    /// List what is said of each lane, and what it takes.
    Ls {
        #[command(flatten)]
        of: CarriersOf,
    },
    /// Say what new flows of a lane run on: quic, tcp, quic-only or tcp-only.
    ///
    /// With quic or tcp the other one is used where that does not get through; with the others it
    /// never is. Of a lane without a rule, each entry chooses by what it measures. What the platform
    /// forbids no organization allows; otherwise an organization's own rule counts.
    #[command(after_help = "\
Examples:
  rap carriers set --lane bulk tcp-only
  rap carriers set --lane interactive quic --organization acme
  rap carriers set --platform --lane bulk tcp-only")]
    Set {
        /// Of this lane: interactive, media or bulk.
        #[arg(long)]
        lane: Lane,
        /// quic, tcp, quic-only or tcp-only.
        rule: CarrierRule,
        #[command(flatten)]
        of: CarriersOf,
    },
    /// Let entries choose again.
    Rm {
        /// Of this lane: interactive, media or bulk.
        #[arg(long)]
        lane: Lane,
        #[command(flatten)]
        of: CarriersOf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct CarriersOf {
    /// For every organization, as the platform's owner.
    #[arg(long)]
    pub(crate) platform: bool,
}
