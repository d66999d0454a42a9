#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rap_events::{
    Personal,
    keys::membership_id,
    membership::{Membership, MembershipCommand},
    organization::{Organization, OrganizationCommand},
    policy::{Policy, PolicyCommand, PolicyDocument, PolicySpec, PolicyTest},
    resource::{Resource, ResourceCommand},
    user::{User, UserCommand},
};
use rap_proto::{
    NodeRole, OrganizationId, OrganizationRole, PolicyId, ResourceKind, UserId, Verdict, WeekHour,
    snapshot::RoleScope,
};

use super::*;
use crate::{
    State,
    access::{
        DocumentRefused, MAX_DOCUMENTS, TestBroken, TestedResource, check_document, check_lists,
        check_policy_removal, check_resource_removal, explain, permits, reachable,
    },
    authorization::{
        Action, Decision, Facts, Principal, Refusal, Rule, Target, authorize, explain_action,
    },
    process::{Clock, due},
    rules::{administer, builtin_rules},
    snapshot::compile,
    world::{Platform, Tenant, check_golden, login_id, name, person, token_id, uuid},
};

const PERMIT_ALL: &str = "permit(principal, action, resource);";

fn document(text: &str) -> PolicyDocument {
    PolicyDocument { text: text.to_owned(), tests: Vec::new() }
}

fn test(user: &str, action: &str, resource: &str, at: &str, expect: Verdict) -> PolicyTest {
    PolicyTest {
        name: format!("{user} {action}"),
        user: name(user),
        action: action.to_owned(),
        resource: name(resource),
        at: at.parse().ok(),
        expect,
    }
}

/// Puts a document in place of the tenant's only policy.
fn rule(platform: &mut Platform, tenant: Tenant, text: &str) {
    check_document(platform.state(), tenant.id, tenant.policy, &document(text)).unwrap();
    let rewrite = PolicyCommand::Rewrite { document: document(text) };
    platform.must::<Policy>(tenant.policy.uuid(), rewrite);
}

fn may(platform: &Platform, tenant: Tenant, user: UserId, at: &str) -> bool {
    let at: WeekHour = at.parse().unwrap();
    let state = platform.state();
    let explained = explain(state, tenant.id, user, tenant.resource, at).is_permitted();
    assert_eq!(permits(state, tenant.id, user, tenant.resource, Some(at)), explained);
    explained
}

fn label(platform: &mut Platform, tenant: Tenant, key: &str, value: &str) {
    let labels = BTreeMap::from([(name(key), name(value))]);
    platform.must::<Resource>(tenant.resource.uuid(), ResourceCommand::Label { labels });
}

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

/// A document, who asks, when, and whether it is permitted.
const CASES: &[(&str, &str, &str, bool)] = &[
    (BY_NAME, "user", "mon-09", true),
    (BY_NAME, "admin", "mon-09", false),
    (OF_ONE, "owner", "mon-09", true),
    (BY_ROLE, "admin", "mon-09", true),
    (BY_ROLE, "user", "mon-09", false),
    (BY_KIND, "user", "mon-09", true),
    (BY_OTHER_KIND, "user", "mon-09", false),
    (BY_HOUR, "user", "fri-11", true),
    (BY_HOUR, "user", "fri-12", false),
    (BY_HOUR, "user", "sat-11", false),
    (NOT_AT_WEEKENDS, "user", "sun-11", false),
    (NOT_AT_WEEKENDS, "user", "mon-11", true),
    (NOT_IN_PRODUCTION, "user", "mon-11", true),
];
const BY_NAME: &str =
    r#"permit(principal == User::"acme-user", action == Action::"reach", resource);"#;
const OF_ONE: &str =
    r#"permit(principal, action == Action::"reach", resource == Resource::"acme-ssh");"#;
const BY_ROLE: &str =
    r#"permit(principal in Role::"organization_admin", action == Action::"reach", resource);"#;
const BY_KIND: &str = r#"permit(principal, action, resource) when { resource.kind == "ssh" };"#;
const BY_OTHER_KIND: &str =
    r#"permit(principal, action, resource) when { resource.kind == "web" };"#;
const BY_HOUR: &str = r#"permit(principal, action == Action::"reach", resource)
    when { context.hour < 12 && context.weekday <= 5 };"#;
const NOT_AT_WEEKENDS: &str = r#"permit(principal, action, resource);
    forbid(principal, action == Action::"reach", resource) when { context.weekday > 5 };"#;
const NOT_IN_PRODUCTION: &str = r#"permit(principal, action, resource);
    forbid(principal, action == Action::"reach", resource)
    when { resource.hasTag("env") && resource.getTag("env") == "prod" };"#;

#[test]
fn documents_permit_and_forbid_by_name_kind_label_role_and_hour() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    for (text, who, at, permitted) in CASES {
        let user = match *who {
            "owner" => acme.owner,
            "admin" => acme.admin,
            _ => acme.user,
        };
        rule(&mut platform, acme, text);
        assert_eq!(may(&platform, acme, user, at), *permitted, "{text} {at}");
    }
    label(&mut platform, acme, "env", "prod");
    assert!(!may(&platform, acme, acme.user, "mon-11"), "the label is what the rule looks at");
    label(&mut platform, acme, "env", "test");
    assert!(may(&platform, acme, acme.user, "mon-11"));
}

#[test]
fn no_document_opens_another_organization_or_speaks_for_its_people() {
    let mut platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    rule(&mut platform, acme, PERMIT_ALL);
    let state = platform.state();
    let at = WeekHour::of(platform.world.now);
    for user in [acme.owner, acme.user] {
        assert!(explain(state, acme.id, user, acme.resource, at).is_permitted());
        // Neither under the own flag nor under the other's.
        assert!(!explain(state, acme.id, user, globex.resource, at).is_permitted());
        assert!(!explain(state, globex.id, user, globex.resource, at).is_permitted());
        assert_eq!(reachable(state, globex.id, user).count(), 0);
    }
    for stranger in [globex.owner, globex.user] {
        assert!(!explain(state, acme.id, stranger, acme.resource, at).is_permitted());
        for action in Action::ALL {
            let decision =
                authorize(state, &person(stranger), *action, Target::Resource(acme.resource));
            assert_eq!(decision, Decision::Hidden, "{action}");
        }
    }
    // The rule itself, asked what the lookups in front of it never ask.
    let role = OrganizationRole::Owner;
    let stranger = Member { organization: acme.id, user: acme.owner, role };
    let foreign = state.resources().get(globex.resource).unwrap();
    let answer =
        state.policies().rules(acme.id).reach(&Question::reach(state, stranger, foreign), at);
    assert_eq!(answer.forbids, BTreeSet::from(["builtin/isolation".to_owned()]));
}

#[test]
fn documents_delegate_and_withhold_what_is_done_to_a_resource_and_nothing_else() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let text = "@id(\"helper\") permit(principal == User::\"acme-user\",
        action in [Action::\"resource.read\", Action::\"resource.change\"], resource);
        @id(\"keep\") forbid(principal in Role::\"organization_admin\",
        action == Action::\"resource.remove\", resource == Resource::\"acme-ssh\");";
    rule(&mut platform, acme, text);
    let resource = Target::Resource(acme.resource);
    let ask = |user, action| authorize(platform.state(), &person(user), action, resource);
    for action in [Action::ReadResource, Action::ChangeResource] {
        let holder = crate::authorization::Holder::Ruled;
        assert_eq!(ask(acme.user, action), Decision::Allowed(Rule { action, holder }));
    }
    let forbidden = |action| Decision::Denied(Refusal::ForbiddenByPolicy(action));
    assert_eq!(ask(acme.admin, Action::RemoveResource), forbidden(Action::RemoveResource));
    assert!(ask(acme.admin, Action::ChangeResource).is_allowed());
    assert!(ask(acme.owner, Action::RemoveResource).is_allowed());

    // Whatever a document says, of the rest it says nothing, and policies can always be mended.
    rule(
        &mut platform,
        acme,
        "permit(principal, action, resource); forbid(principal, action, resource);",
    );
    let within = Target::Organization(acme.id);
    for action in [Action::CreateResource, Action::CreatePolicy, Action::GrantOwner] {
        let asked = if action == Action::GrantOwner {
            Target::Membership(acme.id, acme.user)
        } else {
            within
        };
        let decision = authorize(platform.state(), &person(acme.user), action, asked);
        assert!(!decision.is_allowed(), "{action}");
        assert!(authorize(platform.state(), &person(acme.owner), action, asked).is_allowed());
    }
    let policy = Target::Policy(acme.policy);
    let mend = authorize(platform.state(), &person(acme.admin), Action::ChangePolicy, policy);
    assert!(mend.is_allowed());
}

#[test]
fn a_permission_is_explained_by_the_rules_that_decided() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let within = Target::Organization(acme.id);
    let explain = |platform: &Platform, user, action, target| {
        explain_action(platform.state(), acme.id, user, action, target)
    };
    let owner = explain(&platform, acme.owner, Action::CreatePolicy, within).unwrap();
    let rules = BTreeSet::from(["builtin/organization_owner".to_owned()]);
    assert_eq!((owner.refusal, owner.rules), (None, rules));
    let user = explain(&platform, acme.user, Action::CreatePolicy, within).unwrap();
    assert_eq!(user.refusal, Some(Refusal::NotHeld(Action::CreatePolicy)));
    assert!(user.rules.is_empty());
    let keep = "@id(\"keep\") forbid(principal, action, resource);";
    rule(&mut platform, acme, keep);
    let resource = Target::Resource(acme.resource);
    let kept = explain(&platform, acme.owner, Action::RemoveResource, resource).unwrap();
    assert_eq!(kept.rules, BTreeSet::from([format!("{}/keep", acme.policy)]));
    // Who is no member has no answer, and what somebody is on the platform is not told.
    assert_eq!(explain(&platform, platform.globex.owner, Action::CreatePolicy, within), None);
    platform.world.member(acme.id, platform.owner, OrganizationRole::User);
    let owner = explain(&platform, platform.owner, Action::SuspendOrganization, within).unwrap();
    assert_eq!(owner.refusal, Some(Refusal::NotHeld(Action::SuspendOrganization)));
}

fn refused(platform: &Platform, document: &PolicyDocument) -> DocumentRefused {
    let acme = platform.acme;
    check_document(platform.state(), acme.id, acme.policy, document).unwrap_err()
}

#[test]
fn a_flaw_is_named_by_its_line_and_its_rule() {
    let platform = Platform::new();
    let good = "// A comment; with a semicolon\npermit(principal, action, resource);\n";
    for (text, line, rule, word) in [
        ("permit(principal, action, resource)", 1, Some("rule-1"), ""),
        ("\n\nallow(principal, action, resource);", 3, Some("rule-1"), "allow"),
        (
            "@id(\"b\")\npermit(principal, action,\n  resource)\nwhen { resource.colour == \"red\" };",
            4,
            Some("b"),
            "colour",
        ),
        ("permit(principal, action == Action::\"fly\", resource);", 1, Some("rule-1"), "fly"),
        ("permit(principal == Robot::\"r\", action, resource);", 1, Some("rule-1"), "Robot"),
        (
            "permit(principal, action, resource) when { context.hour < 9 };",
            1,
            Some("rule-1"),
            "hour",
        ),
        (
            "permit(principal == User::\"globex-user\", action, resource);",
            1,
            Some("rule-1"),
            "nothing of this organization",
        ),
        (
            "permit(principal, action, resource == Resource::\"globex-ssh\");",
            1,
            Some("rule-1"),
            "nothing of this organization",
        ),
        (
            "permit(principal in Role::\"king\", action, resource);",
            1,
            Some("rule-1"),
            "nothing of this organization",
        ),
        ("@id(\"No Name\")\npermit(principal, action, resource);", 1, None, "hyphens"),
        (
            "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);",
            2,
            Some("a"),
            "that name",
        ),
        ("permit(principal == ?principal, action, resource);", 1, None, "slots"),
        ("@lane(\"urgent\") permit(principal, action, resource);", 1, Some("rule-1"), "media"),
        ("@lane(\"bulk\") permit(principal, action, resource);", 1, Some("rule-1"), "media"),
        ("@lane(\"media\") forbid(principal, action, resource);", 1, Some("rule-1"), "none"),
        ("// nothing", 1, None, "no rule"),
    ] {
        for (before, offset) in [("", 0), (good, 2)] {
            if word == "no rule" && offset > 0 {
                continue;
            }
            let refused = refused(&platform, &document(&format!("{before}{text}")));
            let DocumentRefused::Flaw(flaw) = refused else { panic!("{text}: {refused:?}") };
            assert_eq!(flaw.line, line + offset, "{text}: {flaw}");
            let shifted = |rule: &str| {
                if offset > 0 { rule.replace("rule-1", "rule-2") } else { rule.to_owned() }
            };
            assert_eq!(flaw.rule, rule.map(shifted), "{text}: {flaw}");
            assert!(flaw.to_string().contains(word), "{flaw}");
        }
    }
}

#[test]
fn a_document_has_so_many_rules_and_an_organization_so_many_documents() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let most = format!("{PERMIT_ALL}\n").repeat(MAX_DOCUMENT_RULES);
    rule(&mut platform, acme, &most);
    let over = refused(&platform, &document(&format!("{most}{PERMIT_ALL}")));
    let DocumentRefused::Flaw(flaw) = over else { panic!("{over:?}") };
    assert_eq!(flaw.line, MAX_DOCUMENT_RULES + 1);
    for number in 1..=MAX_DOCUMENTS {
        let id = PolicyId::from_uuid(uuid(0xa000 + number as u128));
        let checked = check_document(platform.state(), acme.id, id, &document(PERMIT_ALL));
        let expected =
            if number < MAX_DOCUMENTS { Ok(()) } else { Err(DocumentRefused::TooManyDocuments) };
        assert_eq!(checked, expected, "{number}");
        if number < MAX_DOCUMENTS {
            let name = name(&format!("document-{number}"));
            let write = PolicyCommand::Write {
                organization: acme.id,
                name,
                document: document(PERMIT_ALL),
            };
            platform.must::<Policy>(id.uuid(), write);
        }
    }
    // Changing one of them is no further one.
    rule(&mut platform, acme, PERMIT_ALL);
}

#[test]
fn tests_block_a_bad_write_and_say_which_and_why() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let tested = |text: &str, tests: Vec<PolicyTest>| PolicyDocument { tests, ..document(text) };
    let office = "@id(\"office\") permit(principal, action == Action::\"reach\", resource)
        when { context.hour >= 8 && context.hour < 18 };";
    let (permit, forbid) = (Verdict::Permit, Verdict::Forbid);
    let good = vec![
        test("acme-user", "reach", "acme-ssh", "mon-09", permit),
        test("acme-user", "reach", "acme-ssh", "mon-18", forbid),
        test("acme-admin", "resource.remove", "acme-ssh", "", permit),
        test("acme-user", "resource.remove", "acme-ssh", "", forbid),
    ];
    let written = tested(office, good);
    check_document(platform.state(), acme.id, acme.policy, &written).unwrap();
    platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Rewrite { document: written });
    for (wrong, rules) in [
        (test("acme-user", "reach", "acme-ssh", "mon-19", permit), vec![]),
        (test("acme-user", "reach", "acme-ssh", "", permit), vec![]),
        (
            test("acme-user", "reach", "acme-ssh", "", forbid),
            vec![format!("{}/office", acme.policy)],
        ),
        (test("acme-user", "resource.change", "acme-ssh", "", permit), vec![]),
    ] {
        let (at, test, expect) = (0, wrong.name.clone(), wrong.expect);
        let failed = DocumentRefused::TestFailed { at, test, expect, rules };
        assert_eq!(refused(&platform, &tested(office, vec![wrong])), failed);
    }
    for (unclear, what) in [
        (test("globex-user", "reach", "acme-ssh", "", permit), "member"),
        (test("acme-user", "reach", "globex-ssh", "", permit), "resource"),
        (test("acme-user", "policy.change", "acme-ssh", "", permit), "action on a resource"),
    ] {
        let (at, test) = (0, unclear.name.clone());
        let refused = refused(&platform, &tested(office, vec![unclear]));
        assert_eq!(refused, DocumentRefused::TestUnclear { at, test, what });
    }
    // Another document may not break what this one promises.
    let other = PolicyId::from_uuid(uuid(0xb000));
    let closed = document("@id(\"closed\") forbid(principal, action, resource);");
    let refused = check_document(platform.state(), acme.id, other, &closed).unwrap_err();
    let DocumentRefused::OtherTestFailed(TestBroken { policy, test, rules, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((policy.as_str(), test.as_str()), ("acme-policy", "acme-user reach"));
    assert_eq!(rules, [format!("{other}/closed")]);
    // A test about somebody who left binds nobody.
    platform.must::<Membership>(membership_id(acme.id, acme.user), MembershipCommand::Revoke);
    platform.must::<Membership>(membership_id(acme.id, acme.admin), MembershipCommand::Revoke);
    check_document(platform.state(), acme.id, other, &closed).unwrap();
}

#[test]
fn lists_and_removals_are_held_to_what_other_policies_tests_say() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let text =
        "@id(\"no-web\") forbid(principal, action, resource) when { resource.kind == \"web\" };";
    let tests = vec![
        test("acme-user", "reach", "acme-ssh", "", Verdict::Permit),
        test("acme-admin", "reach", "acme-ssh", "", Verdict::Forbid),
    ];
    let tested = PolicyDocument { tests, ..document(text) };
    let (promises, fresh) = (PolicyId::from_uuid(uuid(0xd000)), PolicyId::from_uuid(uuid(0xd001)));
    check_document(platform.state(), acme.id, promises, &tested).unwrap();
    let write =
        PolicyCommand::Write { organization: acme.id, name: name("promises"), document: tested };
    platform.must::<Policy>(promises.uuid(), write);
    let spec = |users: &[UserId]| PolicySpec {
        users: users.iter().copied().collect(),
        kinds: BTreeSet::from([ResourceKind::Ssh]),
        ..PolicySpec::default()
    };
    let broken = |test: &str, expect, rules: Vec<String>| {
        Err(TestBroken { policy: name("promises"), test: test.to_owned(), expect, rules })
    };
    let lists = |id, users: &[UserId]| check_lists(platform.state(), acme.id, id, &spec(users));
    let missing = broken("acme-user reach", Verdict::Permit, vec![]);
    let beyond =
        |policy: PolicyId| broken("acme-admin reach", Verdict::Forbid, vec![policy.to_string()]);
    assert_eq!(lists(acme.policy, &[acme.owner]), missing);
    assert_eq!(lists(acme.policy, &[acme.user, acme.admin]), beyond(acme.policy));
    assert_eq!(lists(fresh, &[acme.admin]), beyond(fresh));
    for (policy, users) in
        [(acme.policy, [acme.user, acme.owner]), (fresh, [acme.owner, acme.user])]
    {
        assert_eq!(lists(policy, &users), Ok(()));
    }
    // With the document its own tests go.
    assert_eq!(lists(promises, &[acme.admin]), Ok(()));
    let goes = |id| check_policy_removal(platform.state(), acme.id, id);
    assert_eq!((goes(acme.policy), goes(promises)), (missing, Ok(())));

    let resource = |platform: &Platform, tenant: Tenant| {
        check_resource_removal(platform.state(), tenant.id, tenant.resource)
    };
    let test = "acme-user reach".to_owned();
    let asked = Err(TestedResource { policy: name("promises"), test });
    assert_eq!(resource(&platform, acme), asked);
    assert_eq!(resource(&platform, platform.globex), Ok(()));
    // Whoever must go goes; what is asked about nobody binds nobody.
    for user in [acme.user, acme.admin] {
        platform.must::<Membership>(membership_id(acme.id, user), MembershipCommand::Revoke);
    }
    assert_eq!(check_policy_removal(platform.state(), acme.id, acme.policy), Ok(()));
    platform.must::<Policy>(promises.uuid(), PolicyCommand::Remove);
    assert_eq!(resource(&platform, acme), Ok(()));
}

#[test]
fn a_session_ends_with_the_hours_that_its_rule_gave_it() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let at = WeekHour::of(platform.world.now);
    let text = format!(
        "permit(principal, action == Action::\"reach\", resource) when {{ context.hour == {} }};",
        at.hour()
    );
    rule(&mut platform, acme, &text);
    let steps = |platform: &Platform| {
        let now = platform.world.now;
        let steps = due(platform.state(), Clock { now, listening_since: now });
        steps.into_iter().filter(|step| step.process == "access-withdrawal").count()
    };
    assert_eq!(steps(&platform), 0);
    // The egress is told whoever may reach it at some hour: what it is told has no clock.
    let told = |platform: &Platform| {
        let compiled = compile(platform.state(), acme.egress).unwrap();
        let bytes: Vec<u8> = compiled.sections.values().flatten().copied().collect();
        let id = acme.admin.uuid();
        bytes.windows(16).any(|part| part == id.as_bytes())
    };
    assert!(told(&platform));
    platform.world.advance(3_600_000);
    assert_eq!(steps(&platform), 1);
    rule(&mut platform, acme, "forbid(principal, action, resource);");
    assert!(!told(&platform));
}

#[test]
fn what_was_compiled_comes_back_with_the_state_that_was_stored() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    rule(&mut platform, acme, "permit(principal == User::\"acme-admin\", action, resource);");
    let read = State::from_bytes(&platform.state().to_bytes()).unwrap();
    let at = WeekHour::of(platform.world.now);
    for (user, permitted) in [(acme.admin, true), (acme.user, false)] {
        for state in [&read, platform.state(), &platform.world.replay()] {
            let explained = explain(state, acme.id, user, acme.resource, at);
            assert_eq!(explained.is_permitted(), permitted);
        }
    }
    assert_eq!(read.to_bytes(), platform.state().to_bytes());
    // A policy goes with all of its rules, and lists take their place again.
    platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
    assert!(!may(&platform, acme, acme.admin, "mon-09"));
    assert!(!platform.state().policies().rules(acme.id).has_documents());
}

#[test]
fn a_document_that_cannot_be_read_forbids_everything_and_can_be_replaced() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    // Written past the check, as by a program that knows another language.
    let rewrite =
        PolicyCommand::Rewrite { document: document("maybe(principal, action, resource);") };
    platform.must::<Policy>(acme.policy.uuid(), rewrite);
    let spec = PolicySpec {
        users: BTreeSet::from([acme.user]),
        kinds: BTreeSet::from([ResourceKind::Ssh]),
        ..PolicySpec::default()
    };
    let lists = PolicyId::from_uuid(uuid(0xc000));
    let create = PolicyCommand::Create { organization: acme.id, name: name("lists"), spec };
    platform.must::<Policy>(lists.uuid(), create);
    let at = WeekHour::of(platform.world.now);
    let explained = explain(platform.state(), acme.id, acme.user, acme.resource, at);
    assert!(!explained.is_permitted() && explained.answer.failed);
    assert_eq!(explained.denial(), "a rule cannot be evaluated, which forbids it");
    assert!(!may(&platform, acme, acme.user, "mon-09"));
    let policy = Target::Policy(acme.policy);
    let decision = authorize(platform.state(), &person(acme.admin), Action::ChangePolicy, policy);
    assert!(decision.is_allowed());
    platform.must::<Policy>(acme.policy.uuid(), PolicyCommand::Remove);
    assert!(may(&platform, acme, acme.user, "mon-09"));
}

#[test]
fn a_decision_names_its_rules_the_policies_hash_and_the_newest_change() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let at = WeekHour::of(platform.world.now);
    let ask =
        |platform: &Platform| explain(platform.state(), acme.id, acme.user, acme.resource, at);
    let first = ask(&platform);
    assert_eq!(first.basis.rules, BTreeSet::from([acme.policy.to_string()]));
    assert_eq!(first.basis.policy_hash, Some(platform.state().policies().hash(acme.id)));
    label(&mut platform, acme, "env", "prod");
    let labelled = ask(&platform);
    assert_eq!(labelled.basis.entity_version, Some(platform.state().position()));
    assert_eq!(labelled.basis.policy_hash, first.basis.policy_hash);
    rule(&mut platform, acme, "@id(\"all\") permit(principal, action, resource);");
    let ruled = ask(&platform);
    assert_eq!(ruled.basis.rules, BTreeSet::from([format!("{}/all", acme.policy)]));
    assert_ne!(ruled.basis.policy_hash, first.basis.policy_hash);
    assert_eq!(ruled.basis.entity_version, labelled.basis.entity_version);
    // Another organization's changes are no business of this one's decisions.
    let globex = platform.globex;
    rule(&mut platform, globex, PERMIT_ALL);
    assert_eq!(ask(&platform).basis, ruled.basis);
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
