//! What documents permit, forbid, delegate and explain.

use super::*;

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
