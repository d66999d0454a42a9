use std::time::Duration;

use rap_proto::{Digest, Name, OrganizationId, Timestamp};

use super::{
    Created, JoinToken, JoinTokenCommand, JoinTokenCreated, JoinTokenEvent, JoinTokenRejection,
    JoinTokenRevoked, JoinTokenUseRefused, JoinTokenUsed, MAX_JOIN_TOKEN_MS, MAX_RECORDED_REFUSALS,
    UseRefusal,
};
use crate::{
    Aggregate, Sensitive,
    node::{Offer, ScopeFault},
};

impl Aggregate for JoinToken {
    const CATEGORY: &'static str = "join_token";
    type Command = JoinTokenCommand;
    type Event = JoinTokenEvent;
    type Rejection = JoinTokenRejection;

    fn decide(
        &self,
        command: JoinTokenCommand,
        now: Timestamp,
    ) -> Result<Vec<JoinTokenEvent>, JoinTokenRejection> {
        match command {
            JoinTokenCommand::Create {
                secret,
                roles,
                pools,
                organization,
                host_name,
                expires_at,
                auto_approve,
            } => {
                if self.created.is_some() {
                    return Err(JoinTokenRejection::AlreadyExists);
                }
                if expires_at <= now || expires_at > now + Duration::from_millis(MAX_JOIN_TOKEN_MS)
                {
                    return Err(JoinTokenRejection::LifetimeOutOfRange);
                }
                let Offer { organization, roles, pools, auto_approve } =
                    Offer { organization, roles, pools, auto_approve }.checked()?;
                let created = JoinTokenCreated {
                    secret,
                    roles,
                    pools,
                    organization,
                    host_name,
                    expires_at,
                    auto_approve,
                };
                Ok(vec![created.into()])
            }
            JoinTokenCommand::Use { presented, node, name } => {
                self.require_usable(&presented, &name, now)?;
                Ok(vec![JoinTokenUsed { node }.into()])
            }
            JoinTokenCommand::RecordRefusal { presented, name, key_enrolled } => {
                let reason = match self.require_usable(&presented, &name, now) {
                    Ok(()) if key_enrolled => UseRefusal::KeyEnrolled,
                    Ok(()) => return Ok(Vec::new()),
                    Err(rejection) => rejection.of_a_use().ok_or(rejection)?,
                };
                if self.refusals >= MAX_RECORDED_REFUSALS {
                    return Ok(Vec::new());
                }
                Ok(vec![JoinTokenUseRefused { reason, name }.into()])
            }
            JoinTokenCommand::Revoke => match self {
                Self { created: None, .. } => Err(JoinTokenRejection::NotFound),
                Self { used_by: Some(_), .. } => Err(JoinTokenRejection::AlreadyUsed),
                Self { revoked: true, .. } => Ok(Vec::new()),
                _ => Ok(vec![JoinTokenRevoked {}.into()]),
            },
        }
    }

    fn evolve(&mut self, event: &JoinTokenEvent) {
        match event {
            JoinTokenEvent::Created(created) => {
                let JoinTokenCreated {
                    secret,
                    roles,
                    pools,
                    organization,
                    host_name,
                    expires_at,
                    auto_approve,
                } = created.clone();
                let offer = Offer { organization, roles, pools, auto_approve };
                self.created = Some(Created { secret, offer, host_name, expires_at });
            }
            JoinTokenEvent::Used(used) => self.used_by = Some(used.node),
            JoinTokenEvent::Revoked(_) => self.revoked = true,
            JoinTokenEvent::UseRefused(_) => self.refusals += 1,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.offer().and_then(|offer| offer.organization)
    }
}

impl JoinToken {
    fn require_usable(
        &self,
        presented: &Sensitive<Digest>,
        name: &Name,
        now: Timestamp,
    ) -> Result<(), JoinTokenRejection> {
        let created = self.created.as_ref().ok_or(JoinTokenRejection::NotFound)?;
        if created.secret != *presented {
            return Err(JoinTokenRejection::NotFound);
        }
        if self.used_by.is_some() {
            return Err(JoinTokenRejection::AlreadyUsed);
        }
        if self.revoked {
            return Err(JoinTokenRejection::Revoked);
        }
        if now >= created.expires_at {
            return Err(JoinTokenRejection::Expired);
        }
        match &created.host_name {
            Some(expected) if expected != name => Err(JoinTokenRejection::HostNameMismatch),
            _ => Ok(()),
        }
    }
}

impl JoinTokenRejection {
    /// Why a host whose secret was right could not use it; `None` for what says nothing of that.
    fn of_a_use(self) -> Option<UseRefusal> {
        match self {
            Self::AlreadyUsed => Some(UseRefusal::Used),
            Self::Expired => Some(UseRefusal::Expired),
            Self::Revoked => Some(UseRefusal::Revoked),
            Self::HostNameMismatch => Some(UseRefusal::WrongHostName),
            Self::AlreadyExists
            | Self::NotFound
            | Self::LifetimeOutOfRange
            | Self::ScopeTooLarge
            | Self::ForeignOrganization => None,
        }
    }
}

impl From<ScopeFault> for JoinTokenRejection {
    fn from(fault: ScopeFault) -> Self {
        match fault {
            ScopeFault::TooLarge => Self::ScopeTooLarge,
            ScopeFault::ForeignOrganization => Self::ForeignOrganization,
        }
    }
}
