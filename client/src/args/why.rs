//! `rap why`.

use clap::Args;
use rap_proto::api::Reference;

/// Ask nodes what they make of another node, and why a path is relayed.
///
/// TARGET is a node, or a resource: then each node of its egress pool. For each node that is asked
/// there is a line with how it sees the target and the path that it takes there; then what the
/// target's score is made of, or the constraint that rules it out, and the relays that the node
/// could go through, the best first. What a node is told nothing of, control itself says the reason
/// for. For the platform's roles.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rap why egress-1
  rap why egress-1 --from edge-1 --from edge-2
  rap why egress-2 --for build-1 --organization acme
  rap why build-1 --organization acme -o json")]
pub(crate) struct Why {
    #[arg(value_name = "TARGET")]
    pub(crate) target: Reference,
    /// A node that is asked; repeat. Without any, the entry nodes that were heard lately.
    #[arg(long, value_name = "NODE")]
    pub(crate) from: Vec<Reference>,
    /// The resource that a TARGET which is a node should reach; a resource asks for itself.
    #[arg(long = "for", value_name = "RESOURCE")]
    pub(crate) resource: Option<Reference>,
}
