//! Why sessions end: the exact reason at the client and in the report.

use std::time::Duration;

use rap_mesh::client::{Channel, SessionEnd, end_reason};
use rap_proto::{
    Lane, Timestamp,
    observation::{EndReason, Observation},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, SESSION, now, open},
    targets::{closer, echo},
};

async fn reported(fabric: &mut Fabric) -> EndReason {
    match fabric.observation(ENTRY).await {
        Observation::SessionEnded { session, reason, .. } => {
            assert_eq!(session, SESSION);
            reason
        }
        other => panic!("expected the session's end, got {other:?}"),
    }
}

async fn echoed(channel: &mut Channel) {
    channel.write_u8(1).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 1);
}

#[tokio::test]
async fn the_target_closes() {
    let mut fabric = Fabric::start(&[], closer().await);
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Interactive).await;
    let mut said = String::new();
    channel.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "bye", "a clean end");
    channel.shutdown().await.unwrap();
    session.close().await;
    assert_eq!(reported(&mut fabric).await, EndReason::TargetClosed);
}

#[tokio::test]
async fn the_client_closes_while_a_channel_is_open() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Interactive).await;
    echoed(&mut channel).await;
    drop(channel);
    session.close().await;
    assert_eq!(reported(&mut fabric).await, EndReason::ClientClosed);
}

#[tokio::test]
async fn the_client_drops_everything() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Interactive).await;
    echoed(&mut channel).await;
    drop((channel, session));
    assert_eq!(reported(&mut fabric).await, EndReason::ClientClosed);
}

#[tokio::test]
async fn what_was_written_before_the_close_arrives() {
    let fabric = Fabric::start(&[], echo().await);
    let (arrived, mut arrival) = tokio::sync::mpsc::channel(1);
    let sink = crate::targets::serve(move |mut stream| {
        let arrived = arrived.clone();
        async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            arrived.send(all.len()).await.unwrap();
        }
    })
    .await;
    let mut fabric = fabric;
    fabric.plan.target = sink;
    fabric.publish();
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Bulk).await;
    channel.write_all(&vec![1; 3_000_000]).await.unwrap();
    channel.shutdown().await.unwrap();
    session.close().await;
    assert_eq!(timeout(PATIENCE, arrival.recv()).await.unwrap(), Some(3_000_000));
}

#[tokio::test]
async fn the_worker_dies() {
    let mut fabric = Fabric::start(&[], echo().await);
    let worker = fabric.dialer.use_worker();
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Interactive).await;
    echoed(&mut channel).await;
    worker.die();
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::WorkerDied), "{cut}");
    assert!(cut.to_string().contains("adapter worker died"), "{cut}");
    fabric.dialer.use_worker();
    let mut channel = open(&session, Lane::Interactive).await;
    echoed(&mut channel).await;
    drop(channel);
    session.close().await;
    assert_eq!(reported(&mut fabric).await, EndReason::ClientClosed, "the session had gone on");
}

#[tokio::test]
async fn the_worker_dies_and_the_client_leaves() {
    let mut fabric = Fabric::start(&[], echo().await);
    let worker = fabric.dialer.use_worker();
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Interactive).await;
    echoed(&mut channel).await;
    worker.die();
    timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    session.close().await;
    assert_eq!(reported(&mut fabric).await, EndReason::WorkerDied);
}

#[tokio::test]
async fn a_target_behind_a_worker_closes_cleanly() {
    let mut fabric = Fabric::start(&[], closer().await);
    fabric.dialer.use_worker();
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Interactive).await;
    let mut said = String::new();
    channel.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "bye");
    channel.shutdown().await.unwrap();
    session.close().await;
    assert_eq!(reported(&mut fabric).await, EndReason::TargetClosed);
}

#[tokio::test]
async fn the_entry_leaves() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Interactive).await;
    echoed(&mut channel).await;
    let endpoint = fabric.nodes[&ENTRY].endpoint.clone();
    endpoint.shut_down(Duration::from_secs(5)).await;
    assert_eq!(reported(&mut fabric).await, EndReason::NodeLeft);
    assert_eq!(session.ended().await, SessionEnd::Ended(EndReason::NodeLeft));
}

#[tokio::test]
async fn the_egress_leaves() {
    let fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Interactive).await;
    echoed(&mut channel).await;
    fabric.nodes[&EGRESS].endpoint.shut_down(Duration::from_secs(5)).await;
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::NodeLeft), "{cut}");
}

#[tokio::test]
async fn a_refresh_lengthens_the_session_and_an_older_token_takes_nothing_back() {
    let fabric = Fabric::start(&[], echo().await);
    let mut claims = fabric.claims();
    let shorter = |claims: &rap_proto::token::AccessClaims, seconds| -> Timestamp {
        claims.not_before + Duration::from_secs(seconds)
    };
    claims.expires_at = shorter(&claims, 300);
    let session = fabric.connect(&claims).await.unwrap();
    assert_eq!(session.expires_at(), claims.expires_at);
    let older = fabric.token(&claims);
    claims.not_before = now();
    claims.expires_at = shorter(&claims, 600);
    assert_eq!(session.refresh(fabric.token(&claims)).await.unwrap(), claims.expires_at);
    assert_eq!(session.refresh(older).await.unwrap(), claims.expires_at);
    assert_eq!(session.expires_at(), claims.expires_at);
}
