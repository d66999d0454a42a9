use std::{collections::BTreeMap, sync::Arc};

use rap_events::{
    Envelope,
    policy::{PolicyDocument, PolicyEvent, PolicySpec},
};
use rap_proto::{Digest, Name, OrganizationId, PolicyId, codec};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp, names::Names, stamp::created};
use crate::rules::OrganizationRules;

/// The access policies that were not removed, and what they say, compiled.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Policies {
    by_id: BTreeMap<PolicyId, Policy>,
    by_name: Names<PolicyId>,
    /// Follows from the policies: made anew when the state is read back.
    #[serde(skip)]
    compiled: BTreeMap<OrganizationId, Arc<OrganizationRules>>,
    /// The rules of organizations without policies.
    #[serde(skip)]
    none: Arc<OrganizationRules>,
}

/// The policies as they are written down.
#[derive(Deserialize)]
struct Stored {
    by_id: BTreeMap<PolicyId, Policy>,
    by_name: Names<PolicyId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub id: PolicyId,
    pub organization: OrganizationId,
    pub name: Name,
    /// Matches nobody where there is a document.
    pub spec: PolicySpec,
    pub document: Option<PolicyDocument>,
    pub stamp: Stamp,
}

impl From<Stored> for Policies {
    fn from(stored: Stored) -> Self {
        let Stored { by_id, by_name } = stored;
        let mut policies = Self { by_id, by_name, ..Self::default() };
        for policy in policies.by_id.values() {
            let rules = policies.compiled.entry(policy.organization).or_default();
            Arc::make_mut(rules).put(policy.id, policy.document.as_ref());
        }
        policies
    }
}

impl Policy {
    fn of(id: PolicyId, event: &PolicyEvent, stamp: Stamp) -> Option<Self> {
        let (organization, name, spec, document) = match event {
            PolicyEvent::Created(event) => {
                (event.organization, &event.name, event.spec.clone(), None)
            }
            PolicyEvent::Written(event) => {
                let document = Some(event.document.clone());
                (event.organization, &event.name, PolicySpec::default(), document)
            }
            PolicyEvent::Changed(_) | PolicyEvent::Rewritten(_) | PolicyEvent::Removed(_) => {
                return None;
            }
        };
        Some(Self { id, organization, name: name.clone(), spec, document, stamp })
    }
}

impl Policies {
    pub(crate) fn get(&self, id: PolicyId) -> Option<&Policy> {
        self.by_id.get(&id)
    }

    pub(crate) fn named(&self, organization: OrganizationId, name: &Name) -> Option<&Policy> {
        self.by_name.get(organization, name).and_then(|id| self.by_id.get(&id))
    }

    /// Those of one organization, in the order of their names.
    pub(crate) fn of(&self, organization: OrganizationId) -> impl Iterator<Item = &Policy> {
        self.by_name.of(organization).filter_map(|id| self.by_id.get(&id))
    }

    /// What all policies of one organization say.
    pub(crate) fn rules(&self, organization: OrganizationId) -> &OrganizationRules {
        self.compiled.get(&organization).unwrap_or(&self.none)
    }

    /// The hash of what all policies of one organization say: another one after each change of
    /// them, and the same again after it is taken back.
    pub(crate) fn hash(&self, organization: OrganizationId) -> Digest {
        let mut said: Vec<(PolicyId, &PolicySpec, &Option<PolicyDocument>)> = self
            .of(organization)
            .map(|policy| (policy.id, &policy.spec, &policy.document))
            .collect();
        said.sort_by_key(|(id, ..)| *id);
        Digest::of_parts(&[b"policies", &codec::encode(&said)])
    }

    pub(super) fn fold(&mut self, event: &PolicyEvent, envelope: &Envelope) -> Result<(), Corrupt> {
        let id = PolicyId::from_uuid(envelope.stream.id);
        if matches!(event, PolicyEvent::Created(_) | PolicyEvent::Written(_)) {
            let stamp = Stamp::first(envelope)?;
            if let Some(policy) = Policy::of(id, event, stamp) {
                self.by_name.insert(policy.organization, policy.name.clone(), id);
                self.compile(&policy);
                self.by_id.insert(id, policy);
            }
            return Ok(());
        }
        let policy = created(self.by_id.get_mut(&id), envelope)?;
        policy.stamp.advance(envelope)?;
        match event {
            PolicyEvent::Created(_) | PolicyEvent::Written(_) => {}
            PolicyEvent::Changed(event) => {
                policy.spec = event.spec.clone();
                policy.document = None;
            }
            PolicyEvent::Rewritten(event) => {
                policy.spec = PolicySpec::default();
                policy.document = Some(event.document.clone());
            }
            PolicyEvent::Removed(_) => {
                self.by_name.remove(policy.organization, &policy.name);
                let rules = self.compiled.entry(policy.organization).or_default();
                Arc::make_mut(rules).remove(id);
                self.by_id.remove(&id);
                return Ok(());
            }
        }
        let policy = policy.clone();
        self.compile(&policy);
        Ok(())
    }

    fn compile(&mut self, policy: &Policy) {
        let rules = self.compiled.entry(policy.organization).or_default();
        Arc::make_mut(rules).put(policy.id, policy.document.as_ref());
    }
}
