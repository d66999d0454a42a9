//! The log behind the leases, as its witnesses are shown it.

use std::collections::BTreeMap;

use rap_proto::{
    Digest,
    wire::node_api::{TreeReply, TreeRequest},
};
use rap_tlog::{Frontier, HeadKey, TreeHead, leaf_hash, proof};

use crate::kit::keys::{self, CLUSTER};

use super::{checkers::Checkers, witness::size_of};

/// The most events that are recorded: what one tile of the tree holds.
const MAX_EVENTS: usize = rap_tlog::tile::WIDTH as usize;

/// The leaves of the tree.
#[derive(Debug, Clone, Default)]
pub struct Log(Vec<Digest>);

impl Log {
    /// No log is empty.
    pub fn founded() -> Self {
        Self(vec![leaf_hash(b"founded")])
    }

    /// An event was stored; no two events are the same.
    pub fn record(&mut self, event: std::fmt::Arguments<'_>) {
        if self.0.len() < MAX_EVENTS {
            self.0.push(leaf_hash(event.to_string().as_bytes()));
        }
    }

    /// What control answers to a node that presents what it saw.
    pub fn show(
        &self,
        request: &TreeRequest,
        signed: &mut BTreeMap<Digest, Vec<u8>>,
        checkers: &mut Checkers,
    ) -> TreeReply {
        let mut frontier = Frontier::default();
        for leaf in &self.0 {
            frontier.push(*leaf);
        }
        let (size, root) = (frontier.size(), frontier.root());
        checkers.shown(root, &self.0);
        let head = signed.entry(root).or_insert_with(|| {
            let head = TreeHead { cluster: CLUSTER, size, root, said_epoch: Some(1) };
            head.sign(keys::control(), &HeadKey::from_seed(&[2; 32]))
        });
        let known = size_of(&request.known).filter(|known| *known <= size);
        let consistency = known.map(|known| self.prove(known)).unwrap_or_default();
        TreeReply { head: head.clone(), consistency }
    }

    fn prove(&self, earlier: u64) -> Vec<Digest> {
        let size = self.0.len() as u64;
        let plan = proof::plan_consistency(earlier, size).expect("the earlier size is smaller");
        let tile = |id: rap_tlog::TileId| (id, self.0[..usize::from(id.width)].to_vec());
        let tiles = plan.into_iter().map(tile).collect();
        proof::prove_consistency(earlier, size, &tiles).expect("every tile is there")
    }
}
