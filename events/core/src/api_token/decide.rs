use std::time::Duration;

use rap_proto::{OrganizationId, Timestamp};

use super::{
    ApiToken, ApiTokenCommand, ApiTokenCreated, ApiTokenEvent, ApiTokenRejection, ApiTokenRevoked,
    MAX_API_TOKEN_MS,
};
use crate::Aggregate;

impl Aggregate for ApiToken {
    const CATEGORY: &'static str = "api_token";
    type Command = ApiTokenCommand;
    type Event = ApiTokenEvent;
    type Rejection = ApiTokenRejection;

    fn decide(
        &self,
        command: ApiTokenCommand,
        now: Timestamp,
    ) -> Result<Vec<ApiTokenEvent>, ApiTokenRejection> {
        match command {
            ApiTokenCommand::Create { user, secret, label, scopes, organization, expires_at } => {
                if self.exists {
                    return Err(ApiTokenRejection::AlreadyExists);
                }
                if scopes.is_empty() {
                    return Err(ApiTokenRejection::NoScopes);
                }
                if expires_at <= now || expires_at > now + Duration::from_millis(MAX_API_TOKEN_MS) {
                    return Err(ApiTokenRejection::LifetimeOutOfRange);
                }
                if !label.is_kept() {
                    return Err(ApiTokenRejection::LabelNotSealed);
                }
                let created =
                    ApiTokenCreated { user, secret, label, scopes, organization, expires_at };
                Ok(vec![created.into()])
            }
            ApiTokenCommand::Revoke if !self.exists => Err(ApiTokenRejection::NotFound),
            ApiTokenCommand::Revoke if self.revoked => Ok(Vec::new()),
            ApiTokenCommand::Revoke => Ok(vec![ApiTokenRevoked {}.into()]),
        }
    }

    fn evolve(&mut self, event: &ApiTokenEvent) {
        match event {
            ApiTokenEvent::Created(created) => {
                self.exists = true;
                self.organization = created.organization;
            }
            ApiTokenEvent::Revoked(_) => self.revoked = true,
        }
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }
}
