use std::collections::{BTreeMap, BTreeSet};

use rap_events::{
    Envelope,
    vpn_connection::{VpnConnectionCreated, VpnConnectionEvent},
};
use rap_proto::{LeaseClass, Name, NodeId, OrganizationId, Timestamp, VpnConnectionId};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp, names::Names, stamp::created};

/// The connections that were not removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct VpnConnections {
    by_id: BTreeMap<VpnConnectionId, VpnConnection>,
    by_name: Names<VpnConnectionId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnConnection {
    pub id: VpnConnectionId,
    pub organization: OrganizationId,
    pub name: Name,
    pub class: LeaseClass,
    /// Which nodes may carry it; empty for any.
    pub nodes: BTreeSet<NodeId>,
    pub enabled: bool,
    /// Who carries it, as far as events say.
    pub lease: Option<HeldLease>,
    /// The greatest generation so far.
    pub generation: u64,
    /// Until when the last holder may have been active; the start of time before the first.
    pub free_from: Timestamp,
    pub stamp: Stamp,
}

/// A lease that was granted and has not ended. Renewals are no events: only the table knows until
/// when it is valid by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLease {
    pub node: NodeId,
    pub generation: u64,
    pub granted_at: Timestamp,
    pub drain_requested: bool,
}

impl VpnConnection {
    pub fn allows(&self, node: NodeId) -> bool {
        self.nodes.is_empty() || self.nodes.contains(&node)
    }

    fn created(id: VpnConnectionId, event: &VpnConnectionCreated, stamp: Stamp) -> Self {
        Self {
            id,
            organization: event.organization,
            name: event.name.clone(),
            class: event.class,
            nodes: event.nodes.clone(),
            enabled: event.enabled,
            lease: None,
            generation: 0,
            free_from: Timestamp::default(),
            stamp,
        }
    }

    fn end_lease(&mut self, until: Timestamp) {
        self.lease = None;
        self.free_from = until;
    }
}

impl VpnConnections {
    pub fn get(&self, id: VpnConnectionId) -> Option<&VpnConnection> {
        self.by_id.get(&id)
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &VpnConnection> {
        self.by_id.values()
    }

    pub fn named(&self, organization: OrganizationId, name: &Name) -> Option<&VpnConnection> {
        self.by_name.get(organization, name).and_then(|id| self.by_id.get(&id))
    }

    /// Those of one organization, in the order of their names.
    pub fn of(&self, organization: OrganizationId) -> impl Iterator<Item = &VpnConnection> {
        self.by_name.of(organization).filter_map(|id| self.by_id.get(&id))
    }

    pub(super) fn fold(
        &mut self,
        event: &VpnConnectionEvent,
        envelope: &Envelope,
    ) -> Result<(), Corrupt> {
        let id = VpnConnectionId::from_uuid(envelope.stream.id);
        if let VpnConnectionEvent::Created(event) = event {
            let connection = VpnConnection::created(id, event, Stamp::first(envelope)?);
            self.by_name.insert(connection.organization, connection.name.clone(), id);
            self.by_id.insert(id, connection);
            return Ok(());
        }
        let connection = created(self.by_id.get_mut(&id), envelope)?;
        connection.stamp.advance(envelope)?;
        match event {
            VpnConnectionEvent::Created(_) => {}
            VpnConnectionEvent::NodesAllowed(event) => connection.nodes = event.nodes.clone(),
            VpnConnectionEvent::Enabled(_) => connection.enabled = true,
            VpnConnectionEvent::Disabled(_) => connection.enabled = false,
            VpnConnectionEvent::LeaseGranted(event) => {
                connection.generation = event.generation;
                connection.lease = Some(HeldLease {
                    node: event.node,
                    generation: event.generation,
                    granted_at: event.granted_at,
                    drain_requested: false,
                });
            }
            VpnConnectionEvent::LeaseReleased(event) => connection.end_lease(event.released_at),
            VpnConnectionEvent::LeaseFenced(event) => connection.end_lease(event.valid_until),
            VpnConnectionEvent::DrainRequested(_) => {
                if let Some(lease) = &mut connection.lease {
                    lease.drain_requested = true;
                }
            }
            VpnConnectionEvent::Removed(_) => {
                self.by_name.remove(connection.organization, &connection.name);
                self.by_id.remove(&id);
            }
        }
        Ok(())
    }
}
