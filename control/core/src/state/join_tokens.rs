use std::collections::{BTreeMap, BTreeSet};

use rap_events::{Envelope, Sensitive, join_token::JoinTokenEvent};
use rap_proto::{
    Digest, JoinTokenId, Name, NodeId, OrganizationId, PoolId, Timestamp, snapshot::RoleScope,
};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp};

/// The join tokens that have not expired, used and revoked ones included.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct JoinTokens {
    by_id: BTreeMap<JoinTokenId, JoinToken>,
    by_secret: BTreeMap<Digest, JoinTokenId>,
    by_expiry: BTreeSet<(Timestamp, JoinTokenId)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    pub id: JoinTokenId,
    pub secret: Sensitive<Digest>,
    pub roles: Vec<RoleScope>,
    pub pools: BTreeSet<PoolId>,
    /// Whose node it makes; `None` for the platform's.
    pub organization: Option<OrganizationId>,
    pub host_name: Option<Name>,
    pub expires_at: Timestamp,
    pub auto_approve: bool,
    pub used_by: Option<NodeId>,
    pub revoked: bool,
    pub stamp: Stamp,
}

impl JoinTokens {
    pub fn get(&self, id: JoinTokenId) -> Option<&JoinToken> {
        self.by_id.get(&id)
    }

    /// The token whose secret has this digest, whether or not it can be used: why it cannot is
    /// for the aggregate to say.
    pub fn presented(&self, secret: &Digest) -> Option<&JoinToken> {
        self.by_secret.get(secret).and_then(|id| self.by_id.get(id))
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &JoinToken> {
        self.by_id.values()
    }

    pub(super) fn fold(
        &mut self,
        event: &JoinTokenEvent,
        envelope: &Envelope,
    ) -> Result<(), Corrupt> {
        self.forget_expired(envelope.at);
        let id = JoinTokenId::from_uuid(envelope.stream.id);
        if let JoinTokenEvent::Created(event) = event {
            let token = JoinToken {
                id,
                secret: event.secret.clone(),
                roles: event.roles.clone(),
                pools: event.pools.clone(),
                organization: event.organization,
                host_name: event.host_name.clone(),
                expires_at: event.expires_at,
                auto_approve: event.auto_approve,
                used_by: None,
                revoked: false,
                stamp: Stamp::first(envelope)?,
            };
            self.by_secret.insert(*token.secret.expose(), id);
            self.by_expiry.insert((token.expires_at, id));
            self.by_id.insert(id, token);
            return Ok(());
        }
        // An expired one is forgotten and can still be revoked.
        let Some(token) = self.by_id.get_mut(&id) else { return Ok(()) };
        token.stamp.advance(envelope)?;
        match event {
            JoinTokenEvent::Created(_) => {}
            JoinTokenEvent::Used(event) => token.used_by = Some(event.node),
            JoinTokenEvent::Revoked(_) => token.revoked = true,
            JoinTokenEvent::UseRefused(_) => {}
        }
        Ok(())
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
