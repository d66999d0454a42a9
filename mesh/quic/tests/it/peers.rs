//! What an agent's peer book asks over real connections, and what follows for the order of relays.

use std::{collections::BTreeMap, time::Duration};

use rap_mesh::{AskPeerError, Carrier, Path};
use rap_mesh_core::score::{Candidate, Identity, Measured};
use rap_proto::{Lane, NodeId, NodeRole, Preference, Timestamp};

use crate::{
    fabric::{CLUSTER, EGRESS, ENTRY, Fabric, RELAY, RELAY_2, now, open, platform},
    targets::echo,
};

pub(crate) fn measured(relay: NodeId, rtt_us: u32) -> (NodeId, Candidate<'static>) {
    let candidate = Candidate {
        node: relay,
        cluster: CLUSTER,
        identity: Identity::Proven,
        certificate_until: Some(now() + Duration::from_secs(3_600)),
        roles: vec![platform(NodeRole::RelayNode)].into(),
        authority_epoch: 1,
        region: None,
        preference: Preference::Neutral,
        measured: Measured { rtt_us: Some(rtt_us), ..Measured::default() },
    };
    (relay, candidate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_answers_until_it_is_gone() {
    let fabric = Fabric::start(&[RELAY], echo().await);
    let entry = &fabric.nodes[&ENTRY].endpoint;
    for node in [RELAY, EGRESS] {
        let answer = entry.ask_peer(node).await.unwrap();
        assert!(answer.certificate_until > now());
        assert!(answer.rtt > Duration::ZERO);
    }
    entry.release_peer(RELAY);
    entry.ask_peer(RELAY).await.unwrap();
    fabric.nodes[&RELAY].endpoint.shut_down(Duration::from_secs(1)).await;
    assert_eq!(entry.ask_peer(RELAY).await, Err(AskPeerError::NoAnswer));
    let stranger = NodeId::from_u128(0xffff);
    assert_eq!(entry.ask_peer(stranger).await, Err(AskPeerError::NoAnswer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_answers_and_forwards_nowhere_fails_the_probe_through_it() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    let nowhere = fabric.dead_address();
    fabric.plan.addresses.insert((RELAY_2, EGRESS), nowhere);
    fabric.publish();
    let entry = &fabric.nodes[&ENTRY].endpoint;
    assert!(entry.probe_through(RELAY, EGRESS).await.unwrap() > Duration::ZERO);
    entry.ask_peer(RELAY_2).await.unwrap();
    let outcome = entry.probe_through(RELAY_2, EGRESS).await;
    assert_eq!(outcome, Err(AskPeerError::NoAnswer));
}

#[tokio::test(flavor = "multi_thread")]
async fn letting_a_peer_go_leaves_the_flows_that_were_set_up_over_it() {
    let mut fabric = Fabric::start(&[RELAY], echo().await);
    fabric.cut_direct_path();
    let session = fabric.session().await;
    let channel = open(&session, Lane::Interactive).await;
    let entry = &fabric.nodes[&ENTRY].endpoint;
    entry.release_peer(RELAY);
    open(&session, Lane::Interactive).await;
    let lanes = entry.status().lanes;
    assert_eq!(lanes.len(), 1, "the lane was not given up");
    assert_eq!(lanes[0].path, Path::Relayed { relay: RELAY });
    drop(channel);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_goes_through_the_relay_that_measured_best() {
    for (best, worst) in [(RELAY, RELAY_2), (RELAY_2, RELAY)] {
        let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
        fabric.cut_direct_path();
        let known = BTreeMap::from([measured(best, 1_000), measured(worst, 400_000)]);
        fabric.nodes[&ENTRY].endpoint.know_peers(known);
        let session = fabric.session().await;
        open(&session, Lane::Interactive).await;
        let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
        assert_eq!(lanes[0].path, Path::Relayed { relay: best });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_on_tcp_goes_through_the_relay_that_measured_best() {
    for (best, worst) in [(RELAY, RELAY_2), (RELAY_2, RELAY)] {
        let mut fabric = Fabric::start_on(Carrier::Tcp, &[RELAY, RELAY_2], echo().await);
        fabric.cut_direct_path();
        let known = BTreeMap::from([measured(best, 1_000), measured(worst, 400_000)]);
        fabric.nodes[&ENTRY].endpoint.know_peers(known);
        let session = fabric.session().await;
        let channel = open(&session, Lane::Bulk).await;
        let flows = |relay| fabric.nodes[&relay].endpoint.status().relayed_flows;
        assert_eq!((flows(best), flows(worst)), (1, 0));
        drop(channel);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_certificate_is_over_leads_nowhere() {
    let mut fabric = Fabric::start(&[RELAY, RELAY_2], echo().await);
    fabric.cut_direct_path();
    let (node, mut ended) = measured(RELAY, 1_000);
    ended.certificate_until = Some(Timestamp::from_unix_millis(1));
    let known = BTreeMap::from([(node, ended), measured(RELAY_2, 400_000)]);
    fabric.nodes[&ENTRY].endpoint.know_peers(known);
    let session = fabric.session().await;
    open(&session, Lane::Interactive).await;
    let lanes = fabric.nodes[&ENTRY].endpoint.status().lanes;
    assert_eq!(lanes[0].path, Path::Relayed { relay: RELAY_2 });
}
