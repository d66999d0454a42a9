use rap_proto::{Digest, Name, OrganizationId, PolicyId, PoolId, ResourceId, VpnConnectionId};

use super::{
    Policies, Policy, Pool, Pools, Resource, Resources, State, VpnConnection, VpnConnections,
};

/// What belongs to one organization. Outside of this crate there is no other way to organizations'
/// pools, resources and policies, so nobody can forget to ask whose they are. (Who leads the fabric
/// looks after the connections of all.)
#[derive(Debug, Clone, Copy)]
pub struct Within<'a> {
    state: &'a State,
    organization: OrganizationId,
}

/// Things of one kind as one organization sees them: those of others are not there.
#[derive(Debug, Clone, Copy)]
pub struct OrgScoped<'a, T> {
    all: &'a T,
    organization: OrganizationId,
}

/// All things of one kind, each of which belongs to an organization.
pub trait OfOrganizations {
    type Id;
    type Thing;

    fn find(&self, id: Self::Id) -> Option<&Self::Thing>;
    fn find_named(&self, organization: OrganizationId, name: &Name) -> Option<&Self::Thing>;
    /// In the order of their names.
    fn all_of(&self, organization: OrganizationId) -> impl Iterator<Item = &Self::Thing>;
    fn owner(thing: &Self::Thing) -> OrganizationId;
}

impl State {
    pub fn within(&self, organization: OrganizationId) -> Within<'_> {
        Within { state: self, organization }
    }

    /// Whether a node of `owner`, or of the platform, may serve such a pool.
    pub fn is_pool_for(&self, owner: Option<OrganizationId>, pool: PoolId) -> bool {
        let found = self.pools.get(pool);
        found.is_some_and(|found| owner.is_none_or(|owner| owner == found.organization))
    }
}

impl<'a> Within<'a> {
    pub fn pools(&self) -> OrgScoped<'a, Pools> {
        self.scoped(&self.state.pools)
    }

    pub fn resources(&self) -> OrgScoped<'a, Resources> {
        self.scoped(&self.state.resources)
    }

    /// The hash of what all policies say: what decisions record.
    pub fn policy_hash(&self) -> Digest {
        self.state.policies.hash(self.organization)
    }

    pub fn policies(&self) -> OrgScoped<'a, Policies> {
        self.scoped(&self.state.policies)
    }

    pub fn vpn_connections(&self) -> OrgScoped<'a, VpnConnections> {
        self.scoped(&self.state.vpn_connections)
    }

    fn scoped<T>(&self, all: &'a T) -> OrgScoped<'a, T> {
        OrgScoped { all, organization: self.organization }
    }
}

impl<'a, T: OfOrganizations> OrgScoped<'a, T> {
    pub fn get(&self, id: T::Id) -> Option<&'a T::Thing> {
        self.all.find(id).filter(|thing| T::owner(thing) == self.organization)
    }

    pub fn named(&self, name: &Name) -> Option<&'a T::Thing> {
        self.all.find_named(self.organization, name)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &'a T::Thing> + use<'a, T> {
        self.all.all_of(self.organization)
    }
}

macro_rules! of_organizations {
    ($($all:ty: $id:ty => $thing:ty),* $(,)?) => {$(
        impl OfOrganizations for $all {
            type Id = $id;
            type Thing = $thing;

            fn find(&self, id: $id) -> Option<&$thing> {
                self.get(id)
            }

            fn find_named(&self, organization: OrganizationId, name: &Name) -> Option<&$thing> {
                self.named(organization, name)
            }

            fn all_of(&self, organization: OrganizationId) -> impl Iterator<Item = &$thing> {
                self.of(organization)
            }

            fn owner(thing: &$thing) -> OrganizationId {
                thing.organization
            }
        }
    )*};
}

of_organizations!(
    Pools: PoolId => Pool,
    Resources: ResourceId => Resource,
    Policies: PolicyId => Policy,
    VpnConnections: VpnConnectionId => VpnConnection,
);

#[cfg(test)]
mod tests {
    use crate::world::{Platform, name};

    #[test]
    fn within_an_organization_there_is_nothing_of_another() {
        let platform = Platform::new();
        let (acme, globex) = (platform.acme, platform.globex);
        let within = platform.state().within(acme.id);
        assert!(within.pools().get(acme.pool).is_some());
        assert!(within.resources().get(acme.resource).is_some());
        assert!(within.policies().get(acme.policy).is_some());
        assert!(within.vpn_connections().get(acme.connection).is_some());
        assert!(within.pools().get(globex.pool).is_none());
        assert!(within.resources().get(globex.resource).is_none());
        assert!(within.policies().get(globex.policy).is_none());
        assert!(within.vpn_connections().get(globex.connection).is_none());
        assert!(within.resources().named(&name("acme-ssh")).is_some());
        assert!(within.resources().named(&name("globex-ssh")).is_none());
        assert_eq!(within.pools().iter().count(), 1);
        assert_eq!(within.resources().iter().next().map(|found| found.id), Some(acme.resource));
        assert!(platform.state().is_pool_for(None, globex.pool));
        assert!(!platform.state().is_pool_for(Some(acme.id), globex.pool));
    }
}
