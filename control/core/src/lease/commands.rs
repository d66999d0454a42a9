//! What one append holds: the commands for a connection's stream, and the change of its row.
//!
//! Times are the database's: of the read that a grant was decided by, and of the row that it ends.

use std::time::Duration;

use rap_events::{
    Aggregate as _, StreamId,
    lease::{DatabaseTime, LeaseChange, LeaseRow},
    vpn_connection::{FenceReason, ReleaseReason, VpnConnection, VpnConnectionCommand},
};
use rap_proto::{Generation, LeaseClass, NodeId, Timestamp, VpnConnectionId};

use super::{is_wanted, may_carry};
use crate::state::{Node, State, VpnConnection as Found};

/// What is given together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub commands: Vec<VpnConnectionCommand>,
    pub change: LeaseChange,
}

/// The lease of a connection.
pub fn lease(connection: VpnConnectionId) -> StreamId {
    VpnConnection::stream(connection.uuid())
}

/// Gives the lease to a node. A last one that ran out is fenced by the same append.
pub fn grant(
    connection: VpnConnectionId,
    (node, generation, class): (NodeId, Generation, LeaseClass),
    row: Option<&LeaseRow>,
    at: DatabaseTime,
) -> Given {
    let ran_out = row.filter(|row| !row.ended).map(expired);
    let grant = VpnConnectionCommand::GrantLease {
        node,
        generation: generation.number(),
        granted_at: at.now,
        valid_until: at.now + Duration::from_millis(class.ttl_ms().into()),
    };
    let change = LeaseChange::Grant {
        lease: lease(connection),
        generation: generation.number(),
        holder: node.uuid(),
        ttl_ms: class.ttl_ms(),
        timeline: Some(at.timeline),
    };
    Given { commands: ran_out.into_iter().chain([grant]).collect(), change }
}

/// Ends a lease that ran out.
pub fn fence(connection: VpnConnectionId, row: &LeaseRow) -> Given {
    let (lease, generation) = (lease(connection), row.generation);
    Given { commands: vec![expired(row)], change: LeaseChange::Fence { lease, generation } }
}

/// Takes a lease back from a holder that has stopped, at `now`.
pub fn release(
    connection: VpnConnectionId,
    generation: Generation,
    reason: ReleaseReason,
    now: Timestamp,
) -> Given {
    let generation = generation.number();
    let command = VpnConnectionCommand::ReleaseLease { generation, reason, released_at: now };
    let change = LeaseChange::End { lease: lease(connection), generation };
    Given { commands: vec![command], change }
}

/// Why a holder gives its lease back. `stopping`: the node said that it is about to leave.
pub fn release_reason(
    state: &State,
    node: &Node,
    connection: &Found,
    stopping: bool,
) -> ReleaseReason {
    let asked = connection.lease.is_some_and(|lease| lease.drain_requested);
    match () {
        () if !is_wanted(state, connection) => ReleaseReason::Disabled,
        () if asked || node.draining || !may_carry(node, connection) => ReleaseReason::Drained,
        () if stopping => ReleaseReason::NodeStopping,
        () => ReleaseReason::Failed,
    }
}

fn expired(row: &LeaseRow) -> VpnConnectionCommand {
    VpnConnectionCommand::FenceLease {
        generation: row.generation,
        reason: FenceReason::Expired,
        valid_until: row.valid_until,
    }
}

#[cfg(test)]
mod tests;
