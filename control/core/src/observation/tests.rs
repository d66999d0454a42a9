#![allow(clippy::unwrap_used)]

use rap_events::{
    node::{Node, NodeCommand},
    node_report::{NodeReport, NodeReportCommand, Report},
    session::{Session, SessionCommand},
};
use rap_proto::{
    Lane, NodeId, RefusalCode, SessionId,
    authority::{AuthorityChange, AuthorityStanding},
    bus::MAX_OBSERVATIONS,
    observation::{Claimed, EndReason, Observation, SnapshotRefusal, Spooled, Vantage},
    paths::{PathCarrier, PathChange, PathKind},
};

use super::{BatchRefused, Recording, record};
use crate::{
    state::SessionPhase,
    world::{Platform, Tenant, uuid},
};

fn spooled(platform: &Platform, sequence: u64, observation: Observation) -> Spooled {
    Spooled { sequence, at: platform.world.now, observation }
}

fn started(session: SessionId, from: Vantage) -> Observation {
    Observation::SessionStarted { session, from: Some(from) }
}

fn ended(session: SessionId) -> Observation {
    Observation::SessionEnded {
        session,
        reason: EndReason::ClientClosed,
        bytes_up: 10,
        bytes_down: 20,
    }
}

/// Maps one observation of a node.
fn one(platform: &Platform, node: NodeId, observation: Observation) -> Recording {
    let batch = [spooled(platform, 1, observation)];
    record(platform.state(), node, &batch).unwrap().remove(0).action
}

/// Records a batch as the control plane does, and returns how many commands it took.
fn deliver(platform: &mut Platform, node: NodeId, batch: &[Spooled]) -> usize {
    let verdicts = record(platform.state(), node, batch).unwrap();
    let mut commands = 0;
    for verdict in verdicts {
        match verdict.action {
            Recording::Session { session, command, .. } => {
                platform.must::<Session>(session.uuid(), command);
                commands += 1;
            }
            Recording::Report { command, .. } => {
                platform.must::<NodeReport>(node.uuid(), command);
                commands += 1;
            }
            Recording::Known | Recording::Foreign { .. } => {}
        }
    }
    commands
}

fn claimed(tenant: Tenant) -> Claimed {
    Claimed {
        organization: tenant.id,
        user: tenant.user,
        session: tenant.session,
        resource: tenant.resource,
    }
}

#[test]
fn what_an_entry_saw_of_its_session_is_recorded() {
    let mut platform = Platform::new();
    let (acme, entry) = (platform.acme, platform.entry);
    let batch = [
        spooled(&platform, 1, started(acme.session, Vantage::Entry)),
        spooled(&platform, 2, ended(acme.session)),
    ];
    assert_eq!(deliver(&mut platform, entry, &batch), 2);
    let session = platform.state().sessions().get(acme.session).unwrap();
    assert_eq!(session.phase, SessionPhase::Ended);
    assert_eq!(session.ended.unwrap().bytes_down, 20);
}

#[test]
fn the_same_observation_is_recorded_once() {
    let mut platform = Platform::new();
    let (acme, entry) = (platform.acme, platform.entry);
    let exited = Observation::WorkerExited { kind: "stream".to_owned(), sessions: 2 };
    let batch = [
        spooled(&platform, 1, started(acme.session, Vantage::Entry)),
        spooled(&platform, 2, exited),
        spooled(&platform, 3, ended(acme.session)),
    ];
    // A part of it arrived before, and all of it arrives again and again.
    assert_eq!(deliver(&mut platform, entry, &batch[..2]), 2);
    assert_eq!(deliver(&mut platform, entry, &batch), 1);
    let length = platform.world.log.len();
    assert_eq!(deliver(&mut platform, entry, &batch), 0);
    assert_eq!(platform.world.log.len(), length);
    assert_eq!(platform.state().nodes().get(entry).unwrap().observed, 3);
    assert_eq!(platform.world.replay().nodes().get(entry).unwrap().observed, 3);
}

/// How nodes reach each other is no organization's to see, not even of its own nodes.
#[test]
fn what_a_node_tells_of_its_paths_is_the_platforms_whosever_node_it_is() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let change = PathChange {
        egress: acme.egress,
        organization: acme.id,
        lane: Lane::Bulk,
        carrier: PathCarrier::Quic,
        from: None,
        to: Some(PathKind::Direct),
        left_out: 0,
    };
    let exited = || Observation::WorkerExited { kind: "stream".to_owned(), sessions: 2 };
    let batch = [
        spooled(&platform, 1, exited()),
        spooled(&platform, 2, Observation::PathChanged { change }),
        spooled(&platform, 3, exited()),
    ];
    assert_eq!(deliver(&mut platform, acme.egress, &batch), 3);
    let told = platform.world.log.iter().rev().take(3).map(|envelope| envelope.organization);
    let told: Vec<_> = told.collect();
    assert_eq!(told, [Some(acme.id), None, Some(acme.id)]);
    assert_eq!(deliver(&mut platform, acme.egress, &batch), 0, "once");
}

#[test]
fn an_observation_is_one_command_whenever_it_is_mapped() {
    let platform = Platform::new();
    let acme = platform.acme;
    let id = |node, sequence, from| {
        let batch = [spooled(&platform, sequence, started(acme.session, from))];
        match record(platform.state(), node, &batch).unwrap().remove(0).action {
            Recording::Session { id, request_hash, .. } => (id, request_hash),
            other => panic!("{other:?}"),
        }
    };
    let egress = |sequence| id(acme.egress, sequence, Vantage::Egress);
    assert_eq!(egress(1), egress(1));
    assert_ne!(egress(1), egress(2));
    assert_ne!(egress(1), id(platform.entry, 1, Vantage::Entry));
}

#[test]
fn a_node_is_not_believed_about_sessions_that_it_has_no_part_in() {
    let platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let session = acme.session;
    let (entry, egress) = (started(session, Vantage::Entry), started(session, Vantage::Egress));
    for observation in [entry.clone(), egress, ended(session)] {
        let foreign = one(&platform, globex.egress, observation.clone());
        assert_eq!(foreign, Recording::Foreign { session });
        let foreign = one(&platform, platform.relay, observation);
        assert_eq!(foreign, Recording::Foreign { session });
    }
    // An egress does not say where a session lives.
    for observation in [entry, ended(session)] {
        let foreign = one(&platform, acme.egress, observation);
        assert_eq!(foreign, Recording::Foreign { session });
    }
}

#[test]
fn a_refusal_names_a_session_only_when_its_claims_are_true() {
    let platform = Platform::new();
    let (acme, globex) = (platform.acme, platform.globex);
    let code = RefusalCode::TokenExpired;
    let refused = |claimed| Observation::AccessRefused { code, claimed };
    let reported = |recording| {
        matches!(
            recording,
            Recording::Report {
                command: NodeReportCommand::Record { report: Report::AccessRefused { .. }, .. },
                ..
            }
        )
    };
    match one(&platform, acme.egress, refused(Some(claimed(acme)))) {
        Recording::Session { session, command, .. } => {
            assert_eq!(session, acme.session);
            assert!(matches!(command, SessionCommand::RecordRefused { .. }));
        }
        other => panic!("{other:?}"),
    }
    assert!(reported(one(&platform, acme.egress, refused(None))));
    assert!(reported(one(&platform, globex.egress, refused(Some(claimed(acme))))));
    let lie = Claimed { user: globex.user, ..claimed(acme) };
    assert!(reported(one(&platform, acme.egress, refused(Some(lie)))));
}

#[test]
fn reports_go_to_the_nodes_own_stream_with_its_organization() {
    let platform = Platform::new();
    let refused = Observation::SnapshotRefused { version: 7, code: SnapshotRefusal::Equivocation };
    let organization = |node| match one(&platform, node, refused.clone()) {
        Recording::Report { command: NodeReportCommand::Record { organization, .. }, .. } => {
            organization
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(organization(platform.acme.egress), Some(platform.acme.id));
    assert_eq!(organization(platform.relay), None);
}

#[test]
fn a_session_that_is_forgotten_is_left_to_its_stream() {
    let platform = Platform::new();
    let session = SessionId::from_uuid(uuid(0xdead));
    let recording = one(&platform, platform.acme.egress, ended(session));
    assert!(matches!(recording, Recording::Session { session: to, .. } if to == session));
}

#[test]
fn batches_are_refused_from_strangers_when_too_long_and_out_of_order() {
    let mut platform = Platform::new();
    let acme = platform.acme;
    let refused = |platform: &Platform, node, batch: &[Spooled]| {
        record(platform.state(), node, batch).unwrap_err()
    };
    let item = |n| spooled(&platform, n, started(acme.session, Vantage::Egress));
    let long: Vec<Spooled> = (1..=MAX_OBSERVATIONS as u64 + 1).map(item).collect();
    assert_eq!(refused(&platform, acme.egress, &long), BatchRefused::TooMany);
    let backwards = [item(2), item(1)];
    assert_eq!(refused(&platform, acme.egress, &backwards), BatchRefused::OutOfOrder);
    let twice = [item(1), item(1)];
    assert_eq!(refused(&platform, acme.egress, &twice), BatchRefused::OutOfOrder);
    let batch = [item(1)];
    platform.must::<Node>(acme.egress.uuid(), NodeCommand::Revoke { note: String::new() });
    let expected = BatchRefused::NotApproved(acme.egress);
    assert_eq!(refused(&platform, acme.egress, &batch), expected);
}

#[test]
fn a_lapse_is_in_the_platforms_log_alone_once_and_on_the_nodes_page() {
    let mut platform = Platform::new();
    let egress = platform.acme.egress;
    let change = AuthorityChange {
        standing: AuthorityStanding::Degraded,
        epoch: 1,
        sequence: 42,
        without_ms: 0,
        restarted: false,
        left_out: 0,
    };
    let changed = Observation::AuthorityChanged { change };
    let batch = [spooled(&platform, 5, changed)];
    let touched = platform.state().nodes().get(egress).unwrap().version;
    deliver(&mut platform, egress, &batch);
    let recorded = platform.world.log.last().unwrap().clone();
    assert_eq!(recorded.event_type, "node_report.authority_changed");
    assert_eq!(recorded.organization, None, "although the node is acme's");
    let node = platform.state().nodes().get(egress).unwrap();
    assert_eq!(node.authority.as_ref().map(|told| told.change), Some(change));
    assert_eq!((node.observed, node.version), (5, touched), "its snapshot says nothing of it");
    // It is sent again until the node hears that it was recorded.
    assert_eq!(deliver(&mut platform, egress, &batch), 0);
    let again = [Spooled { sequence: 6, ..batch[0].clone() }];
    deliver(&mut platform, egress, &again);
    assert_eq!(platform.world.log.last(), Some(&recorded), "nor is what is known told twice");
}
