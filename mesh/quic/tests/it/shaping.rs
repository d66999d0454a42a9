//! Bandwidth policies on flows that run.

use std::time::{Duration, Instant};

use rap_mesh::{Carrier, ClassName, client::ClientSession};
use rap_proto::{
    BitRate, Lane,
    bandwidth::{Allowance, Bandwidth, OrganizationBandwidth},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, ORGANIZATION, PATIENCE, open},
    targets::{counter, echo},
    traffic::{exchange, pattern},
};

pub(crate) fn capped(cap: &str) -> Bandwidth {
    let cap: Option<BitRate> = Some(cap.parse().unwrap());
    let granted = Allowance { cap, reserved: None };
    let said = OrganizationBandwidth { granted, ..Default::default() };
    Bandwidth { organizations: [(ORGANIZATION, said)].into(), ..Bandwidth::default() }
}

/// How long so many bytes take there and back.
async fn taken(session: &ClientSession, lane: Lane, bytes: usize) -> Duration {
    let sent = pattern(bytes);
    let began = Instant::now();
    let received = timeout(PATIENCE, exchange(session, lane, sent.clone())).await.unwrap();
    assert!(received == sent, "what is slow arrives whole");
    began.elapsed()
}

async fn slowed_and_let_go(carrier: Carrier) {
    let mut fabric = Fabric::start_on(carrier, &[], echo().await);
    let session = fabric.session_on(carrier).await;
    fabric.plan.bandwidth = capped("8mbit");
    fabric.publish();
    // A megabyte per second, less the bursts at both nodes: no faster, however fast the machine.
    let slow = taken(&session, Lane::Bulk, 1_000_000).await;
    assert!(slow >= Duration::from_millis(850), "{slow:?}");
    fabric.plan.bandwidth = Bandwidth::default();
    fabric.publish();
    // So many bytes would take 48 s under the cap.
    let free = taken(&session, Lane::Bulk, 24_000_000).await;
    assert!(free < Duration::from_secs(20), "{free:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_slows_what_passes_on_quic_and_nothing_afterwards() {
    slowed_and_let_go(Carrier::Quic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_slows_what_passes_on_tcp_and_nothing_afterwards() {
    slowed_and_let_go(Carrier::Tcp).await;
}

/// The flow begins under a cap that it would take an hour under, and ends within the test's
/// patience: because the newer policy reached it.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_reaches_a_flow_that_runs() {
    let mut fabric = Fabric::start(&[], counter().await);
    fabric.plan.bandwidth = capped("8kbit");
    fabric.publish();
    let session = fabric.session().await;
    let (mut writer, mut reader) = open(&session, Lane::Bulk).await.split();
    let sent = tokio::spawn(async move {
        writer.write_all(&pattern(4_000_000)).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    // Both nodes have it waiting before anything changes.
    for node in [ENTRY, EGRESS] {
        let waits = async {
            while fabric.nodes[&node].endpoint.status().classes.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waits).await.unwrap();
    }
    assert!(!sent.is_finished(), "the sender feels it");
    fabric.plan.bandwidth = capped("1gbit");
    fabric.publish();
    let mut answer = Vec::new();
    timeout(PATIENCE, reader.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"4000000");
    sent.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystroke_passes_beside_bulk_that_fills_the_cap() {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.plan.bandwidth = capped("2mbit");
    fabric.publish();
    let session = fabric.session().await;
    let mut keys = open(&session, Lane::Interactive).await;
    let bulk = {
        let session = session.clone();
        tokio::spawn(async move { taken(&session, Lane::Bulk, 750_000).await })
    };
    let mut pressed = 0;
    while !bulk.is_finished() {
        keys.write_u8(7).await.unwrap();
        assert_eq!(timeout(PATIENCE, keys.read_u8()).await.unwrap().unwrap(), 7);
        pressed += 1;
    }
    assert!(bulk.await.unwrap() >= Duration::from_secs(2), "three seconds less the bursts");
    // Behind the bulk each would take its share of these seconds.
    assert!(pressed > 10, "{pressed} keystrokes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_shows_what_was_said_and_how_long_flows_waited() {
    let mut fabric = Fabric::start(&[], echo().await);
    fabric.plan.bandwidth = capped("8mbit");
    fabric.publish();
    let session = fabric.session().await;
    let mut channel = open(&session, Lane::Bulk).await;
    let sent = pattern(200_000);
    let (mut writer, mut reader) = channel_halves(&mut channel);
    let mut back = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut back));
    wrote.unwrap();
    read.unwrap();
    let classes = fabric.nodes[&ENTRY].endpoint.status().classes;
    let [class] = classes.as_slice() else { panic!("one class: {classes:?}") };
    assert_eq!(class.name, ClassName::Organization(ORGANIZATION));
    assert_eq!(class.allowance.cap.unwrap().to_string(), "8mbit");
    assert_eq!(class.flows, 1);
    assert!(class.up.waited + class.down.waited > Duration::from_millis(50), "{class:?}");
    drop(channel);
    session.close().await;
}

fn channel_halves(
    channel: &mut rap_mesh::client::Channel,
) -> (
    tokio::io::WriteHalf<&mut rap_mesh::client::Channel>,
    tokio::io::ReadHalf<&mut rap_mesh::client::Channel>,
) {
    let (reader, writer) = tokio::io::split(channel);
    (writer, reader)
}
