//! The rules and the table, the rules and lists: asked alike, they answer alike.

use super::*;

#[test]
fn the_tables_rules_are_these() {
    check_golden("rules.cedar", &builtin_rules());
}

/// Everything that an action could be about.
fn targets(platform: &Platform, fresh: OrganizationId) -> Vec<Target> {
    let mut targets =
        vec![Target::Platform, Target::Organization(fresh), Target::Node(platform.entry)];
    let mut people = vec![platform.owner, platform.admin];
    for tenant in [platform.acme, platform.globex] {
        people.extend([tenant.owner, tenant.admin, tenant.user]);
        targets.extend([
            Target::Organization(tenant.id),
            Target::JoinToken(tenant.join_token),
            Target::Node(tenant.egress),
            Target::Pool(tenant.pool),
            Target::Resource(tenant.resource),
            Target::Policy(tenant.policy),
            Target::Session(tenant.session),
            Target::VpnConnection(tenant.connection),
        ]);
    }
    for user in &people {
        targets.extend([
            Target::User(*user),
            Target::Login(login_id(*user)),
            Target::ApiToken(token_id(*user)),
            Target::Membership(platform.acme.id, *user),
            Target::Membership(platform.globex.id, *user),
            Target::Membership(fresh, *user),
        ]);
    }
    targets
}

fn principals(platform: &Platform) -> Vec<Principal> {
    let (acme, globex) = (platform.acme, platform.globex);
    let token = |user, organization| Principal::ApiToken {
        user,
        token: token_id(user),
        scopes: rap_proto::ApiScope::ALL.iter().copied().collect(),
        organization,
    };
    let mut principals = vec![Principal::Setup, Principal::Node(platform.entry)];
    for user in [platform.owner, platform.admin] {
        principals.extend([person(user), token(user, None), token(user, Some(acme.id))]);
    }
    for tenant in [acme, globex] {
        principals.push(Principal::Node(tenant.egress));
        principals.extend([tenant.owner, tenant.admin, tenant.user].map(person));
    }
    principals.extend([token(acme.owner, Some(acme.id)), token(acme.owner, Some(globex.id))]);
    principals
}

fn compare(state: &State, principals: &[Principal], targets: &[Target]) -> usize {
    let mut permitted = 0;
    for target in targets {
        let Some(facts) = Facts::of(state, *target) else { continue };
        for principal in principals {
            for action in Action::ALL {
                // These two have to do with the platform, and are asked of nothing else.
                let of_platform = [Action::CompleteSetup, Action::ReadCluster].contains(action);
                if of_platform && *target != Target::Platform {
                    continue;
                }
                let table = action.holders().iter().any(|h| h.is(state, principal, &facts));
                let answer = administer(state, principal, *action, &facts);
                assert!(!answer.failed, "{action} {target:?} {principal:?}");
                let case = format!("{action} on {target:?} by {principal:?}: {answer:?}");
                assert_eq!(answer.is_permitted(), table, "{case}");
                permitted += usize::from(table);
            }
        }
    }
    permitted
}

#[test]
fn the_rules_and_the_table_agree_on_every_action_role_and_organization() {
    let mut platform = Platform::new();
    let fresh = OrganizationId::from_uuid(uuid(0x300));
    let create = OrganizationCommand::Create { organization: fresh, name: name("fresh") };
    platform.must::<Organization>(fresh.uuid(), create);
    let principals = principals(&platform);
    let everything = targets(&platform, fresh);
    let agreed = compare(platform.state(), &principals, &everything);
    assert!(agreed > 1_000, "{agreed}");

    // And where the narrower holders come in: a newcomer, an orphaned organization, a pool that
    // others' nodes serve, somebody who is in both organizations.
    let (acme, globex) = (platform.acme, platform.globex);
    let newcomer = UserId::from_uuid(uuid(0x901));
    platform.world.in_one_command(|world| {
        world.member(acme.id, newcomer, OrganizationRole::User);
        let (name, display_name) = (name("newcomer"), Personal::default());
        world.must::<User>(newcomer.uuid(), UserCommand::Create { name, display_name });
    });
    let disable = UserCommand::Disable { reason: String::new() };
    platform.must::<User>(globex.owner.uuid(), disable);
    platform.world.member(globex.id, acme.admin, OrganizationRole::User);
    let role = NodeRole::StreamWorker;
    let roles = vec![RoleScope { role, organizations: None }];
    platform.world.node(0x22, "shared", None, roles, &[acme.pool]);
    let mut targets = everything;
    targets.extend([Target::User(newcomer), Target::Membership(acme.id, newcomer)]);
    compare(platform.state(), &principals, &targets);
}

fn spec() -> impl Strategy<Value = (u8, u8, u8, u8)> {
    (0..8u8, 0..8u8, 0..2u8, 0..8u8)
}

fn chosen<T: Copy + Ord>(all: &[T], bits: u8) -> BTreeSet<T> {
    let picked = all.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    picked.map(|(_, one)| *one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lists are compared as sets where there is no document: as the language decides them.
    #[test]
    fn lists_permit_what_the_rules_they_stand_for_permit(
        specs in proptest::collection::vec(spec(), 0..4),
        with_document in any::<bool>(),
    ) {
        let mut platform = Platform::new();
        let acme = platform.acme;
        platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
        let people = [acme.owner, acme.admin, acme.user];
        for (number, (users, roles, resources, kinds)) in (0u128..).zip(specs) {
            let spec = PolicySpec {
                users: chosen(&people, users),
                roles: chosen(OrganizationRole::ALL, roles),
                resources: chosen(&[acme.resource], resources),
                kinds: chosen(ResourceKind::ALL, kinds),
            };
            let create = PolicyCommand::Create {
                organization: acme.id,
                name: name(&format!("lists-{number}")),
                spec,
            };
            let actor = rap_events::Actor::Setup;
            // Those that match nobody are refused, and that is as good.
            let _ = platform.world.give::<Policy>(uuid(0xd000 + number), &actor, create);
        }
        if with_document {
            let text = "permit(principal in Role::\"organization_owner\", action, resource)
                when { resource.kind == \"ssh\" };
                forbid(principal, action == Action::\"reach\", resource)
                when { context.weekday > 5 && principal.name == \"acme-user\" };";
            let write = PolicyCommand::Write {
                organization: acme.id,
                name: name("rules"),
                document: document(text),
            };
            platform.must::<Policy>(uuid(0xe000), write);
        }
        let state = platform.state();
        for user in people {
            let mut ever = false;
            for at in WeekHour::all().step_by(23) {
                let explained = explain(state, acme.id, user, acme.resource, at).is_permitted();
                let quick = permits(state, acme.id, user, acme.resource, Some(at));
                prop_assert_eq!(explained, quick);
                ever |= explained;
            }
            prop_assert!(!ever || permits(state, acme.id, user, acme.resource, None));
        }
    }
}
