//! `rap bandwidth`: how fast which traffic may be, and how much is kept for it.

use clap::{Args, Subcommand};
use rap_proto::{BitRate, Lane, ResourceKind, api::Reference, bandwidth::Each};

#[derive(Debug, Subcommand)]
pub(crate) enum BandwidthCommand {
    /// List what the organization may take of each node, and its rules.
    Ls,
    /// Set a rule: a cap, a reserve or both for the traffic that the options name.
    ///
    /// A rule holds at each node, for each direction by itself, and for what runs already. Without an
    /// option that names traffic it is about all of the organization's. It takes the place of the rule
    /// about the same traffic, if there is one. Nodes do not count together: what two entries pass
    /// may be twice the cap.
    #[command(after_help = "\
Examples:
  rap bandwidth set --cap 20mbit
  rap bandwidth set --lane interactive --reserved 2mbit
  rap bandwidth set --user alice --kind web --cap 5mbit
  rap bandwidth set --each session --while-interactive --cap 1mbit
  rap bandwidth set --granted --cap 100mbit --organization acme")]
    Set {
        #[command(flatten)]
        traffic: TrafficArguments,
        /// Never more than this, such as 20mbit.
        #[arg(long, value_name = "RATE", required_unless_present = "reserved")]
        cap: Option<BitRate>,
        /// As much as this, whatever others want.
        #[arg(long, value_name = "RATE", conflicts_with = "node")]
        reserved: Option<BitRate>,
    },
    /// Remove the rule about the traffic that the options name.
    Rm {
        #[command(flatten)]
        traffic: TrafficArguments,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct TrafficArguments {
    /// To resources that this connection carries.
    #[arg(long)]
    pub(crate) connection: Option<Reference>,
    /// To this resource.
    #[arg(long)]
    pub(crate) resource: Option<Reference>,
    /// To resources of this kind: ssh, web or tcp.
    #[arg(long)]
    pub(crate) kind: Option<ResourceKind>,
    /// Of this user.
    #[arg(long)]
    pub(crate) user: Option<Reference>,
    /// On this lane: interactive, media or bulk.
    #[arg(long)]
    pub(crate) lane: Option<Lane>,
    /// For each user or each session by itself, instead of for all together.
    #[arg(long, value_name = "user|session")]
    pub(crate) each: Option<Each>,
    /// Only bulk, and only while something of the same is interactive.
    #[arg(long)]
    pub(crate) while_interactive: bool,
    /// What the organization may take of each node, as the platform's owner.
    #[arg(
        long,
        conflicts_with_all = ["connection", "resource", "kind", "user", "lane", "each", "while_interactive"]
    )]
    pub(crate) granted: bool,
    /// What passes through this node, as the platform's owner.
    #[arg(
        long,
        conflicts_with_all =
            ["connection", "resource", "kind", "user", "lane", "each", "while_interactive", "granted"]
    )]
    pub(crate) node: Option<Reference>,
}
