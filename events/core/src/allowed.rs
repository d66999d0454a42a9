//! By what a person's command was allowed, as the log keeps it beside who gave the command.
//!
//! It stands within the actor's own bytes, in the log and in the tree's entry: an event that has
//! none keeps the bytes that it always had, and a reader from before passes over it.

use std::collections::BTreeSet;

use rap_proto::{
    ApiTokenId, LoginId, NodeId, UserId,
    codec::{self, DecodeError},
};
use serde::{Deserialize, Serialize};

use crate::{log::Actor, session::Basis};

/// The most actions that one command is recorded to have been allowed.
pub const MAX_ALLOWED_ACTIONS: usize = 8;
/// The most rules that are recorded with them: with the rest they fit into an entry of the tree.
pub const MAX_ALLOWED_RULES: usize = 16;

/// What a command rests on: what was asked, and what answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Such as `resource.create`. A command asks more than once where it does more than one thing.
    pub actions: BTreeSet<String>,
    /// The rules of the authorization, `builtin/<holder>`, and of documents, `<policy>/<rule>`. The
    /// hash is absent where no one organization's policies were asked.
    pub basis: Basis,
}

impl Allowed {
    /// What two answers to one command rest on together. What is too many is left out, the last
    /// names first.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (mut actions, mut basis) = (self.actions, self.basis);
        actions.extend(other.actions);
        basis.rules.extend(other.basis.rules);
        basis.policy_hash = match (basis.policy_hash, other.basis.policy_hash) {
            (Some(one), Some(another)) if one != another => None,
            (one, another) => one.or(another),
        };
        basis.entity_version = basis.entity_version.max(other.basis.entity_version);
        Self { actions, basis }.bounded()
    }

    /// With no more names than are recorded.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.actions = self.actions.into_iter().take(MAX_ALLOWED_ACTIONS).collect();
        self.basis.rules = self.basis.rules.into_iter().take(MAX_ALLOWED_RULES).collect();
        self
    }
}

/// The form of the log: [`Actor`], with what a person was allowed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Setup,
    User {
        user: UserId,
        login: LoginId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allowed: Option<Allowed>,
    },
    ApiToken {
        user: UserId,
        token: ApiTokenId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allowed: Option<Allowed>,
    },
    Node(NodeId),
    System {
        process: String,
    },
}

/// The bytes of an actor and of what it was allowed. Only a person's commands are asked for.
pub fn encode_actor(actor: &Actor, allowed: Option<&Allowed>) -> Vec<u8> {
    let allowed = allowed.cloned();
    codec::encode(&match actor.clone() {
        Actor::Setup => Stored::Setup,
        Actor::User { user, login } => Stored::User { user, login, allowed },
        Actor::ApiToken { user, token } => Stored::ApiToken { user, token, allowed },
        Actor::Node(node) => Stored::Node(node),
        Actor::System { process } => Stored::System { process },
    })
}

/// Reads what [`encode_actor`] wrote, in this release or before, of at most `limit` bytes.
pub fn decode_actor(bytes: &[u8], limit: usize) -> Result<(Actor, Option<Allowed>), DecodeError> {
    Ok(match codec::decode(bytes, limit)? {
        Stored::Setup => (Actor::Setup, None),
        Stored::User { user, login, allowed } => (Actor::User { user, login }, allowed),
        Stored::ApiToken { user, token, allowed } => (Actor::ApiToken { user, token }, allowed),
        Stored::Node(node) => (Actor::Node(node), None),
        Stored::System { process } => (Actor::System { process }, None),
    })
}

#[cfg(test)]
mod tests {
    use rap_proto::Digest;

    use super::*;

    fn allowed(actions: &[&str], rules: &[&str], hash: Option<u8>, version: u64) -> Allowed {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let policy_hash = hash.map(|byte| Digest::from_bytes([byte; 32]));
        let basis = Basis { rules: names(rules), policy_hash, entity_version: Some(version) };
        Allowed { actions: names(actions), basis }
    }

    #[test]
    fn two_answers_are_one_ground_and_other_organizations_have_no_hash() {
        let one = allowed(&["a"], &["builtin/x"], Some(1), 3);
        let both = one.clone().and(allowed(&["b"], &["builtin/x", "p/r"], Some(1), 2));
        assert_eq!(both, allowed(&["a", "b"], &["builtin/x", "p/r"], Some(1), 3));
        assert_eq!(one.clone().and(allowed(&["a"], &[], None, 9)).basis.entity_version, Some(9));
        let two_organizations = one.and(allowed(&["a"], &[], Some(2), 1));
        assert_eq!(two_organizations.basis.policy_hash, None);
    }

    #[test]
    fn no_more_is_recorded_than_fits() {
        let many = |number: usize| (0..number).map(|at| format!("{at:03}")).collect();
        let basis = Basis { rules: many(MAX_ALLOWED_RULES + 1), ..Basis::default() };
        let all = Allowed { actions: many(MAX_ALLOWED_ACTIONS + 1), basis };
        let kept = all.and(Allowed::default());
        assert_eq!(kept.actions.len(), MAX_ALLOWED_ACTIONS);
        assert_eq!(kept.basis.rules.len(), MAX_ALLOWED_RULES);
        assert!(!kept.basis.rules.contains(&format!("{MAX_ALLOWED_RULES:03}")), "the last goes");
    }

    /// A reader of the release before: it knows the actor alone.
    #[test]
    fn what_was_allowed_changes_no_bytes_where_it_is_not_and_is_passed_over_where_it_is() {
        let (user, login) = (UserId::from_u128(4), LoginId::from_u128(5));
        let actor = Actor::User { user, login };
        assert_eq!(encode_actor(&actor, None), codec::encode(&actor));
        let given = allowed(&["a"], &["builtin/x"], Some(1), 3);
        let bytes = encode_actor(&actor, Some(&given));
        assert_eq!(codec::decode::<Actor>(&bytes, bytes.len()), Ok(actor.clone()));
        assert_eq!(decode_actor(&bytes, bytes.len()), Ok((actor, Some(given))));
    }
}
