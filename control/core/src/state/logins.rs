use std::collections::{BTreeMap, BTreeSet};

use rap_events::{Envelope, Personal, Sensitive, login::LoginEvent};
use rap_proto::{Digest, LoginId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::{Corrupt, Stamp};

/// The logins that are open. Closed and expired ones are forgotten.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Logins {
    by_id: BTreeMap<LoginId, Login>,
    by_secret: BTreeMap<Digest, LoginId>,
    by_user: BTreeSet<(UserId, LoginId)>,
    by_expiry: BTreeSet<(Timestamp, LoginId)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub id: LoginId,
    pub user: UserId,
    pub secret: Sensitive<Digest>,
    pub expires_at: Timestamp,
    /// Empty once its user was erased.
    pub device: Personal<String>,
    pub stamp: Stamp,
}

impl Logins {
    pub fn get(&self, id: LoginId) -> Option<&Login> {
        self.by_id.get(&id)
    }

    /// The login whose secret has this digest, if it is open at `now`.
    pub fn presented(&self, secret: &Digest, now: Timestamp) -> Option<&Login> {
        let login = self.by_secret.get(secret).and_then(|id| self.by_id.get(id))?;
        (now < login.expires_at).then_some(login)
    }

    pub fn of(&self, user: UserId) -> impl Iterator<Item = &Login> {
        let least = LoginId::from_u128(0);
        let greatest = LoginId::from_u128(u128::MAX);
        self.by_user
            .range((user, least)..=(user, greatest))
            .filter_map(|(_, id)| self.by_id.get(id))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Login> {
        self.by_id.values()
    }

    pub(super) fn fold(&mut self, event: &LoginEvent, envelope: &Envelope) -> Result<(), Corrupt> {
        self.forget_expired(envelope.at);
        let id = LoginId::from_uuid(envelope.stream.id);
        match event {
            LoginEvent::Opened(event) => {
                let login = Login {
                    id,
                    user: event.user,
                    secret: event.secret.clone(),
                    expires_at: event.expires_at,
                    device: event.device.clone(),
                    stamp: Stamp::first(envelope)?,
                };
                self.by_secret.insert(*login.secret.expose(), id);
                self.by_user.insert((login.user, id));
                self.by_expiry.insert((login.expires_at, id));
                self.by_id.insert(id, login);
            }
            LoginEvent::Closed(_) => self.forget(id),
        }
        Ok(())
    }

    /// What the log holds about a person is gone: what was folded of it goes, too.
    pub(super) fn erase(&mut self, user: UserId) {
        let of_user: Vec<LoginId> = self.of(user).map(|login| login.id).collect();
        for id in of_user {
            if let Some(login) = self.by_id.get_mut(&id) {
                login.device = Personal::default();
            }
        }
    }

    fn forget_expired(&mut self, at: Timestamp) {
        while let Some((expires_at, id)) = self.by_expiry.first().copied()
            && expires_at <= at
        {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: LoginId) {
        if let Some(login) = self.by_id.remove(&id) {
            self.by_secret.remove(login.secret.expose());
            self.by_user.remove(&(login.user, id));
            self.by_expiry.remove(&(login.expires_at, id));
        }
    }
}
