#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use rap_proto::{NodeRole, OrganizationId, PoolId, Timestamp, snapshot::RoleScope};

use super::*;
use crate::{
    Aggregate as _,
    node::{MAX_POOLS, MAX_SCOPE_ORGANIZATIONS},
    tests::{
        given::{NOW, given},
        samples::{
            ACME, EGRESS, ENTRY, GLOBEX, MINUTE_MS, after, join_token_created, name, offer, role,
            secret,
        },
    },
};

const HOUR_MS: i64 = 60 * MINUTE_MS;

fn created() -> JoinTokenEvent {
    join_token_created().into()
}

fn used() -> JoinTokenEvent {
    JoinTokenUsed { node: EGRESS }.into()
}

fn revoked() -> JoinTokenEvent {
    JoinTokenRevoked {}.into()
}

fn using(code: &str, host: &str) -> JoinTokenCommand {
    JoinTokenCommand::Use { presented: secret(code), node: EGRESS, name: name(host) }
}

fn create(
    organization: Option<OrganizationId>,
    roles: Vec<RoleScope>,
    pools: BTreeSet<PoolId>,
    expires_at: Timestamp,
) -> JoinTokenCommand {
    JoinTokenCommand::Create {
        secret: secret("join"),
        roles,
        pools,
        organization,
        host_name: Some(name("egress-1")),
        expires_at,
        auto_approve: false,
    }
}

#[test]
fn a_join_token_is_created_once_for_an_hour_at_most() {
    let command = |expires_at| create(Some(ACME), offer().roles, offer().pools, expires_at);
    let state = given::<JoinToken>([]).when(command(after(HOUR_MS))).then([created()]);
    assert_eq!((state.organization(), state.offer()), (Some(ACME), Some(&offer())));
    given::<JoinToken>([created()])
        .when(command(after(HOUR_MS)))
        .rejected(JoinTokenRejection::AlreadyExists);
    for expires_at in [NOW, after(HOUR_MS + 1)] {
        given::<JoinToken>([])
            .when(command(expires_at))
            .rejected(JoinTokenRejection::LifetimeOutOfRange);
    }
}

#[test]
fn an_offer_stays_within_its_organization_and_limits() {
    let worker = NodeRole::StreamWorker;
    let decide = |organization, roles, pools| {
        given::<JoinToken>([]).when(create(organization, roles, pools, after(HOUR_MS)))
    };
    let everywhere = RoleScope { role: worker, organizations: None };
    for foreign in [role(worker, &[GLOBEX]), role(worker, &[ACME, GLOBEX]), everywhere.clone()] {
        decide(Some(ACME), vec![foreign], [].into())
            .rejected(JoinTokenRejection::ForeignOrganization);
    }
    let twice = vec![role(worker, &[ACME]), role(worker, &[])];
    decide(Some(ACME), twice, [].into()).rejected(JoinTokenRejection::ScopeTooLarge);
    let many = |count: usize| (0..count as u128).map(OrganizationId::from_u128).collect::<Vec<_>>();
    let wide = role(worker, &many(MAX_SCOPE_ORGANIZATIONS + 1));
    decide(None, vec![wide], [].into()).rejected(JoinTokenRejection::ScopeTooLarge);
    let pools = (0..=MAX_POOLS as u128).map(PoolId::from_u128).collect();
    decide(None, Vec::new(), pools).rejected(JoinTokenRejection::ScopeTooLarge);

    // The platform's own token reaches every organization, and roles come in one order.
    let entry = RoleScope { role: NodeRole::EntryNode, organizations: None };
    let expected = JoinTokenCreated {
        roles: vec![entry.clone(), everywhere.clone()],
        organization: None,
        pools: [].into(),
        ..join_token_created()
    };
    decide(None, vec![everywhere, entry], [].into()).then([expected.into()]);
}

#[test]
fn a_join_token_is_used_once() {
    let state = given::<JoinToken>([created()]).when(using("join", "egress-1")).then([used()]);
    assert_eq!(state.used_by, Some(EGRESS));
    given::<JoinToken>([created(), used()])
        .when(using("join", "egress-1"))
        .rejected(JoinTokenRejection::AlreadyUsed);
    let other_node =
        JoinTokenCommand::Use { presented: secret("join"), node: ENTRY, name: name("egress-1") };
    given::<JoinToken>([created(), used()])
        .when(other_node)
        .rejected(JoinTokenRejection::AlreadyUsed);
}

#[test]
fn a_join_token_opens_only_what_it_is_for() {
    let decide = |events: Vec<JoinTokenEvent>, command| given::<JoinToken>(events).when(command);
    decide(vec![], using("join", "egress-1")).rejected(JoinTokenRejection::NotFound);
    decide(vec![created()], using("guess", "egress-1")).rejected(JoinTokenRejection::NotFound);
    decide(vec![created()], using("join", "egress-2"))
        .rejected(JoinTokenRejection::HostNameMismatch);
    decide(vec![created(), revoked()], using("join", "egress-1"))
        .rejected(JoinTokenRejection::Revoked);
    given::<JoinToken>([created()])
        .at(after(HOUR_MS))
        .when(using("join", "egress-1"))
        .rejected(JoinTokenRejection::Expired);
    let anyone = JoinTokenCreated { host_name: None, ..join_token_created() };
    decide(vec![anyone.into()], using("join", "whatever")).then([used()]);
}

#[test]
fn a_join_token_is_revoked_before_its_use() {
    let revoke = JoinTokenCommand::Revoke;
    given::<JoinToken>([]).when(revoke.clone()).rejected(JoinTokenRejection::NotFound);
    given::<JoinToken>([created()]).when(revoke.clone()).then([revoked()]);
    given::<JoinToken>([created(), revoked()]).when(revoke.clone()).nothing();
    given::<JoinToken>([created(), used()]).when(revoke).rejected(JoinTokenRejection::AlreadyUsed);
}

fn refusal(code: &str, host: &str, key_enrolled: bool) -> JoinTokenCommand {
    JoinTokenCommand::RecordRefusal { presented: secret(code), name: name(host), key_enrolled }
}

fn refused(reason: UseRefusal, host: &str) -> JoinTokenEvent {
    JoinTokenUseRefused { reason, name: name(host) }.into()
}

#[test]
fn a_refused_use_is_recorded_with_its_reason() {
    let hour = after(HOUR_MS);
    for (events, at, host, key_enrolled, reason) in [
        (vec![used()], NOW, "egress-1", false, UseRefusal::Used),
        (vec![used(), revoked()], hour, "egress-2", true, UseRefusal::Used),
        (vec![revoked()], NOW, "egress-1", false, UseRefusal::Revoked),
        (vec![], hour, "egress-1", false, UseRefusal::Expired),
        (vec![], NOW, "egress-2", false, UseRefusal::WrongHostName),
        (vec![], NOW, "egress-1", true, UseRefusal::KeyEnrolled),
    ] {
        let events = [vec![created()], events].concat();
        let before = events.iter().fold(JoinToken::default(), |mut state, event| {
            state.evolve(event);
            state
        });
        let command = refusal("join", host, key_enrolled);
        let state = given::<JoinToken>(events).at(at).when(command).then([refused(reason, host)]);
        assert_eq!(state, JoinToken { refusals: 1, ..before }, "nothing else changed");
    }
    // Who could have used it, and who did not know the secret, leaves no trace here.
    given::<JoinToken>([created()]).when(refusal("join", "egress-1", false)).nothing();
    for (events, code) in [(vec![], "join"), (vec![created(), used()], "guess")] {
        given::<JoinToken>(events)
            .when(refusal(code, "egress-1", true))
            .rejected(JoinTokenRejection::NotFound);
    }
}

#[test]
fn only_so_many_refused_uses_are_recorded() {
    let refusals = |count: u32| (0..count).map(|_| refused(UseRefusal::Used, "egress-2"));
    let token = |count| given::<JoinToken>([created(), used()].into_iter().chain(refusals(count)));
    let command = refusal("join", "egress-2", false);
    let state = token(MAX_RECORDED_REFUSALS - 1).when(command.clone()).then(refusals(1));
    assert_eq!(state.refusals, MAX_RECORDED_REFUSALS);
    token(MAX_RECORDED_REFUSALS).when(command).nothing();
}
