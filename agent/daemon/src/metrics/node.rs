//! The agent itself: its configuration, what control's word is worth, leases, and what waits.

use std::time::Duration;

use rap_proto::{Authority, Timestamp};

use super::Page;
use crate::{AgentState, SpoolStatus, StatusReport, VERSION};

const STATES: [(AgentState, &str); 7] = [
    (AgentState::Pending, "pending"),
    (AgentState::Starting, "starting"),
    (AgentState::Running, "running"),
    (AgentState::Stale, "stale"),
    (AgentState::Suspended, "suspended"),
    (AgentState::Draining, "draining"),
    (AgentState::Revoked, "revoked"),
];

pub(super) fn say(page: &mut Page, report: &StatusReport, now: Timestamp) {
    if let Some(cluster) = report.cluster {
        page.gauge("rap_node_info", "1, with the cluster and the version of this program.")
            .of([("cluster", &cluster.to_string()), ("version", VERSION)], 1);
    }
    let mut family = page.gauge("rap_node_state", "The state of the agent.");
    for (state, word) in STATES {
        family.of([("state", word)], u8::from(report.state == state));
    }
    configuration(page, report, now);
    control(page, report);
    leases(page, report);
    let SpoolStatus { waiting, left_out } = report.spool;
    page.gauge("rap_node_spool_waiting", "Observations that control has not confirmed.")
        .is(waiting);
    page.counter("rap_node_spool_left_out_total", "Observations that did not fit into the spool.")
        .is(left_out);
    page.gauge("rap_node_worker_serving", "Whether the adapter worker takes channels.")
        .is(u8::from(report.worker.serving));
    page.counter("rap_node_worker_restarts_total", "Restarts of the adapter worker.")
        .is(report.worker.restarts);
    page.counter("rap_node_actor_restarts_total", "Actors that died and were started again.")
        .is(report.actor_restarts);
}

fn configuration(page: &mut Page, report: &StatusReport, now: Timestamp) {
    let snapshot = report.snapshot.as_ref();
    let mut version =
        page.gauge("rap_node_snapshot_version", "The version of the snapshot that it acts on.");
    snapshot.into_iter().for_each(|snapshot| version.is(snapshot.version));
    let mut age = page.gauge("rap_node_snapshot_age_seconds", "How long ago it was signed.");
    snapshot.into_iter().for_each(|snapshot| age.is(seconds(now.since(snapshot.issued_at))));
    let help = "How long it may be acted on; 0 when its time is over.";
    let mut left = page.gauge("rap_node_snapshot_left_seconds", help);
    snapshot.into_iter().for_each(|snapshot| left.is(seconds(snapshot.expires_at.since(now))));
    let help = "How long the node's certificate is valid; 0 when its time is over.";
    let mut left = page.gauge("rap_node_certificate_left_seconds", help);
    let certificate = report.certificate.as_ref();
    certificate.into_iter().for_each(|it| left.is(seconds(it.expires_at.since(now))));
}

fn control(page: &mut Page, report: &StatusReport) {
    let help = "What the authority beats that the node hears amount to.";
    page.gauge("rap_node_authority", help).one_of(
        "state",
        &["unheard", "healthy", "degraded", "isolated"],
        match report.authority.standing {
            Authority::Unheard => "unheard",
            Authority::Healthy => "healthy",
            Authority::Degraded { .. } => "degraded",
            Authority::Isolated { .. } => "isolated",
        },
    );
    page.gauge("rap_node_control_reachable", "Whether control answered the last call.")
        .is(u8::from(report.control.reachable));
    page.gauge("rap_node_control_servers", "The servers of control that the node knows.")
        .is(report.control.servers);
    let help = "How often another server of control was gone to.";
    page.counter("rap_node_control_server_changes_total", help).is(report.control.server_changes);
    page.gauge("rap_node_bus_connected", "Whether the bus is connected.")
        .is(u8::from(report.bus_connected));
}

fn leases(page: &mut Page, report: &StatusReport) {
    let leases = &report.leases;
    page.gauge("rap_node_leases_held", "Connections that this node carries.").is(leases.held);
    page.counter("rap_node_lease_renewals_total", "Renewals, by control's answer.")
        .of([("outcome", "granted")], leases.renewed)
        .of([("outcome", "refused")], leases.refused)
        .of([("outcome", "superseded")], leases.fenced);
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:03}", duration.as_secs(), duration.subsec_millis())
}
