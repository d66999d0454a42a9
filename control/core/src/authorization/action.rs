use std::fmt;

use rap_proto::{ApiScope, OrganizationRole, PlatformRole};

use super::{Holder, Target};

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $scope:ident, [$($holder:ident),* $(,)?]);* $(;)?) => {
        /// Something that a principal asks to do. Each route of the API is one of these.
        ///
        /// The table that declares them names, for each, the scope that an API token needs (none:
        /// no API token may) and the holders, of whom one is enough.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Action {
            $($(#[$doc])* $variant,)*
        }

        impl Action {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The scope that an API token needs for it; `None` when it needs a login.
            pub const fn scope(self) -> Option<ApiScope> {
                match self { $(Self::$variant => scope!($scope),)* }
            }

            /// Who may, in the order in which they are asked.
            pub const fn holders(self) -> &'static [Holder] {
                match self { $(Self::$variant => &[$(Holder::$holder),*],)* }
            }
        }
    };
}

macro_rules! scope {
    (none) => {
        None
    };
    ($scope:ident) => {
        Some(ApiScope::$scope)
    };
}

actions! {
    // The platform. Target: `Platform`.
    CompleteSetup = "setup.complete", none, [Setup];
    ReadPlatform = "platform.read", Read, [PlatformOwner, PlatformAdmin];
    ReadCluster = "cluster.read", Read, [AnyUser];
    /// What a node makes of its peers and paths.
    ExplainPaths = "mesh.explain", Read, [PlatformOwner, PlatformAdmin];
    /// How the lease table stands, over all organizations.
    ReadLeases = "lease.read", Read, [PlatformOwner, PlatformAdmin];
    /// Gives up what a failover of the database lost.
    AcceptLoss = "lease.accept_loss", Manage, [PlatformOwner];
    /// Gives every node a newer snapshot that says the same.
    RenewSnapshots = "snapshot.renew", Manage, [PlatformOwner, PlatformAdmin];
    /// What everybody's flows run on.
    ReadPlatformCarriers = "platform.read_carriers", Read, [PlatformOwner, PlatformAdmin];
    RulePlatformCarriers = "platform.rule_carriers", Manage, [PlatformOwner];
    /// Whether everybody's lanes may take direct paths.
    ReadPlatformPaths = "platform.read_paths", Read, [PlatformOwner, PlatformAdmin];
    RulePlatformPaths = "platform.rule_paths", Manage, [PlatformOwner];
    ReadPlatformStale = "platform.read_stale", Read, [PlatformOwner, PlatformAdmin];
    RulePlatformStale = "platform.rule_stale", Manage, [PlatformOwner];
    ReadPlatformMesh = "platform.read_mesh", Read, [PlatformOwner, PlatformAdmin];
    RulePlatformMesh = "platform.rule_mesh", Manage, [PlatformOwner];
    CreateOrganization = "organization.create", Manage, [PlatformOwner, PlatformAdmin];
    CreateUser = "user.create", Manage, [PlatformOwner, PlatformAdmin];
    /// Events that belong to no organization.
    ReadPlatformAudit = "audit.read_platform", Audit, [PlatformOwner, PlatformAdmin];
    /// Every event, and the proof that the state follows from them.
    ReplayAudit = "audit.replay", Audit, [PlatformOwner];
    /// Folds a replica's state anew, which changes nothing that anybody may.
    RebuildProjections = "projections.rebuild", Manage, [PlatformOwner, PlatformAdmin];

    // Organizations. Target: `Organization`.
    ReadOrganization = "organization.read", Read, [Member, PlatformOwner, PlatformAdmin];
    RenameOrganization = "organization.rename", Manage, [OrganizationOwner, PlatformOwner];
    SuspendOrganization = "organization.suspend", Manage, [PlatformOwner, PlatformAdmin];
    ResumeOrganization = "organization.resume", Manage, [PlatformOwner, PlatformAdmin];
    RemoveOrganization = "organization.remove", Manage, [PlatformOwner];
    ReadQuotas = "organization.read_quotas", Read,
        [OrganizationOwner, OrganizationAdmin, PlatformOwner, PlatformAdmin];
    SetQuotas = "organization.set_quotas", Manage, [PlatformOwner];
    ReadBandwidth = "organization.read_bandwidth", Read,
        [OrganizationOwner, OrganizationAdmin, PlatformOwner, PlatformAdmin];
    /// What it may take of each node.
    GrantBandwidth = "organization.grant_bandwidth", Manage, [PlatformOwner];
    RuleBandwidth = "organization.rule_bandwidth", Manage, [OrganizationOwner, OrganizationAdmin];
    ReadCarriers = "organization.read_carriers", Read,
        [OrganizationOwner, OrganizationAdmin, PlatformOwner, PlatformAdmin];
    RuleCarriers = "organization.rule_carriers", Manage, [OrganizationOwner, OrganizationAdmin];
    ReadOrganizationAudit = "audit.read", Audit, [OrganizationOwner, OrganizationAdmin];

    // Members. Target: `Organization` for the list and for new users, else `Membership`.
    ReadMembers = "member.list", Read, [OrganizationOwner, OrganizationAdmin];
    /// Creates an account that is a member from the start.
    CreateMember = "member.create", Manage, [OrganizationOwner, OrganizationAdmin];
    ReadMembership = "member.read", Read, [OrganizationOwner, OrganizationAdmin, Oneself];
    GrantOwner = "member.grant_owner", Manage,
        [OrganizationOwner, PlatformOwnerOfOrphans, PlatformAdminOfUnstaffed];
    GrantAdmin = "member.grant_admin", Manage, [OrganizationOwner];
    GrantUser = "member.grant_user", Manage, [OrganizationOwner, OrganizationAdminOverUsers];
    RevokeMembership = "member.revoke", Manage,
        [OrganizationOwner, OrganizationAdminOverUsers, Oneself];

    // Accounts. Target: `User`.
    ReadUser = "user.read", Read,
        [Oneself, PlatformOwner, PlatformAdmin, OrganizationOwner, OrganizationAdmin];
    /// Hands out a secret with which the user chooses a password: as good as the account.
    InviteUser = "user.invite", Manage,
        [PlatformOwner, PlatformAdminOfNewcomers, OrganizationOwnerOfNewcomers, OrganizationAdminOfNewcomers];
    DisableUser = "user.disable", Manage, [PlatformOwner, PlatformAdminOverOthers];
    EnableUser = "user.enable", Manage, [PlatformOwner, PlatformAdminOverOthers];
    EraseUser = "user.erase", Manage, [PlatformOwner];
    ChangePassword = "user.change_password", none, [Oneself];
    GrantPlatformOwner = "user.grant_platform_owner", Manage, [PlatformOwner];
    GrantPlatformAdmin = "user.grant_platform_admin", Manage, [PlatformOwner];
    RevokePlatformOwner = "user.revoke_platform_owner", Manage, [PlatformOwner];
    RevokePlatformAdmin = "user.revoke_platform_admin", Manage, [PlatformOwner];

    // Credentials. Target: `User` to create, `Login` or `ApiToken` otherwise.
    ReadLogin = "login.read", Read, [Oneself, PlatformOwner];
    CloseLogin = "login.close", none, [Oneself, PlatformOwner];
    CreateApiToken = "api_token.create", none, [Oneself];
    ReadApiToken = "api_token.read", Read, [Oneself, PlatformOwner];
    RevokeApiToken = "api_token.revoke", Manage, [Oneself, PlatformOwner];

    // Join tokens. Target: `Organization` or `Platform` to create, else `JoinToken`.
    CreateJoinToken = "join_token.create", Manage,
        [PlatformOwnerOfItsOwn, PlatformAdminOfItsOwn, OrganizationOwner, OrganizationAdmin];
    /// One that needs no approver: as good as approving.
    CreateApprovingJoinToken = "join_token.create_approving", Manage,
        [PlatformOwnerOfItsOwn, PlatformAdminOfItsOwn, OrganizationOwner];
    ReadJoinToken = "join_token.read", Read,
        [PlatformOwnerOfItsOwn, PlatformAdminOfItsOwn, OrganizationOwner, OrganizationAdmin];
    RevokeJoinToken = "join_token.revoke", Manage,
        [PlatformOwnerOfItsOwn, PlatformAdminOfItsOwn, OrganizationOwner, OrganizationAdmin];

    // Nodes. Target: `Node`.
    ReadNode = "node.read", Read,
        [PlatformOwner, PlatformAdmin, OrganizationOwner, OrganizationAdmin];
    ApproveNode = "node.approve", Manage,
        [PlatformOwnerOfItsOwn, PlatformAdminOfItsOwn, OrganizationOwner];
    RejectNode = "node.reject", Manage, [PlatformOwner, PlatformAdmin, OrganizationOwner];
    AssignNodeRoles = "node.assign_roles", Manage,
        [PlatformOwnerOfItsOwn, PlatformAdminOfItsOwn, OrganizationOwner];
    AssignNodePools = "node.assign_pools", Manage,
        [PlatformOwnerOfItsOwn, PlatformAdminOfItsOwn, OrganizationOwner, OrganizationAdmin];
    CapNodeBandwidth = "node.cap_bandwidth", Manage, [PlatformOwner];
    PlaceNode = "node.place", Manage, [PlatformOwner, PlatformAdmin];
    DrainNode = "node.drain", Manage,
        [PlatformOwner, PlatformAdmin, OrganizationOwner, OrganizationAdmin];
    RevokeNode = "node.revoke", Manage, [PlatformOwner, PlatformAdmin, OrganizationOwner];
    /// Its own snapshot, its own certificate, its own observations.
    ActAsNode = "node.act", none, [ItsNode];

    // Egress pools. Target: `Organization` to create and list, else `Pool`.
    CreatePool = "pool.create", Manage, [OrganizationOwner, OrganizationAdmin];
    ReadPool = "pool.read", Read, [OrganizationOwner, OrganizationAdmin];
    RemovePool = "pool.remove", Manage, [OrganizationOwner, OrganizationAdmin];
    /// Lets resources of the pool be on its nodes' own addresses. Target: `Pool`.
    AllowLocalTarget = "pool.allow_local_target", Manage,
        [PlatformOwner, OrganizationOwnerOfItsNodes];

    // Resources. Target: `Organization` to create and list, else `Resource`.
    CreateResource = "resource.create", Manage, [OrganizationOwner, OrganizationAdmin];
    /// With its target's address.
    ReadResource = "resource.read", Read, [OrganizationOwner, OrganizationAdmin];
    /// Its name and kind, and access to it.
    UseResource = "resource.use", Connect, [Permitted];
    ChangeResource = "resource.change", Manage, [OrganizationOwner, OrganizationAdmin];
    RemoveResource = "resource.remove", Manage, [OrganizationOwner, OrganizationAdmin];

    // Access policies. Target: `Organization` to create and list, else `Policy`.
    CreatePolicy = "policy.create", Manage, [OrganizationOwner, OrganizationAdmin];
    ReadPolicy = "policy.read", Read, [OrganizationOwner, OrganizationAdmin];
    ChangePolicy = "policy.change", Manage, [OrganizationOwner, OrganizationAdmin];
    RemovePolicy = "policy.remove", Manage, [OrganizationOwner, OrganizationAdmin];
    /// What the policies say of a member, now or at an earlier position. Target: `Organization`.
    ExplainPolicies = "policy.explain", Audit, [OrganizationOwner, OrganizationAdmin];

    // Connections. Target: `Organization` to create and list, else `VpnConnection`.
    CreateVpnConnection = "vpn_connection.create", Manage, [OrganizationOwner, OrganizationAdmin];
    ReadVpnConnection = "vpn_connection.read", Read, [OrganizationOwner, OrganizationAdmin];
    ChangeVpnConnection = "vpn_connection.change", Manage, [OrganizationOwner, OrganizationAdmin];
    DrainVpnConnection = "vpn_connection.drain", Manage, [OrganizationOwner, OrganizationAdmin];
    RemoveVpnConnection = "vpn_connection.remove", Manage, [OrganizationOwner, OrganizationAdmin];

    // Sessions. Target: `Organization` to request, else `Session`.
    /// Whether a policy permits it is for the access decision, which is recorded either way.
    RequestSession = "session.request", Connect, [Member];
    RefreshSession = "session.refresh", Connect, [Oneself];
    ReadSession = "session.read", Read, [Oneself, OrganizationOwner, OrganizationAdmin];
    TerminateSession = "session.terminate", Manage, [Oneself, OrganizationOwner, OrganizationAdmin];
}

impl Action {
    /// Granting a role of an organization to somebody, whatever role they have.
    pub const fn grant(role: OrganizationRole) -> Self {
        match role {
            OrganizationRole::Owner => Self::GrantOwner,
            OrganizationRole::Admin => Self::GrantAdmin,
            OrganizationRole::User => Self::GrantUser,
        }
    }

    pub const fn grant_platform(role: PlatformRole) -> Self {
        match role {
            PlatformRole::Owner => Self::GrantPlatformOwner,
            PlatformRole::Admin => Self::GrantPlatformAdmin,
        }
    }

    pub const fn revoke_platform(role: PlatformRole) -> Self {
        match role {
            PlatformRole::Owner => Self::RevokePlatformOwner,
            PlatformRole::Admin => Self::RevokePlatformAdmin,
        }
    }

    /// The action that whoever may know of a target may do; `None` for the platform.
    pub(super) const fn reading(target: Target) -> Option<Self> {
        Some(match target {
            Target::Platform => return None,
            Target::Organization(_) => Self::ReadOrganization,
            Target::User(_) => Self::ReadUser,
            Target::Membership(..) => Self::ReadMembership,
            Target::Login(_) => Self::ReadLogin,
            Target::ApiToken(_) => Self::ReadApiToken,
            Target::JoinToken(_) => Self::ReadJoinToken,
            Target::Node(_) => Self::ReadNode,
            Target::Pool(_) => Self::ReadPool,
            Target::Resource(_) => Self::ReadResource,
            Target::Policy(_) => Self::ReadPolicy,
            Target::Session(_) => Self::ReadSession,
            Target::VpnConnection(_) => Self::ReadVpnConnection,
        })
    }

    pub(super) const fn only_reads(self) -> bool {
        matches!(self.scope(), Some(ApiScope::Read | ApiScope::Audit))
    }

    /// Whether rules of a policy document can speak of it: of what is done to one resource, by whom
    /// the organization's owners and admins choose. Nothing that gives anybody authority is among it.
    pub const fn is_ruled(self) -> bool {
        matches!(self, Self::ReadResource | Self::ChangeResource | Self::RemoveResource)
    }

    /// Whether it can leave an organization without an owner.
    pub(super) const fn takes_ownership(self) -> bool {
        matches!(self, Self::GrantAdmin | Self::GrantUser | Self::RevokeMembership)
    }

    /// Whether it can leave the platform without an owner.
    pub(super) const fn takes_platform_ownership(self) -> bool {
        matches!(self, Self::RevokePlatformOwner | Self::DisableUser | Self::EraseUser)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
