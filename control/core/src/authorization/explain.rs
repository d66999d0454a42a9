use std::collections::BTreeSet;

use rap_proto::{ApiScope, ApiTokenId, OrganizationId, UserId};

use super::{Action, Facts, Principal, Refusal, Target, decide, ruled};
use crate::{rules, state::State};

/// Whether a member may do something within the organization, and which rules decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Why not; `None` when it is permitted.
    pub refusal: Option<Refusal>,
    /// Built-in rules are called `builtin/<holder>`, those of documents `<policy>/<rule>`.
    pub rules: BTreeSet<String>,
}

/// Says whether a member may do `action` to `target` by what the organization gave: roles on the
/// platform count for nothing here, and are not told. `None` when there is no such target in the
/// organization, or no such active member.
pub fn explain_action(
    state: &State,
    organization: OrganizationId,
    user: UserId,
    action: Action,
    target: Target,
) -> Option<Permission> {
    let member = state.users().role(organization, user).is_some();
    let facts = Facts::of(state, target).filter(|facts| {
        member && state.users().is_active(user) && facts.organizations.contains(&organization)
    })?;
    // What an API token for this one organization, of every scope, could do.
    let principal = Principal::ApiToken {
        user,
        token: ApiTokenId::from_u128(0),
        scopes: ApiScope::ALL.iter().copied().collect(),
        organization: Some(organization),
    };
    let refusal = decide(state, &principal, action, target, &facts).err();
    let ruled = ruled(state, &principal, action, target);
    let table = rules::administer(state, &principal, action, &facts);
    let rules = match refusal {
        Some(Refusal::ForbiddenByPolicy(_)) => ruled.forbids,
        Some(_) => table.forbids,
        None => table.permits.into_iter().chain(ruled.permits).collect(),
    };
    Some(Permission { refusal, rules })
}
