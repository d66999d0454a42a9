//! The bus on NATS, without JetStream: at most once, and nothing kept.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Auth, Client, ConnectOptions, Event, ServerError, connection::State};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use rap_proto::Digest;
use tokio::{sync::watch, task::AbortHandle, time::timeout};

use crate::{Bus, BusError, BusEvent, NatsCredentials, Subscription, queue::Queue, subject};

/// Where a server's system account takes new account tokens.
pub(crate) const ACCOUNT_UPDATE_SUBJECT: &str = "$SYS.REQ.CLAIMS.UPDATE";
/// How long a call may wait for the server.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest wait between two attempts to connect, before jitter.
const GREATEST_RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// The delay after the first failed attempt; each further one doubles it.
const FIRST_RECONNECT_DELAY: Duration = Duration::from_millis(50);
/// Each key waits up to this much longer, so that not all nodes return at once.
const RECONNECT_JITTER_MS: u64 = 500;
/// How often a silent connection is probed.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How to reach a server, and as whom.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://host:port`, or `tls://host:port`, which `tls` must allow.
    pub servers: Vec<String>,
    pub credentials: NatsCredentials,
    /// Trusts the servers' certificates; without it, `tls://` uses the system's roots.
    pub tls: Option<rustls::ClientConfig>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("not the address of a NATS server: {0}")]
    InvalidServer(std::io::Error),
    #[error("the NATS client cannot be started: {0}")]
    Unusable(#[from] async_nats::ConnectError),
}

#[derive(Debug, thiserror::Error)]
pub enum AccountUpdateError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the server was not reached in time, or refused the system user")]
    Unreachable,
    #[error("the server refused the account token: {0}")]
    Refused(String),
}

/// A connection to NATS that restores itself for as long as it exists.
pub struct NatsBus {
    client: Client,
    token: Arc<Mutex<String>>,
    connected: watch::Receiver<bool>,
    violations: Arc<AtomicU64>,
}

/// Ends the task that feeds a subscription, and with it the server's side.
struct Feed(AbortHandle);

impl NatsBus {
    /// Starts to connect, and goes on for as long as the bus exists; it does not wait for the
    /// server ([`NatsBus::wait_connected`] does).
    pub async fn connect(options: NatsOptions) -> Result<Self, ConnectError> {
        let NatsOptions { servers, credentials, tls } = options;
        let servers = servers
            .iter()
            .map(|server| server.parse::<async_nats::ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(ConnectError::InvalidServer)?;
        let token = Arc::new(Mutex::new(credentials.jwt.clone()));
        let violations = Arc::new(AtomicU64::new(0));
        let (connection, connected) = watch::channel(false);
        let mut connect = authenticated(&credentials, token.clone())
            .custom_inbox_prefix(&credentials.inbox_prefix)
            .retry_on_initial_connect()
            .ignore_discovered_servers()
            .connection_timeout(CALL_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(reconnect_delay(&credentials))
            .event_callback(observe(connection, violations.clone()));
        if let Some(tls) = tls {
            connect = connect.tls_client_config(tls);
        }
        let client = connect.connect(servers).await?;
        Ok(Self { client, token, connected, violations })
    }

    /// Replaces the user token by a newer one of the same key, used from the next connection on.
    /// The server ends the present one when its token expires.
    pub fn set_token(&self, jwt: String) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = jwt;
    }

    /// Whether there is a connection, and each change of that.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Waits for a connection for at most this long.
    pub async fn wait_connected(&self, patience: Duration) -> Result<(), BusError> {
        let mut connected = self.connected();
        match timeout(patience, connected.wait_for(|connected| *connected)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(BusError::Disconnected),
            Err(_) => Err(BusError::TimedOut),
        }
    }

    /// How often the server refused a subject to this user.
    pub fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    async fn send(&self, subject: String, payload: Bytes) -> Result<(), BusError> {
        subject::check_publish(&subject, payload.len())?;
        // The client would keep the message for later, and wait once it has kept enough.
        if !self.is_connected() {
            return Err(BusError::Disconnected);
        }
        bounded(self.client.publish(subject, payload)).await
    }

    async fn listen(&self, pattern: String) -> Result<Subscription, BusError> {
        subject::check_pattern(&pattern)?;
        let mut subscriber = bounded(self.client.subscribe(pattern)).await?;
        let queue = Arc::new(Queue::default());
        let writer = queue.clone();
        let feed = tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                let (subject, payload) = (message.subject.into_string(), message.payload);
                writer.push(BusEvent { subject, payload });
            }
            writer.close();
        });
        let subscription = Subscription::new(queue, Box::new(Feed(feed.abort_handle())));
        if self.is_connected() {
            self.round_trip().await?;
        }
        Ok(subscription)
    }

    /// Returns when the server has dealt with everything that was sent to it before.
    async fn round_trip(&self) -> Result<(), BusError> {
        let inbox = self.client.new_inbox();
        let mut echo = bounded(self.client.subscribe(inbox.clone())).await?;
        bounded(self.client.publish(inbox, Bytes::new())).await?;
        match timeout(CALL_TIMEOUT, echo.next()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(BusError::Disconnected),
            Err(_) => Err(BusError::TimedOut),
        }
    }
}

impl Bus for NatsBus {
    fn publish(&self, subject: String, payload: Bytes) -> BoxFuture<'_, Result<(), BusError>> {
        self.send(subject, payload).boxed()
    }

    fn subscribe(&self, subject: String) -> BoxFuture<'_, Result<Subscription, BusError>> {
        self.listen(subject).boxed()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gives the server a new account token ([`crate::NatsAuthority::account_jwt`]); connections
/// that it revokes end at once. `options` hold the system user's credentials.
pub async fn update_account(options: NatsOptions, jwt: String) -> Result<(), AccountUpdateError> {
    let bus = NatsBus::connect(options).await?;
    bus.wait_connected(CALL_TIMEOUT).await.map_err(|_| AccountUpdateError::Unreachable)?;
    let request = bus.client.request(ACCOUNT_UPDATE_SUBJECT, Bytes::from(jwt));
    let reply = match timeout(CALL_TIMEOUT, request).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) | Err(_) => return Err(AccountUpdateError::Unreachable),
    };
    let reply: serde_json::Value = serde_json::from_slice(&reply.payload).unwrap_or_default();
    if reply["data"]["code"] == 200 {
        return Ok(());
    }
    let reason = reply["error"]["description"].as_str().unwrap_or("no reason given");
    Err(AccountUpdateError::Refused(reason.to_owned()))
}

async fn bounded<T, E: std::error::Error>(
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, BusError> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the NATS client refused a call");
            Err(BusError::Disconnected)
        }
        Err(_) => Err(BusError::TimedOut),
    }
}

/// Proves possession of the key with whatever token is the newest when the server asks.
fn authenticated(credentials: &NatsCredentials, token: Arc<Mutex<String>>) -> ConnectOptions {
    let key = Arc::new(credentials.key.clone());
    ConnectOptions::with_auth_callback(move |nonce| {
        let mut auth = Auth::new();
        auth.jwt = Some(token.lock().unwrap_or_else(PoisonError::into_inner).clone());
        auth.signature = Some(key.sign(&nonce));
        async move { Ok(auth) }
    })
}

fn reconnect_delay(
    credentials: &NatsCredentials,
) -> impl Fn(usize) -> Duration + Send + Sync + 'static {
    let hash = Digest::of(credentials.key.public().as_bytes());
    let share = u64::from(u16::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]));
    let jitter = Duration::from_millis(share * RECONNECT_JITTER_MS / u64::from(u16::MAX));
    move |attempt| match attempt {
        0 | 1 => Duration::ZERO,
        _ => {
            let doublings = u32::try_from(attempt - 2).unwrap_or(u32::MAX).min(16);
            GREATEST_RECONNECT_DELAY.min(FIRST_RECONNECT_DELAY * 2_u32.pow(doublings)) + jitter
        }
    }
}

fn observe(
    connection: watch::Sender<bool>,
    violations: Arc<AtomicU64>,
) -> impl Fn(Event) -> std::future::Ready<()> + Send + Sync + 'static {
    move |event| {
        match &event {
            Event::Connected => {
                connection.send_replace(true);
            }
            Event::Disconnected | Event::Closed => {
                connection.send_replace(false);
            }
            Event::ServerError(ServerError::Other(text)) if is_violation(text) => {
                violations.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%event, "NATS refused a subject");
            }
            _ => tracing::debug!(%event, "NATS connection"),
        }
        std::future::ready(())
    }
}

/// The protocol has no code for it: the text is the specified form.
fn is_violation(text: &str) -> bool {
    text.to_ascii_lowercase().starts_with("permissions violation")
}
