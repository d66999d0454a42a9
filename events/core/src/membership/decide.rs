use rap_proto::{OrganizationId, Timestamp};

use super::{
    Membership, MembershipChanged, MembershipCommand, MembershipEvent, MembershipGranted,
    MembershipRejection, MembershipRevoked,
};
use crate::Aggregate;

impl Aggregate for Membership {
    const CATEGORY: &'static str = "membership";
    type Command = MembershipCommand;
    type Event = MembershipEvent;
    type Rejection = MembershipRejection;

    fn decide(
        &self,
        command: MembershipCommand,
        _: Timestamp,
    ) -> Result<Vec<MembershipEvent>, MembershipRejection> {
        if let MembershipCommand::Grant { organization, user, role } = command {
            if self.of.is_some_and(|of| of != (organization, user)) {
                return Err(MembershipRejection::OtherMembership);
            }
            return match self.role {
                Some(held) if held == role => Ok(Vec::new()),
                Some(_) => Err(MembershipRejection::AlreadyMember),
                None => Ok(vec![MembershipGranted { organization, user, role }.into()]),
            };
        }
        let (organization, user) = self.of.ok_or(MembershipRejection::NotAMember)?;
        match (command, self.role) {
            (MembershipCommand::Change { role }, Some(held)) if held != role => {
                Ok(vec![MembershipChanged { organization, user, role }.into()])
            }
            (MembershipCommand::Change { .. }, None) => Err(MembershipRejection::NotAMember),
            (MembershipCommand::Revoke, Some(_)) => {
                Ok(vec![MembershipRevoked { organization, user }.into()])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn evolve(&mut self, event: &MembershipEvent) {
        match event {
            MembershipEvent::Granted(granted) => {
                self.of = Some((granted.organization, granted.user));
                self.role = Some(granted.role);
            }
            MembershipEvent::Changed(changed) => self.role = Some(changed.role),
            MembershipEvent::Revoked(_) => self.role = None,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.of.map(|(organization, _)| organization)
    }
}
