//! A host that enrolls over a TLS connection of its own, as an agent does.

use std::{net::SocketAddr, sync::Arc};

use rap_pki::csr;
use rap_proto::{
    Signer as _, codec,
    key::LocalKey,
    wire::node_api::{CONTENT_TYPE, ENROLL_EXPORTER_LABEL, EnrollRequest},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};

use crate::Failed;

/// Enrolls with the secret of a join token that approves by itself.
pub(crate) async fn enroll(
    server: SocketAddr,
    config: ClientConfig,
    secret: &str,
    name: &str,
) -> Result<(), Failed> {
    let stream = TcpStream::connect(server).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into()?, stream).await?;
    let exported =
        stream.get_ref().1.export_keying_material([0; 32], ENROLL_EXPORTER_LABEL, None)?;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    let key = LocalKey::from_random(&bytes).ok_or("no scalar")?;
    let body = codec::encode(&EnrollRequest {
        csr: csr::make(&key),
        binding: key.sign(&exported),
        name: name.parse()?,
        addresses: vec!["127.0.0.1:4433".parse()?],
        capabilities: [].into(),
        bus_key: "UAAA".to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    let head = format!(
        "POST /node/v1/enroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n\
         Authorization: Bearer {secret}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.flush().await?;
    let mut reply = Vec::new();
    // A server that closes without a TLS goodbye has said everything all the same.
    let _ = stream.read_to_end(&mut reply).await;
    let accepted = reply.starts_with(b"HTTP/1.1 200");
    if accepted { Ok(()) } else { Err(format!("{name} was not enrolled").into()) }
}
