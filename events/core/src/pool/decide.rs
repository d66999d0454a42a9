use rap_proto::{OrganizationId, Timestamp};

use super::{Pool, PoolCommand, PoolCreated, PoolEvent, PoolRejection, PoolRemoved};
use crate::Aggregate;

impl Aggregate for Pool {
    const CATEGORY: &'static str = "pool";
    type Command = PoolCommand;
    type Event = PoolEvent;
    type Rejection = PoolRejection;

    fn decide(&self, command: PoolCommand, _: Timestamp) -> Result<Vec<PoolEvent>, PoolRejection> {
        match (command, self.organization) {
            (PoolCommand::Create { organization, name }, None) => {
                Ok(vec![PoolCreated { organization, name }.into()])
            }
            (PoolCommand::Create { .. }, Some(_)) => Err(PoolRejection::AlreadyExists),
            (PoolCommand::Remove, None) => Err(PoolRejection::NotFound),
            (PoolCommand::Remove, Some(_)) if self.removed => Ok(Vec::new()),
            (PoolCommand::Remove, Some(_)) => Ok(vec![PoolRemoved {}.into()]),
        }
    }

    fn evolve(&mut self, event: &PoolEvent) {
        match event {
            PoolEvent::Created(created) => {
                self.organization = Some(created.organization);
                self.name = Some(created.name.clone());
            }
            PoolEvent::Removed(_) => self.removed = true,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }
}
