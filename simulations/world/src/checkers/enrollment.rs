//! A join token makes one node, and a key is one node.

use std::collections::BTreeMap;

use rap_events::{DomainEvent, Envelope, node::NodeEvent};
use rap_proto::{JoinTokenId, KeyId, NodeId};

use super::Violation;

const NAME: &str = "enrollment";

#[derive(Debug, Default)]
pub struct Enrollment;

impl Enrollment {
    pub fn log(&self, events: &[Envelope]) -> Result<(), Violation> {
        let mut by_token: BTreeMap<JoinTokenId, NodeId> = BTreeMap::new();
        let mut by_key: BTreeMap<KeyId, NodeId> = BTreeMap::new();
        let requests = events.iter().filter(|envelope| envelope.event_type == "node.requested");
        for envelope in requests {
            let event = DomainEvent::from_envelope(envelope)
                .map_err(|error| Violation::new(NAME, error.to_string()))?;
            let DomainEvent::Node(NodeEvent::Requested(requested)) = event else { continue };
            let node = NodeId::from_uuid(envelope.stream.id);
            if let Some(other) = by_token.insert(requested.join_token, node) {
                let detail = format!("{node} and {other} used one join token");
                return Err(Violation::new(NAME, detail));
            }
            if let Some(other) = by_key.insert(requested.key.id(), node) {
                return Err(Violation::new(NAME, format!("{node} and {other} have one key")));
            }
        }
        Ok(())
    }
}
