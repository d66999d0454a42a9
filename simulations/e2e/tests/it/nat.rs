//! An egress behind a NAT that lets nothing new in.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rap_e2e::{Fabric, NODE_PORT, Space, until};

use super::{ssh, step};

const PATIENCE: Duration = Duration::from_secs(60);
const ATTEMPT: Duration = Duration::from_millis(300);
/// About seven megabytes, each line another.
const MUCH: &str = "seq 1 1000000";

#[tokio::test]
async fn an_egress_behind_a_nat_is_reached_on_quic_and_on_tcp() {
    let test = "nat::an_egress_behind_a_nat_is_reached_on_quic_and_on_tcp";
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let mut fabric = match Fabric::start_on(|lab| lab.hide(Space::Egress)).await {
        Ok(fabric) => fabric,
        Err(reason) => return super::skip(test, &reason),
    };
    nobody_reaches_the_egress(&fabric);
    for (at, what) in [(Space::Egress, "reachableAt"), (Space::Relay, "reachableNodes")] {
        until("the egress is reachable at the relay", PATIENCE, async || {
            (count(&fabric, at, what).await == Some(1)).then_some(())
        })
        .await;
    }

    step("both carriers, as each lane likes it");
    all_of_it_comes(&fabric).await;

    step("the entry without UDP");
    fabric.lab().block(Space::Entry, Space::Relay, "udp").unwrap();
    all_of_it_comes(&fabric).await;

    step("nobody with UDP");
    fabric.lab().block(Space::Egress, Space::Relay, "udp").unwrap();
    until("the line is on TCP", PATIENCE, async || {
        let came = ssh(&fabric, &fabric.alice, "true").await;
        (came.code == 0).then_some(())
    })
    .await;
    all_of_it_comes(&fabric).await;
    the_relay_is_heard_of(&mut fabric).await;
}

/// An entry that never heard a datagram of it.
async fn the_relay_is_heard_of(fabric: &mut Fabric) {
    step("an entry that starts without UDP");
    fabric.agent(Space::Entry).kill().await;
    fabric.start_agent(Space::Entry);
    until("the relay is up, and nobody counted what it loses", PATIENCE, async || {
        let peers = fabric.agent_status(Space::Entry).await?["peers"].clone();
        let relay = peers["peers"].as_array()?.iter().find(|peer| peer["isRelay"] == true)?.clone();
        let is_so = relay["up"] == true && relay["lossPpm"].is_null();
        (is_so && peers["recovery"].is_null()).then_some(())
    })
    .await;
}

/// Or the rest would prove nothing.
fn nobody_reaches_the_egress(fabric: &Fabric) {
    let egress = SocketAddr::from((Space::Egress.address(), NODE_PORT));
    for from in [Space::Entry, Space::Relay] {
        let dialling =
            fabric.lab().inside(from, move || TcpStream::connect_timeout(&egress, ATTEMPT));
        assert!(dialling.join().unwrap().is_err(), "{from:?} reaches it");
    }
}

async fn all_of_it_comes(fabric: &Fabric) {
    let expected: String = (1..=1_000_000).map(|line| format!("{line}\n")).collect();
    let came = ssh(fabric, &fabric.alice, MUCH).await.ok();
    assert!(came == expected, "{} bytes of {}", came.len(), expected.len());
}

async fn count(fabric: &Fabric, at: Space, what: &str) -> Option<u64> {
    fabric.agent_status(at).await?["mesh"][what].as_u64()
}
