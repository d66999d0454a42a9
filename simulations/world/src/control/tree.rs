//! The newest tree head for a node that watches the log, as the node API answers.

use rap_control_core::tree_head::{self, Succession};
use rap_events::tree;
use rap_proto::{
    NodeId, Signer as _,
    wire::node_api::{TreeReply, TreeRequest},
};
use rap_tlog::{HeadKey, TreeHead, VerifierKey};

use super::{Control, at_once};
use crate::{cast, message::Message, network::Party, turn::Turn};

impl Control {
    pub(super) fn tree(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        call: u64,
        request: &TreeRequest,
    ) {
        let Some(place) = self.places.get(&node).copied() else { return };
        if let Some(reply) = self.show_tree(turn, node, request) {
            turn.send(Party::Node(place), Message::Tree { call, reply });
        }
    }

    /// None when the log cannot be read, or who asks may not.
    fn show_tree(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        request: &TreeRequest,
    ) -> Option<TreeReply> {
        let state = self.state()?;
        state.nodes().get(node).filter(|found| found.is_approved())?;
        let epoch = state.authority().epoch();
        let key = VerifierKey::p256(cast::CLUSTER, self.key.public_key());
        let known = (!request.known.is_empty())
            .then(|| TreeHead::open(&request.known, cast::CLUSTER, &[key]))
            .transpose()
            .ok()?;
        let frontier = at_once(self.log.frontier()).ok()?;
        let (size, root) = (frontier.size(), frontier.root());
        let mut consistency = Vec::new();
        if let Some(known) = &known {
            let mut succession = tree_head::succession(known, (size, &root), None);
            if succession == Succession::Unproven {
                let proven = tree::prove_consistency(self.log.as_ref(), known.size, size);
                consistency = at_once(proven).ok()?;
                succession = tree_head::succession(known, (size, &root), Some(&consistency));
            }
            if let Succession::Refuted(code) = succession {
                turn.note(format_args!("replica {}: {node} saw another log: {code}", self.index));
                turn.coverage.count("replicas", "refuted by a node");
                self.running.as_mut()?.refuted = true;
            }
        }
        let leaves = at_once(self.log.hashes(0, 0, u16::MAX)).ok()?;
        turn.checkers.leases.shown(root, &leaves);
        let head = TreeHead { cluster: cast::CLUSTER, size, root, said_epoch: Some(epoch) };
        Some(TreeReply { head: head.sign(&*self.key, &HeadKey::from_seed(&[2; 32])), consistency })
    }
}
