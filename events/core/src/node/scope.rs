//! The limits of what a node can be assigned.

use std::collections::BTreeSet;

use rap_proto::{OrganizationId, PoolId, snapshot::RoleScope};

use super::{MAX_POOLS, MAX_ROLES, MAX_SCOPE_ORGANIZATIONS, Offer};

/// What is wrong with an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScopeFault {
    TooLarge,
    ForeignOrganization,
}

impl Offer {
    /// The offer with its roles in order, when it keeps the limits.
    pub(crate) fn checked(self) -> Result<Self, ScopeFault> {
        let roles = checked_roles(self.organization, self.roles)?;
        check_pools(&self.pools)?;
        Ok(Self { roles, ..self })
    }
}

/// The roles in their one order, when each appears once and none reaches beyond `owner`.
pub(crate) fn checked_roles(
    owner: Option<OrganizationId>,
    mut roles: Vec<RoleScope>,
) -> Result<Vec<RoleScope>, ScopeFault> {
    roles.sort_by_key(|scope| scope.role);
    let twice = roles.windows(2).any(|pair| pair[0].role == pair[1].role);
    let wide = |scope: &RoleScope| {
        scope.organizations.as_ref().is_some_and(|set| set.len() > MAX_SCOPE_ORGANIZATIONS)
    };
    if twice || roles.len() > MAX_ROLES || roles.iter().any(wide) {
        return Err(ScopeFault::TooLarge);
    }
    let foreign = |scope: &RoleScope| match (owner, &scope.organizations) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(owner), Some(named)) => named.iter().any(|organization| *organization != owner),
    };
    if roles.iter().any(foreign) {
        return Err(ScopeFault::ForeignOrganization);
    }
    Ok(roles)
}

pub(crate) fn check_pools(pools: &BTreeSet<PoolId>) -> Result<(), ScopeFault> {
    if pools.len() > MAX_POOLS { Err(ScopeFault::TooLarge) } else { Ok(()) }
}
