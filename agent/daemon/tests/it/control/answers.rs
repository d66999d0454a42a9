//! The node API over HTTPS: each call of the node, answered as the desk says.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rap_pki::{
    NodeCertificate, PeerIdentity, csr,
    tls::{self, ClientAuth, Identity},
};
use rap_proto::{
    Digest, NodeId, Signer as _, codec,
    secret::{JoinSecret, Secret},
    wire::node_api::{
        BusCredentials, Credentials, ENROLL_EXPORTER_LABEL, EnrollReply, EnrollRequest,
        MAX_BODY_BYTES, NodeApiCode, NodeApiRefusal, PollRequest, RenewRequest, SnapshotRequest,
        TreeReply, TreeRequest,
    },
};
use rap_tlog::{Frontier, HeadKey, TreeHead, VerifierKey, proof};
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{Desk, Node, Shared, now, random, token};

/// Proves itself to whoever comes, and says nothing more.
pub(super) async fn keep_silent(listener: TcpListener, shared: Arc<Shared>) {
    let acceptor = acceptor(&shared);
    let mut connections = Vec::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.extend(acceptor.accept(stream).await);
    }
}

fn acceptor(shared: &Shared) -> TlsAcceptor {
    let (certificate, key) = shared.server.clone();
    let authority = shared.authority.certificate_der().to_vec();
    let roots = tls::roots(&[&authority]).unwrap();
    let identity = Identity { chain: vec![certificate, authority], key };
    let config = tls::server(&identity, ClientAuth::Optional(roots), &[b"http/1.1"]).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let acceptor = acceptor(&shared);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let session = stream.get_ref().1;
            let leaf = session.peer_certificates().and_then(<[_]>::first);
            let peer = leaf.and_then(|leaf| PeerIdentity::from_leaf(leaf).ok());
            let exported =
                session.export_keying_material([0; 32], ENROLL_EXPORTER_LABEL, None).unwrap();
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(&shared, peer, exported, request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = Result<Option<Vec<u8>>, NodeApiCode>;

async fn answer(
    shared: &Shared,
    peer: Option<PeerIdentity>,
    exported: [u8; 32],
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let bearer = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    let refuses = shared.desk.lock().unwrap().refuses;
    let answer = match (refuses, head.uri.path()) {
        (Some(code), _) => Err(code),
        (None, "/node/v1/enroll") => enroll(shared, exported, bearer, &body),
        (None, "/node/v1/enroll/poll") => poll(shared, &body),
        (None, path) => match authenticated(shared, peer) {
            Err(code) => Err(code),
            Ok(peer) if path == "/node/v1/renew" => renew(shared, peer, &body),
            Ok(_) if path == "/node/v1/tree" => tree(shared, &body),
            Ok(_) if path == "/node/v1/beat" => beat(shared),
            Ok(_) => snapshot(shared, &body),
        },
    };
    let is_lost = std::mem::take(&mut shared.desk.lock().unwrap().loses_answer);
    let (status, body) = match answer {
        // As a gateway says when the server behind it died meanwhile.
        _ if is_lost => (StatusCode::BAD_GATEWAY, Vec::new()),
        Ok(Some(body)) => (StatusCode::OK, body),
        Ok(None) => (StatusCode::NOT_MODIFIED, Vec::new()),
        Err(code) => {
            let refusal = NodeApiRefusal { code, message: "as the test says".to_owned() };
            (StatusCode::FORBIDDEN, codec::encode(&refusal))
        }
    };
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

fn ok<T: Serialize>(value: &T) -> Answer {
    Ok(Some(codec::encode(value)))
}

fn enroll(shared: &Shared, exported: [u8; 32], bearer: Option<&str>, body: &[u8]) -> Answer {
    let shown = bearer.and_then(|text| text.strip_prefix("Bearer "));
    let shown = shown.and_then(|text| Secret::<JoinSecret>::parse(text).ok());
    if shown.is_none_or(|shown| shown.digest() != token().digest()) {
        return Err(NodeApiCode::TokenInvalid);
    }
    let request: EnrollRequest = codec::decode(body, MAX_BODY_BYTES).unwrap();
    let key = csr::public_key(&request.csr).map_err(|_| NodeApiCode::Malformed)?;
    if !key.verifies(&exported, &request.binding) {
        return Err(NodeApiCode::NotTrusted);
    }
    let mut desk = shared.desk.lock().unwrap();
    let is_known = desk.node.as_ref().is_some_and(|node| node.key == key);
    if std::mem::replace(&mut desk.token_used, true) && !is_known {
        return Err(NodeApiCode::TokenUsed);
    }
    if !is_known {
        desk.node = Some(Node { id: NodeId::new(now(), random()), key, request });
    }
    ok(&status(shared, &desk))
}

fn poll(shared: &Shared, body: &[u8]) -> Answer {
    let request: PollRequest = codec::decode(body, MAX_BODY_BYTES).unwrap();
    let mut desk = shared.desk.lock().unwrap();
    desk.polls += 1;
    let node = desk.node.as_ref().ok_or(NodeApiCode::UnknownNode)?;
    let message = PollRequest::message(request.node, request.at);
    if node.id != request.node || !node.key.verifies(&message, &request.signature) {
        return Err(NodeApiCode::NotTrusted);
    }
    ok(&status(shared, &desk))
}

fn status(shared: &Shared, desk: &Desk) -> EnrollReply {
    let node = desk.node.as_ref().unwrap();
    if desk.rejected {
        EnrollReply::Rejected
    } else if desk.auto_approve {
        EnrollReply::Enrolled(Box::new(credentials(shared, desk)))
    } else {
        let (cluster, fingerprint) = (shared.cluster, node.key.id());
        EnrollReply::Pending { node: node.id, cluster, fingerprint }
    }
}

fn credentials(shared: &Shared, desk: &Desk) -> Credentials {
    let node = desk.node.as_ref().unwrap();
    let life = desk.certificate_life;
    let leaf = shared.authority.issue_node(&NodeCertificate {
        cluster: shared.cluster,
        node: node.id,
        key: &node.key,
        serial: random(),
        renewal: desk.renewals,
        authority_epoch: desk.authority_epoch,
        now: now(),
        lifetime: life,
    });
    Credentials {
        cluster: shared.cluster,
        node: node.id,
        renewal: desk.renewals,
        certificates: vec![leaf.into(), shared.authority.certificate_der().to_vec().into()],
        expires_at: now() + life,
        control_keys: vec![shared.key.public_key()],
        bus: shared.nats.as_ref().map(|(authority, url)| BusCredentials {
            servers: vec![url.clone()],
            jwt: authority.node_jwt(node.id, &node.request.bus_key, now(), now() + life).unwrap(),
            authorities: Vec::new(),
        }),
    }
}

fn authenticated(shared: &Shared, peer: Option<PeerIdentity>) -> Result<PeerIdentity, NodeApiCode> {
    let desk = shared.desk.lock().unwrap();
    let node = desk.node.as_ref().ok_or(NodeApiCode::UnknownNode)?;
    peer.filter(|peer| peer.node == node.id && peer.key == node.key.id())
        .ok_or(NodeApiCode::NotTrusted)
}

fn renew(shared: &Shared, peer: PeerIdentity, body: &[u8]) -> Answer {
    let request: RenewRequest = codec::decode(body, MAX_BODY_BYTES).unwrap();
    let mut desk = shared.desk.lock().unwrap();
    assert_eq!(request.renewal, peer.renewal);
    assert_eq!(csr::public_key(&request.csr).unwrap().id(), peer.key);
    if request.renewal != desk.renewals {
        return Err(NodeApiCode::IdentityCopied);
    }
    desk.renewed.push(peer.authority_epoch);
    // Whoever was deposed counts in a log of its own.
    if desk.authority_epoch >= peer.authority_epoch {
        desk.renewals += 1;
    }
    ok(&credentials(shared, &desk))
}

/// The tree over the desk's leaves, with the proof that an honest control plane would give.
fn tree(shared: &Shared, body: &[u8]) -> Answer {
    let request: TreeRequest = codec::decode(body, MAX_BODY_BYTES).unwrap();
    let leaves = shared.desk.lock().unwrap().log.clone();
    let key = VerifierKey::p256(shared.cluster, shared.key.public_key());
    let known = TreeHead::open(&request.known, shared.cluster, &[key]);
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| drop(frontier.push(*leaf)));
    let earlier = known.map_or(0, |known| known.size).min(frontier.size());
    let tile = |id: rap_tlog::TileId| (id, leaves[..usize::from(id.width)].to_vec());
    let plan = proof::plan_consistency(earlier, frontier.size()).unwrap();
    let tiles = plan.into_iter().map(tile).collect();
    let consistency = proof::prove_consistency(earlier, frontier.size(), &tiles).unwrap();
    let (cluster, size, root) = (shared.cluster, frontier.size(), frontier.root());
    let ed25519 = HeadKey::from_seed(&[2; 32]);
    let head = TreeHead { cluster, size, root, said_epoch: Some(1) }.sign(&shared.key, &ed25519);
    ok(&TreeReply { head, consistency })
}

fn beat(shared: &Shared) -> Answer {
    let beat = shared.desk.lock().unwrap().beat.clone();
    ok(&beat.unwrap_or_default())
}

fn snapshot(shared: &Shared, body: &[u8]) -> Answer {
    let request: SnapshotRequest = codec::decode(body, MAX_BODY_BYTES).unwrap();
    let mut desk = shared.desk.lock().unwrap();
    desk.snapshot_requests += 1;
    let Some((_, bundle)) = &desk.snapshot else { return Ok(None) };
    let mut bundle = bundle.clone();
    bundle.sections.retain(|bytes| !request.sections.contains(&Digest::of(bytes)));
    ok(&bundle)
}
