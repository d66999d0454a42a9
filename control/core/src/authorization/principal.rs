use std::collections::BTreeSet;

use rap_events::Actor;
use rap_proto::{
    ApiScope, ApiTokenId, Digest, LoginId, NodeId, OrganizationId, OrganizationRole, PlatformRole,
    Timestamp, UserId,
};

use super::Action;
use crate::state::State;

/// Who asks, authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Showed the setup code, before there are users.
    Setup,
    User {
        user: UserId,
        login: LoginId,
    },
    ApiToken {
        user: UserId,
        token: ApiTokenId,
        scopes: BTreeSet<ApiScope>,
        /// The one organization that it works in; `None` for all of its user's.
        organization: Option<OrganizationId>,
    },
    /// Proved by its certificate.
    Node(NodeId),
}

impl State {
    /// The principal of an open login with this secret, if its user is active.
    pub fn principal_of_login(&self, secret: &Digest, now: Timestamp) -> Option<Principal> {
        let login = self.logins.presented(secret, now)?;
        let principal = Principal::User { user: login.user, login: login.id };
        principal.is_active(self).then_some(principal)
    }

    /// The principal of a usable API token with this secret, if its user is active.
    pub fn principal_of_api_token(&self, secret: &Digest, now: Timestamp) -> Option<Principal> {
        let token = self.api_tokens.presented(secret, now)?;
        let principal = Principal::ApiToken {
            user: token.user,
            token: token.id,
            scopes: token.scopes.clone(),
            organization: token.organization,
        };
        principal.is_active(self).then_some(principal)
    }

    /// Whether a principal that was authenticated before still holds at `now`: for connections
    /// that live longer than one request.
    pub fn still_holds(&self, principal: &Principal, now: Timestamp) -> bool {
        let in_time = match principal {
            Principal::Setup | Principal::Node(_) => true,
            Principal::User { login, .. } => {
                self.logins.get(*login).is_some_and(|login| now < login.expires_at)
            }
            Principal::ApiToken { token, .. } => self
                .api_tokens
                .get(*token)
                .is_some_and(|token| now < token.expires_at && !token.revoked),
        };
        in_time && principal.is_active(self)
    }
}

impl Principal {
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::User { user, .. } | Self::ApiToken { user, .. } => Some(*user),
            Self::Setup | Self::Node(_) => None,
        }
    }

    /// As the log records it.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Setup => Actor::Setup,
            Self::User { user, login } => Actor::User { user: *user, login: *login },
            Self::ApiToken { user, token, .. } => Actor::ApiToken { user: *user, token: *token },
            Self::Node(node) => Actor::Node(*node),
        }
    }

    /// The role that it acts with in an organization: none in those that its token leaves out.
    pub fn role_in(&self, state: &State, id: OrganizationId) -> Option<OrganizationRole> {
        if let Self::ApiToken { organization: Some(only), .. } = self
            && *only != id
        {
            return None;
        }
        state.users().role(id, self.user()?)
    }

    /// The organizations that it acts in.
    pub fn organizations(&self, state: &State) -> Vec<OrganizationId> {
        let Some(user) = self.user() else { return Vec::new() };
        let all = state.users().organizations_of(user);
        all.filter(|organization| self.role_in(state, *organization).is_some()).collect()
    }

    /// Whether it acts with a platform role: never by an organization's API token.
    pub fn has_platform_role(&self, state: &State, role: PlatformRole) -> bool {
        if let Self::ApiToken { organization: Some(_), .. } = self {
            return false;
        }
        let user = self.user().and_then(|user| state.users().get(user));
        user.is_some_and(|user| user.platform_roles.contains(&role))
    }

    pub(super) fn is_active(&self, state: &State) -> bool {
        match self {
            Self::Setup => state.cluster().setup_code.is_some(),
            Self::User { user, login } => {
                state.users().is_active(*user) && state.logins().get(*login).is_some()
            }
            Self::ApiToken { user, token, .. } => {
                state.users().is_active(*user)
                    && state.api_tokens().get(*token).is_some_and(|token| !token.revoked)
            }
            Self::Node(node) => state.nodes().get(*node).is_some_and(|node| node.is_approved()),
        }
    }

    pub(super) fn scopes_allow(&self, action: Action) -> bool {
        match self {
            Self::ApiToken { scopes, .. } => {
                action.scope().is_some_and(|scope| scopes.contains(&scope))
            }
            _ => true,
        }
    }
}
