//! How much one endpoint takes on.

use std::time::Duration;

use rap_mesh_core::{
    bounds,
    resume::{MAX_DETACHED_FLOWS, MAX_KEPT_BYTES},
};
use rap_proto::wire::hop::CALL_TTL_MS;

/// Handshakes that run at once; more are refused.
pub const MAX_HANDSHAKES: usize = 512;
/// From this many handshakes on, a stranger has to prove its address first (RFC 9000, 8.1.2):
/// whoever only pretends to be elsewhere takes none of the last places.
const PROOF_FROM_HANDSHAKES: usize = 64;
/// The most connections at once; more are refused.
pub const MAX_CONNECTIONS: usize = 16_384;
/// From this many connections on, a stranger has to prove its address first.
const PROOF_FROM_CONNECTIONS: usize = 1024;
/// Flows on one lane connection; more are refused.
pub const MAX_LANE_STREAMS: u32 = 4096;
/// The most flows of one egress, and the most channels of one entry's clients, that outlive their
/// connection; further ones end with it.
pub const MAX_LASTING_FLOWS: usize = 4096;

/// The limits of one endpoint. Lower ones are for small machines and for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshLimits {
    pub handshakes: usize,
    pub proof_from_handshakes: usize,
    pub connections: usize,
    pub proof_from_connections: usize,
    pub lane_streams: u32,
    /// Flows that outlive their connection: of an egress, and of an entry's clients.
    pub lasting_flows: usize,
    /// Those of them that have none at the moment, and an entry's own.
    pub detached_flows: usize,
    /// When such flows keep more, each may keep less.
    pub kept_bytes: usize,
    /// What a relay forwards of one flow, for one asker, and for one organization.
    pub relayed: bounds::Limits,
    /// How long a relay waits for an asker's knock: at least for as long as askers have for it.
    pub knock_wait: Duration,
}

impl Default for MeshLimits {
    fn default() -> Self {
        Self {
            handshakes: MAX_HANDSHAKES,
            proof_from_handshakes: PROOF_FROM_HANDSHAKES,
            connections: MAX_CONNECTIONS,
            proof_from_connections: PROOF_FROM_CONNECTIONS,
            lane_streams: MAX_LANE_STREAMS,
            lasting_flows: MAX_LASTING_FLOWS,
            detached_flows: MAX_DETACHED_FLOWS,
            kept_bytes: MAX_KEPT_BYTES,
            relayed: bounds::Limits::RELAY,
            knock_wait: Duration::from_millis(CALL_TTL_MS),
        }
    }
}

impl MeshLimits {
    pub(crate) const fn ask_for_proof(&self, handshakes: usize, connections: usize) -> bool {
        handshakes >= self.proof_from_handshakes || connections >= self.proof_from_connections
    }
}
