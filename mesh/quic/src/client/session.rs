//! One session of a client at one entry.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, Endpoint, VarInt};
use rap_mesh_core::{
    carrier::Carrier,
    channel::Policy,
    ended::{Close, DONE},
    refusals::refusal,
};
use rap_proto::{
    ChannelKind, Lane, RefusalCode, SessionId, Signer, Timestamp,
    observation::EndReason,
    refusal::Refusal,
    signed::Unverified,
    token::{AccessClaims, EXPORTER_LABEL, Proof},
    wire::{
        self,
        client::{
            ChannelReply, ClientControl, EntryControl, Hello, HelloReply, JoinSession, OpenChannel,
        },
        resume::Resume,
    },
};
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use super::{
    Channel, ConnectError, Joining, LaneConnections, Line,
    lasting::{ChannelKeeper, Succession},
    not_taken,
};
use crate::{
    MessageChannel,
    frames::{
        CHANNEL_REPLY_TIMEOUT, HELLO_TIMEOUT, ReadFrameError, read_frame, read_frame_within,
        write_frame,
    },
    kept::new_name,
    pipe::{Inlet, Leg, Outlet, Short, lost},
    tcp::{self, Controllers, Secured},
};

/// How long [`ClientSession::close`] waits for the entry to finish what is in flight.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long TCP is left alone after a channel could not be opened on it.
const TCP_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A connected session. Clones are the same session; when the last is dropped without
/// [`ClientSession::close`], the entry still sees a clean close.
#[derive(Clone)]
pub struct ClientSession {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) below: Below,
    pub(super) session: Option<SessionId>,
    pub(super) joining: Option<Joining>,
    pub(super) lanes: LaneConnections,
    tcp_failed: std::sync::Mutex<Option<Instant>>,
    exported: [u8; 32],
    pub(super) key: Arc<dyn Signer>,
    /// The token that the entry accepted last.
    pub(super) shown: std::sync::Mutex<Vec<u8>>,
    /// The entry opens ways for through flows.
    pub(super) through: bool,
    /// Until then, none is tried.
    pub(super) through_rests: std::sync::Mutex<Option<Instant>>,
    control: Mutex<Control>,
    state: rap_watch::Receiver<State>,
    /// Another session's, once this has taken its place.
    succession: std::sync::Mutex<Arc<Succession>>,
}

/// What carries the session's first stream.
pub(super) enum Below {
    Quic { endpoint: Endpoint, connection: Connection },
    Tcp { remote: SocketAddr, rtt: Duration },
}

struct Control {
    requests: Outlet,
    refreshes: mpsc::Receiver<Result<Timestamp, Refusal>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    expires_at: Timestamp,
    draining: bool,
    end: Option<SessionEnd>,
}

/// Why a session is over, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The entry said so.
    Ended(EndReason),
    /// The entry is gone without a word: its network, or the client's, or the node.
    EntryLost,
}

impl SessionEnd {
    /// Whether its client may come back to it, there or at another entry. Then what does not end at the
    /// entry goes on.
    pub const fn may_go_on(self) -> bool {
        matches!(self, Self::EntryLost | Self::Ended(EndReason::NodeLeft))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The channel was refused; the session goes on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The session is over; connect again.
    #[error("the session is over: {0}")]
    Over(SessionEnd),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// The token was not accepted; the one before it still counts until it expires.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the session is over: {0}")]
    Over(SessionEnd),
    /// The entry did not answer in time; the session may go on.
    #[error("the entry did not answer in time")]
    TimedOut,
}

impl ClientSession {
    pub(super) async fn introduce(
        line: Line,
        (joining, mut lanes): (Option<Joining>, LaneConnections),
        (token, key): (Vec<u8>, Arc<dyn Signer>),
    ) -> Result<Self, ConnectError> {
        let session = Unverified::<AccessClaims>::parse(&token).ok();
        let session = session.and_then(|token| Some(token.peek().ok()?.session));
        let (mut requests, mut replies, exported, below) = begin(line).await?;
        let hello = hello(token.clone(), exported, &*key);
        let (expires_at, through) = match say_hello(&mut requests, &mut replies, &hello).await {
            Ok(HelloReply::Accepted { expires_at, through, lanes: takes_lanes }) => {
                if !takes_lanes {
                    lanes = LaneConnections::default();
                }
                (expires_at, through)
            }
            Ok(HelloReply::Refused(refusal)) => {
                below.close();
                return Err(refusal.into());
            }
            Err(()) => return Err(not_taken(below.close_reason())),
        };
        let (state, watched) = rap_watch::channel(State { expires_at, draining: false, end: None });
        let (refreshed, refreshes) = mpsc::channel(1);
        tokio::spawn(follow(below.connection(), replies, state, refreshed));
        let control = Mutex::new(Control { requests, refreshes });
        let tcp_failed = std::sync::Mutex::default();
        let inner = Arc::new(Inner {
            below,
            session,
            joining,
            lanes,
            tcp_failed,
            exported,
            key,
            shown: std::sync::Mutex::new(token),
            through,
            through_rests: std::sync::Mutex::default(),
            control,
            state: watched,
            succession: std::sync::Mutex::default(),
        });
        let session = Self { inner };
        session.succession().newest.send_replace(Arc::downgrade(&session.inner));
        Ok(session)
    }

    /// Opens a channel to the session's resource; one round trip on QUIC where the path is warm,
    /// a connection's more on TCP.
    pub async fn open(&self, request: OpenChannel) -> Result<Channel, OpenError> {
        let request = OpenChannel { resume: None, ..request };
        match self.ask(&request).await? {
            (send, recv, ChannelReply::Opened) => Ok(Channel::new(send, recv)),
            (.., ChannelReply::Refused(refusal)) => Err(refusal.into()),
            (.., ChannelReply::Attached { .. } | ChannelReply::Gone) => Err(not_asked_for()),
        }
    }

    /// The same for a channel that outlives this connection: where that is lost, it goes on over
    /// the one that takes its place ([`Self::succeed`]), or another of this session, within 60 s.
    /// At an entry that does not know of this, the channel ends with the connection.
    ///
    /// Bulk is a through flow where the entry opens ways to the egress: TLS between the client and the egress,
    /// of which the entry sees no plaintext, and which outlives the entry.
    pub async fn open_lasting(&self, request: OpenChannel) -> Result<Channel, OpenError> {
        if let Some(channel) = self.open_through(&request).await? {
            return Ok(channel);
        }
        let Some(flow) = new_name() else { return self.open(request).await };
        let request = OpenChannel { resume: Some(Resume::opening(flow)), ..request };
        match self.ask(&request).await? {
            (send, recv, ChannelReply::Opened) => Ok(Channel::new(send, recv)),
            (send, recv, ChannelReply::Attached { .. }) => {
                let leg = Leg::new(send, recv).ok_or_else(not_asked_for)?;
                Ok(ChannelKeeper::entry(self.succession(), request, flow).begin(leg, None))
            }
            (.., ChannelReply::Refused(refusal)) => Err(refusal.into()),
            (.., ChannelReply::Gone) => Err(not_asked_for()),
        }
    }

    /// Opens a channel of messages on the lane of its kind. It outlives this connection like those of
    /// [`Self::open_lasting`].
    ///
    /// # Errors
    /// `malformed` for a kind that carries no messages.
    pub async fn open_messages(
        &self,
        channel: ChannelKind,
        traceparent: Option<String>,
    ) -> Result<MessageChannel, OpenError> {
        let policy = Policy::of(channel).ok_or_else(not_asked_for)?;
        let request = OpenChannel { channel, lane: policy.lane, traceparent, resume: None };
        let (writer, reader) = self.open_lasting(request).await?.split();
        Ok(MessageChannel::start(policy, reader, writer))
    }

    /// How many of its channels have lost their connection and wait for another.
    pub fn waiting_channels(&self) -> rap_watch::Receiver<usize> {
        self.succession().waiting.subscribe()
    }

    /// Takes the place of the same session's connection that is lost: the channels of that go on
    /// over this one. To be called before a channel is opened here.
    pub fn succeed(&self, lost: &Self) {
        let succession = lost.succession();
        *crate::mesh::locked(&self.inner.succession) = succession.clone();
        succession.newest.send_replace(Arc::downgrade(&self.inner));
    }

    /// Nobody comes back to it: what waits for that is over.
    pub fn forsake(&self) {
        self.succession().newest.send_replace(std::sync::Weak::new());
    }

    pub(super) fn succession(&self) -> Arc<Succession> {
        crate::mesh::locked(&self.inner.succession).clone()
    }

    /// Asks the entry for a channel, and hears what it says.
    pub(super) async fn ask(
        &self,
        request: &OpenChannel,
    ) -> Result<(Outlet, Inlet, ChannelReply), OpenError> {
        let (send, mut recv) = self.stream_for(wire::frame(request), request.lane).await?;
        send.keep_queue_short(request.lane, &Controllers::default());
        let limit = CHANNEL_REPLY_TIMEOUT + HELLO_TIMEOUT;
        match read_frame_within(&mut recv, limit).await {
            Ok(reply) => Ok((send, recv, reply)),
            Err(_) => Err(OpenError::Over(self.end_now())),
        }
    }

    /// A stream of the session, of this lane, that begins with these words.
    pub(super) async fn stream_for(
        &self,
        words: Vec<u8>,
        lane: Lane,
    ) -> Result<(Outlet, Inlet), OpenError> {
        let prefers_tcp = Carrier::order(lane)[0] == Carrier::Tcp;
        if let Some(opened) = self.on_tcp(&words, prefers_tcp).await? {
            return Ok(opened);
        }
        if let Some(opened) = self.on_lane(lane, &words).await {
            return Ok(opened);
        }
        let Below::Quic { connection, .. } = &self.inner.below else {
            return Err(refusal(RefusalCode::PathUnavailable).into());
        };
        let over = || OpenError::Over(self.end_now());
        let (send, recv) = connection.open_bi().await.map_err(|_| over())?;
        let (mut send, recv) = (Outlet::Quic(send), Inlet::Quic(recv));
        send.write_all(&words).await.map_err(|_| over())?;
        Ok((send, recv))
    }

    /// The same on a connection of its own, where that is preferred or the session is on TCP.
    /// `None` when there is no way on TCP: the entry knows nothing of it then.
    async fn on_tcp(
        &self,
        words: &[u8],
        prefers_tcp: bool,
    ) -> Result<Option<(Outlet, Inlet)>, OpenError> {
        let Inner { below, session, joining, tcp_failed, key, .. } = &*self.inner;
        let (Some(session), Some(joining)) = (session, joining) else { return Ok(None) };
        if let Below::Quic { connection, .. } = below {
            let failed = *crate::mesh::locked(tcp_failed);
            let rests = failed.is_some_and(|at| at.elapsed() < TCP_RETRY_AFTER);
            if !prefers_tcp || rests {
                return Ok(None);
            }
            if let Some(error) = connection.close_reason() {
                return Err(OpenError::Over(end_of(lost(&error))));
            }
        }
        let Joining { config, address, server_name, .. } = joining;
        let connecting = tcp::connect_to(config.clone(), *address, server_name);
        match tcp::within(connecting).await {
            Ok(Secured { mut outlet, inlet, exported, .. }) => {
                let join = JoinSession::make(*session, exported, &**key);
                let words = [&wire::frame(&join), words].concat();
                if outlet.write_all(&words).await.is_ok() {
                    return Ok(Some((outlet, inlet)));
                }
            }
            Err(error) => tracing::debug!(%error, "the entry is not reached on TCP"),
        }
        *crate::mesh::locked(tcp_failed) = Some(Instant::now());
        Ok(None)
    }

    /// Shows the entry a newer token of the same session, so that channels can be opened for
    /// longer. Returns until when.
    pub async fn refresh(&self, token: Vec<u8>) -> Result<Timestamp, RefreshError> {
        let over = || RefreshError::Over(self.end_now());
        let hello = hello(token.clone(), self.inner.exported, &*self.inner.key);
        let mut control = self.inner.control.lock().await;
        let request = ClientControl::Refresh(hello);
        write_frame(&mut control.requests, &request).await.map_err(|_| over())?;
        match tokio::time::timeout(HELLO_TIMEOUT, control.refreshes.recv()).await {
            Ok(Some(answer)) => {
                let expires_at = answer?;
                *crate::mesh::locked(&self.inner.shown) = token;
                Ok(expires_at)
            }
            Ok(None) => Err(over()),
            Err(_) => Err(RefreshError::TimedOut),
        }
    }

    /// Until when channels can be opened without a refresh.
    pub fn expires_at(&self) -> Timestamp {
        self.inner.state.borrow().expires_at
    }

    /// Whether the entry is leaving: open channels stay, new ones need another entry.
    pub fn is_draining(&self) -> bool {
        self.inner.state.borrow().draining
    }

    /// The entry's address.
    pub fn entry(&self) -> SocketAddr {
        match &self.inner.below {
            Below::Quic { connection, .. } => connection.remote_address(),
            Below::Tcp { remote, .. } => *remote,
        }
    }

    /// What the session itself is on.
    pub fn carrier(&self) -> Carrier {
        match &self.inner.below {
            Below::Quic { .. } => Carrier::Quic,
            Below::Tcp { .. } => Carrier::Tcp,
        }
    }

    /// The measured round trip to the entry.
    pub fn rtt(&self) -> Duration {
        match &self.inner.below {
            Below::Quic { connection, .. } => connection.rtt(),
            Below::Tcp { rtt, .. } => *rtt,
        }
    }

    /// Waits until the session is over.
    pub async fn ended(&self) -> SessionEnd {
        let mut state = self.inner.state.clone();
        let ended = state.wait_for(|state| state.end.is_some()).await;
        ended.ok().and_then(|state| state.end).unwrap_or(SessionEnd::EntryLost)
    }

    /// Ends the session as `client_closed`: lets what was written arrive, then closes.
    pub async fn close(&self) {
        {
            let mut control = self.inner.control.lock().await;
            if write_frame(&mut control.requests, &ClientControl::Close).await.is_ok() {
                // The entry closes the connection when the last bytes are through.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.inner.below.closed(self)).await;
            }
        }
        self.inner.below.close();
        self.inner.lanes.close(close_code()).await;
        if let Below::Quic { endpoint, .. } = &self.inner.below {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
        }
    }

    /// How the session ended, if it did.
    pub(super) fn end_so_far(&self) -> Option<SessionEnd> {
        self.inner.state.borrow().end
    }

    fn end_now(&self) -> SessionEnd {
        let known = self.end_so_far();
        known.unwrap_or_else(|| end_of(self.inner.below.close_reason()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // On TCP the first stream's end says the same.
        self.below.close();
    }
}

impl Below {
    fn connection(&self) -> Option<Connection> {
        match self {
            Self::Quic { connection, .. } => Some(connection.clone()),
            Self::Tcp { .. } => None,
        }
    }

    fn close(&self) {
        if let Self::Quic { connection, .. } = self {
            connection.close(close_code(), b"");
        }
    }

    fn close_reason(&self) -> Option<Close> {
        match self.connection()?.close_reason()? {
            ConnectionError::LocallyClosed => Some(Close::Done),
            error => lost(&error),
        }
    }

    async fn closed(&self, session: &ClientSession) {
        match self {
            Self::Quic { connection, .. } => drop(connection.closed().await),
            Self::Tcp { .. } => drop(session.ended().await),
        }
    }
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession").field("entry", &self.entry()).finish_non_exhaustive()
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::EntryLost => "the connection to the entry was lost",
            Self::Ended(reason) => sentence(*reason),
        };
        f.write_str(text)
    }
}

pub(super) const fn sentence(reason: EndReason) -> &'static str {
    match reason {
        EndReason::ClientClosed => "the client closed it",
        EndReason::ClientLost => "the entry lost the client",
        EndReason::TargetClosed => "the resource closed the connection",
        EndReason::WorkerDied => "the adapter worker died",
        EndReason::PathLost => "the path to the resource was lost",
        EndReason::Terminated => "the access was withdrawn or ended by an administrator",
        EndReason::NodeLeft => "a node was drained or removed",
        EndReason::NotUsed => "it was never used",
        EndReason::LeaseLost => "the node that carried the resource does so no more",
    }
}

/// The entry answers something else than what it was asked.
fn not_asked_for() -> OpenError {
    refusal(RefusalCode::Malformed).into()
}

pub(super) fn close_code() -> VarInt {
    VarInt::from_u64(DONE).expect("zero fits")
}

fn hello(token: Vec<u8>, exported: [u8; 32], key: &dyn Signer) -> Hello {
    Hello { proof: Proof::make(&token, exported, key), token }
}

/// The session's first stream.
async fn begin(line: Line) -> Result<(Outlet, Inlet, [u8; 32], Below), ConnectError> {
    match line {
        Line::Quic { endpoint, connection } => {
            let gone = || not_taken(connection.close_reason().and_then(|error| lost(&error)));
            let mut exported = [0; 32];
            connection
                .export_keying_material(&mut exported, EXPORTER_LABEL, b"")
                .map_err(|_| gone())?;
            let (send, recv) = connection.open_bi().await.map_err(|_| gone())?;
            let below = Below::Quic { endpoint, connection };
            Ok((Outlet::Quic(send), Inlet::Quic(recv), exported, below))
        }
        Line::Tcp { secured, rtt } => {
            let Secured { outlet, inlet, exported, remote, .. } = secured;
            Ok((outlet, inlet, exported, Below::Tcp { remote, rtt }))
        }
    }
}

async fn say_hello(
    requests: &mut Outlet,
    replies: &mut Inlet,
    hello: &Hello,
) -> Result<HelloReply, ()> {
    write_frame(requests, hello).await.map_err(drop)?;
    read_frame_within(replies, HELLO_TIMEOUT).await.map_err(drop)
}

/// Keeps the session's state up to date with what the entry says.
async fn follow(
    connection: Option<Connection>,
    mut replies: Inlet,
    state: rap_watch::Sender<State>,
    refreshed: mpsc::Sender<Result<Timestamp, Refusal>>,
) {
    let stopped = loop {
        match read_frame(&mut replies).await {
            Ok(EntryControl::Refreshed { expires_at }) => {
                state.send_modify(|state| state.expires_at = expires_at);
                // Only an answer that nobody waits for any more finds the place taken.
                let _ = refreshed.try_send(Ok(expires_at));
            }
            Ok(EntryControl::RefreshRefused(refusal)) => {
                let _ = refreshed.try_send(Err(refusal));
            }
            Ok(EntryControl::Draining) => state.send_modify(|state| state.draining = true),
            Ok(EntryControl::Ended { reason }) => {
                state.send_modify(|state| state.end = Some(SessionEnd::Ended(reason)));
            }
            Err(error) => break error,
        }
    };
    let end = match (connection, stopped) {
        (Some(connection), _) => match connection.closed().await {
            ConnectionError::LocallyClosed => SessionEnd::Ended(EndReason::ClientClosed),
            error => end_of(lost(&error)),
        },
        // On TCP an entry that is done finishes the stream.
        (None, ReadFrameError::Stream(Short::Finished)) => {
            SessionEnd::Ended(EndReason::ClientClosed)
        }
        (None, _) => SessionEnd::EntryLost,
    };
    state.send_modify(|state| {
        state.end.get_or_insert(end);
    });
}

fn end_of(close: Option<Close>) -> SessionEnd {
    match close {
        // The client can come back to it.
        Some(Close::Ended(EndReason::ClientLost)) => SessionEnd::EntryLost,
        Some(Close::Ended(reason)) => SessionEnd::Ended(reason),
        Some(Close::Done) => SessionEnd::Ended(EndReason::ClientClosed),
        Some(Close::Refused(_)) | None => SessionEnd::EntryLost,
    }
}
