//! An agent keeps its peers: real connections to a real neighbour, and what the report says of it.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use futures_util::future::{BoxFuture, ready};
use rap_mesh::{
    DialRequest, Dialed, Dialer, MeshEndpoint, MeshEvents, MeshLimits, MeshOptions, NoLeases,
    Sections, View,
};
use rap_mesh_core::{
    peers::{Counts, Kind, PeerPolicy},
    refusals::refusal,
};
use rap_node_agent::{AgentState, RunOptions, RunningAgent};
use rap_proto::{
    InquiryId, NodeId, NodeRole, RefusalCode, Signer as _,
    bandwidth::Bandwidth,
    mesh::{ChannelClass, Mesh, MeshRule, Part, PeerCounts},
    refusal::Refusal,
    snapshot::{Peer, Peers, Places, Resources, RoleScope},
};

use crate::control::{Control, free_port, random_key, report, until};

const NEIGHBOUR: NodeId = NodeId::from_u128(0xb0b);
const DEAD: NodeId = NodeId::from_u128(0xdead);

type Relay = (MeshEndpoint, MeshEvents, Peer);

struct NoTargets;

impl Dialer for NoTargets {
    fn dial(&self, _: DialRequest) -> BoxFuture<'_, Result<Dialed, Refusal>> {
        Box::pin(ready(Err(refusal(RefusalCode::TargetUnreachable))))
    }
}

/// A relay of the same cluster, and how a snapshot names it.
pub(crate) fn neighbour(control: &Control) -> Relay {
    relay(control, NEIGHBOUR)
}

fn relay(control: &Control, node: NodeId) -> Relay {
    let key = random_key();
    let roles = vec![RoleScope { role: NodeRole::RelayNode, organizations: None }];
    let mut making = control.making(1);
    making.manifest.node = node;
    making.assignment.roles.clone_from(&roles);
    let sections = Sections {
        assignment: making.assignment,
        trust: making.trust,
        peers: Peers::default(),
        resources: Resources::default(),
        bandwidth: Bandwidth::default(),
        places: Places::default(),
        paths: Default::default(),
        mesh: Default::default(),
    };
    let options = MeshOptions {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        identity: control.identity_of(node, &key),
        dialer: Arc::new(NoTargets),
        leases: Arc::new(NoLeases::default()),
        marks: Vec::new(),
        limits: MeshLimits::default(),
        bulk: tokio::runtime::Handle::current(),
        carrier: None,
    };
    let view = View::new(&making.manifest, sections);
    let (endpoint, events) = MeshEndpoint::bind(options, view).unwrap();
    let addresses = vec![endpoint.local_addr().unwrap()];
    let peer = Peer { node, key: key.public_key().id(), roles, addresses };
    (endpoint, events, peer)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_finds_its_peers_and_lets_go_whom_the_snapshot_no_longer_names() {
    let control = Control::start().await;
    let agent = control.agent().await;
    let (_endpoint, _events, peer) = neighbour(&control);
    let dead = Peer {
        node: DEAD,
        key: random_key().public_key().id(),
        addresses: vec![free_port()],
        ..peer.clone()
    };
    let mut making = control.making(3);
    making.peers.peers = vec![peer, dead.clone()];
    control.offer(3, making.bundle()).await;
    until("the neighbour answers", || {
        report(&agent).peers.peers.iter().any(|peer| peer.node == NEIGHBOUR && peer.up)
    })
    .await;
    let peers = report(&agent).peers;
    assert_eq!((peers.availability.as_str(), peers.recovery.as_deref()), ("available", None));
    assert_eq!(peers.recovery_steps.get("cold"), Some(&1), "nobody was known before");
    let first = &peers.peers[0];
    assert_eq!((first.node, first.class.as_str()), (NEIGHBOUR, "active"));
    assert!(first.rtt_us.is_some() && first.score.is_some());
    assert_eq!(first.parts.len(), 10);
    until("the dead one is known to be", || {
        report(&agent).peers.peers.iter().any(|peer| peer.node == DEAD && peer.failures > 0)
    })
    .await;

    let inquiry = InquiryId::from_u128(5);
    control.ask_why(inquiry, NEIGHBOUR).await;
    until("control is told why", || !control.desk().explained.is_empty()).await;
    let told = control.desk().explained.remove(0);
    assert!(told.is_plain() && told.inquiry == inquiry, "{told:?}");
    assert!(
        told.peer.is_some_and(|peer| peer.node == NEIGHBOUR && peer.up && peer.parts.len() == 10)
    );
    assert_eq!(told.relays.iter().map(|relay| relay.node).collect::<Vec<_>>(), [DEAD]);

    let mut making = control.making(4);
    making.peers.peers = vec![dead];
    control.offer(4, making.bundle()).await;
    until("the neighbour is nobody's peer", || {
        let peers = report(&agent).peers.peers;
        peers.len() == 1 && peers[0].node == DEAD
    })
    .await;
    until("the way back is visible", || report(&agent).peers.recovery.is_some()).await;
    assert_eq!(report(&agent).state, AgentState::Running, "it serves all the same");
    agent.stop().await.unwrap();
}

/// As many as it keeps near, and some more.
const NEIGHBOURS: u128 = 8;

/// An agent that was told to be thin, and its neighbours.
async fn thin(control: &Control) -> (RunningAgent, Vec<Relay>) {
    rap_node_agent::join(control.join_options(), |_, _| {}).await.unwrap();
    let options = RunOptions { peers: Some(Kind::Thin), ..control.run_options() };
    let mut agent = rap_node_agent::start(options).unwrap();
    agent.ready().await.unwrap();
    let relays = (1..=NEIGHBOURS).map(|number| relay(control, NodeId::from_u128(0xb0b + number)));
    (agent, relays.collect())
}

async fn tell(control: &Control, version: u64, relays: &[Relay], rule: &MeshRule) {
    let mut making = control.making(version);
    making.peers.peers = relays.iter().map(|(.., peer)| peer.clone()).collect();
    making.mesh = rule.into();
    control.offer(version, making.bundle()).await;
}

/// Waits until it has as many as it keeps near, that it never has more of.
async fn settles(agent: &RunningAgent, counts: Counts) {
    until("it has its peers, and some warm", || {
        let peers = report(agent).peers;
        let up = peers.peers.iter().filter(|peer| peer.up).count();
        let policy = peers.policy;
        let obeys =
            policy.most_active == counts.most_active && policy.most_warm == counts.most_warm;
        assert!(
            !obeys || peers.active <= counts.most_active && peers.warm <= counts.most_warm,
            "{} active, {} warm",
            peers.active,
            peers.warm
        );
        (peers.active, up, peers.warm) == (counts.aim(), counts.aim(), counts.most_warm)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thin_agent_settles_at_its_counts() {
    let control = Control::start().await;
    let (agent, relays) = thin(&control).await;
    tell(&control, 3, &relays, &MeshRule::default()).await;
    settles(&agent, PeerPolicy::of(Kind::Thin).counts).await;
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_takes_other_counts_and_weights_as_they_are_told() {
    let control = Control::start().await;
    let (agent, relays) = thin(&control).await;
    let counts = PeerCounts { least: 3, most: 5, warm: 2 };
    let load_alone = [(Part::NodeLoad, 1)].into();
    let rule = MeshRule {
        peers: [(Kind::Thin, counts)].into(),
        weights: [(ChannelClass::Interactive, load_alone)].into(),
    };
    tell(&control, 3, &relays, &rule).await;
    let told = PeerPolicy::told(Kind::Thin, &Mesh::from(&rule)).counts;
    assert_eq!((told.aim(), told.most_warm), (4, 2));
    settles(&agent, told).await;
    let kept: BTreeSet<NodeId> = up(&agent);

    let (inquiry, asked) = (InquiryId::from_u128(5), relays[0].2.node);
    control.ask_why(inquiry, asked).await;
    until("control is told why", || !control.desk().explained.is_empty()).await;
    let why = control.desk().explained.remove(0);
    assert!(why.is_plain(), "{why:?}");
    let counting = |class| why.weights[class].values().filter(|weight| **weight > 0).count();
    assert_eq!((counting("interactive"), counting("bulk")), (1, Part::ALL.len()));
    let peer = why.peer.unwrap();
    assert_eq!(peer.score, peer.parts.get("node_load").copied(), "nothing else counts");

    tell(&control, 4, &relays, &MeshRule::default()).await;
    let released = PeerPolicy::of(Kind::Thin).counts;
    until("those that are too many are gone", || {
        report(&agent).peers.active <= released.most_active
    })
    .await;
    assert!(up(&agent).is_subset(&kept), "and nobody else took a place");
    agent.stop().await.unwrap();
}

fn up(agent: &RunningAgent) -> BTreeSet<NodeId> {
    report(agent).peers.peers.iter().filter(|peer| peer.up).map(|peer| peer.node).collect()
}
