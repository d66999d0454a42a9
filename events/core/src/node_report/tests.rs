#![allow(clippy::unwrap_used)]

use rap_proto::{
    RefusalCode, Timestamp,
    authority::{AuthorityChange, AuthorityStanding},
    observation::SnapshotRefusal,
};

use super::*;
use crate::{
    Aggregate as _,
    session::MAX_SEEN_SKEW_MS,
    tests::{
        given::{NOW, given},
        samples::{ACME, MINUTE_MS, after, authority_change, path_change},
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

/// A lapse after beat `heard`, as it is told `at`.
fn lapsed(heard: u64, standing: AuthorityStanding) -> AuthorityChange {
    AuthorityChange { standing, sequence: heard, left_out: 0, ..authority_change() }
}

fn changed(sequence: u64, observed_at: Timestamp, change: AuthorityChange) -> NodeReportEvent {
    AuthorityChanged { sequence, observed_at, change }.into()
}

#[test]
fn a_lapse_is_the_platforms_and_what_is_known_of_it_is_recorded_once() {
    use AuthorityStanding::{Degraded, Healthy, Isolated};
    let report = |change| record(7, Report::AuthorityChanged { change });
    let open = [changed(6, NOW, lapsed(42, Degraded))];
    let over = [changed(5, NOW, lapsed(42, Degraded)), changed(6, NOW, lapsed(43, Healthy))];
    let news = |known: &[NodeReportEvent], change| {
        let state = given::<NodeReport>(known.iter().cloned())
            .when(report(change))
            .then([changed(7, NOW, change)]);
        assert_eq!((state.through, state.organization()), (7, None));
    };
    let known = |known: &[NodeReportEvent], change| {
        given::<NodeReport>(known.iter().cloned()).when(report(change)).nothing();
    };
    news(&[], lapsed(42, Degraded));
    news(&open, lapsed(42, Isolated));
    news(&open, lapsed(43, Degraded));
    news(&open, lapsed(43, Healthy));
    let isolated = [changed(5, NOW, lapsed(42, Degraded)), changed(6, NOW, lapsed(42, Isolated))];
    news(&isolated, lapsed(43, Degraded));
    news(&isolated, lapsed(43, Healthy));
    known(&isolated, lapsed(42, Isolated));
    known(&isolated, lapsed(42, Degraded));
    known(&[changed(6, NOW, lapsed(42, Isolated))], lapsed(42, Degraded));
    // An agent that was started again in a lapse tells it again, and each one that it is healthy.
    known(&open, AuthorityChange { restarted: true, ..lapsed(42, Degraded) });
    known(&[], lapsed(43, Healthy));
    known(&over, lapsed(44, Healthy));
}

#[test]
fn so_many_lapses_of_an_hour_are_recorded_and_those_that_are_to_their_end() {
    use AuthorityStanding::{Degraded, Healthy};
    let mut state = NodeReport::default();
    let most = u64::from(MAX_RECORDED_LAPSES_PER_HOUR);
    for lapse in 1..=most {
        assert_eq!(tell(&mut state, lapse_command(2 * lapse, NOW, Degraded), NOW), 1);
        let end = lapse_command(2 * lapse + 1, NOW, Healthy);
        assert_eq!(tell(&mut state, end, NOW), 1, "what began ends");
    }
    let next = 2 * (most + 1);
    for at in [NOW, after(-120 * MINUTE_MS)] {
        let (begin, end) =
            (lapse_command(next, at, Degraded), lapse_command(next + 1, at, Healthy));
        let left_out = [&begin, &end].map(|command| state.leaves_out(command, NOW));
        assert_eq!(left_out, [true, false]);
        assert_eq!(tell(&mut state, begin, NOW), 0);
        assert_eq!(tell(&mut state, end, NOW), 0, "nothing is open");
    }
    let known = lapse_command(2 * most, NOW, Degraded);
    assert!(!state.leaves_out(&known, NOW), "it is in the log");
    let hour = after(60 * MINUTE_MS);
    assert_eq!(tell(&mut state, lapse_command(next + 2, hour, Degraded), hour), 1);
}

#[test]
fn a_clock_far_ahead_puts_off_no_hour() {
    use AuthorityStanding::{Degraded, Healthy};
    let mut state = NodeReport::default();
    let skew = i64::try_from(MAX_SEEN_SKEW_MS).unwrap();
    let bounds = [(after(skew), after(skew)), (after(skew + 1), NOW), (after(i64::MAX / 2), NOW)];
    for (at, recorded) in bounds {
        let change = lapsed(42, Degraded);
        given::<NodeReport>([])
            .when(lapse_command(84, at, Degraded))
            .then([changed(84, recorded, change)]);
    }
    let most = u64::from(MAX_RECORDED_LAPSES_PER_HOUR);
    let mut tell_at = |now, sequence, standing| {
        let command = lapse_command(sequence, after(i64::MAX / 2), standing);
        tell(&mut state, command, now)
    };
    for lapse in 1..=most {
        assert_eq!(tell_at(NOW, 2 * lapse, Degraded), 1);
        assert_eq!(tell_at(NOW, 2 * lapse + 1, Healthy), 1);
    }
    let next = 2 * (most + 1);
    assert_eq!(tell_at(NOW, next, Degraded), 0);
    assert_eq!(tell_at(after(60 * MINUTE_MS), next, Degraded), 1);
}

/// How many events follow.
fn tell(state: &mut NodeReport, command: NodeReportCommand, now: Timestamp) -> usize {
    let events = state.decide(command, now).unwrap();
    events.iter().for_each(|event| state.evolve(event));
    events.len()
}

/// The lapse after beat `sequence / 2`, told by a node whose clock says `at`.
fn lapse_command(sequence: u64, at: Timestamp, standing: AuthorityStanding) -> NodeReportCommand {
    NodeReportCommand::Record {
        organization: None,
        sequence,
        observed_at: at,
        report: Report::AuthorityChanged { change: lapsed(sequence / 2, standing) },
    }
}
