//! How many nodes saw an exported log: their keys are events of the log itself, and their
//! cosignatures stand below tree heads that came with it.
//!
//! The caller takes every entry through [`Witnesses::take`] while it verifies the export, and then
//! counts. A cosignature of an earlier size counts for the events up to there: the export's own
//! tree has that root at that size, or the export is refuted.

use std::collections::BTreeMap;

use rap_proto::NodeId;
use rap_tlog::{TreeHead, WitnessVerifier, cosignature::CosignatureError};

use crate::{EventCodec as _, entry::Entry, node::NodeEvent};

/// The nodes of a log that may vouch for it.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    keys: BTreeMap<NodeId, WitnessVerifier>,
    /// The greatest size that each of them co-signed.
    seen: BTreeMap<NodeId, u64>,
}

impl Witnesses {
    /// Takes the log's next entry. Nodes that were revoked do not count.
    pub fn take(&mut self, entry: &Entry, payload: Option<&[u8]>) {
        if entry.stream.category != "node" {
            return;
        }
        let node = NodeId::from_uuid(entry.stream.id);
        let event = payload
            .and_then(|payload| NodeEvent::decode(&entry.event_type, entry.schema, payload).ok());
        match event {
            Some(NodeEvent::WitnessKeyRecorded(recorded)) => {
                if let Ok(verifier) = WitnessVerifier::new(node, &recorded.key) {
                    self.keys.insert(node, verifier);
                }
            }
            Some(NodeEvent::Revoked(_)) => {
                self.keys.remove(&node);
            }
            _ => {}
        }
    }

    /// Counts the cosignatures below a head that is known to be this log's.
    pub fn count(&mut self, head: &TreeHead, note: &[u8]) -> Result<(), CosignatureError> {
        for (node, verifier) in &self.keys {
            if verifier.vouches_for(note)? {
                let seen = self.seen.entry(*node).or_default();
                *seen = (*seen).max(head.size);
            }
        }
        Ok(())
    }

    /// How many nodes there are that could have co-signed.
    pub fn known(&self) -> usize {
        self.keys.len()
    }

    /// How many nodes co-signed this log.
    pub fn cosigned(&self) -> usize {
        self.seen.len()
    }

    /// The position up to which at least `nodes` nodes saw this log; `None` when so few did.
    pub fn seen_by(&self, nodes: usize) -> Option<u64> {
        let mut sizes: Vec<u64> = self.seen.values().copied().collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        sizes.get(nodes.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rap_proto::{ClusterId, CommandId, Digest, Timestamp, key::LocalKey};
    use rap_tlog::{HeadKey, WitnessKey};
    use uuid::Uuid;

    use super::*;
    use crate::{
        Actor, StreamId,
        node::{NodeRevoked, RevocationReason, WitnessKeyRecorded},
    };

    fn key(number: u128) -> WitnessKey {
        WitnessKey::derive(NodeId::from_u128(number), &number.to_be_bytes())
    }

    fn take(witnesses: &mut Witnesses, number: u128, event: &NodeEvent) {
        let entry = Entry {
            position: 1,
            stream: StreamId::new("node", Uuid::from_u128(number)),
            revision: 1,
            event_type: event.kind().event_type.to_owned(),
            schema: 1,
            payload: Digest::of(&event.encode()),
            organization: None,
            actor: Actor::Setup,
            allowed: None,
            command: CommandId::from_u128(1),
            causation: None,
            at: Timestamp::default(),
        };
        witnesses.take(&entry, Some(&event.encode()));
    }

    fn recorded(number: u128) -> NodeEvent {
        WitnessKeyRecorded { key: key(number).public() }.into()
    }

    /// A head of this size that these nodes co-signed.
    fn cosigned(size: u64, nodes: &[u128]) -> (TreeHead, Vec<u8>) {
        let cluster = ClusterId::from_u128(1);
        let head = TreeHead { cluster, size, root: Digest::of(b"root"), said_epoch: Some(1) };
        let control = LocalKey::from_random(&[1; 32]).unwrap();
        let note = head.sign(&control, &HeadKey::from_seed(&[2; 32]));
        let sign =
            |note: Vec<u8>, node: &u128| key(*node).cosign(&note, Timestamp::default()).unwrap();
        let note = nodes.iter().fold(note, sign);
        (head, note)
    }

    #[test]
    fn each_node_counts_once_with_the_most_that_it_saw() {
        let mut witnesses = Witnesses::default();
        (1..=3).for_each(|number| take(&mut witnesses, number, &recorded(number)));
        for (size, nodes) in [(10, &[1, 2][..]), (20, &[1]), (15, &[1, 9])] {
            let (head, note) = cosigned(size, nodes);
            witnesses.count(&head, &note).unwrap();
        }
        assert_eq!((witnesses.known(), witnesses.cosigned()), (3, 2), "9 is no node of this log");
        let seen = [0, 1, 2, 3].map(|nodes| witnesses.seen_by(nodes));
        assert_eq!(seen, [None, Some(20), Some(10), None]);
    }

    #[test]
    fn a_revoked_node_does_not_count() {
        let mut witnesses = Witnesses::default();
        take(&mut witnesses, 1, &recorded(1));
        let reason = RevocationReason::Operator;
        take(&mut witnesses, 1, &NodeRevoked { reason, note: String::new() }.into());
        let (head, note) = cosigned(10, &[1]);
        witnesses.count(&head, &note).unwrap();
        assert_eq!((witnesses.known(), witnesses.cosigned()), (0, 0));
    }

    #[test]
    fn a_false_cosignature_refutes() {
        let mut witnesses = Witnesses::default();
        take(&mut witnesses, 1, &recorded(1));
        let (head, note) = cosigned(10, &[1]);
        let text = String::from_utf8(note).unwrap().replacen("\n10\n", "\n11\n", 1);
        assert_eq!(witnesses.count(&head, text.as_bytes()), Err(CosignatureError::False));
    }
}
