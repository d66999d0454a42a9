//! One node as control sees it: a key, a certificate, and a connection that is kept as an agent
//! keeps it.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use rap_pki::{ClusterAuthority, NodeCertificate, tls};
use rap_proto::{
    Digest, NodeId, Signer as _, Timestamp, beat::FIRST_AUTHORITY_EPOCH, codec, key::LocalKey,
    wire::node_api::CONTENT_TYPE,
};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::Outcome;

pub(crate) const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// The longest answer: a bundle of the fleets here is far below.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
const NOT_MODIFIED: u16 = 304;

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) key: LocalKey,
    /// Of what it does at random.
    pub(crate) seed: u64,
}

/// The way of one node to control. The connection is used again as long as it lives, and a call
/// that finds it dead is made once more on a new one.
pub(crate) struct Line {
    port: u16,
    connector: TlsConnector,
    kept: Option<TlsStream<TcpStream>>,
    /// How many connections were made.
    pub(crate) connections: u32,
}

impl Node {
    /// The node of this number, from 0.
    pub(crate) fn new(number: u32) -> Self {
        let random = Digest::of(&number.to_be_bytes());
        let key = LocalKey::from_random(random.as_bytes())
            .expect("a hash is a scalar, but for an astronomic chance");
        Self { id: NodeId::from_u128(u128::from(number) | 8 << 64), key, seed: number.into() }
    }

    pub(crate) fn line(
        &self,
        authority: &ClusterAuthority,
        now: Timestamp,
        port: u16,
    ) -> Outcome<Line> {
        let leaf = authority.issue_node(&NodeCertificate {
            cluster: authority.cluster(),
            node: self.id,
            key: &self.key.public_key(),
            serial: [7; 16],
            renewal: 0,
            authority_epoch: FIRST_AUTHORITY_EPOCH,
            now,
            lifetime: CERTIFICATE_LIFETIME,
        });
        let chain = vec![leaf, authority.certificate_der().to_vec()];
        let identity = tls::Identity { chain, key: self.key.clone() };
        let roots = tls::roots(&[authority.certificate_der()])?;
        let config: ClientConfig = tls::client(roots, Some(&identity), &[b"http/1.1"])?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Line { port, connector, kept: None, connections: 0 })
    }
}

impl Line {
    /// The body of the answer; `None` when nothing is newer.
    pub(crate) async fn call<T: Serialize>(
        &mut self,
        path: &str,
        body: &T,
    ) -> Outcome<Option<Vec<u8>>> {
        let body = codec::encode(body);
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        if let Some(mut kept) = self.kept.take()
            && let Ok(answer) = exchange(&mut kept, &request).await
        {
            self.kept = Some(kept);
            return judge(path, answer);
        }
        let mut fresh = self.connect().await?;
        let answer = exchange(&mut fresh, &request).await?;
        self.kept = Some(fresh);
        judge(path, answer)
    }

    async fn connect(&mut self) -> Outcome<TlsStream<TcpStream>> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        socket.set_nodelay(true)?;
        self.connections += 1;
        Ok(self.connector.connect(ServerName::try_from("localhost")?, socket).await?)
    }
}

fn judge(path: &str, (status, body): (u16, Vec<u8>)) -> Outcome<Option<Vec<u8>>> {
    match status {
        200 => Ok(Some(body)),
        NOT_MODIFIED => Ok(None),
        other => Err(format!("{path} answers {other}").into()),
    }
}

async fn exchange(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> Outcome<(u16, Vec<u8>)> {
    stream.write_all(request).await?;
    // What TLS took may still be with this process, and reading would not send it.
    stream.flush().await?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    let mut whole = None;
    while whole.is_none_or(|(_, whole)| answer.len() < whole) {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Err("the connection ended".into());
        }
        answer.extend_from_slice(&chunk[..length]);
        if answer.len() > MAX_ANSWER_BYTES {
            return Err("an answer has no end".into());
        }
        if whole.is_none() {
            whole = memchr::memmem::find(&answer, b"\r\n\r\n")
                .map(|end| lengths(&answer[..end]).map(|body| (end + 4, end + 4 + body)))
                .transpose()?;
        }
    }
    let (begin, _) = whole.ok_or("no HTTP")?;
    let status = std::str::from_utf8(&answer[..begin])?.split(' ').nth(1).ok_or("no HTTP")?;
    Ok((status.parse()?, answer.split_off(begin)))
}

/// How many bytes follow the head.
fn lengths(head: &[u8]) -> Outcome<usize> {
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    Ok(length.map_or(Ok(0), |length| length.trim().parse())?)
}
