use rap_proto::{
    OrganizationId, Timestamp,
    beat::{EpochStatement, FIRST_AUTHORITY_EPOCH},
};
use serde_bytes::ByteBuf;

use super::{
    Authority, AuthorityCommand, AuthorityEvent, AuthorityRejection, AuthorityStated, LossAccepted,
};
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
        match command {
            AuthorityCommand::State { statement, signed } => self.state(statement, signed),
            AuthorityCommand::AcceptLoss { timeline } => {
                if self.loss_accepted == Some(timeline) {
                    return Err(AuthorityRejection::AlreadyAccepted);
                }
                Ok(vec![LossAccepted { timeline }.into()])
            }
        }
    }

    fn evolve(&mut self, event: &AuthorityEvent) {
        match event {
            AuthorityEvent::Stated(event) => self.statement = Some(event.statement.clone()),
            AuthorityEvent::LossAccepted(event) => self.loss_accepted = Some(event.timeline),
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        None
    }
}

impl Authority {
    fn state(
        &self,
        statement: EpochStatement,
        signed: ByteBuf,
    ) -> Result<Vec<AuthorityEvent>, AuthorityRejection> {
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
}
