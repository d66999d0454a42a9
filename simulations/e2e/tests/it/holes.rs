//! Entry and egress behind NATs: which kinds let them through to each other, and what is said where
//! they do not.

use std::time::Duration;

use rap_e2e::{Fabric, Nat, Space, Talk, until};
use rap_proto::hole::Failure;
use serde_json::Value;

use super::{echo, ssh, step};

const PATIENCE: Duration = Duration::from_secs(60);
/// About seven megabytes, each line another.
const MUCH: &str = "seq 1 1000000";
/// What a relay may hear beside a lane that passes it by: looks, knocks, and other lanes' probes.
const NEXT_TO_NOTHING: u64 = 100_000;

/// Seconds: little more than an idle lane lets pass before it says something.
const FORGETS_AFTER: u32 = 6;
/// More than twice as long, and less than it takes to give up a lane that is not heard.
const IDLE: Duration = Duration::from_secs(15);

/// What shall become of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    /// As this became of the search for a hole.
    Relayed(Failure),
}

#[tokio::test]
async fn lanes_go_through_the_nats_that_let_them_and_say_so_where_they_do_not() {
    let test = "holes::lanes_go_through_the_nats_that_let_them_and_say_so_where_they_do_not";
    let Some(mut fabric) = behind(test, Nat::PortRestricted, Nat::PortRestricted).await else {
        return;
    };
    for (entry, egress, way) in [
        (Nat::PortRestricted, Nat::PortRestricted, Way::Direct),
        (Nat::PortRestricted, Nat::AddressRestricted, Way::Direct),
        (Nat::PortRestricted, Nat::FullCone, Way::Direct),
        (Nat::PortRestricted, Nat::Symmetric, Way::Relayed(Failure::Silent)),
        (Nat::FullCone, Nat::Symmetric, Way::Direct),
    ] {
        step(&format!("{entry:?} and {egress:?}"));
        fabric.lab().put_behind(Space::Entry, entry).unwrap();
        fabric.lab().put_behind(Space::Egress, egress).unwrap();
        start_again(&mut fabric).await;
        goes(&fabric, way, (entry, egress)).await;
    }
    let steady = Nat::PortRestricted;
    step("a NAT behind another one at the entry");
    fabric.lab().put_behind(Space::Egress, steady).unwrap();
    fabric.lab().put_behind_another(Space::Entry, steady, steady).unwrap();
    start_again(&mut fabric).await;
    goes(&fabric, Way::Direct, (steady, steady)).await;
    the_hole_is_kept_open(&fabric).await;
    the_hole_closes(&fabric).await;
}

#[tokio::test]
async fn a_lane_goes_through_two_nats_in_a_row_and_not_where_the_outer_one_is_symmetric() {
    let test =
        "holes::a_lane_goes_through_two_nats_in_a_row_and_not_where_the_outer_one_is_symmetric";
    if super::rootless::is_for_a_child(test) {
        return;
    }
    let steady = Nat::PortRestricted;
    let fabric = Fabric::start_on(|lab| {
        lab.put_behind(Space::Entry, steady)?;
        lab.put_behind_another(Space::Egress, steady, steady)?;
        lab.open_relay()?;
        lab.count_carried(Space::Relay)
    });
    let mut fabric = match fabric.await {
        Ok(fabric) => fabric,
        Err(reason) => return super::skip(test, &reason),
    };
    step("a NAT behind another one");
    reachable(&fabric).await;
    goes(&fabric, Way::Direct, (steady, steady)).await;
    step("a NAT behind one that is symmetric");
    fabric.lab().put_behind_another(Space::Egress, steady, Nat::Symmetric).unwrap();
    start_again(&mut fabric).await;
    goes(&fabric, Way::Relayed(Failure::Silent), (steady, Nat::Symmetric)).await;
}

/// From the start: a NAT keeps the ports of flows that were there before it became another one.
#[tokio::test]
async fn an_entry_behind_a_symmetric_nat_has_its_lanes_on_quic_over_the_relay() {
    let test = "holes::an_entry_behind_a_symmetric_nat_has_its_lanes_on_quic_over_the_relay";
    let Some(mut fabric) = behind(test, Nat::Symmetric, Nat::PortRestricted).await else { return };
    for (egress, failure) in
        [(Nat::PortRestricted, Failure::Silent), (Nat::Symmetric, Failure::BothSymmetric)]
    {
        step(&format!("Symmetric and {egress:?}"));
        fabric.lab().put_behind(Space::Egress, egress).unwrap();
        start_again(&mut fabric).await;
        goes(&fabric, Way::Relayed(failure), (Nat::Symmetric, egress)).await;
    }
}

/// Both ends behind NATs whose outsides reach each other, and a lane that works; `None` where this
/// machine does not permit it, or where a child runs the test.
async fn behind(test: &str, entry: Nat, egress: Nat) -> Option<Fabric> {
    if super::rootless::is_for_a_child(test) {
        return None;
    }
    let fabric = Fabric::start_on(|lab| {
        lab.put_behind(Space::Entry, entry)?;
        lab.put_behind(Space::Egress, egress)?;
        lab.join_outsides()?;
        lab.count_carried(Space::Relay)
    });
    match fabric.await {
        Ok(fabric) => {
            reachable(&fabric).await;
            Some(fabric)
        }
        Err(reason) => {
            super::skip(test, &reason);
            None
        }
    }
}

async fn reachable(fabric: &Fabric) {
    until("the egress is reachable at the relay", PATIENCE, async || {
        let status = fabric.agent_status(Space::Egress).await?;
        (status["mesh"]["reachableAt"].as_u64() == Some(1)).then_some(())
    })
    .await;
}

/// The entry's agent forgets its lanes.
async fn start_again(fabric: &mut Fabric) {
    fabric.agent(Space::Entry).kill().await;
    fabric.start_agent(Space::Entry);
    until("the entry carries again", PATIENCE, async || {
        (ssh(fabric, &fabric.alice, "true").await.code == 0).then_some(())
    })
    .await;
}

/// A lane goes this way in the end, and all of it comes on the way there and there.
async fn goes(fabric: &Fabric, way: Way, (entry, egress): (Nat, Nat)) {
    let mut talk = echo(fabric).await;
    let seen = |nat: Nat| if nat == Nat::Symmetric { "symmetric" } else { "steady" };
    let (own, far) = (seen(entry), seen(egress));
    all_of_it_comes(fabric).await;
    let lane = settled(fabric, |hole| match way {
        Way::Relayed(failure) => hole["failure"] == failure.as_str(),
        Way::Direct => hole["step"] == "open",
    });
    let lane = lane.await;
    assert_eq!(lane["relay"].is_null(), way == Way::Direct, "{lane}");
    assert_eq!((&lane["hole"]["ownNat"], &lane["hole"]["farNat"]), (&own.into(), &far.into()));
    let said = why(fabric).await;
    match way {
        Way::Direct => {
            assert!(said.contains("direct, ") && said.contains("through a hole"), "{said}")
        }
        Way::Relayed(failure) => {
            let failure = failure.in_words("this node");
            let no = format!("{failure}; the NAT on this side is {own}, the egress' {far}");
            assert!(said.contains("relayed through") && said.contains(&no), "{said}");
        }
    }
    let carried = carried_meanwhile(fabric, all_of_it_comes(fabric)).await;
    let is_relayed = matches!(way, Way::Relayed(_));
    assert_eq!(carried >= NEXT_TO_NOTHING, is_relayed, "the relay carried {carried} bytes");
    echoes(&mut talk, "at last").await;
    talk.finish(PATIENCE).await.ok();
}

/// NATs forget ports that nothing passes, and an idle lane keeps its own.
async fn the_hole_is_kept_open(fabric: &Fabric) {
    step("nobody says anything for longer than the NATs remember");
    for nat in [Space::Entry, Space::Egress, Space::Spare] {
        fabric.lab().forget_after(nat, FORGETS_AFTER).unwrap();
    }
    let mut talk = echo(fabric).await;
    let before = settled(fabric, |hole| hole["step"] == "open").await;
    tokio::time::sleep(IDLE).await;
    echoes(&mut talk, "as before").await;
    assert!(carried_meanwhile(fabric, all_of_it_comes(fabric)).await < NEXT_TO_NOTHING);
    let after = lane(fabric).await.expect("it is there");
    assert!(after["relay"].is_null(), "{after}");
    assert_eq!((&after["switches"], &after["hole"]), (&before["switches"], &before["hole"]));
    talk.finish(PATIENCE).await.ok();
}

/// How many bytes the relay carried until this was done.
async fn carried_meanwhile(fabric: &Fabric, done: impl Future<Output = ()>) -> u64 {
    let before = fabric.lab().carried(Space::Relay);
    done.await;
    fabric.lab().carried(Space::Relay) - before
}

/// What was direct goes on over the relay when the way is gone.
async fn the_hole_closes(fabric: &Fabric) {
    step("the way between the two is closed");
    let mut talk = echo(fabric).await;
    settled(fabric, |hole| hole["step"] == "open").await;
    fabric.lab().part_outsides().unwrap();
    echoes(&mut talk, "over the relay").await;
    // What the agent says of itself is a second old at most.
    until("the lane is on the relay", PATIENCE, async || {
        lane(fabric).await.filter(|lane| !lane["relay"].is_null())
    })
    .await;
    all_of_it_comes(fabric).await;
    talk.finish(PATIENCE).await.ok();
}

/// The lane once its hole is as it shall be.
async fn settled(fabric: &Fabric, is_so: impl Fn(&Value) -> bool) -> Value {
    until("the search for a hole has come so far", PATIENCE, async || {
        lane(fabric).await.filter(|lane| is_so(&lane["hole"]))
    })
    .await
}

async fn lane(fabric: &Fabric) -> Option<Value> {
    let status = fabric.agent_status(Space::Entry).await?;
    let lanes = status["mesh"]["lanes"].as_array()?.clone();
    lanes.into_iter().find(|lane| lane["lane"] == "interactive")
}

async fn why(fabric: &Fabric) -> String {
    let egress = fabric.agent_status(Space::Egress).await.expect("it lives");
    let egress = egress["node"].as_str().expect("it has joined").to_owned();
    let state = fabric.agent_state(Space::Entry).to_string_lossy().into_owned();
    fabric.node_agent(Space::Entry, &["why", &egress, "--state-dir", &state]).await.ok()
}

async fn echoes(talk: &mut Talk, line: &str) {
    talk.type_line(line).await;
    assert_eq!(talk.line(PATIENCE).await, Some(format!("heard {line}")));
}

async fn all_of_it_comes(fabric: &Fabric) {
    let expected: String = (1..=1_000_000).map(|line| format!("{line}\n")).collect();
    let came = ssh(fabric, &fabric.alice, MUCH).await.ok();
    assert!(came == expected, "{} bytes of {}", came.len(), expected.len());
}
