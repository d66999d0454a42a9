//! What load balancers and monitoring ask for: no login, and nothing about anybody.

use std::{sync::Arc, time::Duration};

use actix_web::HttpResponse;
use rap_control_core::state::{NodeStanding, SessionPhase};
use rap_proto::{Duty, api::AuthorityState};

use crate::{app::App, clock, metrics::Gauge};

/// How far the projections may be behind the log while the server is ready.
const MAX_LAG: u64 = 10_000;
/// A node that was heard within this time counts as live.
const LIVE: Duration = Duration::from_millis(rap_control_core::access::LIVENESS_MS);

/// The process answers.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// The log can be read, the projections are near its end, and every actor lives. The text says
/// whether there is a quorum, and what keeps tree heads from being sealed.
pub(super) async fn readyz(app: Arc<App>) -> HttpResponse {
    let position = app.state().position();
    let unready = |reason: &str| {
        let mut response = HttpResponse::ServiceUnavailable();
        response.content_type("text/plain").body(format!("{reason}\n"))
    };
    if let Some(corrupt) = app.halted() {
        return unready(corrupt.explanation());
    }
    match app.log.head().await {
        Err(_) => unready("the log cannot be read"),
        Ok(head) if head > position + MAX_LAG => unready("the projections are behind"),
        Ok(_) if app.refuted().is_some() => unready("the log is not the one that nodes saw"),
        Ok(_) if !*app.healthy.borrow() => unready("an actor is down"),
        Ok(_) => HttpResponse::Ok().content_type("text/plain").body(ready_text(&app)),
    }
}

fn ready_text(app: &App) -> String {
    let mut text = String::from(match app.beat.state() {
        AuthorityState::Quorum => "ready\n",
        AuthorityState::NoQuorum => "ready; one replica, no quorum\n",
        // It still answers, and takes authority away: send it what nobody else answers.
        AuthorityState::Frozen => "ready; frozen: too few replicas see the database\n",
    });
    if let Some(obstacle) = app.sealing.obstacle() {
        text.push_str(&format!("no tree head is sealed: {}\n", obstacle.explanation()));
    }
    text
}

pub(super) async fn metrics(app: Arc<App>) -> HttpResponse {
    let text = app.metrics.render(&gauges(&app));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text)
}

fn gauges(app: &App) -> Vec<Gauge> {
    let state = app.state();
    let plain = |name, help, value: u64| Gauge { name, help, labels: String::new(), value };
    let mut gauges = vec![plain(
        "rap_control_folded_position",
        "The last log position in the projections.",
        state.position(),
    )];
    gauges.push(plain(
        "rap_control_fold_halted",
        "Whether an event cannot be folded; the projections stay as they are.",
        u64::from(app.halted().is_some()),
    ));
    gauges.push(Gauge {
        name: "rap_control_leading",
        help: "Whether this replica leads a duty.",
        labels: format!("duty=\"{}\"", Duty::Processes),
        value: u64::from(app.leadership.term().is_some()),
    });
    gauges.extend(authority(app));
    for (standing, word) in [
        (NodeStanding::Pending, "pending"),
        (NodeStanding::Approved, "approved"),
        (NodeStanding::Rejected, "rejected"),
        (NodeStanding::Revoked, "revoked"),
    ] {
        let count = state.nodes().iter().filter(|node| node.standing == standing).count();
        gauges.push(Gauge {
            name: "rap_control_nodes",
            help: "Nodes by state.",
            labels: format!("state=\"{word}\""),
            value: count as u64,
        });
    }
    gauges.extend(app.rates.gauges());
    gauges.extend(app.feed.gauges());
    gauges.extend(app.lease_desk.gauges());
    gauges.extend(app.sealing.gauges());
    gauges.extend(app.rebuilds.gauges());
    let live = app.live.heard_since(clock::now() - LIVE) as u64;
    gauges.push(plain("rap_control_live_nodes", "Nodes that were heard lately.", live));
    for (phase, word) in
        [(SessionPhase::Authorized, "authorized"), (SessionPhase::Started, "started")]
    {
        let count = state.sessions().open().filter(|session| session.phase == phase).count();
        gauges.push(Gauge {
            name: "rap_control_open_sessions",
            help: "Open sessions by phase.",
            labels: format!("phase=\"{word}\""),
            value: count as u64,
        });
    }
    gauges
}

fn authority(app: &App) -> Vec<Gauge> {
    let state = app.beat.state();
    let mut gauges: Vec<Gauge> = AuthorityState::ALL
        .iter()
        .map(|word| Gauge {
            name: "rap_control_authority",
            help: "Whether more than half of the replicas see the database.",
            labels: format!("state=\"{word}\""),
            value: u64::from(*word == state),
        })
        .collect();
    let plain = |name, help, value| Gauge { name, help, labels: String::new(), value };
    if let Some(held) = app.beat.last() {
        let statement = &held.charter.statement;
        gauges.extend([
            plain("rap_control_beat_sequence", "The newest beat.", held.beat.sequence),
            plain(
                "rap_control_replicas",
                "Replicas that may sign beats.",
                statement.replicas.len() as u64,
            ),
            plain(
                "rap_control_replicas_needed",
                "Replicas that must sign a beat.",
                u64::from(statement.threshold),
            ),
            plain("rap_control_authority_epoch", "The authority epoch.", held.beat.epoch),
        ]);
    }
    gauges
}
