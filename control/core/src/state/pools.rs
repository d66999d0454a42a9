use std::collections::BTreeMap;

use rap_events::{Envelope, pool::PoolEvent};
use rap_proto::{Name, OrganizationId, PoolId};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp, names::Names, stamp::created};

/// The egress pools that were not removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pools {
    by_id: BTreeMap<PoolId, Pool>,
    by_name: Names<PoolId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub id: PoolId,
    pub organization: OrganizationId,
    pub name: Name,
    pub stamp: Stamp,
}

impl Pools {
    pub(crate) fn get(&self, id: PoolId) -> Option<&Pool> {
        self.by_id.get(&id)
    }

    pub(crate) fn named(&self, organization: OrganizationId, name: &Name) -> Option<&Pool> {
        self.by_name.get(organization, name).and_then(|id| self.by_id.get(&id))
    }

    /// Those of one organization, in the order of their names.
    pub(crate) fn of(&self, organization: OrganizationId) -> impl Iterator<Item = &Pool> {
        self.by_name.of(organization).filter_map(|id| self.by_id.get(&id))
    }

    pub(super) fn fold(&mut self, event: &PoolEvent, envelope: &Envelope) -> Result<(), Corrupt> {
        let id = PoolId::from_uuid(envelope.stream.id);
        match event {
            PoolEvent::Created(event) => {
                let pool = Pool {
                    id,
                    organization: event.organization,
                    name: event.name.clone(),
                    stamp: Stamp::first(envelope)?,
                };
                self.by_name.insert(pool.organization, pool.name.clone(), id);
                self.by_id.insert(id, pool);
            }
            PoolEvent::Removed(_) => {
                let pool = created(self.by_id.get_mut(&id), envelope)?;
                pool.stamp.advance(envelope)?;
                self.by_name.remove(pool.organization, &pool.name);
                self.by_id.remove(&id);
            }
        }
        Ok(())
    }
}
