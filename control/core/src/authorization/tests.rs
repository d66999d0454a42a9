#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fmt::Write as _};

use rap_events::{
    Personal,
    api_token::{ApiToken, ApiTokenCommand},
    login::{Login, LoginCloseReason, LoginCommand},
    organization::{Organization, OrganizationCommand},
    user::{User, UserCommand},
};
use rap_proto::{ApiScope, OrganizationId, OrganizationRole, PlatformRole, UserId};

use super::{Action, Decision, Principal, Refusal, Target, authorize, authorize_on_record};
use crate::world::{
    Platform, Tenant, check_golden, digest, login_id, name, person, token_id, uuid,
};

/// What an action is asked about in these tests, within one tenant.
fn target(_: &Platform, tenant: Tenant, action: Action) -> Target {
    use Action as A;
    match action {
        A::CompleteSetup
        | A::ReadPlatform
        | A::ReadCluster
        | A::ExplainPaths
        | A::ReadLeases
        | A::AcceptLoss
        | A::RenewSnapshots
        | A::ReadPlatformCarriers
        | A::RulePlatformCarriers
        | A::ReadPlatformPaths
        | A::RulePlatformPaths
        | A::ReadPlatformStale
        | A::RulePlatformStale
        | A::ReadPlatformMesh
        | A::RulePlatformMesh
        | A::CreateOrganization
        | A::CreateUser
        | A::ReadPlatformAudit
        | A::ReplayAudit
        | A::RebuildProjections => Target::Platform,
        A::ReadOrganization
        | A::RenameOrganization
        | A::SuspendOrganization
        | A::ResumeOrganization
        | A::RemoveOrganization
        | A::ReadQuotas
        | A::SetQuotas
        | A::ReadBandwidth
        | A::GrantBandwidth
        | A::RuleBandwidth
        | A::ReadCarriers
        | A::RuleCarriers
        | A::ExplainPolicies
        | A::ReadOrganizationAudit
        | A::ReadMembers
        | A::CreateMember
        | A::CreateJoinToken
        | A::CreateApprovingJoinToken
        | A::CreatePool
        | A::CreateResource
        | A::CreatePolicy
        | A::CreateVpnConnection
        | A::RequestSession => Target::Organization(tenant.id),
        A::ReadMembership | A::GrantOwner | A::GrantAdmin | A::GrantUser | A::RevokeMembership => {
            Target::Membership(tenant.id, tenant.user)
        }
        A::ReadUser
        | A::InviteUser
        | A::DisableUser
        | A::EnableUser
        | A::EraseUser
        | A::ChangePassword
        | A::GrantPlatformOwner
        | A::GrantPlatformAdmin
        | A::RevokePlatformOwner
        | A::RevokePlatformAdmin
        | A::CreateApiToken => Target::User(tenant.user),
        A::ReadLogin | A::CloseLogin => Target::Login(login_id(tenant.user)),
        A::ReadApiToken | A::RevokeApiToken => Target::ApiToken(token_id(tenant.user)),
        A::ReadJoinToken | A::RevokeJoinToken => Target::JoinToken(tenant.join_token),
        other => of_a_thing(tenant, other),
    }
}

/// The same of nodes, and of what one may reach.
fn of_a_thing(tenant: Tenant, action: Action) -> Target {
    use Action as A;
    match action {
        A::ReadNode
        | A::ApproveNode
        | A::RejectNode
        | A::AssignNodeRoles
        | A::AssignNodePools
        | A::CapNodeBandwidth
        | A::PlaceNode
        | A::DrainNode
        | A::RevokeNode
        | A::ActAsNode => Target::Node(tenant.egress),
        A::ReadPool | A::RemovePool | A::AllowLocalTarget => Target::Pool(tenant.pool),
        A::ReadResource | A::UseResource | A::ChangeResource | A::RemoveResource => {
            Target::Resource(tenant.resource)
        }
        A::ReadPolicy | A::ChangePolicy | A::RemovePolicy => Target::Policy(tenant.policy),
        A::ReadVpnConnection
        | A::ChangeVpnConnection
        | A::DrainVpnConnection
        | A::RemoveVpnConnection => Target::VpnConnection(tenant.connection),
        A::RefreshSession | A::ReadSession | A::TerminateSession => Target::Session(tenant.session),
        other => panic!("{other:?} is asked about nothing here"),
    }
}

fn mark(decision: Decision) -> &'static str {
    match decision {
        Decision::Allowed(_) => "yes",
        Decision::Denied(_) => "no",
        Decision::Hidden => "-",
    }
}

/// Every action in `acme`, against every role there is.
fn table(platform: &Platform) -> String {
    let acme = platform.acme;
    let columns: [(&str, Principal); 9] = [
        ("platform-owner", person(platform.owner)),
        ("platform-admin", person(platform.admin)),
        ("owner", person(acme.owner)),
        ("admin", person(acme.admin)),
        ("user", person(acme.user)),
        ("foreign-owner", person(platform.globex.owner)),
        ("foreign-user", person(platform.globex.user)),
        ("its-node", Principal::Node(acme.egress)),
        ("foreign-node", Principal::Node(platform.globex.egress)),
    ];
    let mut text = format!("{:32}", "action");
    for (title, _) in &columns {
        write!(text, "{title:16}").unwrap();
    }
    text = text.trim_end().to_owned() + "\n";
    for action in Action::ALL {
        let mut line = format!("{:32}", action.as_str());
        let target = target(platform, acme, *action);
        for (_, principal) in &columns {
            let decision = authorize(platform.state(), principal, *action, target);
            write!(line, "{:16}", mark(decision)).unwrap();
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}

#[test]
fn every_action_and_role_decide_as_the_table_says() {
    check_golden("authorization.txt", &table(&Platform::new()));
}

#[test]
fn no_action_reaches_into_another_organization() {
    let platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let strangers = [
        person(globex.owner),
        person(globex.admin),
        person(globex.user),
        Principal::Node(globex.egress),
    ];
    for action in Action::ALL {
        let target = target(&platform, acme, *action);
        if target == Target::Platform {
            continue;
        }
        for stranger in &strangers {
            let decision = authorize(platform.state(), stranger, *action, target);
            assert_eq!(decision, Decision::Hidden, "{stranger:?} {action}");
        }
    }
}

#[test]
fn what_is_absent_and_what_is_hidden_are_answered_alike() {
    let platform = Platform::new();
    let stranger = person(platform.globex.owner);
    let hidden = Target::Organization(platform.acme.id);
    let absent = Target::Organization(OrganizationId::from_uuid(uuid(0xdead)));
    let ask = |target| authorize(platform.state(), &stranger, Action::ReadOrganization, target);
    assert_eq!(ask(hidden), ask(absent));
    assert_eq!(ask(absent), Decision::Hidden);
}

#[test]
fn a_platform_role_opens_no_resource_of_an_organization() {
    let platform = Platform::new();
    let acme = platform.acme;
    for who in [platform.owner, platform.admin] {
        for action in [
            Action::ReadResource,
            Action::UseResource,
            Action::ReadPolicy,
            Action::ChangePolicy,
            Action::ReadSession,
            Action::ReadPool,
            Action::RequestSession,
            Action::ReadOrganizationAudit,
            Action::ReadMembers,
            Action::GrantOwner,
        ] {
            let target = target(&platform, acme, action);
            let decision = authorize(platform.state(), &person(who), action, target);
            assert!(!decision.is_allowed(), "{action}");
        }
    }
}

#[test]
fn a_delegated_admin_grants_no_more_than_it_has() {
    let platform = Platform::new();
    let acme = platform.acme;
    let ask = |action, user| {
        let target = Target::Membership(acme.id, user);
        authorize(platform.state(), &person(acme.admin), action, target)
    };
    assert!(ask(Action::GrantUser, platform.globex.user).is_allowed());
    for (action, user) in [
        (Action::GrantOwner, acme.user),
        (Action::GrantAdmin, acme.user),
        (Action::GrantOwner, acme.admin),
        (Action::GrantUser, acme.owner),
        (Action::RevokeMembership, acme.owner),
    ] {
        assert_eq!(ask(action, user), Decision::Denied(Refusal::NotHeld(action)));
    }
    let approving = Action::CreateApprovingJoinToken;
    let decision =
        authorize(platform.state(), &person(acme.admin), approving, Target::Organization(acme.id));
    assert_eq!(decision, Decision::Denied(Refusal::NotHeld(approving)));
}

#[test]
fn a_platform_admin_makes_no_platform_admins_and_takes_over_no_account() {
    let platform = Platform::new();
    let admin = person(platform.admin);
    let ask = |action, user| authorize(platform.state(), &admin, action, Target::User(user));
    for role in PlatformRole::ALL {
        assert!(!ask(Action::grant_platform(*role), platform.admin).is_allowed());
        assert!(!ask(Action::revoke_platform(*role), platform.owner).is_allowed());
    }
    assert!(!ask(Action::DisableUser, platform.owner).is_allowed());
    assert!(!ask(Action::InviteUser, platform.owner).is_allowed());
    assert!(!ask(Action::InviteUser, platform.acme.owner).is_allowed());
    assert!(ask(Action::DisableUser, platform.acme.user).is_allowed());
}

#[test]
fn only_an_account_that_was_made_in_the_organization_is_invited_by_it() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let create = |called: &str| UserCommand::Create {
        name: name(called),
        display_name: Personal::default(),
    };
    let (native, adopted) = (UserId::from_uuid(uuid(0x901)), UserId::from_uuid(uuid(0x902)));
    let ask = |platform: &Platform, user| {
        let (action, target) = (Action::InviteUser, Target::User(user));
        authorize(platform.state(), &person(acme.admin), action, target).is_allowed()
    };
    // Made for somebody by the platform, and pulled into the organization before its first login.
    platform.must::<User>(adopted.uuid(), create("adopted"));
    platform.world.member(acme.id, adopted, OrganizationRole::User);
    assert!(!ask(&platform, adopted), "that account would be taken over");

    platform.world.in_one_command(|world| {
        world.member(acme.id, native, OrganizationRole::User);
        world.must::<User>(native.uuid(), create("native"));
    });
    assert!(ask(&platform, native));
    let membership = rap_events::keys::membership_id(platform.globex.id, native);
    platform.world.member(platform.globex.id, native, OrganizationRole::User);
    assert!(!ask(&platform, native), "two organizations would share the account");
    platform.must::<rap_events::membership::Membership>(
        membership,
        rap_events::membership::MembershipCommand::Revoke,
    );
    let change = UserCommand::ChangePassword { verifier: crate::world::PHC.to_owned().into() };
    assert!(ask(&platform, native));
    platform.must::<User>(native.uuid(), change);
    assert!(!ask(&platform, native), "the account is its user's now");
}

#[test]
fn a_new_organization_gets_its_first_owner_from_the_platform() {
    let mut platform = Platform::new();
    let fresh = OrganizationId::from_uuid(uuid(0x300));
    platform.must::<Organization>(
        fresh.uuid(),
        OrganizationCommand::Create { organization: fresh, name: name("fresh") },
    );
    let target = Target::Membership(fresh, platform.acme.owner);
    let ask = |platform: &Platform, who| {
        authorize(platform.state(), &person(who), Action::GrantOwner, target).is_allowed()
    };
    assert!(ask(&platform, platform.owner) && ask(&platform, platform.admin));
    platform.world.member(fresh, platform.acme.owner, OrganizationRole::Owner);
    assert!(!ask(&platform, platform.owner) && !ask(&platform, platform.admin));
    // With its only owner disabled, the platform's owner can appoint another one.
    let disable = UserCommand::Disable { reason: String::new() };
    platform.must::<User>(platform.acme.owner.uuid(), disable);
    assert!(ask(&platform, platform.owner) && !ask(&platform, platform.admin));
}

#[test]
fn an_organization_and_the_platform_keep_an_owner() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let leave = Target::Membership(acme.id, acme.owner);
    let decision =
        authorize(platform.state(), &person(acme.owner), Action::RevokeMembership, leave);
    assert_eq!(decision, Decision::Denied(Refusal::LastOwner));
    let oneself = Target::User(platform.owner);
    let step_down = |platform: &Platform, action| {
        authorize(platform.state(), &person(platform.owner), action, oneself)
    };
    for action in [Action::RevokePlatformOwner, Action::DisableUser, Action::EraseUser] {
        let expected = Decision::Denied(Refusal::LastPlatformOwner);
        assert_eq!(step_down(&platform, action), expected);
    }
    let grant = UserCommand::GrantPlatformRole { role: PlatformRole::Owner };
    platform.must::<User>(platform.admin.uuid(), grant);
    assert!(step_down(&platform, Action::RevokePlatformOwner).is_allowed());
}

#[test]
fn a_suspended_organization_can_only_be_looked_at() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let suspend = OrganizationCommand::Suspend { reason: String::new() };
    platform.must::<Organization>(acme.id.uuid(), suspend);
    let ask = |who, action| {
        let target = target(&platform, acme, action);
        authorize(platform.state(), &person(who), action, target)
    };
    assert!(ask(acme.owner, Action::ReadResource).is_allowed());
    assert!(ask(acme.owner, Action::ReadOrganizationAudit).is_allowed());
    let suspended = Decision::Denied(Refusal::OrganizationSuspended);
    assert_eq!(ask(acme.owner, Action::CreateResource), suspended);
    assert_eq!(ask(acme.owner, Action::RequestSession), suspended);
    assert!(ask(platform.owner, Action::ResumeOrganization).is_allowed());
}

fn token(user: UserId, scopes: &[ApiScope], organization: Option<OrganizationId>) -> Principal {
    let scopes = scopes.iter().copied().collect();
    Principal::ApiToken { user, token: token_id(user), scopes, organization }
}

#[test]
fn a_token_allows_nothing_that_its_user_may_not() {
    let platform = Platform::new();
    let everything: BTreeSet<ApiScope> = ApiScope::ALL.iter().copied().collect();
    let users = [platform.owner, platform.admin, platform.acme.owner, platform.acme.user];
    for (user, action) in users.iter().flat_map(|u| Action::ALL.iter().map(move |a| (*u, *a))) {
        let target = target(&platform, platform.acme, action);
        let state = platform.state();
        for scope in everything.iter().map(|scope| vec![*scope]).chain([vec![]]) {
            let narrowed = authorize(state, &token(user, &scope, None), action, target);
            let full = authorize(state, &person(user), action, target);
            assert!(!narrowed.is_allowed() || full.is_allowed(), "{action} with {scope:?}");
            let is_in_scope = action.scope().is_some_and(|needed| scope.contains(&needed));
            assert!(!narrowed.is_allowed() || is_in_scope, "{action} with {scope:?}");
        }
    }
}

#[test]
fn a_token_of_one_organization_has_no_platform_role_and_no_other_organization() {
    let mut platform = Platform::new();
    platform.world.member(platform.globex.id, platform.owner, OrganizationRole::Owner);
    platform.world.member(platform.acme.id, platform.owner, OrganizationRole::Owner);
    let only_acme = token(platform.owner, ApiScope::ALL, Some(platform.acme.id));
    let ask = |tenant, action| {
        let target = target(&platform, tenant, action);
        authorize(platform.state(), &only_acme, action, target).is_allowed()
    };
    assert!(ask(platform.acme, Action::ReadResource));
    assert!(!ask(platform.globex, Action::ReadResource));
    assert!(!ask(platform.globex, Action::ReadOrganization));
    assert!(!ask(platform.acme, Action::CreateOrganization));
    assert_eq!(only_acme.organizations(platform.state()), vec![platform.acme.id]);
}

#[test]
fn a_principal_ends_with_its_account_or_its_credential() {
    let mut platform = Platform::new();
    let (user, now) = (platform.acme.user, platform.world.now);
    let by_login = platform.state().principal_of_login(&digest("login of acme-user"), now).unwrap();
    let by_token =
        platform.state().principal_of_api_token(&digest("token of acme-user"), now).unwrap();
    assert_eq!((by_login.user(), by_token.user()), (Some(user), Some(user)));
    assert!(platform.state().still_holds(&by_login, now));
    let late = now + std::time::Duration::from_secs(7 * 86_400);
    assert!(!platform.state().still_holds(&by_login, late));
    assert!(!platform.state().still_holds(&by_token, late));

    let close = LoginCommand::Close { reason: LoginCloseReason::SignedOut };
    platform.must::<Login>(login_id(user).uuid(), close);
    assert!(!platform.state().still_holds(&by_login, now));
    platform.must::<ApiToken>(token_id(user).uuid(), ApiTokenCommand::Revoke);
    assert!(!platform.state().still_holds(&by_token, now));

    let admin = person(platform.acme.admin);
    assert!(platform.state().still_holds(&admin, now));
    let disable = UserCommand::Disable { reason: String::new() };
    platform.must::<User>(platform.acme.admin.uuid(), disable);
    assert!(!platform.state().still_holds(&admin, now));
    let target = Target::Organization(platform.acme.id);
    let decision = authorize(platform.state(), &admin, Action::ReadOrganization, target);
    assert_eq!(decision, Decision::Hidden);
}

#[test]
fn the_setup_code_opens_the_setup_once_and_nothing_else() {
    let platform = Platform::new();
    for action in Action::ALL {
        let target = target(&platform, platform.acme, *action);
        let decision = authorize(platform.state(), &Principal::Setup, *action, target);
        assert_eq!(decision, Decision::Hidden, "{action} after the set-up");
    }
    let mut before = crate::world::World::new();
    let cluster = rap_proto::ClusterId::from_uuid(uuid(1));
    before.must::<rap_events::cluster::Cluster>(
        cluster.uuid(),
        rap_events::cluster::ClusterCommand::Bootstrap {
            cluster,
            ca_certificate: b"certificate".to_vec(),
            control_keys: vec![crate::world::key(1)],
            setup_code: digest("setup").into(),
        },
    );
    for action in Action::ALL {
        let decision = authorize(&before.state, &Principal::Setup, *action, Target::Platform);
        assert_eq!(decision.is_allowed(), *action == Action::CompleteSetup, "{action}");
    }
}

#[test]
fn only_owners_of_every_node_let_resources_be_on_the_nodes_themselves() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let ask = |platform: &Platform, who| {
        let target = Target::Pool(acme.pool);
        authorize(platform.state(), &person(who), Action::AllowLocalTarget, target).is_allowed()
    };
    assert!(ask(&platform, acme.owner) && !ask(&platform, acme.admin));
    let roles = vec![rap_proto::snapshot::RoleScope {
        role: rap_proto::NodeRole::StreamWorker,
        organizations: None,
    }];
    platform.world.node(0x22, "shared", None, roles, &[acme.pool]);
    assert!(!ask(&platform, acme.owner), "a node of the platform serves the pool too");
    assert!(ask(&platform, platform.owner));
}

#[test]
fn what_a_command_rests_on_tells_nothing_of_the_organizations_that_a_person_is_in() {
    let platform = Platform::new();
    let (owner, acme) = (person(platform.owner), platform.acme);
    let asked = |action, target| {
        let (decision, allowed) = authorize_on_record(platform.state(), &owner, action, target);
        assert!(decision.is_allowed(), "{decision:?}");
        allowed.unwrap().basis
    };
    let own = asked(Action::CreateOrganization, Target::Platform);
    let of_person = asked(Action::ReadUser, Target::User(acme.user));
    assert_eq!(of_person.policy_hash, None);
    assert_eq!(of_person.entity_version, own.entity_version, "the actor's own");
    let of_acme = asked(Action::ReadOrganization, Target::Organization(acme.id));
    assert_ne!(of_acme.entity_version, own.entity_version);
}
