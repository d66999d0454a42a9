//! What the platform says of peers and weights: who says it, and where it comes to.

use std::collections::BTreeMap;

use rap_proto::{
    Digest,
    mesh::{ChannelClass, Mesh, Part, PeerCounts, PeerKind, weights_of},
    signed::{self, Trusted},
    snapshot::{Bundle, Manifest, Section as _},
    wire::node_api::SnapshotRequest,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node::{self, Host},
    world::{Api, Reply, World, tenant},
};

const PATH: &str = "/platform/mesh";

async fn put(api: &Api, body: Value, revision: u64) -> Reply {
    api.change(Method::PUT, PATH, Some(body), revision).await
}

/// What the node is told, as it verifies it; `None` without a section.
async fn told(world: &World, host: &Host) -> Option<Mesh> {
    let credentials = host.credentials().unwrap();
    let request = SnapshotRequest { have: 0, sections: [].into() };
    let answer = node::call(world, credentials, &host.key, "/node/v1/snapshot", &request).await;
    let bundle: Bundle = answer.read();
    let trusted = Trusted::new(credentials.control_keys.clone(), 1);
    let manifest = signed::open::<Manifest>(&bundle.manifest, &trusted).unwrap();
    let digest = manifest.sections.get(Mesh::NAME)?;
    let sections: BTreeMap<Digest, _> =
        bundle.sections.iter().map(|bytes| (Digest::of(bytes), bytes)).collect();
    Some(Mesh::from_bytes(sections[digest]).unwrap())
}

#[tokio::test]
async fn what_the_platform_says_of_the_mesh_comes_to_its_nodes_and_no_organization_hears_of_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let edge = node::enroll(&world, &acme.join_secret, "edge").await;
    assert_eq!(told(&world, &edge).await, None);
    let said = root.get(PATH).await;
    assert_eq!((said.status.as_u16(), &said.json["peers"]), (200, &json!({})), "{}", said.text);

    let rule = json!({
        "peers": {"normal": {"least": 4, "most": 8, "warm": 12}},
        "weights": {"bulk": {"bandwidth": 40, "latency": 2}},
    });
    let refused = put(&acme.api, rule.clone(), said.revision()).await;
    assert_eq!(refused.json["rule"], "platform.rule_mesh/not_held", "{}", refused.text);
    assert_eq!(acme.api.get(PATH).await.problem(), "forbidden");
    let stale = put(&root, rule.clone(), said.revision() + 1).await;
    assert_eq!(stale.problem(), "precondition_failed");
    let set = put(&root, rule.clone(), said.revision()).await;
    assert_eq!(set.status, 200, "{}", set.text);
    let shown = root.get(PATH).await;
    assert_eq!((&shown.json["peers"], &shown.json["weights"]), (&rule["peers"], &rule["weights"]));

    let mesh = told(&world, &edge).await.unwrap();
    assert_eq!(mesh.counts(PeerKind::Normal), PeerCounts { least: 4, most: 8, warm: 12 });
    assert_eq!(mesh.counts(PeerKind::Relay), PeerCounts::of(PeerKind::Relay));
    let bulk = [(Part::Bandwidth, 40), (Part::Latency, 2)];
    assert_eq!(mesh.weights(ChannelClass::Bulk), bulk.into());
    assert_eq!(mesh.weights(ChannelClass::Media), weights_of(ChannelClass::Media));

    let recorded = root.get("/audit?limit=500").await;
    let events = recorded.json["items"].as_array().unwrap();
    let ruled = events.iter().find(|event| event["type"] == "cluster.mesh_ruled").unwrap();
    assert_eq!(ruled["payload"]["rule"], rule, "{ruled}");
    let of_acme = acme.api.get("/audit?organization=acme&limit=500").await;
    assert!(!of_acme.text.contains("cluster.mesh_ruled"), "{}", of_acme.text);

    assert_eq!(put(&root, json!({}), shown.revision()).await.status, 200);
    assert_eq!(told(&world, &edge).await, None, "as in the beginning");
    world.stop().await;
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_with_its_field_and_its_rule() {
    let world = World::start().await;
    let root = world.set_up().await;
    let revision = root.get(PATH).await.revision();
    for (rule, field, name) in [
        (
            json!({"peers": {"relay": {"least": 8, "most": 21, "warm": 32}}}),
            "peers.relay.most",
            "most_out_of_range",
        ),
        (
            json!({"weights": {"vpn_packets": {"packet_loss": 1_001}}}),
            "weights.vpn_packets.packet_loss",
            "weight_too_great",
        ),
        (json!({"weights": {"bulk": {"latency": 0}}}), "weights.bulk", "no_weight"),
    ] {
        let refused = put(&root, rule, revision).await;
        assert_eq!(refused.problem(), "validation_failed", "{}", refused.text);
        assert_eq!((&refused.json["field"], &refused.json["rule"]), (&json!(field), &json!(name)));
    }
    for unknown in [
        json!({"peers": {"vast": {"least": 1, "most": 2, "warm": 3}}}),
        json!({"peers": {"thin": {"least": 1, "most": 2}}}),
        json!({"weights": {"bulk": {"colour": 1}}}),
        json!({"counts": {}}),
    ] {
        let unknown = put(&root, unknown, revision).await;
        assert_eq!(unknown.problem(), "malformed_request", "{}", unknown.text);
    }
    world.stop().await;
}
