//! What a node makes of another: asked over the bus, for the platform's roles.

use futures_util::StreamExt as _;
use rap_bus::Bus as _;
use rap_proto::{
    InquiryId, Lane, NodeId,
    bus::{
        ControlBody, ControlMessage, ExplainedHole, ExplainedLane, ExplainedPeer, Explanation,
        NodeBody, down_subject,
    },
    signed::{self, Trusted},
};
use serde_json::json;

use crate::{
    bus::{message, say},
    node::{Host, enroll},
    world::{Api, World, tenant},
};

const WHY: &str = "/nodes/edge/why/far";

#[tokio::test]
async fn a_node_says_what_it_makes_of_another_and_only_the_platform_hears_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let edge = host(&world, &acme.api, "edge").await;
    let far = host(&world, &acme.api, "far").await;
    assert_eq!(acme.api.get(WHY).await.problem(), "forbidden");
    assert_eq!(root.get("/nodes/edge/why/nowhere").await.problem(), "not_found");
    let whose = root.get(&format!("{WHY}?resource=x")).await;
    assert_eq!(whose.problem(), "validation_failed");
    let none = root.get(&format!("{WHY}?resource=x&organization=acme")).await;
    assert_eq!(none.problem(), "not_found");

    let control = Trusted::new(edge.credentials().unwrap().control_keys.clone(), 1);
    let subject = down_subject(world.running.cluster, edge.node());
    let mut down = world.bus.subscribe(subject).await.unwrap();
    let answer = async {
        let inquiry = loop {
            let event = down.next().await.unwrap();
            let heard = signed::open::<ControlMessage>(&event.payload, &control).unwrap();
            if let ControlBody::Explain { inquiry, node } = heard.body {
                assert_eq!(node, far.node());
                break inquiry;
            }
        };
        // Whoever was not asked is not heard, and neither is what holds more than words.
        let told = |host: &Host, class| {
            let body = NodeBody::Explained(explanation(inquiry, far.node(), class));
            (message(&world, host, 1, body), host.key.clone())
        };
        for (host, class) in [(&far, "warm"), (&edge, "<script>"), (&edge, "active")] {
            let (mut message, key) = told(host, class);
            message.sequence = if class == "active" { 2 } else { 1 };
            say(&world, host, &message, &key).await;
        }
    };
    let (reply, ()) = tokio::join!(root.get(WHY), answer);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let expected = json!({
        "node": edge.node(),
        "other": far.node(),
        "peer": {
            "node": far.node(), "name": "far", "class": "active", "up": true, "resting": false,
            "score": 941, "parts": {"latency": 970}, "rttUs": 700, "failures": 0,
        },
        "lanes": [{
            "lane": "bulk", "relay": NodeId::from_u128(3), "onward": [NodeId::from_u128(4)],
            "rttMs": 4, "lastSwitch": "silent",
            "hole": {
                "step": "given_up", "ownNat": "steady", "farNat": "symmetric", "failure": "silent",
            },
        }],
        "relays": [],
        "ruledOut": [{
            "node": far.node(), "name": "far", "constraint": "role_assignment",
            "reason": "no role was assigned to it",
        }],
        "weights": {"bulk": {"latency": 6}},
    });
    assert_eq!(reply.json, expected);
    world.stop().await;
}

async fn host(world: &World, api: &Api, name: &str) -> Host {
    let join = json!({
        "organization": "acme", "ttlSeconds": 600, "autoApprove": true, "roles": [],
    });
    let join = api.post("/join-tokens", join).await;
    assert_eq!(join.status, 201, "{}", join.text);
    enroll(world, join.json["secret"].as_str().unwrap(), name).await
}

fn explanation(inquiry: InquiryId, node: NodeId, class: &str) -> Explanation {
    let peer = ExplainedPeer {
        node,
        class: class.to_owned(),
        up: true,
        resting: false,
        forwards: None,
        score: Some(941),
        excluded_by: None,
        parts: [("latency".to_owned(), 970)].into(),
        rtt_us: Some(700),
        failures: 0,
    };
    let (relay, onward) = (Some(NodeId::from_u128(3)), vec![NodeId::from_u128(4)]);
    let word = str::to_owned;
    let hole = ExplainedHole {
        step: word("given_up"),
        own_nat: word("steady"),
        far_nat: word("symmetric"),
        failure: Some(word("silent")),
    };
    let (last_switch, hole) = (Some(word("silent")), Some(hole));
    let lane = ExplainedLane { lane: Lane::Bulk, relay, onward, rtt_ms: 4, last_switch, hole };
    let weights = [("bulk".to_owned(), [("latency".to_owned(), 6)].into())].into();
    Explanation { inquiry, peer: Some(peer), lanes: vec![lane], relays: Vec::new(), weights }
}
