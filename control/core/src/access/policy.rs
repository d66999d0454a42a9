use std::collections::BTreeSet;

use rap_events::session::TerminationCause;
use rap_proto::{OrganizationId, PolicyId, ResourceId, UserId};

use crate::state::{Policy, Resource, State};

/// What the policies say of one user and one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What stands in the way whatever the policies say.
    pub obstacle: Option<Obstacle>,
    /// The policies that match both the user and the resource.
    pub matched: BTreeSet<PolicyId>,
    /// The policies that match the resource, but not the user.
    pub other_users: BTreeSet<PolicyId>,
}

/// Why no policy is even asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    #[error("there is no such organization, or it is suspended")]
    OrganizationClosed,
    #[error("the user is disabled or does not exist")]
    UserInactive,
    #[error("the user is no member of the organization")]
    NotAMember,
    #[error("there is no such resource in the organization")]
    NoSuchResource,
}

/// Why a session that was authorized would not be authorized any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Withdrawn {
    pub(crate) cause: TerminationCause,
    /// The position since which it is so, where that is known.
    pub(crate) since: Option<u64>,
}

impl Explanation {
    pub fn is_permitted(&self) -> bool {
        self.obstacle.is_none() && !self.matched.is_empty()
    }

    fn hindered(obstacle: Obstacle) -> Self {
        Self { obstacle: Some(obstacle), matched: BTreeSet::new(), other_users: BTreeSet::new() }
    }
}

/// Says whether a user may reach a resource, and by which policies.
pub fn explain(
    state: &State,
    organization: OrganizationId,
    user: UserId,
    resource: ResourceId,
) -> Explanation {
    if !state.organizations().is_active(organization) {
        return Explanation::hindered(Obstacle::OrganizationClosed);
    }
    if !state.users().is_active(user) {
        return Explanation::hindered(Obstacle::UserInactive);
    }
    let Some(role) = state.users().role(organization, user) else {
        return Explanation::hindered(Obstacle::NotAMember);
    };
    let found = state.resources().get(resource);
    let Some(found) = found.filter(|found| found.organization == organization) else {
        return Explanation::hindered(Obstacle::NoSuchResource);
    };
    let (matched, other_users): (Vec<&Policy>, Vec<&Policy>) = state
        .policies()
        .of(organization)
        .filter(|policy| policy.spec.matches_resource(found.id, found.kind))
        .partition(|policy| policy.spec.matches_user(user, role));
    let ids = |policies: Vec<&Policy>| policies.into_iter().map(|policy| policy.id).collect();
    Explanation { obstacle: None, matched: ids(matched), other_users: ids(other_users) }
}

/// Whether some policy lets the user reach the resource now.
pub fn permits(
    state: &State,
    organization: OrganizationId,
    user: UserId,
    resource: ResourceId,
) -> bool {
    explain(state, organization, user, resource).is_permitted()
}

/// The resources of an organization that a user may reach, in the order of their names.
pub fn reachable(
    state: &State,
    organization: OrganizationId,
    user: UserId,
) -> impl Iterator<Item = &Resource> {
    state
        .resources()
        .of(organization)
        .filter(move |resource| permits(state, organization, user, resource.id))
}

/// The active members that a policy matches.
pub(crate) fn permitted_users(state: &State, policy: &Policy) -> BTreeSet<UserId> {
    state
        .users()
        .active_members(policy.organization)
        .filter(|(user, role)| policy.spec.matches_user(*user, *role))
        .map(|(user, _)| user)
        .collect()
}

/// Whether an open session's access was withdrawn since it was authorized.
pub(crate) fn withdrawn(state: &State, session: &crate::state::Session) -> Option<Withdrawn> {
    let resource = session.resource?;
    let explanation = explain(state, session.organization, session.user, resource);
    let (cause, since) = match explanation.obstacle {
        Some(Obstacle::OrganizationClosed) => (TerminationCause::OrganizationClosed, None),
        Some(Obstacle::UserInactive | Obstacle::NotAMember) => (TerminationCause::UserLeft, None),
        Some(Obstacle::NoSuchResource) => (TerminationCause::ResourceChanged, None),
        None if explanation.matched.is_empty() => (TerminationCause::AccessWithdrawn, None),
        None => {
            let placed = state.resources().get(resource).map(|found| found.placed)?;
            if placed <= session.authorized {
                return None;
            }
            (TerminationCause::ResourceChanged, Some(placed))
        }
    };
    Some(Withdrawn { cause, since })
}
