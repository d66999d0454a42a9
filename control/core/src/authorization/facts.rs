use std::collections::BTreeSet;

use rap_proto::{NodeId, OrganizationId, OrganizationRole, PlatformRole, ResourceId, UserId};

use super::Target;
use crate::state::{OrganizationStanding, State, User};

/// What the rules ask of a target.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Whether it belongs to the platform and to no organization.
    pub(crate) of_platform: bool,
    /// The organizations that it belongs to: several for a user.
    pub(crate) organizations: BTreeSet<OrganizationId>,
    /// Whether its one organization is suspended.
    pub(crate) suspended: bool,
    /// Whose it is, as a person.
    pub(crate) person: Option<UserId>,
    /// Whether that person has a platform role.
    pub(crate) has_platform_role: bool,
    /// Whether that person never chose a password.
    pub(crate) has_no_password: bool,
    /// Whether that person, besides, was made as a member of one organization and is in no other.
    pub(crate) is_newcomer: bool,
    /// The role of the membership that it is.
    pub(crate) membership: Option<OrganizationRole>,
    pub(crate) is_last_owner: bool,
    pub(crate) is_last_platform_owner: bool,
    /// The organization has no owner who can act.
    pub(crate) is_ownerless: bool,
    /// The organization never had a member.
    pub(crate) is_unstaffed: bool,
    pub(crate) node: Option<NodeId>,
    pub(crate) resource: Option<ResourceId>,
    /// For a pool: every node that serves it is the organization's own.
    pub(crate) only_own_nodes: bool,
}

impl Facts {
    /// `None` when there is no such thing.
    pub(crate) fn of(state: &State, target: Target) -> Option<Self> {
        match target {
            Target::Platform => Some(Self { of_platform: true, ..Self::default() }),
            Target::Organization(id) => Self::of_organization(state, id),
            Target::User(id) => state.users().get(id).map(|user| Self::of_user(state, user)),
            Target::Membership(organization, user) => {
                let person = Self::of_user(state, state.users().get(user)?);
                Some(Self {
                    person: Some(user),
                    has_platform_role: person.has_platform_role,
                    membership: state.users().role(organization, user),
                    is_last_owner: state.users().is_last_owner(organization, user),
                    ..Self::of_organization(state, organization)?
                })
            }
            Target::Login(id) => Some(Self::of_person(state.logins().get(id)?.user)),
            Target::ApiToken(id) => Some(Self::of_person(state.api_tokens().get(id)?.user)),
            Target::JoinToken(id) => {
                Self::of_owner(state, state.join_tokens().get(id)?.organization)
            }
            Target::Node(id) => {
                let owner = state.nodes().get(id)?.organization;
                Some(Self { node: Some(id), ..Self::of_owner(state, owner)? })
            }
            Target::Pool(id) => {
                let organization = state.pools().get(id)?.organization;
                let own = |node: &crate::state::Node| node.organization == Some(organization);
                let only_own_nodes = state.nodes().in_pool(id).all(own);
                Some(Self { only_own_nodes, ..Self::of_organization(state, organization)? })
            }
            Target::Resource(id) => {
                let organization = state.resources().get(id)?.organization;
                Some(Self { resource: Some(id), ..Self::of_organization(state, organization)? })
            }
            Target::Policy(id) => {
                Self::of_organization(state, state.policies().get(id)?.organization)
            }
            Target::VpnConnection(id) => {
                Self::of_organization(state, state.vpn_connections().get(id)?.organization)
            }
            Target::Session(id) => {
                let session = state.sessions().get(id)?;
                let person = Some(session.user);
                Some(Self { person, ..Self::of_organization(state, session.organization)? })
            }
        }
    }

    fn of_organization(state: &State, id: OrganizationId) -> Option<Self> {
        let organization = state.organizations().get(id)?;
        let mut members = state.users().active_members(id);
        Some(Self {
            organizations: BTreeSet::from([id]),
            suspended: organization.standing == OrganizationStanding::Suspended,
            is_ownerless: !members.any(|(_, role)| role == OrganizationRole::Owner),
            is_unstaffed: state.users().never_had_members(id),
            ..Self::default()
        })
    }

    /// Of what belongs to an organization, or to the platform. A removed organization's nodes
    /// fall to the platform, which then can revoke them.
    fn of_owner(state: &State, owner: Option<OrganizationId>) -> Option<Self> {
        match owner.filter(|id| state.organizations().get(*id).is_some()) {
            Some(id) => Self::of_organization(state, id),
            None => Some(Self { of_platform: true, ..Self::default() }),
        }
    }

    fn of_person(user: UserId) -> Self {
        Self { person: Some(user), ..Self::default() }
    }

    fn of_user(state: &State, user: &User) -> Self {
        let organizations: BTreeSet<OrganizationId> =
            state.users().organizations_of(user.id).collect();
        Self {
            has_platform_role: !user.platform_roles.is_empty(),
            has_no_password: user.verifier.is_none(),
            is_newcomer: user.verifier.is_none()
                && user.platform_roles.is_empty()
                && organizations.len() == 1
                && organizations.iter().all(|id| state.users().is_native(*id, user.id)),
            is_last_platform_owner: user.platform_roles.contains(&PlatformRole::Owner)
                && state.users().is_last_platform_owner(user.id),
            organizations,
            ..Self::of_person(user.id)
        }
    }
}
