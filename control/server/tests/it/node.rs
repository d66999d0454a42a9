//! A host that enrolls and speaks `/node/v1`, byte by byte over its own TLS connection.

use std::sync::Arc;

use rap_pki::{csr, tls};
use rap_proto::{
    NodeId, Signer as _, Timestamp, codec,
    key::LocalKey,
    wire::node_api::{
        CONTENT_TYPE, Credentials, ENROLL_EXPORTER_LABEL, EnrollReply, EnrollRequest, NodeApiCode,
        NodeApiRefusal, PollRequest,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::ClientConfig};

use crate::world::World;

pub(crate) struct Host {
    pub(crate) key: LocalKey,
    pub(crate) reply: Result<EnrollReply, NodeApiRefusal>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Host {
    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        match &self.reply {
            Ok(EnrollReply::Enrolled(credentials)) => Some(credentials),
            _ => None,
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        match self.reply.as_ref().unwrap() {
            EnrollReply::Enrolled(credentials) => credentials.node,
            EnrollReply::Pending { node, .. } => *node,
            EnrollReply::Rejected => panic!("rejected"),
        }
    }

    pub(crate) fn refusal(&self) -> NodeApiCode {
        self.reply.as_ref().unwrap_err().code
    }
}

impl Answer {
    pub(crate) fn read<T: DeserializeOwned>(&self) -> T {
        codec::decode(&self.body, usize::MAX).unwrap()
    }

    pub(crate) fn refusal(&self) -> NodeApiCode {
        self.read::<NodeApiRefusal>().code
    }
}

pub(crate) fn fresh_key() -> LocalKey {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    LocalKey::from_random(&bytes).unwrap()
}

pub(crate) async fn enroll(world: &World, secret: &str, name: &str) -> Host {
    enroll_with(world, secret, name, fresh_key(), |_| {}).await
}

/// Enrolls with `key` after `tamper` had its way with the request.
pub(crate) async fn enroll_with(
    world: &World,
    secret: &str,
    name: &str,
    key: LocalKey,
    tamper: impl FnOnce(&mut EnrollRequest),
) -> Host {
    let config = tls::pinned_client(world.running.ca_fingerprint, &[b"http/1.1"]);
    let mut stream = connect(world, config).await.unwrap();
    let exported =
        stream.get_ref().1.export_keying_material([0; 32], ENROLL_EXPORTER_LABEL, None).unwrap();
    let mut request = EnrollRequest {
        csr: csr::make(&key),
        binding: key.sign(&exported),
        name: name.parse().unwrap(),
        addresses: vec!["127.0.0.1:4433".parse().unwrap()],
        capabilities: [].into(),
        bus_key: "UAAA".to_owned(),
        agent_version: "1.2.3".to_owned(),
    };
    tamper(&mut request);
    let bearer = format!("Authorization: Bearer {secret}\r\n");
    let answer = exchange(&mut stream, "/node/v1/enroll", &bearer, &request).await;
    let reply = if answer.status == 200 { Ok(answer.read()) } else { Err(answer.read()) };
    Host { key, reply }
}

pub(crate) async fn poll(world: &World, node: NodeId, key: &LocalKey, at: Timestamp) -> Answer {
    let signature = key.sign(&PollRequest::message(node, at));
    let request = PollRequest { node, at, signature };
    let config = tls::pinned_client(world.running.ca_fingerprint, &[b"http/1.1"]);
    let mut stream = connect(world, config).await.unwrap();
    exchange(&mut stream, "/node/v1/enroll/poll", "", &request).await
}

/// A call with the node's certificate.
pub(crate) async fn call<T: Serialize>(
    world: &World,
    credentials: &Credentials,
    key: &LocalKey,
    path: &str,
    body: &T,
) -> Answer {
    let mut stream = connect(world, mutual(world, credentials, key)).await.unwrap();
    exchange(&mut stream, path, "", body).await
}

pub(crate) fn mutual(world: &World, credentials: &Credentials, key: &LocalKey) -> ClientConfig {
    let chain = credentials.certificates.iter().map(|der| der.to_vec()).collect();
    let identity = tls::Identity { chain, key: key.clone() };
    let roots = tls::roots(&[&world.running.ca_certificate]).unwrap();
    tls::client(roots, Some(&identity), &[b"http/1.1"]).unwrap()
}

pub(crate) async fn connect(
    world: &World,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.running.address).await?;
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

pub(crate) async fn exchange<T: Serialize>(
    stream: &mut TlsStream<TcpStream>,
    path: &str,
    headers: &str,
    body: &T,
) -> Answer {
    let body = codec::encode(body);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n{headers}\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    // What TLS took may still be with this process, and reading would not send it.
    stream.flush().await.unwrap();
    let mut reply = Vec::new();
    // A server that closes without a TLS goodbye has said everything all the same.
    let _ = stream.read_to_end(&mut reply).await;
    let split = reply.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(reply[..split].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: reply[split + 4..].to_vec() }
}
