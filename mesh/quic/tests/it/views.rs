//! What a newer snapshot ends, and what it leaves alone.

use std::time::Duration;

use rap_mesh::{
    Carrier,
    client::{ClientSession, SessionEnd, end_reason},
};
use rap_proto::{
    Lane,
    observation::{EndReason, Observation},
    snapshot::StalePolicy,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    carry::until,
    fabric::{EGRESS, ENTRY, Fabric, PATIENCE, Plan, RELAY, SESSION, now, open},
    targets::echo,
};

/// What comes in this time would have come over the relay.
const QUIET: Duration = Duration::from_secs(1);

/// Changes the snapshots under an open channel and expects the session to end with `reason`.
async fn check_ends(change: impl FnOnce(&mut Plan), at: rap_proto::NodeId, reason: EndReason) {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = echoing(&session).await;
    change(&mut fabric.plan);
    fabric.publish_to(at);
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(reason), "{cut}");
    assert_eq!(timeout(PATIENCE, session.ended()).await.unwrap(), SessionEnd::Ended(reason));
    let ended = Observation::SessionEnded { session: SESSION, reason, bytes_up: 1, bytes_down: 1 };
    assert_eq!(fabric.observation(ENTRY).await, ended);
}

async fn echoing(session: &ClientSession) -> rap_mesh::client::Channel {
    let mut channel = open(session, Lane::Interactive).await;
    channel.write_u8(1).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 1);
    channel
}

#[tokio::test]
async fn an_ended_session_closes_at_the_entry() {
    check_ends(|plan| plan.denied_sessions = [SESSION].into(), ENTRY, EndReason::Terminated).await;
}

#[tokio::test]
async fn an_ended_session_closes_at_the_egress() {
    check_ends(|plan| plan.denied_sessions = [SESSION].into(), EGRESS, EndReason::Terminated).await;
}

#[tokio::test]
async fn a_user_who_lost_the_resource_loses_the_session() {
    check_ends(|plan| plan.users.clear(), EGRESS, EndReason::Terminated).await;
}

#[tokio::test]
async fn an_entry_that_lost_its_role_lets_its_clients_go() {
    let unassigned = |plan: &mut Plan| {
        plan.roles.insert(ENTRY, Vec::new());
    };
    check_ends(unassigned, ENTRY, EndReason::NodeLeft).await;
}

#[tokio::test]
async fn a_stale_snapshot_that_says_stop_ends_what_runs() {
    let stop = |plan: &mut Plan| {
        plan.stale_policy = StalePolicy::Stop;
        plan.expires_at = now() + Duration::from_millis(300);
    };
    check_ends(stop, ENTRY, EndReason::NodeLeft).await;
}

#[tokio::test]
async fn a_stale_snapshot_that_says_keep_leaves_what_runs() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = echoing(&session).await;
    fabric.plan.expires_at = now() - Duration::from_secs(1);
    fabric.publish();
    channel.write_u8(2).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 2);
}

#[tokio::test]
async fn a_new_view_that_changes_nothing_for_a_session_leaves_it() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = echoing(&session).await;
    for version in 11..20 {
        fabric.plan.version = version;
        fabric.publish();
    }
    channel.write_u8(2).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 2);
}

#[tokio::test]
async fn a_revoked_entry_loses_its_flows_at_the_egress() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = echoing(&session).await;
    fabric.plan.denied_nodes = [ENTRY].into();
    fabric.publish_to(EGRESS);
    let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(end_reason(&cut), Some(EndReason::NodeLeft), "{cut}");
}

#[tokio::test]
async fn a_revoked_egress_loses_its_flows_at_the_entry_on_either_carrier() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut fabric = Fabric::start_on(carrier, &[], echo().await);
        let session = fabric.session_on(carrier).await;
        let mut channel = echoing(&session).await;
        fabric.plan.denied_nodes = [EGRESS].into();
        fabric.publish_to(ENTRY);
        let cut = timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(end_reason(&cut), Some(EndReason::NodeLeft), "{cut} on {carrier}");
    }
}

/// Takes the only relay of an open flow away from its entry. The relay has heard of nothing.
async fn check_is_left(carrier: Carrier, change: impl FnOnce(&mut Plan)) {
    let mut fabric = Fabric::start_on(carrier, &[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let mut channel = echoing(&session).await;
    let [entry, relay] = [ENTRY, RELAY].map(|node| fabric.nodes[&node].endpoint.clone());
    assert_eq!(relay.status().relayed_flows, 1);
    change(&mut fabric.plan);
    fabric.publish_to(ENTRY);
    until("the relay carries nothing", || relay.status().relayed_flows == 0).await;
    until("the lane is given up", || entry.status().lanes.is_empty()).await;
    channel.write_u8(2).await.unwrap();
    let early = timeout(QUIET, channel.read_u8()).await;
    assert!(early.is_err(), "nothing leads to the egress: {early:?}");
    assert_eq!(relay.status().relayed_flows, 0, "it is asked for no other");
    fabric.plan.addresses.remove(&(ENTRY, EGRESS));
    fabric.plan.version += 1;
    fabric.publish_to(ENTRY);
    assert_eq!(timeout(PATIENCE, channel.read_u8()).await.unwrap().unwrap(), 2);
    assert_eq!(relay.status().relayed_flows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_relay_carries_nothing_any_more() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        check_is_left(carrier, |plan| plan.denied_nodes = [RELAY].into()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_relay_any_more_carries_nothing_though_it_would() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let unassigned = |plan: &mut Plan| drop(plan.roles.insert(RELAY, Vec::new()));
        check_is_left(carrier, unassigned).await;
    }
}

#[tokio::test]
async fn a_draining_entry_says_so_and_keeps_what_runs() {
    let mut fabric = Fabric::start(&[], echo().await);
    let session = fabric.session().await;
    let mut channel = echoing(&session).await;
    fabric.plan.draining = [ENTRY].into();
    fabric.publish();
    let told = async {
        while !session.is_draining() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
    channel.write_u8(2).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 2);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_then_on() {
    let fabric = Fabric::start(&[], echo().await);
    let before = fabric.session().await;
    let mut channel = echoing(&before).await;
    for id in [ENTRY, EGRESS] {
        fabric.nodes[&id].endpoint.renew(fabric.renewed_identity(id)).unwrap();
    }
    channel.write_u8(2).await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), 2);
    echoing(&fabric.session().await).await;
    let foreign = fabric.renewed_identity(EGRESS);
    assert!(fabric.nodes[&ENTRY].endpoint.renew(foreign).is_err(), "another node's certificate");
}

/// Opens a channel while `late` has not heard of some roles yet; it asks, hears, and serves.
async fn check_catches_up(late: rap_proto::NodeId, unheard: rap_proto::NodeId) {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    let roles = fabric.plan.roles.insert(unheard, Vec::new()).unwrap();
    fabric.publish_to(late);
    fabric.plan.roles.insert(unheard, roles);
    fabric.plan.version = 11;
    let mut claims = fabric.claims();
    claims.egresses = [(EGRESS, 10)].into();
    let endpoint = fabric.nodes[&late].endpoint.clone();
    let view = fabric.view(late);
    let nothing = tokio::sync::mpsc::channel(1).1;
    let mut events = std::mem::replace(&mut fabric.nodes.get_mut(&late).unwrap().events, nothing);
    let connecting = async {
        let session = fabric.connect(&claims).await.unwrap();
        echoing(&session).await;
    };
    let fetching = async move {
        // As an agent would, once it was asked.
        let asked = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap();
        assert_eq!(asked, Some(rap_mesh::MeshEvent::SnapshotWanted { version: 11 }));
        endpoint.apply(view).unwrap();
    };
    tokio::join!(connecting, fetching);
}

#[tokio::test]
async fn an_entry_that_was_just_assigned_catches_up() {
    check_catches_up(ENTRY, ENTRY).await;
}

#[tokio::test]
async fn an_entry_that_does_not_know_the_egress_yet_catches_up() {
    check_catches_up(ENTRY, EGRESS).await;
}

#[tokio::test]
async fn a_relay_that_does_not_know_the_entry_yet_catches_up() {
    check_catches_up(RELAY, ENTRY).await;
}

#[tokio::test]
async fn a_relay_drops_the_flows_of_a_revoked_entry() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let _channel = echoing(&session).await;
    assert_eq!(fabric.nodes[&RELAY].endpoint.status().relayed_flows, 1);
    fabric.plan.denied_nodes = [ENTRY].into();
    fabric.publish_to(RELAY);
    assert_eq!(fabric.nodes[&RELAY].endpoint.status().relayed_flows, 0);
}
