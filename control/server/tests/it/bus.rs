use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use rap_bus::Bus as _;
use rap_events::node_report::MAX_RECORDED_LAPSES_PER_HOUR;
use rap_proto::{
    Capability, IncarnationId, Timestamp,
    authority::{AuthorityChange, AuthorityStanding},
    bus::{
        ControlBody, ControlMessage, Heartbeat, NodeBody, NodeMessage, down_subject, up_subject,
    },
    key::LocalKey,
    observation::{Observation, Spooled},
    signed::{self, Trusted},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    node::{self, Host},
    world::{Api, World, tenant},
};

/// Longer than anything takes that is told a node.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn heartbeat() -> Heartbeat {
    Heartbeat {
        agent_version: "1.2.3".to_owned(),
        snapshot_version: 3,
        snapshot_digest: None,
        capabilities: BTreeSet::from([Capability::AcceptClientIngress]),
        open_sessions: 2,
        draining: false,
    }
}

pub(crate) fn message(world: &World, host: &Host, sequence: u64, body: NodeBody) -> NodeMessage {
    let now = rap_control::now();
    NodeMessage {
        cluster: world.running.cluster,
        authority_epoch: 1,
        sender: host.node(),
        incarnation: IncarnationId::from_u128(1),
        sequence,
        issued_at: now,
        expires_at: now + Duration::from_secs(30),
        body,
    }
}

pub(crate) async fn say(world: &World, host: &Host, message: &NodeMessage, key: &LocalKey) {
    let payload = Bytes::from(signed::seal(message, &[key]));
    let subject = up_subject(world.running.cluster, host.node());
    world.bus.publish(subject, payload).await.unwrap();
}

async fn metric(api: &Api, name: &str) -> u64 {
    let text = api.send(Method::GET, "/metrics", Default::default()).await.text;
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

async fn observations(world: &World, word: &str) -> u64 {
    let name = format!("rap_control_observations_total{{outcome=\"{word}\"}}");
    metric(&world.anonymous(), &name).await
}

/// Waits until a metric reaches a value: the server's actors work at their own pace.
async fn reaches(api: &Api, name: &str, value: u64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while metric(api, name).await < value {
        assert!(tokio::time::Instant::now() < deadline, "{name} stays below {value}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn heartbeats_show_a_node_live_and_changed_capabilities_are_history() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    let anonymous = world.anonymous();
    let first = message(&world, &host, 1, NodeBody::Heartbeat(heartbeat()));
    say(&world, &host, &first, &host.key).await;
    reaches(&anonymous, "rap_control_bus_messages_total{outcome=\"accepted\"}", 1).await;
    let path = format!("/nodes/edge?min_position={}", world.head().await);
    let mut shown = acme.api.get(&path).await;
    while shown.json["live"].is_null() || shown.json["capabilities"] == json!([]) {
        shown = acme.api.get("/nodes/edge").await;
    }
    assert_eq!(shown.json["live"]["openSessions"], 2);
    assert_eq!(shown.json["capabilities"], json!(["can_accept_client_ingress"]));

    // Heard before, forged, misplaced, expired, of an authority that is not this log's: each is
    // counted and believed by nobody.
    let head = world.head().await;
    say(&world, &host, &first, &host.key).await;
    let forged = message(&world, &host, 2, NodeBody::Heartbeat(heartbeat()));
    say(&world, &host, &forged, &node::fresh_key()).await;
    let old = NodeMessage {
        issued_at: Timestamp::from_unix_millis(1),
        expires_at: Timestamp::from_unix_millis(2),
        ..message(&world, &host, 3, NodeBody::Heartbeat(heartbeat()))
    };
    say(&world, &host, &old, &host.key).await;
    let misplaced = NodeMessage {
        sender: rap_proto::NodeId::from_u128(9),
        ..message(&world, &host, 4, NodeBody::Heartbeat(heartbeat()))
    };
    say(&world, &host, &misplaced, &host.key).await;
    let promoted = NodeMessage {
        authority_epoch: 2,
        ..message(&world, &host, 5, NodeBody::Heartbeat(heartbeat()))
    };
    say(&world, &host, &promoted, &host.key).await;
    for word in ["replayed", "not_signed", "not_fresh", "wrong_subject", "later_epoch"] {
        let name = format!("rap_control_bus_messages_total{{outcome=\"{word}\"}}");
        reaches(&anonymous, &name, 1).await;
    }
    assert_eq!(world.head().await, head);
    world.stop().await;
}

#[tokio::test]
async fn observations_are_recorded_once_and_acknowledged() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    let control = Trusted::new(host.credentials().unwrap().control_keys.clone(), 1);
    let subject = down_subject(world.running.cluster, host.node());
    let mut down = world.bus.subscribe(subject).await.unwrap();
    let key = serde_json::to_value(rap_proto::Signer::public_key(&node::fresh_key())).unwrap();
    let access =
        acme.api.post("/sessions", json!({"resource": "acme-ssh", "clientKey": key})).await;
    let session = access.json["session"].as_str().unwrap();
    let spooled = NodeBody::Observations(vec![Spooled {
        sequence: 1,
        at: rap_control::now(),
        observation: Observation::SessionStarted { session: session.parse().unwrap(), from: None },
    }]);
    for sequence in [1, 2] {
        let message = message(&world, &host, sequence, spooled.clone());
        say(&world, &host, &message, &host.key).await;
        loop {
            let event = timeout(PATIENCE, down.next()).await.expect("it is confirmed").unwrap();
            let heard = signed::open::<ControlMessage>(&event.payload, &control).unwrap();
            assert_eq!(heard.audience, host.node());
            if heard.body == (ControlBody::ObservationsRecorded { through: 1 }) {
                break;
            }
        }
    }
    assert_eq!(observations(&world, "recorded").await, 1);
    assert_eq!(observations(&world, "known").await, 1);
    let path = format!("/sessions/{session}?min_position={}", world.head().await);
    assert_eq!(acme.api.get(&path).await.json["state"], "started");
    let audit = acme.api.get("/audit?organization=acme&limit=500").await;
    assert_eq!(audit.text.matches("session.started").count(), 1);
    world.stop().await;
}

#[tokio::test]
async fn what_a_node_lived_through_without_control_is_the_platforms_to_see() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    let change = AuthorityChange {
        standing: AuthorityStanding::Degraded,
        epoch: 1,
        sequence: 42,
        without_ms: 0,
        restarted: false,
        left_out: 0,
    };
    let isolated =
        AuthorityChange { standing: AuthorityStanding::Isolated, without_ms: 300_000, ..change };
    let at = rap_control::now();
    let lapse = (1..).zip([change, isolated]).map(|(sequence, change)| Spooled {
        sequence,
        at,
        observation: Observation::AuthorityChanged { change },
    });
    let lapse = message(&world, &host, 1, NodeBody::Observations(lapse.collect()));
    say(&world, &host, &lapse, &host.key).await;
    reaches(&world.anonymous(), "rap_control_observations_total{outcome=\"recorded\"}", 2).await;
    let position = world.head().await;
    let read = |path: &str| format!("{path}?min_position={position}&limit=500");

    let (of_platform, of_acme) =
        (root.get(&read("/audit")).await, acme.api.get("/audit?organization=acme&limit=500").await);
    let events = of_platform.json["items"].as_array().unwrap();
    let changes: Vec<_> = events
        .iter()
        .filter(|event| event["type"] == "node_report.authority_changed")
        .map(|event| event["payload"]["change"].clone())
        .collect();
    let told = |change: &Value| (change["standing"].clone(), change["without_ms"].clone());
    let expected = [(json!("degraded"), json!(0)), (json!("isolated"), json!(300_000))];
    assert_eq!(changes.iter().map(told).collect::<Vec<_>>(), expected, "{}", of_platform.text);
    assert!(!of_acme.text.contains("authority_changed"), "{}", of_acme.text);

    let page = format!("/nodes/edge?min_position={position}");
    let (shown, own) = (root.get(&page).await.json, acme.api.get(&page).await.json);
    assert_eq!(shown["authority"]["standing"], "isolated", "{shown}");
    assert_eq!(shown["authority"]["sequence"], 42);
    assert_eq!((&own["name"], &own["authority"]), (&json!("edge"), &Value::Null));
    world.stop().await;
}

#[tokio::test]
async fn lapses_that_are_left_out_are_not_counted_as_recorded() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    let at = rap_control::now();
    let most = u64::from(MAX_RECORDED_LAPSES_PER_HOUR);
    // One is told twice.
    let lapses = (1..=most).chain([most, most + 1]).map(|heard| AuthorityChange {
        standing: AuthorityStanding::Degraded,
        epoch: 1,
        sequence: heard,
        without_ms: 0,
        restarted: false,
        left_out: 0,
    });
    let spooled = (1..).zip(lapses).map(|(sequence, change)| Spooled {
        sequence,
        at,
        observation: Observation::AuthorityChanged { change },
    });
    let message = message(&world, &host, 1, NodeBody::Observations(spooled.collect()));
    say(&world, &host, &message, &host.key).await;
    reaches(&world.anonymous(), "rap_control_observations_total{outcome=\"left_out\"}", 1).await;
    assert_eq!(observations(&world, "recorded").await, most);
    assert_eq!(observations(&world, "known").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn the_doorbell_rings_when_a_nodes_configuration_changes() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    let control = Trusted::new(host.credentials().unwrap().control_keys.clone(), 1);
    let subject = down_subject(world.running.cluster, host.node());
    let mut down = world.bus.subscribe(subject).await.unwrap();
    let drained = acme.api.change_current(Method::POST, "/nodes/edge", "/drain").await;
    assert_eq!(drained.status, 200, "{}", drained.text);
    loop {
        let event = timeout(PATIENCE, down.next()).await.expect("it rings").unwrap();
        let heard = signed::open::<ControlMessage>(&event.payload, &control).unwrap();
        if heard.body == (ControlBody::SnapshotAvailable { version: drained.position() }) {
            break;
        }
    }
    world.stop().await;
}
