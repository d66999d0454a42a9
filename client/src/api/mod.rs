//! The REST API from a client's side: one connection pool, the bodies of `rap_proto::api`.
//!
//! Every command carries an `Idempotency-Key` of its own, so a command whose outcome is unknown
//! is simply repeated, at another server perhaps: the log remembers the key, and no server does. Reads ask for at
//! least the log position of the last write.

mod events;
mod servers;
mod transport;

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rap_proto::{
    ControlUrl,
    api::{
        API_PREFIX, IDEMPOTENCY_KEY_HEADER, MAX_PAGE_SIZE, POSITION_HEADER, Page, Problem,
        ProblemCode, SecretText,
    },
};
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::servers::KnownServers;
use self::servers::{Tried, Turn};
use crate::{
    args::CaFingerprint,
    failure::{Exit, Failure},
    random,
};

/// How often a request is sent before its failure is believed.
const MAX_ATTEMPTS: u32 = 4;
/// The pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest that a request waits because the control plane said so; more is told to the user.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15);
/// The most pages that one list is followed through.
const MAX_PAGES: usize = 2_000;
/// The largest reply, in bytes.
const MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// How much of an answer is taken in.
#[derive(Debug, Clone, Copy)]
struct Limits {
    pages: usize,
    page_size: usize,
    reply_bytes: usize,
}

const LIMITS: Limits =
    Limits { pages: MAX_PAGES, page_size: MAX_PAGE_SIZE, reply_bytes: MAX_REPLY_BYTES };

pub(crate) struct Api {
    /// For a server's turn while there are others to ask.
    http: reqwest::Client,
    /// For the last try: a slow network is no lost server.
    patient: reqwest::Client,
    servers: KnownServers,
    ca: CaFingerprint,
    bearer: Option<SecretText>,
    /// The last log position that a reply reflected.
    position: AtomicU64,
    limits: Limits,
}

impl Api {
    pub(crate) fn new(
        servers: KnownServers,
        ca: CaFingerprint,
        bearer: Option<SecretText>,
    ) -> Result<Self, Failure> {
        let http = transport::client(ca.0, transport::CONNECT_TURN)?;
        let patient = transport::client(ca.0, transport::CONNECT_TIMEOUT)?;
        Ok(Self { http, patient, servers, ca, bearer, position: AtomicU64::new(0), limits: LIMITS })
    }

    pub(crate) fn servers(&self) -> &KnownServers {
        &self.servers
    }

    pub(crate) fn ca(&self) -> CaFingerprint {
        self.ca
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.get_with(path, &[]).await
    }

    pub(crate) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        let position = self.position.load(Ordering::Relaxed);
        let build = |turn: &Turn| {
            let mut request = self.request(turn, Method::GET, path).query(query);
            if position > 0 {
                request = request.query(&[("min_position", position)]);
            }
            request
        };
        decode(&self.send(build).await?)
    }

    /// What is not JSON.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        self.send(|turn| self.request(turn, Method::GET, path)).await
    }

    /// Every item of a list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..self.limits.pages {
            let mut page_query = query.to_vec();
            page_query.push(("limit", self.limits.page_size.to_string()));
            page_query.extend(after.take().map(|after| ("after", after)));
            let page: Page<T> = self.get_with(path, &page_query).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(items),
            }
        }
        let items = self.limits.pages * self.limits.page_size;
        Err(Failure::new(Exit::Limit, format!("the list has more than {items} items"))
            .hint("ask for less of it"))
    }

    /// One page of a list, with the cursor of the next.
    pub(crate) async fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Page<T>, Failure> {
        self.get_with(path, query).await
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        decode(&self.command(Method::POST, path, None, Some(body)).await?)
    }

    /// Changes something that has a revision.
    pub(crate) async fn change<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        revision: Option<u64>,
        body: Option<&B>,
    ) -> Result<T, Failure> {
        decode(&self.command(method, path, revision, body).await?)
    }

    pub(crate) async fn delete(&self, path: &str, revision: Option<u64>) -> Result<(), Failure> {
        self.command(Method::DELETE, path, revision, None::<&()>).await.map(drop)
    }

    /// A command whose reply, if any, does not matter.
    pub(crate) async fn put<B: Serialize>(
        &self,
        path: &str,
        revision: Option<u64>,
        body: Option<&B>,
    ) -> Result<(), Failure> {
        self.command(Method::PUT, path, revision, body).await.map(drop)
    }

    async fn command<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        revision: Option<u64>,
        body: Option<&B>,
    ) -> Result<Vec<u8>, Failure> {
        let key = random::hex();
        self.send(|turn| {
            let mut request =
                self.request(turn, method.clone(), path).header(IDEMPOTENCY_KEY_HEADER, &key);
            if let Some(revision) = revision {
                request = request.header(header::IF_MATCH, format!("\"{revision}\""));
            }
            match body {
                Some(body) => request.json(body),
                None => request,
            }
        })
        .await
    }

    fn request(&self, turn: &Turn, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{API_PREFIX}{path}", turn.server);
        let http = if turn.is_last { &self.patient } else { &self.http };
        let request = http.request(method, url);
        match &self.bearer {
            Some(bearer) => request.bearer_auth(bearer.reveal()),
            None => request,
        }
    }

    /// Sends until something answers that is worth believing.
    async fn send(&self, build: impl Fn(&Turn) -> RequestBuilder) -> Result<Vec<u8>, Failure> {
        let mut tried = Tried::default();
        let mut pause = FIRST_PAUSE;
        let mut was_limited = false;
        for _ in 1..MAX_ATTEMPTS {
            let (failure, wait) = match self.round(&mut tried, false, &build).await {
                Ok(reply) => return Ok(reply),
                Err(Attempt { failure, again: Again::Never, .. }) => return Err(failure),
                Err(Attempt { failure, again: Again::Soon, .. }) => (failure, pause),
                Err(Attempt { failure, again: Again::After(wait), .. }) => {
                    if was_limited || wait > MAX_RETRY_AFTER {
                        return Err(failure);
                    }
                    was_limited = true;
                    (failure, wait)
                }
            };
            tracing::debug!(%failure, ?wait, "the request is repeated");
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
        self.round(&mut tried, true, &build).await.map_err(|attempt| attempt.failure)
    }

    /// Asks the server whose turn it is, and others at once where nothing was begun there.
    async fn round(
        &self,
        tried: &mut Tried,
        is_last: bool,
        build: &impl Fn(&Turn) -> RequestBuilder,
    ) -> Result<Vec<u8>, Attempt> {
        let mut first = None;
        loop {
            let turn = self.servers.turn(tried, is_last);
            let asked = self.attempt(&turn.server, build(&turn)).await;
            if let Some(outcome) = self.settled(tried, (turn.server, &mut first), asked) {
                return outcome;
            }
        }
    }

    /// What became of a round, when it is over; of servers where nothing was begun the first one's word counts.
    /// Where something may have been, the next round goes on at another one. All that did not answer are named.
    fn settled<T>(
        &self,
        tried: &mut Tried,
        (server, first): (ControlUrl, &mut Option<(ControlUrl, Attempt)>),
        asked: Result<T, Attempt>,
    ) -> Option<Result<T, Attempt>> {
        let attempt = match asked {
            Err(attempt) if attempt.heard != Heard::Answer => attempt,
            answer => {
                self.servers.answered(tried);
                return Some(answer);
            }
        };
        tracing::debug!(failure = %attempt.failure, "another server is asked, if there is any");
        let lost = attempt.heard == Heard::NoConnection;
        let more = self.servers.failed(tried, lost, &attempt.in_short);
        let (server, attempt) = match attempt.heard {
            Heard::Nothing => (server, attempt),
            _ => first.get_or_insert((server, attempt)).clone(),
        };
        let is_over = !more || attempt.heard == Heard::Nothing;
        is_over.then(|| Err(attempt.beside(tried.silent_beside(&server).collect())))
    }

    fn lost(&self, server: &ControlUrl, error: &reqwest::Error) -> Attempt {
        Attempt {
            failure: transport::failure(error, server, &self.ca),
            in_short: transport::in_short(error),
            again: if transport::is_distrust(error) { Again::Never } else { Again::Soon },
            heard: if error.is_connect() { Heard::NoConnection } else { Heard::Nothing },
        }
    }

    async fn attempt(
        &self,
        server: &ControlUrl,
        request: RequestBuilder,
    ) -> Result<Vec<u8>, Attempt> {
        let lost = |error: reqwest::Error| self.lost(server, &error);
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        tracing::debug!(path = response.url().path(), %status, "the control plane answered");
        let position = response.headers().get(POSITION_HEADER);
        if let Some(position) = position.and_then(|value| value.to_str().ok()?.parse().ok()) {
            self.position.fetch_max(position, Ordering::Relaxed);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > self.limits.reply_bytes {
                let failure = Failure::new(Exit::Limit, "the reply is too large");
                let in_short = String::new();
                return Err(Attempt {
                    failure,
                    in_short,
                    again: Again::Never,
                    heard: Heard::Answer,
                });
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }
}

/// A request that failed, and whether sending it again could help.
#[derive(Clone)]
struct Attempt {
    failure: Failure,
    /// Of its server, where another one's failure is told.
    in_short: String,
    again: Again,
    heard: Heard,
}

impl Attempt {
    /// Names the servers that were asked as well.
    fn beside(mut self, others: Vec<String>) -> Self {
        if !others.is_empty() {
            self.failure = self.failure.and(&format!("; also asked: {}", others.join(", ")));
        }
        self
    }
}

#[derive(Clone, Copy)]
enum Again {
    Never,
    /// After a pause of our own.
    Soon,
    /// The control plane said when; it is believed once.
    After(Duration),
}

/// What came from the server that was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Answer,
    /// That it may change nothing at the moment.
    Frozen,
    /// Nothing, or that it cannot answer: it may have begun.
    Nothing,
    NoConnection,
}

fn refused(status: StatusCode, body: &[u8]) -> Attempt {
    let heard = |code| match status.as_u16() {
        502..=504 if code == Some(ProblemCode::AuthorityFrozen) => Heard::Frozen,
        502..=504 => Heard::Nothing,
        _ => Heard::Answer,
    };
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let again = match problem.code() {
                Some(
                    ProblemCode::Unavailable
                    | ProblemCode::OutcomeUnknown
                    | ProblemCode::PositionNotReached
                    | ProblemCode::IdempotencyKeyInFlight,
                ) => Again::Soon,
                Some(ProblemCode::RateLimited) => {
                    let seconds = problem.retry_after_seconds.map_or(1, NonZeroU32::get);
                    Again::After(Duration::from_secs(seconds.into()))
                }
                _ => Again::Never,
            };
            let in_short = problem.title.to_string();
            Attempt { heard: heard(problem.code()), failure: problem.into(), in_short, again }
        }
        Err(_) => {
            let failure = Failure::unavailable(format!("the control plane answered {status}"))
                .hint("is that address really the control plane's?");
            let again = if status.is_server_error() { Again::Soon } else { Again::Never };
            let in_short = format!("answered {status}");
            Attempt { failure, in_short, again, heard: heard(None) }
        }
    }
}

fn decode<T: DeserializeOwned>(reply: &[u8]) -> Result<T, Failure> {
    // A change without an answer of its own has an empty body.
    let reply = if reply.is_empty() { b"null" } else { reply };
    serde_json::from_slice(reply).map_err(|error| {
        tracing::debug!(%error, "the reply is not the expected one");
        Failure::new(Exit::Failed, "the control plane's reply cannot be read")
            .hint("use the same version of rap as the control plane's")
    })
}

#[cfg(all(test, feature = "dev"))]
mod tests;
