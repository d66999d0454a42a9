//! What becomes of rules and decisions as time goes by.

use super::*;

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
