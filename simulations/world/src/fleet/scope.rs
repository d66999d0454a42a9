//! For whom a node has its role.

use std::collections::BTreeSet;

use rap_proto::{NodeRole, OrganizationId, snapshot::RoleScope};

use crate::kit::Chance;

/// The organizations whose lanes run through the fleet.
pub const ORGANIZATIONS: [OrganizationId; 2] =
    [OrganizationId::from_u128(1), OrganizationId::from_u128(2)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Everybody,
    /// By its place among [`ORGANIZATIONS`].
    Only(usize),
}

impl Scope {
    /// Half of them are everybody's.
    pub fn draw(chance: &mut Chance) -> Self {
        match usize::try_from(chance.below(4)) {
            Ok(organization) if organization < ORGANIZATIONS.len() => Self::Only(organization),
            _ => Self::Everybody,
        }
    }

    pub fn covers(self, organization: usize) -> bool {
        self == Self::Everybody || self == Self::Only(organization)
    }

    /// As a role says it.
    pub fn of_role(self, role: NodeRole) -> RoleScope {
        let organizations = match self {
            Self::Everybody => None,
            Self::Only(organization) => Some(BTreeSet::from([ORGANIZATIONS[organization]])),
        };
        RoleScope { role, organizations }
    }
}
