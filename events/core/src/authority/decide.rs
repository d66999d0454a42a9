use rap_proto::{OrganizationId, Timestamp, beat::FIRST_AUTHORITY_EPOCH};

use super::{Authority, AuthorityCommand, AuthorityEvent, AuthorityRejection, AuthorityStated};
use crate::Aggregate;

impl Aggregate for Authority {
    const CATEGORY: &'static str = "authority";
    type Command = AuthorityCommand;
    type Event = AuthorityEvent;
    type Rejection = AuthorityRejection;

    fn decide(
        &self,
        command: AuthorityCommand,
        _: Timestamp,
    ) -> Result<Vec<AuthorityEvent>, AuthorityRejection> {
        let AuthorityCommand::State { statement, signed } = command;
        statement.check().map_err(|_| AuthorityRejection::NotValid)?;
        let present = self.statement.as_ref();
        let (epoch, revision) =
            present.map_or((FIRST_AUTHORITY_EPOCH, 0), |present| (present.epoch, present.revision));
        if (statement.epoch, statement.revision) != (epoch, revision + 1) {
            return Err(AuthorityRejection::NotNext);
        }
        if present.is_some_and(|present| present.cluster != statement.cluster) {
            return Err(AuthorityRejection::NotNext);
        }
        if present.is_some_and(|present| present.replicas == statement.replicas) {
            return Err(AuthorityRejection::Unchanged);
        }
        Ok(vec![AuthorityStated { statement, signed }.into()])
    }

    fn evolve(&mut self, event: &AuthorityEvent) {
        let AuthorityEvent::Stated(event) = event;
        self.statement = Some(event.statement.clone());
    }

    fn organization(&self) -> Option<OrganizationId> {
        None
    }
}
