//! A node that is entry and egress: what it does for its own clients, without a lane.

use rap_mesh::client::{Channel, ClientSession, end_reason};
use rap_proto::{
    Lane, NodeRole, RefusalCode,
    observation::{EndReason, Observation, Vantage},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    fabric::{ENTRY, Fabric, PATIENCE, SESSION, open, open_refused, platform, start_seen},
    targets::echo,
};

/// A cluster whose entry has the resource, too.
async fn start() -> Fabric {
    let mut fabric = Fabric::start(&[], echo().await);
    let mut roles = fabric.plan.roles[&ENTRY].clone();
    roles.push(platform(NodeRole::StreamWorker));
    fabric.plan.roles.insert(ENTRY, roles);
    fabric.plan.resources_at.insert(ENTRY);
    fabric.publish();
    fabric
}

async fn connect(fabric: &Fabric) -> ClientSession {
    let mut claims = fabric.claims();
    claims.egresses = [(ENTRY, fabric.plan.version)].into();
    fabric.connect(&claims).await.unwrap()
}

async fn ping(session: &ClientSession, bytes: &[u8]) -> Channel {
    let mut channel = open(session, Lane::Interactive).await;
    channel.write_all(bytes).await.unwrap();
    let mut back = vec![0; bytes.len()];
    channel.read_exact(&mut back).await.unwrap();
    assert_eq!(back, bytes);
    channel
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_entry_and_egress_reaches_itself() {
    let mut fabric = start().await;
    let session = connect(&fabric).await;
    ping(&session, b"hello, me").await;
    assert!(fabric.nodes[&ENTRY].endpoint.status().lanes.is_empty(), "there is nothing to cross");
    let told = [fabric.observed(ENTRY).await, fabric.observed(ENTRY).await];
    for from in [Vantage::Entry, Vantage::Egress] {
        assert!(told.contains(&start_seen(from)), "{told:?}");
    }
    session.close().await;
    let reason = EndReason::ClientClosed;
    let ended = Observation::SessionEnded { session: SESSION, reason, bytes_up: 9, bytes_down: 9 };
    assert_eq!(fabric.observation(ENTRY).await, ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_its_own_egress_it_refuses_what_another_would() {
    let mut fabric = start().await;
    let session = connect(&fabric).await;
    fabric.plan.users.clear();
    fabric.publish();
    assert_eq!(open_refused(&session).await.code, RefusalCode::AccessDenied);
    // Once: by the egress, which decided it.
    fabric.expect_refusal(ENTRY, RefusalCode::AccessDenied, true).await;
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_its_own_egress_it_ends_what_another_would() {
    let mut fabric = start().await;
    let session = connect(&fabric).await;
    let mut channel = ping(&session, b"x").await;
    fabric.plan.users.clear();
    fabric.publish();
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::Terminated), "{cut}");
}
