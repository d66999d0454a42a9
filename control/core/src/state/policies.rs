use std::collections::BTreeMap;

use rap_events::{
    Envelope,
    policy::{PolicyEvent, PolicySpec},
};
use rap_proto::{Name, OrganizationId, PolicyId};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp, names::Names, stamp::created};

/// The access policies that were not removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Policies {
    by_id: BTreeMap<PolicyId, Policy>,
    by_name: Names<PolicyId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub id: PolicyId,
    pub organization: OrganizationId,
    pub name: Name,
    pub spec: PolicySpec,
    pub stamp: Stamp,
}

impl Policies {
    pub fn get(&self, id: PolicyId) -> Option<&Policy> {
        self.by_id.get(&id)
    }

    pub fn named(&self, organization: OrganizationId, name: &Name) -> Option<&Policy> {
        self.by_name.get(organization, name).and_then(|id| self.by_id.get(&id))
    }

    /// Those of one organization, in the order of their names.
    pub fn of(&self, organization: OrganizationId) -> impl Iterator<Item = &Policy> {
        self.by_name.of(organization).filter_map(|id| self.by_id.get(&id))
    }

    pub(super) fn fold(&mut self, event: &PolicyEvent, envelope: &Envelope) -> Result<(), Corrupt> {
        let id = PolicyId::from_uuid(envelope.stream.id);
        if let PolicyEvent::Created(event) = event {
            let policy = Policy {
                id,
                organization: event.organization,
                name: event.name.clone(),
                spec: event.spec.clone(),
                stamp: Stamp::first(envelope)?,
            };
            self.by_name.insert(policy.organization, policy.name.clone(), id);
            self.by_id.insert(id, policy);
            return Ok(());
        }
        let policy = created(self.by_id.get_mut(&id), envelope)?;
        policy.stamp.advance(envelope)?;
        match event {
            PolicyEvent::Created(_) => {}
            PolicyEvent::Changed(event) => policy.spec = event.spec.clone(),
            PolicyEvent::Removed(_) => {
                self.by_name.remove(policy.organization, &policy.name);
                self.by_id.remove(&id);
            }
        }
        Ok(())
    }
}
