use std::fmt;

use rap_proto::{OrganizationRole, PlatformRole};

use super::{Principal, facts::Facts};
use crate::{access, state::State};

/// Who holds the permission for an action, in relation to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// Whoever showed the setup code.
    Setup,
    PlatformOwner,
    PlatformAdmin,
    /// A platform owner or admin, where the target belongs to no organization.
    PlatformOwnerOfItsOwn,
    PlatformAdminOfItsOwn,
    /// A platform admin, where the target is a person without a platform role.
    PlatformAdminOverOthers,
    /// A platform admin, where the target is a person who never chose a password.
    PlatformAdminOfNewcomers,
    /// A platform owner, while the organization has no owner who can act.
    PlatformOwnerOfOrphans,
    /// A platform admin, while the organization never had a member.
    PlatformAdminOfUnstaffed,
    OrganizationOwner,
    OrganizationAdmin,
    /// Any member, whatever the role.
    Member,
    /// An admin, where the membership is a user's or is none yet.
    OrganizationAdminOverUsers,
    /// An owner or admin, where the person was made in the organization, chose no password yet,
    /// and is in no other: whose account it cannot take over.
    OrganizationOwnerOfNewcomers,
    OrganizationAdminOfNewcomers,
    /// An owner, where every node of the pool is the organization's.
    OrganizationOwnerOfItsNodes,
    /// The person whose it is.
    Oneself,
    /// A member whom a policy lets reach the resource.
    Permitted,
    /// The node that it is.
    ItsNode,
    /// Any user.
    AnyUser,
    /// A member whom a rule of a policy document lets do it to a resource; in no line of the table.
    Ruled,
}

impl Holder {
    pub const ALL: &'static [Self] = &[
        Self::Setup,
        Self::PlatformOwner,
        Self::PlatformAdmin,
        Self::PlatformOwnerOfItsOwn,
        Self::PlatformAdminOfItsOwn,
        Self::PlatformAdminOverOthers,
        Self::PlatformAdminOfNewcomers,
        Self::PlatformOwnerOfOrphans,
        Self::PlatformAdminOfUnstaffed,
        Self::OrganizationOwner,
        Self::OrganizationAdmin,
        Self::Member,
        Self::OrganizationAdminOverUsers,
        Self::OrganizationOwnerOfNewcomers,
        Self::OrganizationAdminOfNewcomers,
        Self::OrganizationOwnerOfItsNodes,
        Self::Oneself,
        Self::Permitted,
        Self::ItsNode,
        Self::AnyUser,
        Self::Ruled,
    ];

    /// What a role of an organization is by itself.
    pub const fn of_role(role: OrganizationRole) -> Self {
        match role {
            OrganizationRole::Owner => Self::OrganizationOwner,
            OrganizationRole::Admin => Self::OrganizationAdmin,
            OrganizationRole::User => Self::Member,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::PlatformOwner => "platform_owner",
            Self::PlatformAdmin => "platform_admin",
            Self::PlatformOwnerOfItsOwn => "platform_owner_of_its_own",
            Self::PlatformAdminOfItsOwn => "platform_admin_of_its_own",
            Self::PlatformAdminOverOthers => "platform_admin_over_others",
            Self::PlatformOwnerOfOrphans => "platform_owner_of_orphans",
            Self::PlatformAdminOfNewcomers => "platform_admin_of_newcomers",
            Self::PlatformAdminOfUnstaffed => "platform_admin_of_unstaffed",
            Self::OrganizationOwner => "organization_owner",
            Self::OrganizationAdmin => "organization_admin",
            Self::Member => "member",
            Self::OrganizationAdminOverUsers => "organization_admin_over_users",
            Self::OrganizationOwnerOfNewcomers => "organization_owner_of_newcomers",
            Self::OrganizationAdminOfNewcomers => "organization_admin_of_newcomers",
            Self::OrganizationOwnerOfItsNodes => "organization_owner_of_its_nodes",
            Self::Oneself => "oneself",
            Self::Permitted => "permitted",
            Self::ItsNode => "its_node",
            Self::AnyUser => "any_user",
            Self::Ruled => "ruled",
        }
    }

    /// Whether it is held by a platform role: a suspended organization does not bind those.
    pub(super) const fn is_of_platform(self) -> bool {
        matches!(
            self,
            Self::Setup
                | Self::PlatformOwner
                | Self::PlatformAdmin
                | Self::PlatformOwnerOfItsOwn
                | Self::PlatformAdminOfItsOwn
                | Self::PlatformAdminOverOthers
                | Self::PlatformOwnerOfOrphans
                | Self::PlatformAdminOfNewcomers
                | Self::PlatformAdminOfUnstaffed
        )
    }

    pub(crate) fn is(self, state: &State, principal: &Principal, facts: &Facts) -> bool {
        let platform = |role| principal.has_platform_role(state, role);
        let within =
            |role| facts.organizations.iter().any(|id| principal.role_in(state, *id) == Some(role));
        match self {
            Self::Setup => *principal == Principal::Setup,
            Self::PlatformOwner => platform(PlatformRole::Owner),
            Self::PlatformAdmin => platform(PlatformRole::Admin),
            Self::PlatformOwnerOfItsOwn => facts.of_platform && platform(PlatformRole::Owner),
            Self::PlatformAdminOfItsOwn => facts.of_platform && platform(PlatformRole::Admin),
            Self::PlatformAdminOverOthers => {
                !facts.has_platform_role && platform(PlatformRole::Admin)
            }
            Self::PlatformOwnerOfOrphans => facts.is_ownerless && platform(PlatformRole::Owner),
            Self::PlatformAdminOfNewcomers => {
                facts.has_no_password && !facts.has_platform_role && platform(PlatformRole::Admin)
            }
            Self::PlatformAdminOfUnstaffed => facts.is_unstaffed && platform(PlatformRole::Admin),
            Self::OrganizationOwner => within(OrganizationRole::Owner),
            Self::OrganizationAdmin => within(OrganizationRole::Admin),
            Self::Member => {
                facts.organizations.iter().any(|id| principal.role_in(state, *id).is_some())
            }
            Self::OrganizationAdminOverUsers => {
                matches!(facts.membership, None | Some(OrganizationRole::User))
                    && within(OrganizationRole::Admin)
            }
            Self::OrganizationOwnerOfNewcomers => {
                facts.is_newcomer && within(OrganizationRole::Owner)
            }
            Self::OrganizationAdminOfNewcomers => {
                facts.is_newcomer && within(OrganizationRole::Admin)
            }
            Self::OrganizationOwnerOfItsNodes => {
                facts.only_own_nodes && within(OrganizationRole::Owner)
            }
            Self::Oneself => facts.person.is_some() && facts.person == principal.user(),
            Self::Permitted => permitted(state, principal, facts),
            Self::ItsNode => {
                matches!(principal, Principal::Node(node) if facts.node == Some(*node))
            }
            Self::AnyUser => principal.user().is_some(),
            Self::Ruled => false,
        }
    }
}

fn permitted(state: &State, principal: &Principal, facts: &Facts) -> bool {
    let (Some(user), Some(resource)) = (principal.user(), facts.resource) else { return false };
    facts.organizations.iter().any(|organization| {
        principal.role_in(state, *organization).is_some()
            && access::permits(state, *organization, user, resource, None)
    })
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
