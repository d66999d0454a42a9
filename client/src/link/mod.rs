//! A session to one resource: authorized by the control plane, carried by an entry.
//!
//! The link asks for access, connects, and keeps the grant fresh in the background. When the
//! connection is lost it comes back to the session, and what is open on it goes on; when the
//! session is over, it connects anew.

mod comeback;
mod pump;
mod trace;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{FutureExt as _, future::join_all};
use rap_mesh::{
    Carrier,
    client::{
        self, Channel, ClientSession, ConnectError, ConnectOptions, EntryAddress, OpenChannel,
        OpenError, RefreshError, SessionEnd,
    },
};
use rap_proto::{
    ChannelKind, Lane, RefusalCode, ResourceKind, SessionId, Signer as _,
    api::{Access, Reference, RequestAccess},
    key::LocalKey,
    signed::Unverified,
    token::AccessClaims,
};
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use pump::pump;

use crate::{
    api::Api,
    command,
    failure::{self, Exit, Failure},
};

/// How often opening is tried again while a node has not got its newest configuration.
const MAX_CATCH_UPS: u32 = 6;
/// The pause before the first of them; it doubles with each further one.
const FIRST_CATCH_UP: Duration = Duration::from_millis(50);
/// How long a link that ends waits for its session, which somebody else may be looking for.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// The shortest pause between two refreshes.
const MIN_REFRESH: Duration = Duration::from_secs(5);

/// Who asks for what.
pub(crate) struct Request {
    pub(crate) api: Api,
    pub(crate) organization: Option<Reference>,
    pub(crate) resource: Reference,
    pub(crate) key: LocalKey,
    pub(crate) carrier: Option<Carrier>,
}

pub(crate) struct Link {
    request: Arc<Request>,
    state: Arc<State>,
    /// Ends with the link.
    comeback: AbortOnDropHandle<()>,
}

struct State {
    live: Mutex<Live>,
    /// Another session is the one of the moment.
    changed: Notify,
    told: comeback::Told,
}

/// The session of the moment.
struct Live {
    id: SessionId,
    session: ClientSession,
    kind: ResourceKind,
    /// Connections to entries that leave, for what is open there. An entry takes few of one session.
    left: Vec<ClientSession>,
    /// Ends with the session that it keeps fresh.
    _refresher: AbortOnDropHandle<()>,
}

impl Link {
    /// Asks for access and connects.
    pub(crate) async fn open(request: Request) -> Result<Self, Failure> {
        let request = Arc::new(request);
        let live = Mutex::new(connect(&request).await?);
        let (changed, told) = (Notify::new(), comeback::Told::default());
        let state = Arc::new(State { live, changed, told });
        let comeback = tokio::spawn(comeback::attend(request.clone(), state.clone()));
        Ok(Self { request, state, comeback: AbortOnDropHandle::new(comeback) })
    }

    /// Opens one channel; with a new session when the last one is over.
    pub(crate) async fn channel(&self, lane: Option<Lane>) -> Result<Channel, Failure> {
        let mut pause = FIRST_CATCH_UP;
        let mut last = Failure::unavailable("the session was lost");
        for _ in 0..MAX_CATCH_UPS {
            let (session, kind) = self.live().await?;
            let lane = lane.unwrap_or(match kind {
                ResourceKind::Ssh => Lane::Interactive,
                ResourceKind::Web | ResourceKind::Tcp => Lane::Bulk,
            });
            let traceparent = Some(trace::context());
            let kind = ChannelKind::Stream;
            let channel = OpenChannel { channel: kind, lane, traceparent, resume: None };
            match session.open_lasting(channel).await {
                Ok(channel) => return Ok(channel),
                Err(OpenError::Refused(refusal)) => {
                    let passing = is_passing(refusal.code);
                    last = refusal.into();
                    if !passing {
                        break;
                    }
                }
                Err(OpenError::Over(end)) => {
                    last = of_end(end);
                    if last.exit == Exit::Denied {
                        break;
                    }
                }
            }
            tracing::debug!(failure = %last, "the channel is tried again");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(last)
    }

    /// Resolves when the session of the moment is over.
    pub(crate) async fn ended(&self) -> SessionEnd {
        let session = self.state.live.lock().await.session.clone();
        session.ended().await
    }

    /// Ends the session, once what was written has arrived.
    pub(crate) async fn close(&self) {
        // Whoever leaves comes back no more.
        self.comeback.abort();
        // Whoever is about to come back has nothing to close.
        if let Ok(live) = timeout(CLOSE_WITHIN, self.state.live.lock()).await {
            let sessions: Vec<_> = live.left.iter().chain([&live.session]).cloned().collect();
            drop(live);
            join_all(sessions.iter().map(ClientSession::close)).await;
        }
    }

    /// The session of the moment; while one task connects anew, the others wait for it.
    async fn live(&self) -> Result<(ClientSession, ResourceKind), Failure> {
        let mut live = self.state.live.lock().await;
        match live.end() {
            Some(end) if end.may_go_on() => {
                comeback::come_back(&self.request, &self.state.told, &mut live).await?;
            }
            Some(_) => drop(live.replace(connect(&self.request).await?)),
            None if live.session.is_draining() => {
                comeback::go_over(&self.request, &mut live).await?;
            }
            None => return Ok((live.session.clone(), live.kind)),
        }
        self.state.changed.notify_one();
        Ok((live.session.clone(), live.kind))
    }
}

impl Live {
    fn new(
        request: &Arc<Request>,
        id: SessionId,
        session: ClientSession,
        kind: ResourceKind,
    ) -> Self {
        let refresher = tokio::spawn(keep_fresh(Arc::clone(request), id, session.clone()));
        let (left, refresher) = (Vec::new(), AbortOnDropHandle::new(refresher));
        Self { id, session, kind, left, _refresher: refresher }
    }

    /// How the session ended, if it did.
    fn end(&self) -> Option<SessionEnd> {
        self.session.ended().now_or_never()
    }

    /// Puts the next one in its place. What is open at entries that leave stays there.
    fn replace(&mut self, next: Self) -> ClientSession {
        let Self { session, mut left, .. } = std::mem::replace(self, next);
        left.retain(|session| session.ended().now_or_never().is_none());
        self.left = left;
        session
    }
}

/// What the end of a session means for whoever wanted to use it.
pub(crate) fn of_end(end: SessionEnd) -> Failure {
    match end {
        SessionEnd::Ended(reason) => failure::of_end(reason),
        SessionEnd::EntryLost => Failure::unavailable(end.to_string()).hint("connect again"),
    }
}

/// Whether the same request can succeed in a moment, without anybody doing anything.
fn is_passing(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::SnapshotBehind | RefusalCode::WorkerUnavailable)
}

async fn connect(request: &Arc<Request>) -> Result<Live, Failure> {
    let mut pause = FIRST_CATCH_UP;
    // A further attempt is one more on the same session, not another session.
    let mut session = None;
    for _ in 1..MAX_CATCH_UPS {
        match attempt(request, &mut session, None).await {
            Err(Failed::Passing(failure)) => {
                tracing::debug!(%failure, "the connection is tried again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome.map_err(Failed::into_failure),
        }
    }
    attempt(request, &mut session, None).await.map_err(Failed::into_failure)
}

enum Failed {
    Passing(Failure),
    Final(Failure),
}

impl Failed {
    fn into_failure(self) -> Failure {
        match self {
            Self::Passing(failure) | Self::Final(failure) => failure,
        }
    }
}

/// The entry that a session was at.
#[derive(Clone, Copy)]
struct Before {
    at: SocketAddr,
    then: Then,
}

/// What that entry is to a further connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is tried first.
    Stays,
    /// It goes, or is gone: it is tried last.
    Leaves,
}

/// Asks for access and connects.
async fn attempt(
    request: &Arc<Request>,
    session: &mut Option<SessionId>,
    before: Option<Before>,
) -> Result<Live, Failed> {
    let access = ask(request, *session).await.map_err(Failed::Final)?;
    *session = Some(access.session);
    let unreadable = || {
        Failed::Final(
            Failure::new(Exit::Failed, "the access token cannot be read")
                .hint("use the same version of rap as the control plane's"),
        )
    };
    let token = token_bytes(&access).ok_or_else(unreadable)?;
    let kind = kind_of(&token).ok_or_else(unreadable)?;
    let authorities = rap_pki::pem::decode(&access.authorities).map_err(|_| unreadable())?;
    let entries = access.entries.iter().map(|entry| EntryAddress {
        server_name: entry.server_name.clone(),
        addresses: entry.addresses.clone(),
    });
    let mut entries: Vec<_> = entries.collect();
    match before {
        None => {}
        Some(Before { at, then: Then::Stays }) => entries.sort_by_key(|entry| !entry.is_at(at)),
        Some(Before { at, then: Then::Leaves }) => entries.sort_by_key(|entry| entry.is_at(at)),
    }
    let options = ConnectOptions {
        entries,
        authorities,
        token,
        key: Arc::new(request.key.clone()),
        carrier: request.carrier,
        through: true,
    };
    let session = client::connect(options).await.map_err(|error| match error {
        ConnectError::Refused(refusal) if is_passing(refusal.code) => {
            Failed::Passing(refusal.into())
        }
        ConnectError::Refused(refusal) => Failed::Final(refusal.into()),
        other => Failed::Final(Failure::unavailable(other.to_string()).hint(
            "entries are reached on UDP and on TCP: check that the network lets one through",
        )),
    })?;
    let (entry, carrier) = (session.entry(), session.carrier());
    tracing::debug!(session = %access.session, %entry, %carrier, "connected");
    Ok(Live::new(request, access.session, session, kind))
}

async fn ask(request: &Request, session: Option<SessionId>) -> Result<Access, Failure> {
    let body = RequestAccess {
        organization: request.organization.clone(),
        resource: request.resource.clone(),
        client_key: request.key.public_key(),
        session,
    };
    request.api.post("/sessions", &body).await
}

/// Shows the entry a newer token each time half of the grant is over, until the session ends. A
/// control plane that is away is asked again: what is open stays open without it.
async fn keep_fresh(request: Arc<Request>, id: SessionId, session: ClientSession) {
    loop {
        let left = session.expires_at().since(command::now());
        let pause = (left / 2).max(MIN_REFRESH);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = session.ended() => return,
        }
        match refresh(&request, id, &session).await {
            Ok(()) => {}
            Err(Failed::Passing(failure)) => tracing::warn!(%failure, "not refreshed yet"),
            Err(Failed::Final(failure)) => {
                tracing::warn!(%failure, "the access is not renewed");
                return;
            }
        }
    }
}

async fn refresh(request: &Request, id: SessionId, session: &ClientSession) -> Result<(), Failed> {
    let access = ask(request, Some(id)).await.map_err(|failure| match failure.exit {
        Exit::Unavailable => Failed::Passing(failure),
        _ => Failed::Final(failure),
    })?;
    let Some(token) = token_bytes(&access) else {
        return Err(Failed::Final(Failure::new(Exit::Failed, "the access token cannot be read")));
    };
    match session.refresh(token).await {
        Ok(_) => Ok(()),
        Err(RefreshError::Refused(refusal)) if is_passing(refusal.code) => {
            Err(Failed::Passing(refusal.into()))
        }
        Err(RefreshError::TimedOut) => {
            Err(Failed::Passing(Failure::unavailable("the entry did not answer in time")))
        }
        Err(RefreshError::Refused(refusal)) => Err(Failed::Final(refusal.into())),
        Err(RefreshError::Over(end)) => Err(Failed::Final(Failure::unavailable(end.to_string()))),
    }
}

fn token_bytes(access: &Access) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(access.token.reveal()).ok()
}

/// What the token says of the resource. The client trusts the control plane that it came from;
/// the nodes are who verify it.
fn kind_of(token: &[u8]) -> Option<ResourceKind> {
    let claims = Unverified::<AccessClaims>::parse(token).ok()?.peek().ok()?;
    Some(claims.kind)
}
