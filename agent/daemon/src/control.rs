//! The node API's client: HTTP/1.1 over TLS 1.3 to the one control plane that was pinned, at
//! whichever of its servers answers.
//!
//! The connection is made here and not by an HTTP library, because an enrollment signs a value
//! that only its own TLS connection can export. It is kept for the next call.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::SendRequest,
    header::{AUTHORIZATION, CONTENT_TYPE as CONTENT_TYPE_HEADER, HOST},
};
use hyper_util::rt::TokioIo;
use rap_pki::{
    csr,
    tls::{self, Identity},
};
use rap_proto::{
    ControlUrl, Digest, NodeId, Signer, Timestamp, codec,
    key::LocalKey,
    secret::{JoinSecret, Secret},
    snapshot::Bundle,
    wire::node_api::{
        BeatReply, BeatRequest, CONTENT_TYPE, Credentials, ENROLL_EXPORTER_LABEL, EnrollReply,
        EnrollRequest, LeasesReply, LeasesRequest, MAX_BODY_BYTES, NodeApiCode, NodeApiRefusal,
        PollRequest, RenewRequest, SnapshotRequest, TreeReply, TreeRequest,
    },
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::{ground::Ground, servers::SharedServers};

/// The protocol of both ends; the server may serve browsers on the same port.
const ALPN: &[&[u8]] = &[b"http/1.1"];
/// How long one call may take, connections included.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long one server may take over an answer that is small, while there are others to ask.
const TURN_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a call about leases may take: a fast lease has time for two more behind it.
const LEASES_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer to a snapshot request.
const MAX_BUNDLE_BYTES: usize = 32 * 1024 * 1024;

/// What a call that failed means to its caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection that is control's. Try again later; nothing is known about the node's standing.
    #[error("control cannot be reached: {0}")]
    Lost(String),
    /// No answer in time, or none to the end. The same.
    #[error("control cannot be reached: {0}")]
    Unreachable(String),
    #[error("control answered, but not in the node API's form: {0}")]
    Answer(String),
    #[error("control refused: {} ({})", .0.message, .0.code)]
    Refused(NodeApiRefusal),
}

impl CallError {
    /// Whether control said, over the pinned connection, that this node is none any more. Of an
    /// identity that was copied nobody knows which holder is the right one: both stop.
    pub(crate) fn means_revoked(&self) -> bool {
        matches!(self.code(), Some(NodeApiCode::Revoked | NodeApiCode::IdentityCopied))
    }

    pub(crate) fn code(&self) -> Option<NodeApiCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Lost(_) | Self::Unreachable(_) | Self::Answer(_) => None,
        }
    }
}

/// Where control is, and what leads there.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) servers: SharedServers,
    pub(crate) ground: Arc<dyn Ground>,
}

/// One client of the control plane, for one caller at a time.
pub(crate) struct ControlClient {
    control: Reach,
    tls: TlsConnector,
    kept: Option<Connection>,
}

struct Connection {
    server: ControlUrl,
    requests: SendRequest<Full<Bytes>>,
    exported: [u8; 32],
}

/// What a call may ask for.
#[derive(Clone, Copy)]
struct Bounds {
    /// The largest answer, in bytes.
    answer: usize,
    /// One server's time, while there are others to ask.
    turn: Duration,
    /// Everybody's.
    call: Duration,
}

const USUAL: Bounds = Bounds { answer: MAX_BODY_BYTES, turn: TURN_TIMEOUT, call: CALL_TIMEOUT };
/// A snapshot may take its time on a slow network, whoever sends it.
const SNAPSHOT: Bounds = Bounds { answer: MAX_BUNDLE_BYTES, turn: CALL_TIMEOUT, ..USUAL };
const LEASES: Bounds = Bounds { turn: LEASES_TIMEOUT, call: LEASES_TIMEOUT, ..USUAL };

/// What is said to a server, over a connection that exports this.
type Message<'a> = dyn Fn(&ControlUrl, &[u8; 32]) -> Request<Full<Bytes>> + Sync + 'a;

/// What an agent says of itself when it enrolls.
pub(crate) struct Enrolling<'a> {
    pub key: &'a LocalKey,
    pub token: &'a Secret<JoinSecret>,
    pub request: EnrollRequest,
}

impl ControlClient {
    /// Trusts the control plane whose chain holds the CA certificate of this fingerprint.
    pub(crate) fn pinned(control: Reach, ca: Digest) -> Self {
        Self::with(control, tls::pinned_client(ca, ALPN))
    }

    /// Trusts the CA of the node's own chain, and presents that chain.
    pub(crate) fn authenticated(
        control: Reach,
        credentials: &Credentials,
        key: &LocalKey,
    ) -> Result<Self, tls::TlsError> {
        let chain: Vec<Vec<u8>> = credentials.certificates.iter().map(|der| der.to_vec()).collect();
        let roots = tls::roots(chain.get(1..).unwrap_or_default())?;
        let identity = Identity { chain, key: key.clone() };
        Ok(Self::with(control, tls::client(roots, Some(&identity), ALPN)?))
    }

    fn with(control: Reach, config: ClientConfig) -> Self {
        Self { control, tls: TlsConnector::from(Arc::new(config)), kept: None }
    }

    /// The calendar of the ground that this reaches control from.
    pub(crate) fn now(&self) -> Timestamp {
        self.control.ground.clock().now()
    }

    /// With the server that answered. Where one took the token and its answer was lost, the next finds the node in
    /// the log by its key, and answers for it.
    pub(crate) async fn enroll(
        &mut self,
        enrolling: Enrolling<'_>,
    ) -> Result<(EnrollReply, ControlUrl), CallError> {
        let Enrolling { key, token, request } = enrolling;
        let request = EnrollRequest { csr: csr::make(key), ..request };
        let message = |server: &ControlUrl, exported: &[u8; 32]| {
            let request = EnrollRequest { binding: key.sign(exported), ..request.clone() };
            let bearer = format!("Bearer {}", token.reveal());
            post(server, "/node/v1/enroll", &request, Some(bearer))
        };
        let (server, status, body) = self.call_any(&message, USUAL).await?;
        Ok((read(status, &body)?, server))
    }

    pub(crate) async fn poll(
        &mut self,
        node: NodeId,
        at: Timestamp,
        key: &LocalKey,
    ) -> Result<EnrollReply, CallError> {
        let signature = key.sign(&PollRequest::message(node, at));
        let request = PollRequest { node, at, signature };
        let (status, body) = self.call("/node/v1/enroll/poll", &request, USUAL).await?;
        read(status, &body)
    }

    pub(crate) async fn renew(&mut self, request: &RenewRequest) -> Result<Credentials, CallError> {
        let (status, body) = self.call("/node/v1/renew", request, USUAL).await?;
        read(status, &body)
    }

    pub(crate) async fn tree(&mut self, request: &TreeRequest) -> Result<TreeReply, CallError> {
        let (status, body) = self.call("/node/v1/tree", request, USUAL).await?;
        read(status, &body)
    }

    /// With the server that answered.
    pub(crate) async fn beat(
        &mut self,
        request: &BeatRequest,
    ) -> Result<(BeatReply, ControlUrl), CallError> {
        let message = plain("/node/v1/beat", request);
        let (server, status, body) = self.call_any(&message, USUAL).await?;
        Ok((read(status, &body)?, server))
    }

    /// Answered within [`LEASES_TIMEOUT`] or not at all: a lease does not wait for a call.
    pub(crate) async fn leases(
        &mut self,
        request: &LeasesRequest,
    ) -> Result<LeasesReply, CallError> {
        let (status, body) = self.call("/node/v1/leases", request, LEASES).await?;
        read(status, &body)
    }

    /// `None` when there is no newer snapshot.
    pub(crate) async fn snapshot(
        &mut self,
        request: &SnapshotRequest,
    ) -> Result<Option<Bundle>, CallError> {
        let (status, body) = self.call("/node/v1/snapshot", request, SNAPSHOT).await?;
        if status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        if status != StatusCode::OK {
            return Err(refusal(status, &body));
        }
        codec::decode(&body, MAX_BUNDLE_BYTES)
            .map(Some)
            .map_err(|error| CallError::Answer(error.to_string()))
    }

    async fn call<T: Serialize + Sync>(
        &mut self,
        path: &'static str,
        body: &T,
        bounds: Bounds,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let (_, status, body) = self.call_any(&plain(path, body), bounds).await?;
        Ok((status, body))
    }

    /// One call, at the present server and, where that one does not answer, at others; with the last one asked.
    ///
    /// Every call may be repeated, anywhere: a snapshot or poll changes nothing, and an enrollment, a renewal or a
    /// release whose answer was lost is answered the same way again, out of the log.
    async fn call_any(
        &mut self,
        message: &Message<'_>,
        bounds: Bounds,
    ) -> Result<(ControlUrl, StatusCode, Bytes), CallError> {
        let deadline = Instant::now() + bounds.call;
        let mut tried = vec![self.control.servers.present()];
        loop {
            let server = &tried[tried.len() - 1];
            let left = deadline.saturating_duration_since(Instant::now());
            let turn = if self.control.servers.is_one() { left } else { left.min(bounds.turn) };
            let ends = Instant::now() + turn;
            let asked = bounded(turn, self.ask(server, message, bounds.answer, ends)).await;
            if !is_not_here(&asked) {
                self.control.servers.answered(&tried);
                return asked.map(|(status, body)| (server.clone(), status, body));
            }
            let lost = matches!(asked, Err(CallError::Lost(_)));
            match self.control.servers.failed(&tried, lost) {
                Some(next) if Instant::now() < deadline => {
                    tracing::info!(from = %server, to = %next, "another server of control is asked");
                    tried.push(next);
                }
                _ => return asked.map(|(status, body)| (server.clone(), status, body)),
            }
        }
    }

    /// One turn over the kept connection, or over a new one when that is gone. A server to which no
    /// connection came about by its end is lost, and does not only keep silent.
    async fn ask(
        &mut self,
        server: &ControlUrl,
        message: &Message<'_>,
        limit: usize,
        ends: Instant,
    ) -> Result<(StatusCode, Bytes), CallError> {
        if let Some(mut kept) = self.kept.take().filter(|kept| kept.server == *server)
            && kept.requests.ready().await.is_ok()
        {
            let request = message(server, &kept.exported);
            if let Ok(answer) = exchange(&mut kept, request, limit).await {
                self.kept = Some(kept);
                return Ok(answer);
            }
        }
        let mut connection = self.connect(server, ends).await?;
        let request = message(server, &connection.exported);
        let answer = exchange(&mut connection, request, limit).await?;
        self.kept = Some(connection);
        Ok(answer)
    }

    async fn connect(&self, server: &ControlUrl, ends: Instant) -> Result<Connection, CallError> {
        let (host, port) = (server.host().to_owned(), server.port());
        let name = ServerName::try_from(host.clone())
            .map_err(|error| CallError::Lost(error.to_string()))?;
        let dial = async {
            let stream = self.control.ground.connect(host, port).await?;
            self.tls.connect(name, stream).await
        };
        let stream = timeout_at(ends.min(Instant::now() + CONNECT_TIMEOUT), dial)
            .await
            .map_err(|_| CallError::Lost("no answer in time".to_owned()))?
            .map_err(|error| CallError::Lost(error.to_string()))?;
        let exported = stream
            .get_ref()
            .1
            .export_keying_material([0; 32], ENROLL_EXPORTER_LABEL, None)
            .map_err(|error| CallError::Unreachable(error.to_string()))?;
        let (requests, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| CallError::Unreachable(error.to_string()))?;
        // Ends when the sender is dropped or the server closes.
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection to control ended");
            }
        });
        Ok(Connection { server: server.clone(), requests, exported })
    }
}

/// Says the same over every connection.
fn plain<T: Serialize + Sync>(
    path: &'static str,
    body: &T,
) -> impl Fn(&ControlUrl, &[u8; 32]) -> Request<Full<Bytes>> + Sync {
    move |server, _| post(server, path, body, None)
}

fn post<T: Serialize>(
    server: &ControlUrl,
    path: &'static str,
    body: &T,
    bearer: Option<String>,
) -> Request<Full<Bytes>> {
    let host = server.to_string();
    let host = host.trim_start_matches("https://");
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONTENT_TYPE_HEADER, CONTENT_TYPE);
    if let Some(bearer) = bearer {
        request = request.header(AUTHORIZATION, bearer);
    }
    request
        .body(Full::new(Bytes::from(codec::encode(body))))
        .expect("the URL's alphabet is that of a header")
}

/// Whether another server may answer what this one did not. What a server refuses, and a rate that is
/// used up, are answers.
fn is_not_here(asked: &Result<(StatusCode, Bytes), CallError>) -> bool {
    match asked {
        Ok((status, _)) => matches!(
            *status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ),
        Err(error) => matches!(error, CallError::Lost(_) | CallError::Unreachable(_)),
    }
}

async fn exchange(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<(StatusCode, Bytes), CallError> {
    let answer = connection
        .requests
        .send_request(request)
        .await
        .map_err(|error| CallError::Unreachable(error.to_string()))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), limit)
        .collect()
        .await
        .map_err(|error| CallError::Answer(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(CallError::Unreachable("no answer in time".to_owned())))
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &Bytes) -> Result<T, CallError> {
    if status != StatusCode::OK {
        return Err(refusal(status, body));
    }
    codec::decode(body, MAX_BODY_BYTES).map_err(|error| CallError::Answer(error.to_string()))
}

fn refusal(status: StatusCode, body: &Bytes) -> CallError {
    match codec::decode::<NodeApiRefusal>(body, MAX_BODY_BYTES) {
        Ok(refusal) => CallError::Refused(refusal),
        Err(_) => CallError::Answer(format!("HTTP status {}", status.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use rap_agent_core::servers::HeldServers;

    use super::*;
    use crate::ground::ThisMachine;

    /// Their kernels take connections, and nobody says a word on them.
    #[tokio::test]
    async fn a_server_that_went_dark_is_lost_to_the_first_call_about_leases() {
        let dark = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let held = HeldServers {
            servers: dark
                .each_ref()
                .map(|one| format!("https://{}", one.local_addr().unwrap()))
                .into(),
        };
        let servers = SharedServers::new(held.servers[0].parse().unwrap(), held, 0);
        let before = servers.present();
        let reach = Reach { servers: servers.clone(), ground: Arc::new(ThisMachine) };
        let mut client = ControlClient::pinned(reach, Digest::of(b"a CA"));
        let nothing = LeasesRequest::default();
        let asked = client.leases(&nothing).await;
        assert!(matches!(asked, Err(CallError::Lost(_))), "{asked:?}");
        assert_ne!(servers.present(), before, "the next call begins elsewhere");
    }

    #[test]
    fn a_refusal_is_an_answer_and_a_server_that_cannot_serve_gives_none() {
        let said = |status| is_not_here(&Ok((status, Bytes::new())));
        for elsewhere in [502, 503, 504].map(StatusCode::from_u16) {
            assert!(elsewhere.is_ok_and(said));
        }
        for here in [200, 304, 401, 403, 404, 409, 429, 500].map(StatusCode::from_u16) {
            assert!(here.is_ok_and(|status| !said(status)));
        }
        assert!(is_not_here(&Err(CallError::Unreachable(String::new()))));
        assert!(is_not_here(&Err(CallError::Lost(String::new()))));
        assert!(!is_not_here(&Err(CallError::Answer(String::new()))));
    }
}
