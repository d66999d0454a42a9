#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use rap_proto::{Capability, NodeRole, OrganizationId, PoolId, Timestamp, wire::node_api};

use super::*;
use crate::{
    Aggregate as _, EventCodec as _,
    log::MAX_PAYLOAD_BYTES,
    tests::{
        given::{Given, NOW, given},
        samples::{
            ACME, GLOBEX, MINUTE_MS, POOL, TOKEN, after, certificate, node_requested, offer, role,
        },
    },
};

const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

fn request(change: impl FnOnce(&mut NodeRequested)) -> NodeCommand {
    let mut requested = node_requested();
    change(&mut requested);
    let NodeRequested {
        name,
        key,
        addresses,
        capabilities,
        bus_key,
        agent_version,
        join_token,
        offer,
    } = requested;
    NodeCommand::Request {
        name,
        key,
        addresses,
        capabilities,
        bus_key,
        agent_version,
        join_token,
        offer,
    }
}

fn approval(automatic: bool) -> Vec<NodeEvent> {
    vec![
        NodeApproved { automatic }.into(),
        RolesAssigned { roles: offer().roles }.into(),
        PoolsAssigned { pools: [POOL].into() }.into(),
    ]
}

fn revoked(reason: RevocationReason, note: &str) -> NodeEvent {
    NodeRevoked { reason, note: note.to_owned() }.into()
}

fn rejected() -> NodeEvent {
    NodeRejected { reason: "unknown host".to_owned() }.into()
}

fn pending(events: &[NodeEvent]) -> Given<Node> {
    given([&[node_requested().into()], events].concat())
}

fn approved(events: &[NodeEvent]) -> Given<Node> {
    given([&[node_requested().into()], &approval(false)[..], events].concat())
}

fn renew(renewal: u64) -> NodeCommand {
    NodeCommand::RenewCertificate { renewal, serial: [7; 16], expires_at: after(DAY_MS) }
}

fn issue(expires_at: Timestamp) -> NodeCommand {
    NodeCommand::IssueCertificate { serial: [7; 16], expires_at }
}

#[test]
fn a_host_asks_and_is_approved() {
    let state = given::<Node>([]).when(request(|_| {})).then([node_requested().into()]);
    assert_eq!((state.standing, state.organization()), (Standing::Pending, Some(ACME)));
    assert_eq!(node_requested().join_token, TOKEN);
    pending(&[]).when(request(|_| {})).rejected(NodeRejection::AlreadyExists);
    let state = pending(&[]).when(NodeCommand::Approve).then(approval(false));
    assert_eq!((state.standing, state.roles), (Standing::Approved, offer().roles));
    approved(&[]).when(NodeCommand::Approve).nothing();
    given::<Node>([]).when(NodeCommand::Approve).rejected(NodeRejection::NotFound);
}

#[test]
fn a_join_token_can_approve_and_offer_nothing() {
    let offered = Offer { auto_approve: true, ..offer() };
    let requested = NodeRequested { offer: offered.clone(), ..node_requested() };
    let expected = [vec![requested.into()], approval(true)].concat();
    given::<Node>([]).when(request(|requested| requested.offer = offered)).then(expected);

    let nothing = Offer { roles: Vec::new(), pools: [].into(), ..offer() };
    let requested = NodeRequested { offer: nothing, ..node_requested() };
    given::<Node>([requested.into()])
        .when(NodeCommand::Approve)
        .then([NodeApproved { automatic: false }.into()]);
}

#[test]
fn a_request_keeps_the_limits() {
    let decide = |change: &dyn Fn(&mut NodeRequested)| given::<Node>([]).when(request(change));
    let address = node_requested().addresses[0];
    decide(&|requested| requested.addresses = vec![address; node_api::MAX_ADDRESSES + 1])
        .rejected(NodeRejection::TooManyAddresses);
    decide(&|requested| requested.bus_key = "U\n".to_owned()).rejected(NodeRejection::TextNotPlain);
    decide(&|requested| requested.agent_version = "v".repeat(257))
        .rejected(NodeRejection::TextNotPlain);
    decide(&|requested| requested.offer.roles = vec![role(NodeRole::EntryNode, &[GLOBEX])])
        .rejected(NodeRejection::ForeignOrganization);
}

#[test]
fn the_largest_offer_fits_into_one_event() {
    let organizations: Vec<_> =
        (0..MAX_SCOPE_ORGANIZATIONS as u128).map(OrganizationId::from_u128).collect();
    let largest = Offer {
        organization: None,
        roles: NodeRole::ALL.iter().map(|each| role(*each, &organizations)).collect(),
        pools: (0..MAX_POOLS as u128).map(PoolId::from_u128).collect(),
        auto_approve: false,
    };
    assert!(NodeRole::ALL.len() <= MAX_ROLES);
    let requested = NodeRequested { offer: largest.clone(), ..node_requested() };
    let event = NodeEvent::from(requested.clone());
    assert!(event.encode().len() <= MAX_PAYLOAD_BYTES);
    given::<Node>([]).when(request(|requested| requested.offer = largest)).then([event]);
}

#[test]
fn a_request_is_rejected() {
    let reject = NodeCommand::Reject { reason: "unknown host".to_owned() };
    pending(&[]).when(reject.clone()).then([rejected()]);
    pending(&[rejected()]).when(reject.clone()).nothing();
    pending(&[rejected()]).when(NodeCommand::Approve).rejected(NodeRejection::Rejected);
    approved(&[]).when(reject.clone()).rejected(NodeRejection::AlreadyApproved);
    given::<Node>([]).when(reject).rejected(NodeRejection::NotFound);
}

#[test]
fn only_an_approved_node_gets_anything() {
    let revocation = revoked(RevocationReason::Operator, "sold");
    for command in [
        issue(after(DAY_MS)),
        renew(1),
        NodeCommand::AssignRoles { roles: Vec::new() },
        NodeCommand::AssignPools { pools: [].into() },
        NodeCommand::ReportCapabilities { capabilities: [].into(), agent_version: String::new() },
        NodeCommand::ChangeAddresses { addresses: Vec::new() },
        NodeCommand::StartDraining,
        NodeCommand::EndDraining,
    ] {
        given::<Node>([]).when(command.clone()).rejected(NodeRejection::NotFound);
        pending(&[]).when(command.clone()).rejected(NodeRejection::NotApproved);
        pending(&[rejected()]).when(command.clone()).rejected(NodeRejection::Rejected);
        approved(std::slice::from_ref(&revocation)).when(command).rejected(NodeRejection::Revoked);
    }
}

#[test]
fn the_first_certificate_is_given_again_until_it_is_renewed() {
    approved(&[]).when(issue(after(DAY_MS))).then([certificate(1).into()]);
    approved(&[certificate(1).into()]).when(issue(after(DAY_MS))).then([certificate(1).into()]);
    approved(&[certificate(1).into(), certificate(2).into()])
        .when(issue(after(DAY_MS)))
        .rejected(NodeRejection::AlreadyEnrolled);
    for expires_at in [NOW, after(DAY_MS + 1)] {
        approved(&[]).when(issue(expires_at)).rejected(NodeRejection::LifetimeOutOfRange);
    }
}

#[test]
fn a_host_that_was_off_for_days_comes_back_with_its_key() {
    let later = after(3 * DAY_MS);
    let expires_at = after(4 * DAY_MS);
    let renewed = CertificateIssued { renewal: 3, serial: [7; 16], issued_at: later, expires_at };
    approved(&[certificate(2).into()]).at(later).when(issue(expires_at)).then([renewed.into()]);
}

#[test]
fn a_renewal_counts_up() {
    approved(&[certificate(1).into()]).when(renew(1)).then([certificate(2).into()]);
    approved(&[]).when(renew(0)).rejected(NodeRejection::NotEnrolled);
}

#[test]
fn a_lost_answer_can_be_asked_for_again_for_five_minutes() {
    let retry_ms = i64::try_from(RENEWAL_RETRY_MS).unwrap();
    let events = [certificate(1).into(), certificate(2).into()];
    let again = CertificateIssued { issued_at: after(retry_ms), ..certificate(2) };
    approved(&events).at(after(retry_ms)).when(renew(1)).then([again.into()]);
    let note = "renewal 2 is in use, 1 was shown";
    approved(&events)
        .at(after(retry_ms + 1))
        .when(renew(1))
        .then([revoked(RevocationReason::IdentityCopied, note)]);
}

#[test]
fn a_copied_identity_locks_both_holders() {
    for shown in [0, 1, 4, u64::MAX] {
        let note = format!("renewal 3 is in use, {shown} was shown");
        let state = approved(&[certificate(3).into()])
            .when(renew(shown))
            .then([revoked(RevocationReason::IdentityCopied, &note)]);
        assert_eq!(state.standing, Standing::Revoked);
    }
}

#[test]
fn roles_and_pools_are_assigned() {
    let entry = vec![role(NodeRole::EntryNode, &[ACME])];
    let assign = |roles: &[_]| NodeCommand::AssignRoles { roles: roles.to_vec() };
    approved(&[]).when(assign(&entry)).then([RolesAssigned { roles: entry.clone() }.into()]);
    approved(&[]).when(assign(&offer().roles)).nothing();
    approved(&[])
        .when(assign(&[role(NodeRole::EntryNode, &[GLOBEX])]))
        .rejected(NodeRejection::ForeignOrganization);
    let twice = [role(NodeRole::EntryNode, &[ACME]), role(NodeRole::EntryNode, &[ACME])];
    approved(&[]).when(assign(&twice)).rejected(NodeRejection::ScopeTooLarge);

    let pools = |count: usize| (0..count as u128).map(PoolId::from_u128).collect::<BTreeSet<_>>();
    let assign = |pools| NodeCommand::AssignPools { pools };
    approved(&[]).when(assign([POOL].into())).nothing();
    approved(&[]).when(assign(pools(MAX_POOLS + 1))).rejected(NodeRejection::ScopeTooLarge);
    approved(&[])
        .when(assign(pools(MAX_POOLS)))
        .then([PoolsAssigned { pools: pools(MAX_POOLS) }.into()]);
}

#[test]
fn a_node_reports_what_it_can_and_where_it_is() {
    let report = |capabilities: BTreeSet<Capability>| NodeCommand::ReportCapabilities {
        capabilities,
        agent_version: "0.1.0".to_owned(),
    };
    approved(&[]).when(report(node_requested().capabilities)).nothing();
    let reported =
        CapabilitiesReported { capabilities: [].into(), agent_version: "0.1.0".to_owned() };
    approved(&[]).when(report([].into())).then([reported.into()]);

    let change = |addresses: &[_]| NodeCommand::ChangeAddresses { addresses: addresses.to_vec() };
    let addresses = node_requested().addresses;
    approved(&[]).when(change(&addresses)).nothing();
    approved(&[])
        .when(change(&addresses[..1]))
        .then([AddressesChanged { addresses: addresses[..1].to_vec() }.into()]);
    approved(&[])
        .when(change(&vec![addresses[0]; node_api::MAX_ADDRESSES + 1]))
        .rejected(NodeRejection::TooManyAddresses);
}

#[test]
fn a_node_is_drained_and_comes_back() {
    let started: NodeEvent = DrainingStarted {}.into();
    approved(&[]).when(NodeCommand::StartDraining).then([started.clone()]);
    approved(std::slice::from_ref(&started)).when(NodeCommand::StartDraining).nothing();
    approved(&[started]).when(NodeCommand::EndDraining).then([DrainingEnded {}.into()]);
    approved(&[]).when(NodeCommand::EndDraining).nothing();
}

#[test]
fn a_node_has_one_witness_key_for_ever() {
    let record = |number: u8| NodeCommand::RecordWitnessKey { key: [number; 32] };
    let recorded: NodeEvent = WitnessKeyRecorded { key: [7; 32] }.into();
    approved(&[]).when(record(7)).then([recorded.clone()]);
    approved(std::slice::from_ref(&recorded)).when(record(7)).nothing();
    approved(&[recorded]).when(record(8)).rejected(NodeRejection::OtherWitnessKey);
    pending(&[]).when(record(7)).rejected(NodeRejection::NotApproved);
}

#[test]
fn a_revocation_is_final() {
    let revoke = NodeCommand::Revoke { note: "sold".to_owned() };
    let event = revoked(RevocationReason::Operator, "sold");
    approved(&[]).when(revoke.clone()).then([event.clone()]);
    pending(&[]).when(revoke.clone()).then([event.clone()]);
    approved(std::slice::from_ref(&event)).when(revoke.clone()).nothing();
    approved(std::slice::from_ref(&event))
        .when(NodeCommand::Approve)
        .rejected(NodeRejection::Revoked);
    let reject = NodeCommand::Reject { reason: String::new() };
    approved(&[event]).when(reject).rejected(NodeRejection::Revoked);
    pending(&[rejected()]).when(revoke.clone()).rejected(NodeRejection::Rejected);
    given::<Node>([]).when(revoke).rejected(NodeRejection::NotFound);
    let two_lines = NodeCommand::Revoke { note: "a\nb".to_owned() };
    approved(&[]).when(two_lines).rejected(NodeRejection::TextNotPlain);
}
