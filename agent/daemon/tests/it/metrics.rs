//! What a monitoring system reads of an agent.

use std::{net::SocketAddr, process::Command};

use rap_node_agent::{AgentState, MetricsAt};
use rap_proto::NodeId;

use crate::{
    control::{Control, free_port, report, until},
    peers::neighbour,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_scraped_and_names_nobody() {
    let control = Control::start().await;
    rap_node_agent::join(control.join_options(), |_, _| {}).await.unwrap();
    let place = free_port();
    let mut options = control.run_options();
    options.metrics = Some(MetricsAt::Tcp(place));
    let agent = rap_node_agent::start(options).unwrap();
    until("it says that it starts", || {
        scrape(place).is_some_and(|page| is_there(&page, "rap_node_state{state=\"starting\"} 1"))
    })
    .await;
    let (_endpoint, _events, peer) = neighbour(&control);
    let relay = peer.node;
    let mut making = control.making(3);
    making.peers.peers = vec![peer];
    control.offer(3, making.bundle()).await;
    until("the neighbour answers", || report(&agent).peers.peers.iter().any(|peer| peer.up)).await;
    let page = scrape(place).unwrap();
    for line in [
        "rap_node_state{state=\"running\"} 1",
        "rap_node_snapshot_version 3",
        "rap_node_peers{class=\"active\",role=\"relay\"} 1",
        "rap_node_peers_up{role=\"relay\"} 1",
        "rap_node_peer_recovery_steps_total{step=\"cold\"} 1",
        "rap_node_bus_connected 1",
        "rap_node_spool_waiting 0",
        "rap_node_worker_serving 0",
    ] {
        assert!(is_there(&page, line), "{line} is not in\n{page}");
    }
    let own: NodeId = control.node();
    for name in [own.to_string(), relay.to_string(), "edge-1".to_owned(), "127.0.0.1".to_owned()] {
        assert!(!page.contains(&name), "{name} is in\n{page}");
    }
    assert_eq!(report(&agent).state, AgentState::Running);
    agent.stop().await.unwrap();
    assert_eq!(scrape(place), None, "nobody listens there any more");
}

fn is_there(page: &str, line: &str) -> bool {
    page.lines().any(|said| said.starts_with(line))
}

/// `None` when nobody answers.
fn scrape(place: SocketAddr) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["-sf", "--max-time", "10", &format!("http://{place}/metrics")]);
    let output = curl.output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}
