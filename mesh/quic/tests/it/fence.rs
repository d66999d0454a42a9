//! The fence: after a newer generation was seen, an older one opens nothing, and only the holder
//! of this very lease reaches the resource.

use std::time::Duration;

use rap_mesh::client::{Channel, ClientSession, ConnectError, SessionEnd, end_reason};
use rap_proto::{
    Generation, Lane, Leased, NodeId, NodeRole, RefusalCode, SessionId, VpnConnectionId,
    observation::{EndReason, Observation},
    token::AccessClaims,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, client_key, open, open_refused},
    leases::Memory,
    targets::echo,
};

const CONNECTION: VpnConnectionId = VpnConnectionId::from_u128(0xc0);
const OLD: Generation = Generation::new(4);
const NEW: Generation = Generation::new(5);
/// The node that takes over, and an entry that has seen nothing of it.
const TAKER: NodeId = NodeId::from_u128(0xe3);
const OTHER_ENTRY: NodeId = NodeId::from_u128(0xe4);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

const fn of(generation: Generation) -> Leased {
    Leased { connection: CONNECTION, generation }
}

/// A cluster whose resource is carried: by the egress under the old generation.
async fn start() -> Fabric {
    let mut fabric = Fabric::start(&[], echo().await);
    let (entry, egress) = (fabric.plan.roles[&ENTRY].clone(), fabric.plan.roles[&EGRESS].clone());
    fabric.plan.roles.extend([(OTHER_ENTRY, entry), (TAKER, egress)]);
    fabric.plan.resources_at.insert(TAKER);
    fabric.plan.carried = Some(CONNECTION);
    fabric.add_node(TAKER, 60);
    fabric.add_node(OTHER_ENTRY, 61);
    fabric.leases(EGRESS).hold(of(OLD), LONG);
    fabric
}

/// Claims of a session of its own, which `egress` serves under `generation`.
fn claims(fabric: &Fabric, egress: NodeId, generation: Generation) -> AccessClaims {
    let mut claims = fabric.claims();
    claims.session = SessionId::from_u128(u128::from(generation.number()) << 32 | 0x5e);
    claims.entries.insert(OTHER_ENTRY);
    claims.egresses = [(egress, fabric.plan.version)].into();
    claims.leased = Some(of(generation));
    claims
}

async fn connect(fabric: &Fabric, entry: NodeId, claims: &AccessClaims) -> ClientSession {
    fabric.connect_to(entry, fabric.token(claims), client_key()).await.unwrap()
}

async fn echoing(session: &ClientSession) -> Channel {
    let mut channel = open(session, Lane::Interactive).await;
    channel.write_u8(1).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 1);
    channel
}

/// The other node takes over, and the entry hears of it by a client's token.
async fn take_over(fabric: &Fabric) -> ClientSession {
    fabric.leases(TAKER).hold(of(NEW), LONG);
    let session = connect(fabric, ENTRY, &claims(fabric, TAKER, NEW)).await;
    echoing(&session).await;
    session
}

/// Skips what was seen before.
async fn expect_refusal(fabric: &mut Fabric, node: NodeId, code: RefusalCode) {
    loop {
        match fabric.observation(node).await {
            Observation::AccessRefused { code: seen, claimed } => {
                assert_eq!(seen, code);
                assert!(claimed.is_some(), "a verified token says whose it is");
                return;
            }
            Observation::SessionStarted { .. } | Observation::SessionEnded { .. } => {}
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

async fn is_refused_at_the_entry(fabric: &mut Fabric, code: RefusalCode) {
    let token = fabric.token(&claims(fabric, EGRESS, OLD));
    match fabric.connect_to(ENTRY, token, client_key()).await {
        Err(ConnectError::Refused(refusal)) => assert_eq!(refusal.code, code),
        other => panic!("expected a refusal, got {other:?}"),
    }
    expect_refusal(fabric, ENTRY, code).await;
}

async fn is_cut(session: &ClientSession, channel: &mut Channel) {
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::LeaseLost), "{cut}");
    let ended = timeout(PATIENCE, session.ended()).await.unwrap();
    assert_eq!(ended, SessionEnd::Ended(EndReason::LeaseLost));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_the_old_generation_is_refused_everywhere() {
    let mut fabric = start().await;
    let old = connect(&fabric, ENTRY, &claims(&fabric, EGRESS, OLD)).await;
    let mut channel = echoing(&old).await;
    // The holder stands still: it lets nothing go and believes what it believed.
    let new = take_over(&fabric).await;
    is_cut(&old, &mut channel).await;
    is_refused_at_the_entry(&mut fabric, RefusalCode::LeaseSuperseded).await;

    // An entry that has heard of nothing lets it pass, and the nodes behind it do not.
    fabric.leases(EGRESS).lose(CONNECTION);
    let (at_taker, at_old) = (claims(&fabric, TAKER, OLD), claims(&fabric, EGRESS, OLD));
    let stray = connect(&fabric, OTHER_ENTRY, &at_taker).await;
    assert_eq!(open_refused(&stray).await.code, RefusalCode::LeaseSuperseded);
    expect_refusal(&mut fabric, TAKER, RefusalCode::LeaseSuperseded).await;
    let stray = connect(&fabric, OTHER_ENTRY, &at_old).await;
    assert_eq!(open_refused(&stray).await.code, RefusalCode::LeaseNotHeld);
    expect_refusal(&mut fabric, EGRESS, RefusalCode::LeaseNotHeld).await;
    echoing(&new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_started_again_still_refuses_the_old_generation() {
    let mut fabric = start().await;
    drop(take_over(&fabric).await);
    for (restart, seed) in [(1, 62), (2, 63)] {
        fabric.add_node(ENTRY, seed);
        is_refused_at_the_entry(&mut fabric, RefusalCode::LeaseSuperseded).await;
        assert_eq!(fabric.leases(ENTRY).marks(), [of(NEW)], "restart {restart}");
    }
    echoing(&take_over(&fabric).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_cannot_be_remembered_opens_nothing() {
    let mut fabric = start().await;
    for memory in [Memory::Broken, Memory::Stuck] {
        fabric.leases(ENTRY).set_memory(memory);
        is_refused_at_the_entry(&mut fabric, RefusalCode::LeaseNotHeld).await;
    }
    fabric.leases(EGRESS).set_memory(Memory::Broken);
    let session = connect(&fabric, OTHER_ENTRY, &claims(&fabric, EGRESS, OLD)).await;
    assert_eq!(open_refused(&session).await.code, RefusalCode::LeaseNotHeld);
    expect_refusal(&mut fabric, EGRESS, RefusalCode::LeaseNotHeld).await;
    assert!(fabric.dialer.requests.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_ends_with_its_lease_though_nobody_says_so() {
    let fabric = start().await;
    fabric.leases(EGRESS).hold(of(OLD), Duration::from_secs(5));
    let session = connect(&fabric, ENTRY, &claims(&fabric, EGRESS, OLD)).await;
    let mut channel = echoing(&session).await;
    is_cut(&session, &mut channel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_ends_when_its_holder_lets_go_and_goes_on_when_it_renews() {
    let fabric = start().await;
    let session = connect(&fabric, ENTRY, &claims(&fabric, EGRESS, OLD)).await;
    let mut channel = echoing(&session).await;
    fabric.leases(EGRESS).hold(of(OLD), LONG);
    channel.write_u8(2).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 2);
    fabric.leases(EGRESS).lose(CONNECTION);
    is_cut(&session, &mut channel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_that_was_granted_the_lease_a_moment_ago_is_waited_for() {
    let fabric = start().await;
    let session = connect(&fabric, ENTRY, &claims(&fabric, TAKER, NEW)).await;
    let opening = tokio::spawn(async move { echoing(&session).await });
    // The mark is kept before the lease is looked for.
    timeout(PATIENCE, async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while fabric.leases(TAKER).marks().is_empty() {
            ticks.tick().await;
        }
    })
    .await
    .unwrap();
    fabric.leases(TAKER).hold(of(NEW), LONG);
    timeout(PATIENCE, opening).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_entry_and_holder_asks_itself_no_less() {
    let mut fabric = start().await;
    let mut roles = fabric.plan.roles[&ENTRY].clone();
    roles.push(crate::fabric::platform(NodeRole::StreamWorker));
    fabric.plan.roles.insert(ENTRY, roles);
    fabric.plan.resources_at.insert(ENTRY);
    fabric.publish();
    let session = connect(&fabric, ENTRY, &claims(&fabric, ENTRY, OLD)).await;
    assert_eq!(open_refused(&session).await.code, RefusalCode::LeaseNotHeld);
    fabric.leases(ENTRY).hold(of(OLD), LONG);
    let mut channel = echoing(&session).await;
    fabric.leases(ENTRY).hold(of(NEW), LONG);
    is_cut(&session, &mut channel).await;
}
