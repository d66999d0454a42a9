use rap_bus::{NatsAuthority, nats_authority::Revocations, private::PrivateNats};
use tempfile::TempDir;

use super::{CLUSTER, now};

#[tokio::test]
async fn a_folder_keeps_its_port_and_orphans_are_ended() {
    let dir = TempDir::new().unwrap();
    let authority = NatsAuthority::derive(CLUSTER, &[9; 32]);
    let start = async || {
        PrivateNats::start(dir.path(), &authority, &Revocations::new(), now()).await.unwrap()
    };
    let first = start().await;
    let url = first.url();
    // As after a kill of the parent: the server lives on, and nobody holds it.
    std::mem::forget(first);
    let mut second = start().await;
    assert_eq!(second.url(), url);
    second.kill().await;

    let port = url.rsplit(':').next().unwrap();
    let taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let third = start().await;
    assert_ne!(third.url(), url, "another port, for the old one is taken");
    drop(taken);
}
