//! Answers whoever reads metrics: HTTP at a place of its own, without a login. They name nobody, and
//! still say how much is done in the whole cluster.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App as WebApp, HttpResponse, HttpServer,
    dev::{Server, ServerHandle},
    http::KeepAlive,
    web,
};
use rap_control_core::state::{NodeStanding, SessionPhase};
use rap_proto::{Duty, api::AuthorityState};

use crate::{
    app::App,
    clock,
    metrics::Gauge,
    server::{ServeError, listen},
};

/// The most connections; further ones wait in the kernel.
const MAX_SCRAPES: usize = 4;
/// How long a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A node that was heard within this time counts as live.
const LIVE: Duration = Duration::from_millis(rap_control_core::access::LIVENESS_MS);

/// Answers at its place, when there is one, until it is stopped.
pub(crate) struct Scraping(Option<(SocketAddr, ServerHandle)>);

impl Scraping {
    pub(crate) fn start(place: Option<SocketAddr>, app: &Arc<App>) -> Result<Self, ServeError> {
        let Some(place) = place else { return Ok(Self(None)) };
        let (listener, address) = listen(place)?;
        let server = server(listener, app);
        let server = server.map_err(|error| ServeError::Listen { address, error })?;
        let handle = server.handle();
        actix_rt::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the metrics are served no longer");
            }
        });
        Ok(Self(Some((address, handle))))
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.0.as_ref().map(|(address, _)| *address)
    }

    /// The place is free afterwards.
    pub(crate) async fn stop(self) {
        if let Some((_, handle)) = self.0 {
            handle.stop(false).await;
        }
    }
}

fn server(listener: TcpListener, app: &Arc<App>) -> io::Result<Server> {
    let app = Arc::clone(app);
    let server = HttpServer::new(move || {
        let app = Arc::clone(&app);
        WebApp::new()
            .route("/metrics", web::get().to(move || metrics(Arc::clone(&app))))
            .default_service(web::to(nothing_here))
    });
    let server = server
        .workers(1)
        .max_connections(MAX_SCRAPES)
        .client_request_timeout(HEAD_TIMEOUT)
        .keep_alive(KeepAlive::Disabled)
        .shutdown_timeout(0)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

async fn nothing_here() -> HttpResponse {
    HttpResponse::NotFound().content_type("text/plain").body("metrics are at /metrics\n")
}

async fn metrics(app: Arc<App>) -> HttpResponse {
    let text = app.metrics.render(&gauges(&app));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text)
}

fn gauges(app: &App) -> Vec<Gauge> {
    let state = app.state();
    let plain = |name, help, value: u64| Gauge { name, help, labels: String::new(), value };
    let mut gauges = vec![Gauge {
        name: "rap_control_info",
        help: "1, with the cluster and the version of this program.",
        labels: format!(
            "cluster=\"{}\",version=\"{}\"",
            app.custody.cluster,
            env!("CARGO_PKG_VERSION")
        ),
        value: 1,
    }];
    gauges.push(plain(
        "rap_control_folded_position",
        "The last log position in the projections.",
        state.position(),
    ));
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
