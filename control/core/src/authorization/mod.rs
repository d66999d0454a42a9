//! Who may do what: one table of actions and holders, and what policy documents say within it.
//!
//! [`authorize`] answers for a principal, an action and a target. A rule is a pair of an action and
//! a [`Holder`], such as *the organization's admins may change its policies*; what no rule allows
//! is refused. Somebody who may not read a target is answered as if it were absent
//! ([`Decision::Hidden`]); a refusal is admitted only to those who may know of it
//! ([`Decision::Denied`]).
//!
//! Two judges decide, and both must agree: the table itself, and the rules that are made from it in
//! the language of [`crate::rules`]. An organization's documents can forbid an action on its
//! resources to whoever holds it, and permit it to other members ([`Action::is_ruled`]); of nothing
//! else can they speak.
//!
//! Platform roles do not reach into organizations: a platform owner or admin who is no member
//! sees that an organization exists and can suspend it, and sees none of its resources, policies,
//! sessions or members. API tokens narrow what their user may do and never widen it.

mod action;
mod explain;
mod facts;
mod holders;
mod principal;

use std::{collections::BTreeSet, fmt};

use rap_events::{Allowed, session::Basis};
use rap_proto::{
    ApiTokenId, JoinTokenId, LoginId, NodeId, OrganizationId, PolicyId, PoolId, ResourceId,
    SessionId, UserId, VpnConnectionId,
};

pub use action::Action;
pub use explain::{Permission, explain_action};
pub use holders::Holder;
pub use principal::Principal;

pub(crate) use facts::Facts;

use crate::{
    access,
    rules::{self, Answer, Member, Question},
    state::State,
};

/// What an action is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The platform as a whole: also for creating what belongs to no organization.
    Platform,
    /// An organization: also for creating what belongs to it.
    Organization(OrganizationId),
    User(UserId),
    /// The membership of a user, there or not.
    Membership(OrganizationId, UserId),
    Login(LoginId),
    ApiToken(ApiTokenId),
    JoinToken(JoinTokenId),
    Node(NodeId),
    Pool(PoolId),
    Resource(ResourceId),
    Policy(PolicyId),
    Session(SessionId),
    VpnConnection(VpnConnectionId),
}

/// The answer to whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allowed(Rule),
    /// Refused, and the principal may know of the target: 403 with the rule's name.
    Denied(Refusal),
    /// Absent, or not to be known of: 404 either way.
    Hidden,
}

/// The rule that allowed something: `resource.create/organization_admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub action: Action,
    pub holder: Holder,
}

/// The rule that refused something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No holder of the action is the principal.
    NotHeld(Action),
    /// A rule of the organization's forbids it.
    ForbiddenByPolicy(Action),
    /// The API token's scopes leave the action out.
    TokenScope(Action),
    /// The organization is suspended; it can only be looked at.
    OrganizationSuspended,
    /// An organization keeps at least one owner who can act.
    LastOwner,
    /// The platform keeps at least one owner who can act.
    LastPlatformOwner,
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.action, self.holder)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeld(action) => write!(f, "{action}/not_held"),
            Self::ForbiddenByPolicy(action) => write!(f, "{action}/forbidden_by_policy"),
            Self::TokenScope(action) => write!(f, "{action}/token_scope"),
            Self::OrganizationSuspended => f.write_str("organization_suspended"),
            Self::LastOwner => f.write_str("organization_keeps_an_owner"),
            Self::LastPlatformOwner => f.write_str("platform_keeps_an_owner"),
        }
    }
}

/// Whether `principal` may do `action` to `target`.
///
/// The principal was authenticated: [`State::principal_of_login`] and
/// [`State::principal_of_api_token`] make one. Whether its account is still active is looked at
/// here again.
pub fn authorize(state: &State, principal: &Principal, action: Action, target: Target) -> Decision {
    match judge(state, principal, action, target) {
        Ok((held, _)) => Decision::Allowed(Rule { action, holder: held.holder }),
        Err(decision) => decision,
    }
}

/// As [`authorize`], and what a permission of a person rests on, for the log. Asked again over the
/// same state, it is the same.
pub fn authorize_on_record(
    state: &State,
    principal: &Principal,
    action: Action,
    target: Target,
) -> (Decision, Option<Allowed>) {
    match judge(state, principal, action, target) {
        Ok((Held { holder, rules }, facts)) => {
            let allowed = principal.user().map(|user| {
                let basis = basis_of(state, user, target, &facts, rules);
                Allowed { actions: [action.to_string()].into(), basis }.bounded()
            });
            (Decision::Allowed(Rule { action, holder }), allowed)
        }
        Err(decision) => (decision, None),
    }
}

/// What a decision about a target rests on. The policies are those of the one organization that it
/// belongs to. A person belongs to none: the organizations that somebody is in are not told to
/// whoever reads what the command is about.
fn basis_of(
    state: &State,
    user: UserId,
    target: Target,
    facts: &Facts,
    rules: BTreeSet<String>,
) -> Basis {
    let is_personal = matches!(target, Target::User(_) | Target::Login(_) | Target::ApiToken(_));
    let mut organizations = facts.organizations.iter().filter(|_| !is_personal);
    match (organizations.next(), organizations.next()) {
        (Some(only), None) => access::basis(state, *only, user, facts.resource, rules),
        _ => {
            let entity_version = state.users().get(user).map(|user| user.stamp.changed);
            Basis { rules, policy_hash: None, entity_version }
        }
    }
}

/// By what the principal may, or the answer that it gets instead.
fn judge(
    state: &State,
    principal: &Principal,
    action: Action,
    target: Target,
) -> Result<(Held, Facts), Decision> {
    let facts = Facts::of(state, target).ok_or(Decision::Hidden)?;
    if !principal.is_active(state) {
        return Err(Decision::Hidden);
    }
    match decide(state, principal, action, target, &facts) {
        Ok(held) => Ok((held, facts)),
        Err(refusal) if knows(state, principal, target, &facts) => Err(Decision::Denied(refusal)),
        Err(_) => Err(Decision::Hidden),
    }
}

/// By what somebody holds an action, and the rules that say so.
struct Held {
    holder: Holder,
    rules: BTreeSet<String>,
}

fn decide(
    state: &State,
    principal: &Principal,
    action: Action,
    target: Target,
    facts: &Facts,
) -> Result<Held, Refusal> {
    let held = held(state, principal, action, target, facts)?;
    if !principal.scopes_allow(action) {
        return Err(Refusal::TokenScope(action));
    }
    if facts.suspended && !action.only_reads() && !held.holder.is_of_platform() {
        return Err(Refusal::OrganizationSuspended);
    }
    if action.takes_ownership() && facts.is_last_owner {
        return Err(Refusal::LastOwner);
    }
    if action.takes_platform_ownership() && facts.is_last_platform_owner {
        return Err(Refusal::LastPlatformOwner);
    }
    Ok(held)
}

/// By what the principal holds the action. The table is asked first: where neither it nor a document
/// gives anything, there is nothing to ask the rules about.
fn held(
    state: &State,
    principal: &Principal,
    action: Action,
    target: Target,
    facts: &Facts,
) -> Result<Held, Refusal> {
    let ruled = ruled(state, principal, action, target);
    if ruled.is_forbidden() {
        return Err(Refusal::ForbiddenByPolicy(action));
    }
    let mut holders = action.holders().iter().copied();
    match holders.find(|holder| holder.is(state, principal, facts)) {
        Some(holder) => {
            let table = rules::administer(state, principal, action, facts);
            let is_permitted = table.is_permitted();
            let rules = table.permits.into_iter().chain(ruled.permits).collect();
            is_permitted.then_some(Held { holder, rules }).ok_or(Refusal::NotHeld(action))
        }
        None if ruled.is_permitted() => Ok(Held { holder: Holder::Ruled, rules: ruled.permits }),
        None => Err(Refusal::NotHeld(action)),
    }
}

/// What the documents of the target's organization say to a member of it.
fn ruled(state: &State, principal: &Principal, action: Action, target: Target) -> Answer {
    let Target::Resource(id) = target else { return Answer::default() };
    let Some(resource) = state.resources().get(id).filter(|_| action.is_ruled()) else {
        return Answer::default();
    };
    let organization = resource.organization;
    let rules = state.policies().rules(organization);
    let role = principal.role_in(state, organization);
    let Some((user, role)) = principal.user().zip(role).filter(|_| rules.has_documents()) else {
        return Answer::default();
    };
    let member = Member { organization, user, role };
    rules.administer(&Question::about(state, member, action.as_str(), resource))
}

/// Whether the principal may know that the target exists.
fn knows(state: &State, principal: &Principal, target: Target, facts: &Facts) -> bool {
    let Some(reading) = Action::reading(target) else {
        // That there is a platform is no secret.
        return true;
    };
    // Whoever may connect to a resource knows of it.
    let using = matches!(target, Target::Resource(_)).then_some(Action::UseResource);
    [Some(reading), using]
        .into_iter()
        .flatten()
        .flat_map(Action::holders)
        .any(|holder| holder.is(state, principal, facts))
        || ruled(state, principal, reading, target).is_permitted()
}

#[cfg(test)]
mod tests;
