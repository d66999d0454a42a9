use std::collections::{BTreeMap, BTreeSet};

use rap_events::{Envelope, Personal, Sensitive, api_token::ApiTokenEvent};
use rap_proto::{ApiScope, ApiTokenId, Digest, OrganizationId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp};

/// The API tokens that have not expired, revoked ones included.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct ApiTokens {
    by_id: BTreeMap<ApiTokenId, ApiToken>,
    by_secret: BTreeMap<Digest, ApiTokenId>,
    by_expiry: BTreeSet<(Timestamp, ApiTokenId)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    pub id: ApiTokenId,
    pub user: UserId,
    pub secret: Sensitive<Digest>,
    /// Empty once its user was erased.
    pub label: Personal<String>,
    pub scopes: BTreeSet<ApiScope>,
    /// The one organization that it works in; `None` for all of its user's.
    pub organization: Option<OrganizationId>,
    pub expires_at: Timestamp,
    pub revoked: bool,
    pub stamp: Stamp,
}

impl ApiTokens {
    pub fn get(&self, id: ApiTokenId) -> Option<&ApiToken> {
        self.by_id.get(&id)
    }

    /// The token whose secret has this digest, if it can be used at `now`.
    pub fn presented(&self, secret: &Digest, now: Timestamp) -> Option<&ApiToken> {
        let token = self.by_secret.get(secret).and_then(|id| self.by_id.get(id))?;
        (now < token.expires_at && !token.revoked).then_some(token)
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &ApiToken> {
        self.by_id.values()
    }

    pub(super) fn fold(
        &mut self,
        event: &ApiTokenEvent,
        envelope: &Envelope,
    ) -> Result<(), Corrupt> {
        self.forget_expired(envelope.at);
        let id = ApiTokenId::from_uuid(envelope.stream.id);
        match event {
            ApiTokenEvent::Created(event) => {
                let token = ApiToken {
                    id,
                    user: event.user,
                    secret: event.secret.clone(),
                    label: event.label.clone(),
                    scopes: event.scopes.clone(),
                    organization: event.organization,
                    expires_at: event.expires_at,
                    revoked: false,
                    stamp: Stamp::first(envelope)?,
                };
                self.by_secret.insert(*token.secret.expose(), id);
                self.by_expiry.insert((token.expires_at, id));
                self.by_id.insert(id, token);
            }
            ApiTokenEvent::Revoked(_) => {
                // An expired one is forgotten and can still be revoked.
                if let Some(token) = self.by_id.get_mut(&id) {
                    token.stamp.advance(envelope)?;
                    token.revoked = true;
                }
            }
        }
        Ok(())
    }

    /// What the log holds about a person is gone: what was folded of it goes, too.
    pub(super) fn erase(&mut self, user: UserId) {
        for token in self.by_id.values_mut().filter(|token| token.user == user) {
            token.label = Personal::default();
        }
    }

    fn forget_expired(&mut self, at: Timestamp) {
        while let Some((expires_at, id)) = self.by_expiry.first().copied()
            && expires_at <= at
        {
            self.by_expiry.remove(&(expires_at, id));
            if let Some(token) = self.by_id.remove(&id) {
                self.by_secret.remove(token.secret.expose());
            }
        }
    }
}
