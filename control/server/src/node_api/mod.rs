//! `/node/v1`: what agents ask for, in MessagePack. A bearer token of a person opens nothing
//! here, and a node's certificate opens nothing anywhere else.

mod beat;
pub(crate) mod bus_credentials;
mod cosignature;
mod credentials;
mod enroll;
mod leases;
mod refusal;
mod refused_use;
mod renew;
mod snapshot;
mod tree;

use std::{sync::Arc, time::Instant};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web::{self, Payload, ServiceConfig},
};
use bytes::Bytes;
use rap_control_core::{State, rate::Payer, state::Node};
use rap_proto::{
    Digest, Timestamp, codec,
    secret::{JoinSecret, Secret},
    wire::node_api::{CONTENT_TYPE, MAX_BODY_BYTES, NodeApiCode},
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::Instrument as _;

use self::refusal::Refused;
use crate::{
    app::App,
    beat::Frozen,
    clock,
    connection::{self, PeerTls},
    http::{body, failure::Failure},
    work::MAX_CONFLICT_RETRIES,
};

/// One call of an agent.
pub(crate) struct NodeCall {
    pub(crate) app: Arc<App>,
    pub(crate) state: Arc<State>,
    pub(crate) now: Timestamp,
    pub(crate) tls: PeerTls,
    pub(crate) bearer: Option<Secret<JoinSecret>>,
    pub(crate) body: Bytes,
}

/// What an agent gets.
pub(crate) enum NodeAnswer {
    Body(Vec<u8>),
    NotModified,
}

impl NodeAnswer {
    fn of<T: Serialize>(value: &T) -> Self {
        Self::Body(codec::encode(value))
    }
}

/// Why a call stops: the agent is told, or it is tried again.
pub(crate) enum NodeStop {
    Refused(Refused),
    Conflict,
}

impl From<Refused> for NodeStop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Failure> for NodeStop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Conflict | Failure::KeyGiven | Failure::LeaseLost => Self::Conflict,
            Failure::Problem(problem) => Self::Refused(Refused::from_problem(&problem)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Route {
    Enroll,
    Poll,
    Renew,
    Snapshot,
    Leases,
    Tree,
    Beat,
}

impl Route {
    const ALL: [Self; 7] = [
        Self::Enroll,
        Self::Poll,
        Self::Renew,
        Self::Snapshot,
        Self::Leases,
        Self::Tree,
        Self::Beat,
    ];

    /// Whether it makes anybody part of the cluster, or keeps somebody in it for longer.
    const fn grants(self) -> bool {
        matches!(self, Self::Enroll | Self::Poll | Self::Renew)
    }

    /// Whether nodes are to ask it of another replica. By the beat, which all of them ask for, nodes leave a
    /// replica that folds no further: where `servers` names no other one, they stay and have their beats.
    const fn waits(self, frozen: Frozen, servers: &[String]) -> bool {
        let leaves = matches!((self, frozen), (Self::Beat, Frozen::Halted));
        self.grants() || leaves && servers.len() > 1
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Enroll => "/node/v1/enroll",
            Self::Poll => "/node/v1/enroll/poll",
            Self::Renew => "/node/v1/renew",
            Self::Snapshot => "/node/v1/snapshot",
            Self::Leases => "/node/v1/leases",
            Self::Tree => "/node/v1/tree",
            Self::Beat => "/node/v1/beat",
        }
    }
}

pub(crate) fn register(config: &mut ServiceConfig, app: &Arc<App>) {
    for route in Route::ALL {
        let app = Arc::clone(app);
        let handler = move |request: HttpRequest, payload: Payload| {
            handle(Arc::clone(&app), route, request, payload)
        };
        config.service(web::resource(route.path()).route(web::post().to(handler)));
    }
}

async fn handle(
    app: Arc<App>,
    route: Route,
    request: HttpRequest,
    mut payload: Payload,
) -> HttpResponse {
    let request_id = Digest::from_bytes(clock::random()).short();
    let span = tracing::info_span!("node request", route = route.path(), request = %request_id);
    let started = Instant::now();
    let answer = run(&app, route, &request, &mut payload).instrument(span).await;
    let response = match answer {
        Ok(NodeAnswer::Body(body)) => {
            HttpResponse::Ok().insert_header((header::CONTENT_TYPE, CONTENT_TYPE)).body(body)
        }
        Ok(NodeAnswer::NotModified) => HttpResponse::new(StatusCode::NOT_MODIFIED),
        Err(refused) => refused.response(),
    };
    let status = response.status().as_u16();
    app.metrics.request(&Method::POST, route.path(), status, started.elapsed());
    response
}

async fn run(
    app: &Arc<App>,
    route: Route,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<NodeAnswer, Refused> {
    let body = body::read(request, payload, MAX_BODY_BYTES)
        .await
        .map_err(|problem| Refused::from_problem(&problem))?;
    let tls = request
        .conn_data::<PeerTls>()
        .cloned()
        .ok_or_else(|| Refused::new(NodeApiCode::NotTrusted, "TLS is needed"))?;
    admit(app, request, &tls)?;
    if let Some(frozen) = app.frozen()
        && route.waits(frozen, &app.servers)
    {
        return Err(Refused::from_problem(&frozen.problem()));
    }
    let bearer = crate::http::caller::bearer(request).and_then(|text| Secret::parse(text).ok());
    for _ in 0..MAX_CONFLICT_RETRIES {
        let call = NodeCall {
            app: Arc::clone(app),
            state: app.state(),
            now: clock::now(),
            tls: tls.clone(),
            bearer: bearer.as_ref().map(|secret: &Secret<JoinSecret>| {
                // The secret is no `Clone` on purpose; a repeated decision parses its text again.
                Secret::parse(&secret.reveal()).expect("a secret's text parses")
            }),
            body: body.clone(),
        };
        let outcome = match route {
            Route::Enroll => enroll::enroll(call).await,
            Route::Poll => enroll::poll(call).await,
            Route::Renew => renew::renew(call).await,
            Route::Snapshot => snapshot::snapshot(call),
            Route::Leases => leases::leases(call).await,
            Route::Tree => tree::tree(call).await,
            Route::Beat => beat::beat(call),
        };
        match outcome {
            Ok(answer) => return Ok(answer),
            Err(NodeStop::Refused(refused)) => return Err(refused),
            Err(NodeStop::Conflict) => {}
        }
    }
    Err(Refused::new(NodeApiCode::Unavailable, "others changed the same thing; repeat"))
}

/// A node pays for itself once its certificate says which one it is, everybody else by address.
fn admit(app: &App, request: &HttpRequest, tls: &PeerTls) -> Result<(), Refused> {
    let known = tls.identity.filter(|identity| identity.cluster == app.custody.cluster);
    let payer = match known {
        Some(identity) => Payer::Node(identity.node),
        None => Payer::Address(connection::address(request)),
    };
    let admitted = app.rates.admit(&[payer], &app.metrics);
    admitted.map_err(|problem| Refused::from_problem(&problem))
}

impl NodeCall {
    fn parse<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        codec::decode(&self.body, MAX_BODY_BYTES)
            .map_err(|_| Refused::new(NodeApiCode::Malformed, "the body cannot be read"))
    }

    fn may_grant(&self) -> Result<(), Refused> {
        self.app.may_grant().map_err(|problem| Refused::from_problem(&problem))
    }

    /// The node whose certificate TLS verified: of this cluster, with the key that was enrolled,
    /// approved and not revoked.
    fn node(&self) -> Result<&Node, Refused> {
        let untrusted = |message| Refused::new(NodeApiCode::NotTrusted, message);
        let identity = self
            .tls
            .identity
            .filter(|identity| identity.cluster == self.app.custody.cluster)
            .ok_or_else(|| untrusted("a node's certificate is needed"))?;
        if identity.not_after < self.now {
            return Err(untrusted("the certificate has expired"));
        }
        // Asked first: a log that somebody else took over may know nothing of the node.
        if identity.authority_epoch > self.state.authority().epoch() {
            return Err(Refused::of_later_epoch());
        }
        let node = self
            .state
            .nodes()
            .get(identity.node)
            .ok_or_else(|| Refused::new(NodeApiCode::UnknownNode, "there is no such node"))?;
        if node.key.id() != identity.key {
            return Err(untrusted("the certificate is not of the enrolled key"));
        }
        refusal::check_standing(node)?;
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_folds_no_further_keeps_the_nodes_that_have_no_other_one() {
        let servers = ["https://control-1.example:8443", "https://control-2.example:8443"];
        let servers = servers.map(str::to_owned);
        for (named, sends_away) in [(0, false), (1, false), (2, true)] {
            let named = &servers[..named];
            assert_eq!(Route::Beat.waits(Frozen::Halted, named), sends_away, "{named:?}");
            assert!(!Route::Beat.waits(Frozen::NoQuorum, named));
            assert!(!Route::Snapshot.waits(Frozen::Halted, named));
            assert!(Route::Renew.waits(Frozen::Halted, named));
        }
    }
}
