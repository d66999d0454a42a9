//! `rap carriers`: what the flows of each lane run on.

use clap::Subcommand;
use rap_proto::{Lane, carriers::CarrierRule};

#[derive(Debug, Subcommand)]
pub(crate) enum CarriersCommand {
    /// List what is said of each lane.
    Ls,
    /// Say what new flows of a lane run on: quic, tcp, quic-only or tcp-only.
    ///
    /// With quic or tcp the other one is used where that does not get through; with the others it
    /// never is. Of a lane without a rule, each entry chooses by what it measures.
    #[command(after_help = "\
Examples:
  rap carriers set --lane bulk tcp-only
  rap carriers set --lane interactive quic --organization acme")]
    Set {
        /// Of this lane: interactive, media or bulk.
        #[arg(long)]
        lane: Lane,
        /// quic, tcp, quic-only or tcp-only.
        rule: CarrierRule,
    },
    /// Let entries choose again.
    Rm {
        /// Of this lane: interactive, media or bulk.
        #[arg(long)]
        lane: Lane,
    },
}
