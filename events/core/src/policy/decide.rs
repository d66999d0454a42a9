use rap_proto::{OrganizationId, Timestamp};

use super::{
    MAX_POLICY_ENTRIES, Policy, PolicyChanged, PolicyCommand, PolicyCreated, PolicyEvent,
    PolicyRejection, PolicyRemoved, PolicySpec,
};
use crate::Aggregate;

impl Aggregate for Policy {
    const CATEGORY: &'static str = "policy";
    type Command = PolicyCommand;
    type Event = PolicyEvent;
    type Rejection = PolicyRejection;

    fn decide(
        &self,
        command: PolicyCommand,
        _: Timestamp,
    ) -> Result<Vec<PolicyEvent>, PolicyRejection> {
        match (command, self.organization) {
            (PolicyCommand::Create { organization, name, spec }, None) => {
                check_spec(&spec)?;
                Ok(vec![PolicyCreated { organization, name, spec }.into()])
            }
            (PolicyCommand::Create { .. }, Some(_)) => Err(PolicyRejection::AlreadyExists),
            (_, None) => Err(PolicyRejection::NotFound),
            (PolicyCommand::Change { .. }, Some(_)) if self.removed => {
                Err(PolicyRejection::NotFound)
            }
            (PolicyCommand::Change { spec }, Some(_)) => {
                check_spec(&spec)?;
                if spec == self.spec {
                    return Ok(Vec::new());
                }
                Ok(vec![PolicyChanged { spec }.into()])
            }
            (PolicyCommand::Remove, Some(_)) if self.removed => Ok(Vec::new()),
            (PolicyCommand::Remove, Some(_)) => Ok(vec![PolicyRemoved {}.into()]),
        }
    }

    fn evolve(&mut self, event: &PolicyEvent) {
        match event {
            PolicyEvent::Created(created) => {
                self.organization = Some(created.organization);
                self.name = Some(created.name.clone());
                self.spec = created.spec.clone();
            }
            PolicyEvent::Changed(changed) => self.spec = changed.spec.clone(),
            PolicyEvent::Removed(_) => self.removed = true,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }
}

fn check_spec(spec: &PolicySpec) -> Result<(), PolicyRejection> {
    if spec.users.is_empty() && spec.roles.is_empty() {
        return Err(PolicyRejection::MatchesNobody);
    }
    if spec.resources.is_empty() && spec.kinds.is_empty() {
        return Err(PolicyRejection::MatchesNothing);
    }
    if spec.users.len() > MAX_POLICY_ENTRIES || spec.resources.len() > MAX_POLICY_ENTRIES {
        return Err(PolicyRejection::TooManyEntries);
    }
    Ok(())
}
