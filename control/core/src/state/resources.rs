use std::collections::{BTreeMap, BTreeSet};

use rap_events::{Envelope, resource::ResourceEvent};
use rap_proto::{
    Name, OrganizationId, PoolId, ResourceId, ResourceKind, VpnConnectionId, snapshot::Target,
};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp, names::Names, stamp::created};

/// The resources that were not removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Resources {
    by_id: BTreeMap<ResourceId, Resource>,
    by_name: Names<ResourceId>,
    by_pool: BTreeSet<(PoolId, ResourceId)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    pub id: ResourceId,
    pub organization: OrganizationId,
    pub name: Name,
    pub kind: ResourceKind,
    pub target: Target,
    pub pool: PoolId,
    pub labels: BTreeMap<Name, Name>,
    /// The connection that carries it: only the node that holds its lease reaches it.
    pub carried: Option<VpnConnectionId>,
    /// The position since which it is where it is: sessions authorized before lead elsewhere.
    pub placed: u64,
    pub stamp: Stamp,
}

impl Resources {
    pub(crate) fn get(&self, id: ResourceId) -> Option<&Resource> {
        self.by_id.get(&id)
    }

    pub(crate) fn named(&self, organization: OrganizationId, name: &Name) -> Option<&Resource> {
        self.by_name.get(organization, name).and_then(|id| self.by_id.get(&id))
    }

    /// Those of one organization, in the order of their names.
    pub(crate) fn of(&self, organization: OrganizationId) -> impl Iterator<Item = &Resource> {
        self.by_name.of(organization).filter_map(|id| self.by_id.get(&id))
    }

    /// Those that are reached from one pool, in the order of their ids.
    pub(crate) fn in_pool(&self, pool: PoolId) -> impl Iterator<Item = &Resource> {
        let least = ResourceId::from_u128(0);
        let greatest = ResourceId::from_u128(u128::MAX);
        self.by_pool
            .range((pool, least)..=(pool, greatest))
            .filter_map(|(_, id)| self.by_id.get(id))
    }

    pub(super) fn fold(
        &mut self,
        event: &ResourceEvent,
        envelope: &Envelope,
    ) -> Result<(), Corrupt> {
        let id = ResourceId::from_uuid(envelope.stream.id);
        if let ResourceEvent::Created(event) = event {
            let resource = Resource {
                id,
                organization: event.organization,
                name: event.name.clone(),
                kind: event.kind,
                target: event.target.clone(),
                pool: event.pool,
                labels: BTreeMap::new(),
                carried: None,
                placed: envelope.position,
                stamp: Stamp::first(envelope)?,
            };
            self.by_name.insert(resource.organization, resource.name.clone(), id);
            self.by_pool.insert((resource.pool, id));
            self.by_id.insert(id, resource);
            return Ok(());
        }
        let resource = created(self.by_id.get_mut(&id), envelope)?;
        resource.stamp.advance(envelope)?;
        match event {
            ResourceEvent::Created(_) => {}
            ResourceEvent::Changed(event) => {
                self.by_pool.remove(&(resource.pool, id));
                self.by_pool.insert((event.pool, id));
                resource.kind = event.kind;
                resource.target = event.target.clone();
                resource.pool = event.pool;
                resource.placed = envelope.position;
            }
            ResourceEvent::Carried(event) => {
                resource.carried = event.connection;
                resource.placed = envelope.position;
            }
            ResourceEvent::Labelled(event) => resource.labels.clone_from(&event.labels),
            ResourceEvent::Removed(_) => {
                self.by_pool.remove(&(resource.pool, id));
                self.by_name.remove(resource.organization, &resource.name);
                self.by_id.remove(&id);
            }
        }
        Ok(())
    }
}
