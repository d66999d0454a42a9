//! What a node may be given, by whom: roles, organizations and pools within the giver's reach.

use std::collections::BTreeSet;

use rap_control_core::{Action, State, Target};
use rap_proto::{OrganizationId, PoolId, snapshot::RoleScope};

use super::{
    call::Call,
    failure::{Failure, invalid},
};

/// Roles that name organizations: each must be one that the caller may know of.
pub(super) fn check_roles(call: &Call, roles: &[RoleScope]) -> Result<(), Failure> {
    let named = roles.iter().filter_map(|scope| scope.organizations.as_ref()).flatten();
    for organization in named {
        let target = Target::Organization(*organization);
        if !call.may(Action::ReadOrganization, target) {
            return Err(invalid("roles", "organization_exists", "no such organization"));
        }
    }
    Ok(())
}

/// Pools must exist, and an organization's node serves its own organization's only.
pub(super) fn check_pools(
    state: &State,
    owner: Option<OrganizationId>,
    pools: &BTreeSet<PoolId>,
) -> Result<(), Failure> {
    if pools.iter().all(|pool| state.is_pool_for(owner, *pool)) {
        return Ok(());
    }
    Err(invalid("pools", "pool_exists", "no such egress pool"))
}
