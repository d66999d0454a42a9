//! What is checked before a policy is written or something is removed.

use super::*;

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
