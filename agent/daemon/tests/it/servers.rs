//! Several servers of one control plane: a node goes on at those that are left.

use std::{net::SocketAddr, time::Duration};

use rap_node_agent::{ControlStatus, RunningAgent};
use rap_proto::{beat::BEAT_TTL_MS, snapshot::Peer, wire::node_api::BeatReply};

use crate::{
    beat::Replicas,
    control::{Control, Desk, free_port, now, random_key, report, until},
};

/// Has every server say which ones there are.
fn name(control: &Control, servers: &[SocketAddr]) {
    let servers = servers.iter().map(|address| format!("https://{address}")).collect();
    let reply = BeatReply { servers, ..BeatReply::default() };
    control.desk().beat = Some(reply);
}

fn shown(agent: &RunningAgent) -> ControlStatus {
    report(agent).control
}

fn version(agent: &RunningAgent) -> Option<u64> {
    report(agent).snapshot.map(|snapshot| snapshot.version)
}

async fn takes(control: &Control, agent: &RunningAgent, number: u64) {
    control.offer(number, control.making(number).bundle()).await;
    until("the snapshot is taken", || version(agent) == Some(number)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_at_another_server_when_the_one_that_it_joined_at_is_lost() {
    let mut control = Control::start().await;
    let other = control.another_server().await;
    name(&control, &[control.address(), other.address]);
    control.desk().certificate_life = Duration::from_secs(8);
    let agent = control.agent().await;
    takes(&control, &agent, 1).await;
    until("it is told of both", || shown(&agent).servers == 2).await;

    control.lose_server().await;
    let renewals = control.desk().renewals;
    takes(&control, &agent, 2).await;
    until("it renews its certificate", || control.desk().renewals > renewals + 1).await;
    let status = shown(&agent);
    assert_eq!(status.server, Some(format!("https://{}", other.address)));
    assert!(status.reachable && status.last_error.is_none(), "{status:?}");
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_with_a_beat_is_known_after_a_restart_and_nothing_else() {
    let mut control = Control::start().await;
    let other = control.another_server().await;
    name(&control, &[control.address(), other.address]);
    let agent = control.agent().await;
    takes(&control, &agent, 1).await;
    until("it is told of both", || shown(&agent).servers == 2).await;
    agent.stop().await.unwrap();
    control.desk().beat = None;
    let agent = control.run().await;
    assert_eq!(shown(&agent).servers, 1, "no beat came with them");

    let replicas = Replicas::of(&control).for_beats_of(Duration::from_millis(BEAT_TTL_MS));
    let servers = [control.address(), other.address].map(|address| format!("https://{address}"));
    let beat = replicas.beat(1, now(), 2);
    control.desk().beat = Some(BeatReply { servers: servers.to_vec(), ..beat });
    control.ring_beat(1).await;
    let kept = control.state_dir().join("servers");
    until("it keeps both", || kept.exists()).await;
    agent.stop().await.unwrap();

    control.lose_server().await;
    let agent = control.run().await;
    assert_eq!(shown(&agent).servers, 2, "it remembers");
    takes(&control, &agent, 2).await;
    agent.stop().await.unwrap();
}

/// It proves itself, takes what is asked, and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_waited_for_no_longer_than_its_turn() {
    let mut control = Control::start().await;
    let mut other = control.another_server().await;
    name(&control, &[control.address(), other.address]);
    let agent = control.agent().await;
    takes(&control, &agent, 1).await;
    until("it is told of both", || shown(&agent).servers == 2).await;
    let silent = shown(&agent).server.unwrap();
    control.fall_silent(&mut other, &silent).await;
    // A snapshot would wait for longer, whoever sends it.
    control.ring_beat(1).await;
    until("it goes on", || shown(&agent).server.is_some_and(|server| server != silent)).await;
    takes(&control, &agent, 2).await;
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_the_clusters_ca_is_told_nothing_though_a_server_names_it() {
    let (mut control, stranger) = (Control::start().await, Control::start().await);
    name(&control, &[control.address(), stranger.address()]);
    let agent = control.agent().await;
    takes(&control, &agent, 1).await;
    until("it is told of both", || shown(&agent).servers == 2).await;

    control.lose_server().await;
    let before = shown(&agent).server_changes;
    control.ring(2).await;
    until("it tried both", || {
        let status = shown(&agent);
        status.server_changes >= before + 2 && !status.reachable
    })
    .await;
    let asked = |desk: &Desk| desk.snapshot_requests + desk.polls + desk.renewals;
    assert_eq!(asked(&stranger.desk()), 0);
    control.serve().await;
    takes(&control, &agent, 2).await;
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_peers_looks_for_them_at_another_server() {
    let control = Control::start().await;
    let other = control.another_server().await;
    name(&control, &[control.address(), other.address]);
    let agent = control.agent().await;
    until("it is told of both", || shown(&agent).servers == 2).await;
    let mut making = control.making(3);
    let dead = Peer {
        node: rap_proto::NodeId::from_u128(0xdead),
        key: rap_proto::Signer::public_key(&random_key()).id(),
        roles: making.assignment.roles.clone(),
        addresses: vec![free_port()],
    };
    making.peers.peers = vec![dead];
    let before = shown(&agent).server_changes;
    control.offer(3, making.bundle()).await;
    until("it looks for peers", || {
        report(&agent).peers.recovery_steps.get("discovery").is_some_and(|count| *count > 0)
    })
    .await;
    until("it asks another server", || shown(&agent).server_changes > before).await;
    agent.stop().await.unwrap();
}
