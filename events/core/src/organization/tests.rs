#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    Aggregate as _,
    aggregate::MAX_TEXT_BYTES,
    tests::{
        given::given,
        samples::{ACME, name, quotas},
    },
};

fn created() -> OrganizationEvent {
    OrganizationCreated { organization: ACME, name: name("acme") }.into()
}

fn suspended() -> OrganizationEvent {
    OrganizationSuspended { reason: "unpaid".to_owned() }.into()
}

fn suspend(reason: &str) -> OrganizationCommand {
    OrganizationCommand::Suspend { reason: reason.to_owned() }
}

#[test]
fn an_organization_is_created_once() {
    let create = OrganizationCommand::Create { organization: ACME, name: name("acme") };
    let state = given::<Organization>([]).when(create.clone()).then([created()]);
    assert_eq!((state.organization(), state.standing), (Some(ACME), Standing::Active));
    for events in [vec![created()], vec![created(), OrganizationRemoved {}.into()]] {
        given::<Organization>(events)
            .when(create.clone())
            .rejected(OrganizationRejection::AlreadyExists);
    }
}

#[test]
fn what_is_absent_or_removed_is_not_found() {
    let removed = OrganizationRemoved {};
    let rename = OrganizationCommand::Rename { name: name("b") };
    for command in [rename, suspend("why"), OrganizationCommand::Resume] {
        for events in [vec![], vec![created(), removed.clone().into()]] {
            given::<Organization>(events)
                .when(command.clone())
                .rejected(OrganizationRejection::NotFound);
        }
    }
    let remove = OrganizationCommand::Remove;
    given::<Organization>([]).when(remove.clone()).rejected(OrganizationRejection::NotFound);
    given::<Organization>([created()]).when(remove.clone()).then([removed.clone().into()]);
    given::<Organization>([created(), removed.into()]).when(remove).nothing();
}

#[test]
fn a_rename_to_the_same_name_is_nothing() {
    let rename = |to: &str| OrganizationCommand::Rename { name: name(to) };
    given::<Organization>([created()]).when(rename("acme")).nothing();
    let renamed = OrganizationRenamed { name: name("ltd") };
    let state = given::<Organization>([created()]).when(rename("ltd")).then([renamed.into()]);
    assert_eq!(state.name, Some(name("ltd")));
}

#[test]
fn an_organization_is_suspended_and_resumed() {
    let resume = OrganizationCommand::Resume;
    given::<Organization>([created()]).when(suspend("unpaid")).then([suspended()]);
    given::<Organization>([created(), suspended()]).when(suspend("again")).nothing();
    given::<Organization>([created(), suspended()])
        .when(resume.clone())
        .then([OrganizationResumed {}.into()]);
    given::<Organization>([created()]).when(resume).nothing();
}

#[test]
fn a_reason_is_plain_and_short() {
    let longest = "r".repeat(MAX_TEXT_BYTES);
    for reason in ["two\nlines", "\u{1b}[2J", &format!("{longest}r")] {
        given::<Organization>([created()])
            .when(suspend(reason))
            .rejected(OrganizationRejection::TextNotPlain);
    }
    given::<Organization>([created()])
        .when(suspend(&longest))
        .then([OrganizationSuspended { reason: longest.clone() }.into()]);
}

#[test]
fn quotas_are_set_as_a_whole_and_within_bounds() {
    let set = |quotas| OrganizationCommand::SetQuotas { quotas };
    given::<Organization>([created()]).when(set(Quotas::default())).nothing();
    let state = given::<Organization>([created()])
        .when(set(quotas()))
        .then([OrganizationQuotasSet { quotas: quotas() }.into()]);
    assert_eq!(state.quotas, quotas());
    let greatest = Quotas { nodes: 0, sessions: MAX_QUOTA, ..quotas() };
    given::<Organization>([created()])
        .when(set(greatest))
        .then([OrganizationQuotasSet { quotas: greatest }.into()]);
    for wrong in [
        Quotas { nodes: MAX_QUOTA + 1, ..quotas() },
        Quotas { sessions: MAX_QUOTA + 1, ..quotas() },
        Quotas { events_per_second: 0, ..quotas() },
    ] {
        given::<Organization>([created()])
            .when(set(wrong))
            .rejected(OrganizationRejection::QuotaOutOfRange);
    }
    for events in [vec![], vec![created(), OrganizationRemoved {}.into()]] {
        given::<Organization>(events).when(set(quotas())).rejected(OrganizationRejection::NotFound);
    }
}
