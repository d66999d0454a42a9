#![allow(clippy::unwrap_used)]

use rap_proto::{OrganizationRole, ResourceId, ResourceKind, UserId};

use super::*;
use crate::{
    Aggregate as _, EventCodec as _,
    log::MAX_PAYLOAD_BYTES,
    tests::{
        given::given,
        samples::{ACME, ALICE, BOB, SSH, document, name, spec},
    },
};

const WEB: ResourceId = ResourceId::from_u128(90);

fn created() -> PolicyEvent {
    PolicyCreated { organization: ACME, name: name("admins"), spec: spec() }.into()
}

fn create(spec: PolicySpec) -> PolicyCommand {
    PolicyCommand::Create { organization: ACME, name: name("admins"), spec }
}

#[test]
fn a_policy_is_created_once() {
    let state = given::<Policy>([]).when(create(spec())).then([created()]);
    assert_eq!(state.organization(), Some(ACME));
    for events in [vec![created()], vec![created(), PolicyRemoved {}.into()]] {
        given::<Policy>(events).when(create(spec())).rejected(PolicyRejection::AlreadyExists);
    }
}

#[test]
fn a_policy_says_who_and_what() {
    let users = |count: usize| (0..count as u128).map(UserId::from_u128).collect();
    let resources = |count: usize| (0..count as u128).map(ResourceId::from_u128).collect();
    let nobody = PolicySpec { users: users(0), roles: [].into(), ..spec() };
    let nothing = PolicySpec { resources: resources(0), kinds: [].into(), ..spec() };
    let crowd = PolicySpec { users: users(MAX_POLICY_ENTRIES + 1), ..spec() };
    let heap = PolicySpec { resources: resources(MAX_POLICY_ENTRIES + 1), ..spec() };
    for (spec, rejection) in [
        (nobody, PolicyRejection::MatchesNobody),
        (nothing, PolicyRejection::MatchesNothing),
        (crowd, PolicyRejection::TooManyEntries),
        (heap, PolicyRejection::TooManyEntries),
    ] {
        given::<Policy>([]).when(create(spec.clone())).rejected(rejection);
        given::<Policy>([created()]).when(PolicyCommand::Change { spec }).rejected(rejection);
    }
    let largest = PolicySpec {
        users: users(MAX_POLICY_ENTRIES),
        roles: OrganizationRole::ALL.iter().copied().collect(),
        resources: resources(MAX_POLICY_ENTRIES),
        kinds: ResourceKind::ALL.iter().copied().collect(),
    };
    let event: PolicyEvent = PolicyChanged { spec: largest.clone() }.into();
    assert!(event.encode().len() + 200 <= MAX_PAYLOAD_BYTES);
    given::<Policy>([created()]).when(PolicyCommand::Change { spec: largest }).then([event]);
}

#[test]
fn a_policy_is_changed_and_removed() {
    let change = |spec: PolicySpec| PolicyCommand::Change { spec };
    given::<Policy>([created()]).when(change(spec())).nothing();
    let removed: PolicyEvent = PolicyRemoved {}.into();
    for events in [vec![], vec![created(), removed.clone()]] {
        given::<Policy>(events).when(change(spec())).rejected(PolicyRejection::NotFound);
    }
    let remove = PolicyCommand::Remove;
    given::<Policy>([]).when(remove.clone()).rejected(PolicyRejection::NotFound);
    given::<Policy>([created()]).when(remove.clone()).then([removed.clone()]);
    given::<Policy>([created(), removed]).when(remove).nothing();
}

#[test]
fn a_policy_permits_who_matches_what_matches_and_nobody_else() {
    let (user, admin) = (OrganizationRole::User, OrganizationRole::Admin);
    let (ssh, web) = (ResourceKind::Ssh, ResourceKind::Web);
    for (who, role, resource, kind, permitted) in [
        (ALICE, user, SSH, ssh, true),
        (BOB, admin, SSH, ssh, true),
        (ALICE, user, WEB, web, true),
        (BOB, user, SSH, ssh, false),
        (ALICE, user, WEB, ssh, false),
        (BOB, OrganizationRole::Owner, WEB, web, false),
    ] {
        let case = format!("{who} {role} {resource} {kind}");
        assert_eq!(spec().permits(who, role, resource, kind), permitted, "{case}");
    }
    assert!(!PolicySpec::default().permits(ALICE, admin, SSH, ssh));
}

#[test]
fn a_policy_is_written_as_a_document_and_goes_both_ways() {
    let write =
        |document| PolicyCommand::Write { organization: ACME, name: name("rules"), document };
    let written: PolicyEvent =
        PolicyWritten { organization: ACME, name: name("rules"), document: document() }.into();
    let state = given::<Policy>([]).when(write(document())).then([written.clone()]);
    assert_eq!((state.organization(), state.document), (Some(ACME), Some(document())));
    for events in [vec![created()], vec![written.clone()]] {
        given::<Policy>(events).when(write(document())).rejected(PolicyRejection::AlreadyExists);
    }
    let rewrite = |document| PolicyCommand::Rewrite { document };
    let rewritten: PolicyEvent = PolicyRewritten { document: document() }.into();
    given::<Policy>([written.clone()]).when(rewrite(document())).nothing();
    let state = given::<Policy>([created()]).when(rewrite(document())).then([rewritten.clone()]);
    assert_eq!(state.spec, PolicySpec::default(), "nobody is permitted by what stood there");
    let changed: PolicyEvent = PolicyChanged { spec: spec() }.into();
    let change = PolicyCommand::Change { spec: spec() };
    let state = given::<Policy>([created(), rewritten]).when(change).then([changed]);
    assert_eq!((state.spec, state.document), (spec(), None));
    let gone = [written, PolicyRemoved {}.into()];
    given::<Policy>(gone).when(rewrite(document())).rejected(PolicyRejection::NotFound);
    given::<Policy>([]).when(rewrite(document())).rejected(PolicyRejection::NotFound);
}

#[test]
fn a_document_and_its_tests_are_bounded() {
    let text = |length: usize| PolicyDocument { text: "x".repeat(length), tests: Vec::new() };
    let tested = |count: usize, length: usize| {
        let test = PolicyTest { name: "t".repeat(length), ..document().tests[0].clone() };
        PolicyDocument { tests: vec![test; count], ..document() }
    };
    let control = PolicyDocument { text: "permit\u{1b}".to_owned(), tests: Vec::new() };
    for (wrong, rejection) in [
        (text(0), PolicyRejection::DocumentInvalid),
        (text(MAX_DOCUMENT_BYTES + 1), PolicyRejection::DocumentInvalid),
        (control, PolicyRejection::DocumentInvalid),
        (tested(MAX_DOCUMENT_TESTS + 1, 1), PolicyRejection::TestsInvalid),
        (tested(1, MAX_TEST_NAME_BYTES + 1), PolicyRejection::TestsInvalid),
    ] {
        let rewrite = PolicyCommand::Rewrite { document: wrong.clone() };
        given::<Policy>([created()]).when(rewrite).rejected(rejection);
        let (organization, name) = (ACME, name("rules"));
        let write = PolicyCommand::Write { organization, name, document: wrong };
        given::<Policy>([]).when(write).rejected(rejection);
    }
    let mut largest = tested(MAX_DOCUMENT_TESTS, MAX_TEST_NAME_BYTES);
    largest.text = "x".repeat(MAX_DOCUMENT_BYTES);
    for test in &mut largest.tests {
        test.user = name(&"u".repeat(63));
        test.resource = name(&"r".repeat(63));
        test.action = "a".repeat(MAX_TEST_NAME_BYTES);
    }
    let event: PolicyEvent = PolicyRewritten { document: largest.clone() }.into();
    assert!(event.encode().len() + 200 <= MAX_PAYLOAD_BYTES);
    let rewrite = PolicyCommand::Rewrite { document: largest };
    given::<Policy>([created()]).when(rewrite).then([event]);
}
