//! Sessions that live on while everything beneath them changes, and nodes in between that learn nothing.

use std::time::{Duration, Instant};

use rap_e2e::{Fabric, Space, Talk, holds, until};
use serde_json::Value;

use super::{echo, everyday::forward, step};

const PATIENCE: Duration = Duration::from_secs(60);
/// The longest silence of an echo when its client has another address.
const MOVED_GAP: Duration = Duration::from_secs(1);
/// The same when its relay passes nothing on any more, and another one is there.
const SWALLOWED_GAP: Duration = Duration::from_secs(2);
/// The same when UDP is blocked. Every path is tried first, and then the other carrier.
const BLOCKED_GAP: Duration = Duration::from_secs(10);
/// The same when it is blocked between the client and its entry.
const CLIENT_BLOCKED_GAP: Duration = Duration::from_secs(10);
/// What no program holds unless somebody sent it.
const MARKER: &str = "a-marker-that-nobody-else-would-think-of";
const RELAYS: [Space; 2] = [Space::Relay, Space::Spare];

#[tokio::test]
async fn a_session_lives_on_while_addresses_relays_and_carriers_change_beneath_it() {
    let test = "living::a_session_lives_on_while_addresses_relays_and_carriers_change_beneath_it";
    let Some(mut fabric) = super::fabric(test).await else { return };
    fabric.add_relay().await;
    let mut talk = echo(&fabric).await;
    nobody_between_holds_what_passes(&fabric).await;
    the_client_moves(&fabric, &mut talk).await;
    a_relay_swallows(&fabric, &mut talk).await;
    udp_is_blocked(&fabric, &mut talk).await;
    the_clients_udp_is_blocked(&fabric, &mut talk).await;
    talk.finish(PATIENCE).await.ok();
    let sessions = |event: &&Value| event["type"] == "session.requested";
    assert_eq!(fabric.audit().await.iter().filter(sessions).count(), 2, "the echo's is one");
}

/// Bulk that a client sends is in the clear at the egress, and nowhere between them.
async fn nobody_between_holds_what_passes(fabric: &Fabric) {
    step("nothing of what passes is in the memory of a relay, or of the entry");
    let (_connect, url) = forward(fabric, "demo-web").await;
    let header = format!("X-Marker: {MARKER}");
    for _ in 0..20 {
        fabric.alice.run("curl", &["-sSf", "-H", &header, &url]).await.ok();
    }
    let [one, other] = RELAYS.map(|relay| relayed(fabric, relay));
    assert!(one.await + other.await > 0, "relays carry it");
    let found = |at| holds(fabric.agent_process(at), MARKER.as_bytes()).unwrap();
    assert!(found(Space::Egress), "or nothing is found anywhere");
    assert_eq!([Space::Entry, RELAYS[0], RELAYS[1]].map(found), [false; 3]);
}

/// Its connection to the entry goes on from another address.
async fn the_client_moves(fabric: &Fabric, talk: &mut Talk) {
    step("the client has another address");
    fabric.lab().readdress(Space::Client, Space::Entry).unwrap();
    let gap = longest_silence(fabric, talk, async |_| Some(())).await;
    println!("  longest silence of the echo: {gap:?}");
    assert!(gap < MOVED_GAP, "{gap:?}");
    let status = fabric.agent_status(Space::Entry).await.unwrap();
    assert_eq!(status["mesh"]["absentSessions"], 0, "it was there all the time");
}

/// The relay in use answers everybody, and passes nothing on.
async fn a_relay_swallows(fabric: &Fabric, talk: &mut Talk) {
    step("a relay swallows what it should pass on");
    let ids = [id(fabric, Space::Relay).await, id(fabric, Space::Spare).await];
    let in_use = until("the lane is relayed", PATIENCE, async || {
        let relay = lane(fabric).await?["relay"].as_str()?.to_owned();
        ids.iter().position(|id| *id == relay)
    })
    .await;
    fabric.lab().block(RELAYS[in_use], Space::Egress, "udp").unwrap();
    let other = &ids[1 - in_use];
    let gap = longest_silence(fabric, talk, async |fabric| {
        (lane(fabric).await?["relay"] == other.as_str()).then_some(())
    })
    .await;
    println!("  longest silence of the echo: {gap:?}");
    assert!(gap < SWALLOWED_GAP, "{gap:?}");
    fabric.lab().unblock(RELAYS[in_use]).unwrap();
}

/// The flow runs on QUIC until nothing comes through on it.
async fn udp_is_blocked(fabric: &Fabric, talk: &mut Talk) {
    step("UDP is blocked under a running session");
    for relay in RELAYS {
        fabric.lab().block(Space::Entry, relay, "udp").unwrap();
    }
    let gap = longest_silence(fabric, talk, async |fabric| {
        let status = fabric.agent_status(Space::Entry).await?;
        (status["mesh"]["tcpFlows"].as_u64()? > 0).then_some(())
    })
    .await;
    println!("  longest silence of the echo: {gap:?}");
    assert!(gap < BLOCKED_GAP, "{gap:?}");
}

/// The session runs on QUIC until nothing comes back on it.
async fn the_clients_udp_is_blocked(fabric: &Fabric, talk: &mut Talk) {
    step("UDP is blocked between the client and its entry");
    fabric.lab().block(Space::Client, Space::Entry, "udp").unwrap();
    let gap = longest_silence(fabric, talk, async |_| Some(())).await;
    println!("  longest silence of the echo: {gap:?}");
    assert!(gap < CLIENT_BLOCKED_GAP, "{gap:?}");
}

/// Types until it is as wanted, and then for a while. The longest time that an answer took.
async fn longest_silence(
    fabric: &Fabric,
    talk: &mut Talk,
    wanted: impl AsyncFn(&Fabric) -> Option<()>,
) -> Duration {
    let (begun, mut longest, mut is_so) = (Instant::now(), Duration::ZERO, 0);
    while is_so < 3 {
        assert!(begun.elapsed() < PATIENCE, "it never became so");
        for number in 0..20 {
            let typed = Instant::now();
            talk.type_line(&number.to_string()).await;
            assert_eq!(talk.line(PATIENCE).await, Some(format!("heard {number}")));
            longest = longest.max(typed.elapsed());
        }
        is_so = if wanted(fabric).await.is_some() { is_so + 1 } else { 0 };
    }
    longest
}

async fn lane(fabric: &Fabric) -> Option<Value> {
    let status = fabric.agent_status(Space::Entry).await?;
    let lanes = status["mesh"]["lanes"].as_array()?.clone();
    lanes.into_iter().find(|lane| lane["lane"] == "interactive")
}

async fn relayed(fabric: &Fabric, relay: Space) -> u64 {
    let status = fabric.agent_status(relay).await.expect("the relay lives");
    status["mesh"]["relayedFlows"].as_u64().expect("a relay counts them")
}

async fn id(fabric: &Fabric, at: Space) -> String {
    let status = fabric.agent_status(at).await.expect("it lives");
    status["node"].as_str().expect("it says who it is").to_owned()
}
