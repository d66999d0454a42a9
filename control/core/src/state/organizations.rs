use std::collections::BTreeMap;

use rap_events::{
    Envelope,
    organization::{OrganizationEvent, Quotas},
};
use rap_proto::{Name, OrganizationId, bandwidth::OrganizationBandwidth};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp, stamp::created};

/// Every organization that was not removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Organizations {
    by_id: BTreeMap<OrganizationId, Organization>,
    by_name: BTreeMap<Name, OrganizationId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: Name,
    pub standing: OrganizationStanding,
    pub quotas: Quotas,
    pub bandwidth: OrganizationBandwidth,
    pub stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganizationStanding {
    Active,
    Suspended,
}

impl Organizations {
    pub fn get(&self, id: OrganizationId) -> Option<&Organization> {
        self.by_id.get(&id)
    }

    pub fn named(&self, name: &Name) -> Option<&Organization> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id))
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Organization> {
        self.by_id.values()
    }

    pub fn is_active(&self, id: OrganizationId) -> bool {
        self.get(id).is_some_and(|found| found.standing == OrganizationStanding::Active)
    }

    pub(super) fn fold(
        &mut self,
        event: &OrganizationEvent,
        envelope: &Envelope,
    ) -> Result<(), Corrupt> {
        if let OrganizationEvent::Created(event) = event {
            let organization = Organization {
                id: event.organization,
                name: event.name.clone(),
                standing: OrganizationStanding::Active,
                quotas: Quotas::default(),
                bandwidth: OrganizationBandwidth::default(),
                stamp: Stamp::first(envelope)?,
            };
            self.by_name.insert(organization.name.clone(), organization.id);
            self.by_id.insert(organization.id, organization);
            return Ok(());
        }
        let id = OrganizationId::from_uuid(envelope.stream.id);
        let organization = created(self.by_id.get_mut(&id), envelope)?;
        organization.stamp.advance(envelope)?;
        match event {
            OrganizationEvent::Created(_) => {}
            OrganizationEvent::Renamed(event) => {
                self.by_name.remove(&organization.name);
                organization.name = event.name.clone();
                self.by_name.insert(event.name.clone(), id);
            }
            OrganizationEvent::Suspended(_) => {
                organization.standing = OrganizationStanding::Suspended;
            }
            OrganizationEvent::QuotasSet(event) => organization.quotas = event.quotas,
            OrganizationEvent::BandwidthGranted(event) => {
                organization.bandwidth.granted = event.granted;
            }
            OrganizationEvent::BandwidthRuled(event) => {
                organization.bandwidth.rules.clone_from(&event.rules);
            }
            OrganizationEvent::CarriersRuled(event) => {
                organization.bandwidth.carriers = event.carriers;
            }
            OrganizationEvent::Resumed(_) => organization.standing = OrganizationStanding::Active,
            OrganizationEvent::Removed(_) => {
                self.by_name.remove(&organization.name);
                self.by_id.remove(&id);
            }
        }
        Ok(())
    }
}
