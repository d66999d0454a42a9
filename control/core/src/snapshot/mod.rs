//! What one node is told: the scoped configuration that control signs for it.
//!
//! A snapshot is a function of the state and the node alone. Its version is the position of the
//! last event that touched the node, and its times are that event's, so any program that folds the
//! log compiles the same bytes. The scope is the least that the node's roles need:
//!
//! | the node is | it learns of |
//! |---|---|
//! | an entry | the egresses and relays that share an organization with it |
//! | a relay | the entries, egresses and other relays that share an organization with it |
//! | an egress | the entries that share an organization with it; the resources of its pools, each with the users that may reach it |
//! | an entry or an egress | the bandwidth rules of the organizations that it serves; an entry not those that name a user or a resource, but what is said of carriers |
//! | an entry or an egress | what the platform says of direct paths |
//! | every node | what the platform says of peers and weights |
//! | a connector | the connections that it may carry; of their leases only its own |
//!
//! Nothing in a snapshot names anybody: it holds ids, keys and addresses, and of organizations only
//! the ids that the node's own scope holds.

mod bandwidth;
mod compile;
mod paths;
mod scope;
mod shared;
mod touched;

use std::{collections::BTreeMap, time::Duration};

use rap_proto::{Digest, NodeId, snapshot::Manifest};

pub use compile::{Compiler, compile};
pub(crate) use scope::{speaks_with, visible_roles};
pub use shared::MAX_CLASSES;
pub(crate) use touched::{changed, touched};

/// How long a node accepts new sessions under one snapshot.
pub const SNAPSHOT_TTL: Duration = Duration::from_secs(24 * 3_600);
/// How often all snapshots are renewed when nothing else touches them.
pub const SNAPSHOT_RENEWAL: Duration = Duration::from_secs(6 * 3_600);
pub use rap_proto::beat::FIRST_AUTHORITY_EPOCH;

/// A node's snapshot before it is signed: the manifest, and each section's bytes by their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub manifest: Manifest,
    pub sections: BTreeMap<Digest, Vec<u8>>,
}

/// Why there is no snapshot for a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCompiled {
    /// Unknown, pending, rejected or revoked: the node is told nothing.
    #[error("{0} is not an approved node of this cluster")]
    NotApproved(NodeId),
    /// The node serves more than fits: divide its pools among more nodes.
    #[error("the section {section} of {actual} bytes exceeds {limit}")]
    SectionTooLarge { section: &'static str, actual: usize, limit: usize },
    #[error("the cluster is not bootstrapped")]
    NotBootstrapped,
}

#[cfg(test)]
mod tests;
