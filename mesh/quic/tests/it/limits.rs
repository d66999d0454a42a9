//! Limits that a client can reach.

use rap_mesh::client::ConnectError;
use rap_mesh_core::sessions::MAX_CONNECTIONS_PER_SESSION;
use rap_proto::{ChannelKind, Lane, RefusalCode};

use crate::{
    fabric::{ENTRY, Fabric, open, open_refused},
    targets::echo,
};

#[tokio::test]
async fn open_channels_of_a_session() {
    let mut fabric = Fabric::start(&[], echo().await);
    let mut claims = fabric.claims();
    claims.channels.get_mut(&ChannelKind::Stream).unwrap().max_open = 2;
    let session = fabric.connect(&claims).await.unwrap();
    let _first = open(&session, Lane::Interactive).await;
    let second = open(&session, Lane::Bulk).await;
    assert_eq!(open_refused(&session).await.code, RefusalCode::LimitReached);
    fabric.expect_refusal(ENTRY, RefusalCode::LimitReached, true).await;
    drop(second);
    // The place is free once the end has gone through the fabric and back.
    let mut again = session.open(crate::fabric::stream(Lane::Bulk)).await;
    for _ in 0..1000 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        again = session.open(crate::fabric::stream(Lane::Bulk)).await;
    }
    again.unwrap();
}

#[tokio::test]
async fn connections_of_a_session() {
    let mut fabric = Fabric::start(&[], echo().await);
    let mut sessions = Vec::new();
    for _ in 0..MAX_CONNECTIONS_PER_SESSION {
        sessions.push(fabric.session().await);
    }
    match fabric.connect(&fabric.claims()).await {
        Err(ConnectError::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::LimitReached),
        other => panic!("expected a refusal, got {other:?}"),
    }
    fabric.expect_refusal(ENTRY, RefusalCode::LimitReached, true).await;
}
