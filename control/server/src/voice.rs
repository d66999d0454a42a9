//! How the control plane speaks on the bus: signed, numbered, addressed to one node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rap_proto::{
    ClusterId, IncarnationId, NodeId, Timestamp,
    bus::{ControlBody, ControlMessage, MESSAGE_TTL_MS},
    signed,
};

use crate::quick_key::QuickKey;

#[derive(Debug)]
pub(crate) struct Voice {
    cluster: ClusterId,
    incarnation: IncarnationId,
    key: Arc<QuickKey>,
    sequence: AtomicU64,
}

impl Voice {
    pub(crate) fn new(cluster: ClusterId, incarnation: IncarnationId, key: Arc<QuickKey>) -> Self {
        Self { cluster, incarnation, key, sequence: AtomicU64::new(0) }
    }

    /// The subject and the bytes of one message to `audience`, in an authority epoch.
    pub(crate) fn say(
        &self,
        audience: NodeId,
        authority_epoch: u64,
        body: ControlBody,
        now: Timestamp,
    ) -> (String, Bytes) {
        let message = ControlMessage {
            cluster: self.cluster,
            authority_epoch,
            audience,
            incarnation: self.incarnation,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            issued_at: now,
            expires_at: now + Duration::from_millis(MESSAGE_TTL_MS),
            body,
        };
        let subject = rap_proto::bus::down_subject(self.cluster, audience);
        (subject, Bytes::from(signed::seal(&message, &[&*self.key])))
    }
}
