//! One session of a client at one entry.

use std::{fmt, sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use rap_mesh_core::ended::{Close, DONE};
use rap_proto::{
    Signer, Timestamp,
    observation::EndReason,
    refusal::Refusal,
    token::{EXPORTER_LABEL, Proof},
    wire::client::{ChannelReply, ClientControl, EntryControl, Hello, HelloReply, OpenChannel},
};
use tokio::sync::{Mutex, mpsc, watch};

use super::{Channel, ConnectError, lost};
use crate::frames::{
    CHANNEL_REPLY_TIMEOUT, HELLO_TIMEOUT, read_frame, read_frame_within, write_frame,
};

/// How long [`ClientSession::close`] waits for the entry to finish what is in flight.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connected session. Clones are the same session; when the last is dropped without
/// [`ClientSession::close`], the entry still sees a clean close.
#[derive(Clone)]
pub struct ClientSession {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    connection: Connection,
    exported: [u8; 32],
    key: Arc<dyn Signer>,
    control: Mutex<Control>,
    state: watch::Receiver<State>,
}

struct Control {
    requests: SendStream,
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
        endpoint: Endpoint,
        connection: Connection,
        token: Vec<u8>,
        key: Arc<dyn Signer>,
    ) -> Result<Self, ConnectError> {
        let mut exported = [0; 32];
        connection
            .export_keying_material(&mut exported, EXPORTER_LABEL, b"")
            .map_err(|_| lost(connection.close_reason()))?;
        let hello = hello(token, exported, &*key);
        let (requests, replies, expires_at) = match say_hello(&connection, &hello).await {
            Ok((requests, replies, HelloReply::Accepted { expires_at })) => {
                (requests, replies, expires_at)
            }
            Ok((_, _, HelloReply::Refused(refusal))) => {
                connection.close(VarInt::from_u32(0), b"");
                return Err(refusal.into());
            }
            Err(()) => return Err(lost(connection.close_reason())),
        };
        let (state, watched) = watch::channel(State { expires_at, draining: false, end: None });
        let (refreshed, refreshes) = mpsc::channel(1);
        tokio::spawn(follow(connection.clone(), replies, state, refreshed));
        let control = Mutex::new(Control { requests, refreshes });
        let inner = Inner { endpoint, connection, exported, key, control, state: watched };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens a channel to the session's resource; one round trip where the path is warm.
    pub async fn open(&self, request: OpenChannel) -> Result<Channel, OpenError> {
        let over = || OpenError::Over(self.end_now());
        let (mut send, mut recv) = self.inner.connection.open_bi().await.map_err(|_| over())?;
        write_frame(&mut send, &request).await.map_err(|_| over())?;
        let limit = CHANNEL_REPLY_TIMEOUT + HELLO_TIMEOUT;
        match read_frame_within(&mut recv, limit).await {
            Ok(ChannelReply::Opened) => Ok(Channel::new(send, recv)),
            Ok(ChannelReply::Refused(refusal)) => Err(refusal.into()),
            Err(_) => Err(over()),
        }
    }

    /// Shows the entry a newer token of the same session, so that channels can be opened for
    /// longer. Returns until when.
    pub async fn refresh(&self, token: Vec<u8>) -> Result<Timestamp, RefreshError> {
        let over = || RefreshError::Over(self.end_now());
        let hello = hello(token, self.inner.exported, &*self.inner.key);
        let mut control = self.inner.control.lock().await;
        let request = ClientControl::Refresh(hello);
        write_frame(&mut control.requests, &request).await.map_err(|_| over())?;
        match tokio::time::timeout(HELLO_TIMEOUT, control.refreshes.recv()).await {
            Ok(Some(answer)) => Ok(answer?),
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
    pub fn entry(&self) -> std::net::SocketAddr {
        self.inner.connection.remote_address()
    }

    /// The measured round trip to the entry.
    pub fn rtt(&self) -> Duration {
        self.inner.connection.rtt()
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
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.inner.connection.closed()).await;
            }
        }
        self.inner.connection.close(close_code(), b"");
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.inner.endpoint.wait_idle()).await;
    }

    fn end_now(&self) -> SessionEnd {
        let known = self.inner.state.borrow().end;
        known.unwrap_or_else(|| end_of(self.inner.connection.close_reason().as_ref()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.close(close_code(), b"");
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

fn close_code() -> VarInt {
    VarInt::from_u64(DONE).expect("zero fits")
}

fn hello(token: Vec<u8>, exported: [u8; 32], key: &dyn Signer) -> Hello {
    Hello { proof: Proof::make(&token, exported, key), token }
}

async fn say_hello(
    connection: &Connection,
    hello: &Hello,
) -> Result<(SendStream, RecvStream, HelloReply), ()> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(drop)?;
    write_frame(&mut send, hello).await.map_err(drop)?;
    let reply = read_frame_within(&mut recv, HELLO_TIMEOUT).await.map_err(drop)?;
    Ok((send, recv, reply))
}

/// Keeps the session's state up to date with what the entry says.
async fn follow(
    connection: Connection,
    mut replies: RecvStream,
    state: watch::Sender<State>,
    refreshed: mpsc::Sender<Result<Timestamp, Refusal>>,
) {
    while let Ok(message) = read_frame(&mut replies).await {
        match message {
            EntryControl::Refreshed { expires_at } => {
                state.send_modify(|state| state.expires_at = expires_at);
                // Only an answer that nobody waits for any more finds the place taken.
                let _ = refreshed.try_send(Ok(expires_at));
            }
            EntryControl::RefreshRefused(refusal) => {
                let _ = refreshed.try_send(Err(refusal));
            }
            EntryControl::Draining => state.send_modify(|state| state.draining = true),
            EntryControl::Ended { reason } => {
                state.send_modify(|state| state.end = Some(SessionEnd::Ended(reason)));
            }
        }
    }
    let error = connection.closed().await;
    state.send_modify(|state| {
        state.end.get_or_insert(end_of(Some(&error)));
    });
}

fn end_of(error: Option<&ConnectionError>) -> SessionEnd {
    match error {
        Some(ConnectionError::LocallyClosed) => SessionEnd::Ended(EndReason::ClientClosed),
        Some(ConnectionError::ApplicationClosed(close)) => {
            match Close::from_code(close.error_code.into_inner()) {
                Some(Close::Ended(reason)) => SessionEnd::Ended(reason),
                Some(Close::Done) => SessionEnd::Ended(EndReason::ClientClosed),
                Some(Close::Refused(_)) | None => SessionEnd::EntryLost,
            }
        }
        _ => SessionEnd::EntryLost,
    }
}
