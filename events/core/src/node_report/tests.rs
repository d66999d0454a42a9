#![allow(clippy::unwrap_used)]

use rap_proto::{RefusalCode, observation::SnapshotRefusal};

use super::*;
use crate::{
    Aggregate as _,
    tests::{
        given::{NOW, given},
        samples::{ACME, path_change},
    },
};

fn record(sequence: u64, report: Report) -> NodeReportCommand {
    NodeReportCommand::Record { organization: Some(ACME), sequence, observed_at: NOW, report }
}

fn exited(sequence: u64) -> NodeReportEvent {
    WorkerExited {
        organization: Some(ACME),
        sequence,
        observed_at: NOW,
        kind: "stream".to_owned(),
        sessions: 2,
    }
    .into()
}

fn exit() -> Report {
    Report::WorkerExited { kind: "stream".to_owned(), sessions: 2 }
}

#[test]
fn each_report_is_recorded() {
    let (organization, sequence, observed_at) = (Some(ACME), 1, NOW);
    let code = RefusalCode::TokenUntrusted;
    let refused = UnclaimedAccessRefused { organization, sequence, observed_at, code };
    let state = given::<NodeReport>([])
        .when(record(1, Report::AccessRefused { code }))
        .then([refused.into()]);
    assert_eq!((state.through, state.organization()), (1, Some(ACME)));

    let (version, code) = (41, SnapshotRefusal::Rollback);
    let refused = SnapshotRefused { organization, sequence, observed_at, version, code };
    given::<NodeReport>([])
        .when(record(1, Report::SnapshotRefused { version, code }))
        .then([refused.into()]);
    given::<NodeReport>([]).when(record(1, exit())).then([exited(1)]);
}

#[test]
fn a_report_is_recorded_once() {
    for known in [4, 5] {
        given::<NodeReport>([exited(5)]).when(record(known, exit())).nothing();
    }
    given::<NodeReport>([exited(5)]).when(record(9, exit())).then([exited(9)]);
}

#[test]
fn a_kind_is_plain() {
    let report = Report::WorkerExited { kind: "\u{0}".to_owned(), sessions: 0 };
    given::<NodeReport>([]).when(record(1, report)).rejected(NodeReportRejection::TextNotPlain);
}

#[test]
fn a_change_of_a_path_is_the_platforms_and_what_else_the_node_reports_is_its_organizations() {
    let changed: NodeReportEvent =
        PathChanged { sequence: 6, observed_at: NOW, change: path_change() }.into();
    let state = given::<NodeReport>([exited(5)])
        .when(record(6, Report::PathChanged { change: path_change() }))
        .then([changed.clone()]);
    assert_eq!((state.through, state.organization()), (6, None));
    let state = given::<NodeReport>([changed]).when(record(7, exit())).then([exited(7)]);
    assert_eq!(state.organization(), Some(ACME));
}
