//! The log behind the leases, as its witnesses are shown it.

use std::sync::Arc;

use rap_proto::{
    Digest,
    wire::node_api::{TreeReply, TreeRequest},
};
use rap_tlog::{Frontier, TreeHead, leaf_hash, proof};

use crate::kit::{heads, keys::CLUSTER};

use super::{checkers::Checkers, witness::size_of};

/// The most events that are recorded: what one tile of the tree holds.
const MAX_EVENTS: usize = rap_tlog::tile::WIDTH as usize;

/// A log; what a standby has of it is the same until another event comes.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Tree>);

#[derive(Debug, Clone, Default)]
struct Tree {
    leaves: Vec<Digest>,
    frontier: Frontier,
}

impl Log {
    /// No log is empty.
    pub fn founded() -> Self {
        let mut log = Self::default();
        log.push(leaf_hash(b"founded"));
        log
    }

    /// An event was stored; no two events are the same.
    pub fn record(&mut self, event: std::fmt::Arguments<'_>) {
        if self.0.leaves.len() < MAX_EVENTS {
            self.push(leaf_hash(event.to_string().as_bytes()));
        }
    }

    fn push(&mut self, leaf: Digest) {
        let tree = Arc::make_mut(&mut self.0);
        tree.leaves.push(leaf);
        tree.frontier.push(leaf);
    }

    /// What control answers to a node that presents what it saw.
    pub fn show(&self, request: &TreeRequest, checkers: &mut Checkers) -> TreeReply {
        let Tree { leaves, frontier } = &*self.0;
        let (size, root) = (frontier.size(), frontier.root());
        checkers.shown(root, leaves);
        let head = TreeHead { cluster: CLUSTER, size, root, said_epoch: Some(1) };
        let known = size_of(&request.known).filter(|known| *known <= size);
        let consistency = known.map(|known| self.prove(known)).unwrap_or_default();
        TreeReply { head: heads::sign(&head), consistency }
    }

    fn prove(&self, earlier: u64) -> Vec<Digest> {
        let leaves = &self.0.leaves;
        let size = leaves.len() as u64;
        let plan = proof::plan_consistency(earlier, size).expect("the earlier size is smaller");
        let tile = |id: rap_tlog::TileId| (id, leaves[..usize::from(id.width)].to_vec());
        let tiles = plan.into_iter().map(tile).collect();
        proof::prove_consistency(earlier, size, &tiles).expect("every tile is there")
    }
}
