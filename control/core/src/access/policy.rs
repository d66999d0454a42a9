use std::collections::BTreeSet;

use rap_events::session::{Basis, MAX_BASIS_RULES, TerminationCause};
use rap_proto::{Lane, OrganizationId, PolicyId, ResourceId, UserId, WeekHour};

use crate::{
    rules::{Answer, Member, Question},
    state::{Policy, Resource, Session, State},
};

/// What the policies say of one user and one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What stands in the way whatever the policies say.
    pub obstacle: Option<Obstacle>,
    /// What the rules say; nothing when there is an obstacle.
    pub answer: Answer,
    /// The policies whose rules permit it.
    pub matched: BTreeSet<PolicyId>,
    /// The policies that match the resource, but not the user.
    pub other_users: BTreeSet<PolicyId>,
    /// What the rules that permit it give of lanes.
    pub lanes: BTreeSet<Lane>,
    /// What the decision rests on.
    pub basis: Basis,
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
        self.obstacle.is_none() && self.answer.is_permitted()
    }

    /// Why it is denied, for the auditor.
    pub fn denial(&self) -> String {
        if let Some(obstacle) = self.obstacle {
            return obstacle.to_string();
        }
        if self.answer.failed {
            return "a rule cannot be evaluated, which forbids it".to_owned();
        }
        match self.answer.forbids.len() {
            0 => {
                format!("no policy permits it; {} permit it to others", self.other_users.len())
            }
            rules => format!("{rules} rules forbid it"),
        }
    }
}

/// Says whether a user may reach a resource at an hour, and by which rules.
pub fn explain(
    state: &State,
    organization: OrganizationId,
    user: UserId,
    resource: ResourceId,
    at: WeekHour,
) -> Explanation {
    let (member, found) = match subjects(state, organization, user, resource) {
        Ok(found) => found,
        Err(obstacle) => {
            let basis = basis(state, organization, user, Some(resource), BTreeSet::new());
            return Explanation {
                obstacle: Some(obstacle),
                answer: Answer::default(),
                matched: BTreeSet::new(),
                other_users: BTreeSet::new(),
                lanes: BTreeSet::new(),
                basis,
            };
        }
    };
    let rules = state.policies().rules(organization);
    let answer = rules.reach(&Question::reach(state, member, found), at);
    let policy_of = |rule: &String| rule.split('/').next()?.parse().ok();
    let others = state.policies().of(organization).filter(|policy| {
        policy.spec.matches_resource(found.id, found.kind)
            && !policy.spec.matches_user(user, member.role)
    });
    Explanation {
        obstacle: None,
        matched: answer.permits.iter().filter_map(policy_of).collect(),
        other_users: others.map(|policy| policy.id).collect(),
        lanes: rules.lanes(&answer.permits),
        basis: basis(state, organization, user, Some(resource), answer.deciding().clone()),
        answer,
    }
}

/// Whether the policies let the user reach the resource: at one hour, or at some hour of the week.
///
/// Answers as [`explain`] does, and fast: where an organization has no document, its lists are
/// compared as sets.
pub fn permits(
    state: &State,
    organization: OrganizationId,
    user: UserId,
    resource: ResourceId,
    at: Option<WeekHour>,
) -> bool {
    subjects(state, organization, user, resource)
        .is_ok_and(|(member, found)| member_may_reach(state, member, found, at))
}

/// The resources of an organization that a user may reach at some hour, in the order of their
/// names.
pub fn reachable(
    state: &State,
    organization: OrganizationId,
    user: UserId,
) -> impl Iterator<Item = &Resource> {
    state
        .resources()
        .of(organization)
        .filter(move |resource| permits(state, organization, user, resource.id, None))
}

/// The active members whom documents and lists together let reach a resource at some hour, where
/// the organization has documents.
pub(crate) fn ruled_users(state: &State, resource: &Resource) -> BTreeSet<UserId> {
    let organization = resource.organization;
    let may = |user, role| {
        let member = Member { organization, user, role };
        member_may_reach(state, member, resource, None)
    };
    let members = state.users().active_members(organization);
    members.filter(|(user, role)| may(*user, *role)).map(|(user, _)| user).collect()
}

/// The active members that a policy's lists match.
pub(crate) fn permitted_users(state: &State, policy: &Policy) -> BTreeSet<UserId> {
    state
        .users()
        .active_members(policy.organization)
        .filter(|(user, role)| policy.spec.matches_user(*user, *role))
        .map(|(user, _)| user)
        .collect()
}

/// Whether an open session's access was withdrawn since it was authorized.
pub(crate) fn withdrawn(state: &State, session: &Session, at: WeekHour) -> Option<Withdrawn> {
    let resource = session.resource?;
    let (cause, since) = match subjects(state, session.organization, session.user, resource) {
        Err(Obstacle::OrganizationClosed) => (TerminationCause::OrganizationClosed, None),
        Err(Obstacle::UserInactive | Obstacle::NotAMember) => (TerminationCause::UserLeft, None),
        Err(Obstacle::NoSuchResource) => (TerminationCause::ResourceChanged, None),
        Ok((member, found)) if !member_may_reach(state, member, found, Some(at)) => {
            (TerminationCause::AccessWithdrawn, None)
        }
        Ok((_, found)) if found.placed > session.authorized => {
            (TerminationCause::ResourceChanged, Some(found.placed))
        }
        Ok(_) if lease_is_superseded(state, session) => (TerminationCause::LeaseSuperseded, None),
        Ok(_) => return None,
    };
    Some(Withdrawn { cause, since })
}

/// Whether a newer generation was granted than the session is of. When a lease merely ended, its
/// node ends what it carried, and the session waits for what comes next.
fn lease_is_superseded(state: &State, session: &Session) -> bool {
    let Some(leased) = session.grant.as_ref().and_then(|grant| grant.leased) else { return false };
    let connection = state.vpn_connections().get(leased.connection);
    connection.is_none_or(|found| found.generation > leased.generation.number())
}

/// The member and the resource that rules can be asked about.
fn subjects(
    state: &State,
    organization: OrganizationId,
    user: UserId,
    resource: ResourceId,
) -> Result<(Member, &Resource), Obstacle> {
    if !state.organizations().is_active(organization) {
        return Err(Obstacle::OrganizationClosed);
    }
    if !state.users().is_active(user) {
        return Err(Obstacle::UserInactive);
    }
    let role = state.users().role(organization, user).ok_or(Obstacle::NotAMember)?;
    let found = state.resources().get(resource);
    let found = found.filter(|found| found.organization == organization);
    Ok((Member { organization, user, role }, found.ok_or(Obstacle::NoSuchResource)?))
}

fn member_may_reach(
    state: &State,
    member: Member,
    resource: &Resource,
    at: Option<WeekHour>,
) -> bool {
    let rules = state.policies().rules(member.organization);
    if !rules.has_documents() {
        return lists_permit(state, member, resource);
    }
    let question = Question::reach(state, member, resource);
    match at {
        Some(at) => rules.reach(&question, at).is_permitted(),
        None => rules.reach_ever(&question),
    }
}

fn lists_permit(state: &State, member: Member, resource: &Resource) -> bool {
    let Member { organization, user, role } = member;
    state
        .policies()
        .of(organization)
        .any(|policy| policy.spec.permits(user, role, resource.id, resource.kind))
}

/// What a decision over this state rests on.
pub(crate) fn basis(
    state: &State,
    organization: OrganizationId,
    user: UserId,
    resource: Option<ResourceId>,
    rules: BTreeSet<String>,
) -> Basis {
    let changed = [
        state.organizations().get(organization).map(|found| found.stamp.changed),
        state.users().get(user).map(|found| found.stamp.changed),
        state.users().membership(organization, user).map(|found| found.stamp.changed),
        resource
            .and_then(|resource| state.resources().get(resource))
            .filter(|found| found.organization == organization)
            .map(|found| found.stamp.changed),
    ];
    Basis {
        rules: rules.into_iter().take(MAX_BASIS_RULES).collect(),
        policy_hash: Some(state.policies().hash(organization)),
        entity_version: changed.into_iter().flatten().max(),
    }
}
