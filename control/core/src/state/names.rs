use std::collections::BTreeMap;

use rap_proto::{Name, OrganizationId};
use serde::{Deserialize, Serialize};

/// The names of one kind of thing within each organization.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Names<Id>(BTreeMap<OrganizationId, BTreeMap<Name, Id>>);

impl<Id> Default for Names<Id> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<Id: Copy> Names<Id> {
    pub(super) fn insert(&mut self, organization: OrganizationId, name: Name, id: Id) {
        self.0.entry(organization).or_default().insert(name, id);
    }

    pub(super) fn remove(&mut self, organization: OrganizationId, name: &Name) {
        let Some(names) = self.0.get_mut(&organization) else { return };
        names.remove(name);
        if names.is_empty() {
            self.0.remove(&organization);
        }
    }

    pub(super) fn get(&self, organization: OrganizationId, name: &Name) -> Option<Id> {
        self.0.get(&organization)?.get(name).copied()
    }

    /// Those of one organization, in the order of their names.
    pub(super) fn of(&self, organization: OrganizationId) -> impl Iterator<Item = Id> {
        self.0.get(&organization).into_iter().flat_map(BTreeMap::values).copied()
    }
}
