//! The way of every request, in this order: request id and span, the body's cap, who it is and how
//! often it asks, the position it wants to see, the command's identity, and then the route's own
//! handler.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::Payload,
};
use bytes::Bytes;
use rap_control_core::{Principal, State, rate::Payer};
use rap_events::Actor;
use rap_proto::{
    CommandId, Digest, Timestamp,
    api::{
        IDEMPOTENCY_KEY_HEADER, MAX_API_BODY_BYTES, MAX_IDEMPOTENCY_KEY, MAX_POSITION_WAIT_MS,
        POSITION_HEADER, PROBLEM_CONTENT_TYPE, Problem, ProblemCode, REQUEST_ID_HEADER,
    },
};
use tracing::Instrument as _;

use super::{
    answer::Reply,
    body,
    call::{Call, Parts, Position, unauthenticated},
    caller,
    endpoint::{Answered, Condition, Endpoint, Guard, Kind},
    failure::{Failure, contended, internal},
};
use crate::{
    app::App,
    clock, connection,
    work::{Identity, MAX_CONFLICT_RETRIES},
};

/// No position that is further ahead of the projections is waited for: no reply has told it.
const MAX_LEAD: u64 = 10_000;
/// How long a command's reply waits for the projections to have folded it.
const FOLD_WAIT: Duration = Duration::from_secs(2);

pub(crate) async fn handle(
    app: Arc<App>,
    endpoint: Endpoint,
    request: HttpRequest,
    mut payload: Payload,
) -> HttpResponse {
    let request_id = Digest::from_bytes(clock::random()).short();
    let span = tracing::info_span!(
        "request",
        method = %endpoint.method,
        route = endpoint.path,
        request = %request_id,
        status = tracing::field::Empty,
    );
    let started = Instant::now();
    let outcome = run(&app, &endpoint, &request, &mut payload).instrument(span.clone()).await;
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => problem_response(failure, &request_id),
    };
    let status = response.status().as_u16();
    span.record("status", status);
    app.metrics.request(&endpoint.method, endpoint.path, status, started.elapsed());
    span.in_scope(|| tracing::debug!(elapsed = ?started.elapsed(), "answered"));
    if let Ok(value) = header::HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(header::HeaderName::from_static(REQUEST_ID_HEADER), value);
    }
    response
}

async fn run(
    app: &Arc<App>,
    endpoint: &Endpoint,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<HttpResponse, Failure> {
    let body = body::read(request, payload, MAX_API_BODY_BYTES).await?;
    let now = clock::now();
    let principal = admitted(app, endpoint, request, now)?;
    body::check_content_type(request, &body, "application/json")?;
    let query = query_of(endpoint, request)?;
    let state = reach(app, &query).await?;
    let actor = principal.as_ref().map_or(Actor::Setup, Principal::actor);
    let condition = match endpoint.kind {
        Kind::Command(condition) => condition,
        Kind::Read => Condition::None,
    };
    let identity = match endpoint.kind {
        Kind::Read => None,
        Kind::Command(_) => Some(identity(app, endpoint, request, &body, &actor)?),
    };
    let parts = Parts {
        app: Arc::clone(app),
        state,
        now,
        principal,
        params: request
            .match_info()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        query,
        last_event_id: header_text(request, "last-event-id").map(str::to_owned),
        if_match: if_match(request)?,
        condition,
        while_frozen: endpoint.while_frozen,
        key_given: false,
        identity,
        allowed: std::cell::RefCell::default(),
    };
    let call = Call::new(parts);
    match endpoint.kind {
        Kind::Read => read(endpoint, call, body).await,
        Kind::Command(condition) => command(endpoint, call, body, condition).await,
    }
}

/// Who calls, once that is known and the rate permits it.
///
/// Whoever shows no valid credential pays by address, and so does everybody on a public route: a
/// login of one's own is no licence to guess at others.
fn admitted(
    app: &App,
    endpoint: &Endpoint,
    request: &HttpRequest,
    now: Timestamp,
) -> Result<Option<Principal>, Failure> {
    let shown = caller::credential(request).and_then(|credential| match credential {
        Some(credential) => caller::authenticate(&app.state(), &credential, now)
            .map(Some)
            .ok_or_else(|| unauthenticated().into()),
        None if endpoint.guard == Guard::Caller => Err(unauthenticated().into()),
        None => Ok(None),
    });
    if matches!(shown, Ok(Some(_))) {
        // Also who has to wait: a further connection would cost more than the answer.
        connection::know(request);
    }
    let payer = match &shown {
        Ok(principal) if endpoint.guard == Guard::Caller => principal.as_ref(),
        _ => None,
    };
    app.rates.admit(&Payer::of(payer, connection::address(request)), &app.metrics)?;
    shown
}

async fn read(endpoint: &Endpoint, call: Call, body: Bytes) -> Result<HttpResponse, Failure> {
    let position = call.state.position();
    match (endpoint.run)(call, body).await? {
        Answered::Raw(response) => Ok(response),
        Answered::Done(reply) => Ok(respond(200, &Reply { position: Some(position), ..reply })),
    }
}

async fn command(
    endpoint: &Endpoint,
    call: Call,
    body: Bytes,
    condition: Condition,
) -> Result<HttpResponse, Failure> {
    if condition == Condition::Required && call.if_match.is_none() {
        call.check_revision(0)?;
    }
    let Identity { command, request_hash, .. } =
        call.identity.clone().ok_or_else(|| Failure::Problem(internal()))?;
    if !endpoint.while_frozen {
        call.app.may_grant()?;
    }
    let _flight = call.app.in_flight.enter(command)?;
    let reply = match call.app.log.command(command).await? {
        Some(stored) if stored.request_hash != request_hash => {
            return Err(Problem::new(
                ProblemCode::IdempotencyKeyReused,
                "the Idempotency-Key was used before, for another request",
            )
            .into());
        }
        Some(stored) => Reply::from_stored(&stored.reply, stored.last)?,
        None => decide(endpoint, &call, &body).await?,
    };
    if let Some(position) = reply.position {
        call.app.wait_for(position, FOLD_WAIT).await;
    }
    if reply.refused {
        let problem: Problem = serde_json::from_str(&reply.body).map_err(|_| internal())?;
        return Err(problem.into());
    }
    let position = reply.position.unwrap_or_default();
    let body = (endpoint.complete)(call.clone(), reply.body.clone(), position).await?;
    Ok(respond(endpoint.status, &Reply { body, ..reply }))
}

/// Runs the handler again over fresh state while others win the race for a stream.
async fn decide(endpoint: &Endpoint, call: &Call, body: &Bytes) -> Result<Reply, Failure> {
    let mut call = call.clone();
    for _ in 0..MAX_CONFLICT_RETRIES {
        match (endpoint.run)(call.clone(), body.clone()).await {
            Ok(Answered::Done(reply)) => return Ok(reply),
            Ok(Answered::Raw(_)) => return Err(internal().into()),
            Err(Failure::Conflict) => call = call.refreshed(call.key_given).await,
            Err(Failure::KeyGiven) => call = call.refreshed(true).await,
            Err(problem) => return Err(problem),
        }
    }
    Err(Failure::Conflict)
}

/// The same principal, key and route always make the same command id.
fn identity(
    app: &App,
    endpoint: &Endpoint,
    request: &HttpRequest,
    body: &[u8],
    actor: &Actor,
) -> Result<Identity, Failure> {
    let key = header_text(request, IDEMPOTENCY_KEY_HEADER).unwrap_or_default();
    if key.is_empty() {
        return Err(Problem::new(
            ProblemCode::IdempotencyKeyMissing,
            "send an Idempotency-Key of your own choice, a new one for each command",
        )
        .into());
    }
    if key.len() > MAX_IDEMPOTENCY_KEY || !key.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(Problem::new(
            ProblemCode::MalformedRequest,
            format!("an Idempotency-Key is 1 to {MAX_IDEMPOTENCY_KEY} printable characters"),
        )
        .rule("idempotency_key")
        .into());
    }
    let principal = rap_proto::codec::encode(actor);
    let method = endpoint.method.as_str().as_bytes();
    let if_match = header_text(request, "if-match").unwrap_or_default().as_bytes();
    let request_hash = app.custody.derivation.request_hash(&[
        method,
        request.path().as_bytes(),
        request.query_string().as_bytes(),
        if_match,
        body,
    ]);
    let digest = match endpoint.guard {
        Guard::Caller => Digest::of_parts(&[b"api command", &principal, key.as_bytes()]),
        // Callers without a name share one space of keys: what they ask keeps them apart.
        Guard::Public => {
            let parts: [&[u8]; 3] = [b"public command", request_hash.as_bytes(), key.as_bytes()];
            Digest::of_parts(&parts)
        }
    };
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    let command = CommandId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid());
    Ok(Identity { command, request_hash, actor: actor.clone(), allowed: None, causation: None })
}

/// Refuses parameters that the route does not have: a misspelt filter must not show everything.
fn query_of(
    endpoint: &Endpoint,
    request: &HttpRequest,
) -> Result<BTreeMap<String, String>, Failure> {
    let malformed = |name: &str| {
        Problem::new(ProblemCode::MalformedRequest, "the query cannot be read").field(name)
    };
    let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_| malformed("query"))?
        .into_inner();
    let mut query = BTreeMap::new();
    for (name, value) in pairs {
        let known = name == "min_position" || endpoint.query.iter().any(|known| known.name == name);
        if !known || query.insert(name.clone(), value).is_some() {
            return Err(malformed(&name).rule("query_parameter").into());
        }
    }
    Ok(query)
}

/// The projections, once they have folded `min_position`.
async fn reach(app: &App, query: &BTreeMap<String, String>) -> Result<Arc<State>, Failure> {
    let Some(text) = query.get("min_position") else { return Ok(app.state()) };
    let Position(position) = text.parse().map_err(|()| {
        Problem::new(ProblemCode::MalformedRequest, "a position is a number").field("min_position")
    })?;
    let reachable = position <= app.state().position().saturating_add(MAX_LEAD);
    let wait = if reachable { MAX_POSITION_WAIT_MS } else { 0 };
    app.wait_for(position, Duration::from_millis(wait)).await.ok_or_else(|| {
        Problem::new(ProblemCode::PositionNotReached, "the position was not reached in time")
            .rule("min_position")
            .into()
    })
}

/// `"7"` or `7`; `*` would defeat its purpose.
fn if_match(request: &HttpRequest) -> Result<Option<u64>, Failure> {
    let Some(text) = header_text(request, "if-match") else { return Ok(None) };
    let digits = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    let revision = digits.parse().ok().filter(|_| plain).ok_or_else(|| {
        Problem::new(ProblemCode::MalformedRequest, "If-Match is one ETag of this API")
            .field("If-Match")
    })?;
    Ok(Some(revision))
}

pub(crate) fn header_text<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

pub(crate) fn respond(status: u16, reply: &Reply) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if let Some(revision) = reply.revision {
        response.insert_header((header::ETAG, format!("\"{revision}\"")));
    }
    if let Some(position) = reply.position {
        response.insert_header((POSITION_HEADER, position.to_string()));
    }
    if reply.body.is_empty() {
        return response.finish();
    }
    response.content_type("application/json").body(reply.body.clone())
}

pub(crate) fn problem_response(failure: Failure, request_id: &str) -> HttpResponse {
    let mut problem = match failure {
        Failure::Problem(problem) => problem,
        Failure::Conflict | Failure::KeyGiven | Failure::LeaseLost => contended(),
    };
    problem.request_id = Some(request_id.into());
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::CONTENT_TYPE, PROBLEM_CONTENT_TYPE))
        .insert_header((header::CACHE_CONTROL, "no-store"));
    match problem.status {
        401 => response.insert_header((header::WWW_AUTHENTICATE, "Bearer")),
        429 | 503 => {
            let seconds = problem.retry_after_seconds.map_or(1, NonZeroU32::get);
            response.insert_header((header::RETRY_AFTER, seconds.to_string()))
        }
        _ => &mut response,
    };
    response.body(serde_json::to_string(&problem).unwrap_or_default())
}
