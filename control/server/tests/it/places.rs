//! What the platform says of nodes: where they are, how gladly paths are led through them, and that their
//! snapshots are renewed.

use reqwest::Method;
use serde_json::json;

use crate::{
    node,
    world::{Api, Tenant, World, tenant},
};

const RENEW: &str = "/snapshots/renew";

/// The platform's owner, an organization, and the path of a node that serves it.
async fn with_a_node() -> (World, Api, Tenant, String) {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge-1").await;
    let path = format!("/nodes/{}", host.node());
    (world, root, acme, path)
}

#[tokio::test]
async fn the_platform_places_nodes_and_an_organization_sees_it_and_may_not() {
    let (world, root, acme, path) = with_a_node().await;
    let place = format!("{path}/place");
    let first = root.get(&path).await;
    assert_eq!(first.json["preference"], "neutral");
    assert!(first.json.get("region").is_none(), "{}", first.text);

    let said = json!({"region": "eu-west", "preference": "avoided"});
    let revision = first.revision();
    let own = acme.api.change(Method::PUT, &place, Some(said.clone()), revision).await;
    assert_eq!(own.json["rule"], "node.place/not_held", "{}", own.text);
    let set = root.change(Method::PUT, &place, Some(said.clone()), revision).await;
    assert_eq!(set.status, 200, "{}", set.text);
    let seen = acme.api.get(&path).await;
    assert_eq!(
        (&seen.json["region"], &seen.json["preference"]),
        (&said["region"], &said["preference"])
    );
    assert!(seen.json["snapshotVersion"].as_u64() > first.json["snapshotVersion"].as_u64());

    let stale = root.change(Method::PUT, &place, Some(json!({})), revision).await;
    assert_eq!(stale.problem(), "precondition_failed", "{}", stale.text);
    for wrong in [
        json!({"preference": "loved"}),
        json!({"region": "No Region"}),
        json!({"relayedLanes": ["fast"]}),
    ] {
        let refused = root.change(Method::PUT, &place, Some(wrong), seen.revision()).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
    let nothing = root.change(Method::PUT, &place, Some(json!({})), seen.revision()).await;
    assert_eq!(nothing.status, 200, "{}", nothing.text);
    let last = root.get(&path).await;
    assert_eq!(last.json["preference"], "neutral");
    assert!(last.json.get("region").is_none(), "{}", last.text);
    world.stop().await;
}

#[tokio::test]
async fn the_platform_says_which_lanes_a_node_relays_and_one_that_names_none_changes_nothing() {
    let (world, root, _acme, path) = with_a_node().await;
    let place = format!("{path}/place");
    let put = async |body| {
        let revision = root.get(&path).await.revision();
        root.change(Method::PUT, &place, Some(body), revision).await
    };
    let lanes = async || root.get(&path).await.json.get("relayedLanes").cloned();
    assert_eq!(lanes().await, None, "every lane");
    let two = json!(["interactive", "media"]);
    let set = put(json!({"relayedLanes": ["media", "interactive"]})).await;
    assert_eq!(set.status, 200, "{}", set.text);
    assert_eq!(lanes().await, Some(two.clone()));
    let by_older_client = put(json!({"region": "eu-west"})).await;
    assert_eq!(by_older_client.status, 200, "{}", by_older_client.text);
    assert_eq!(lanes().await, Some(two.clone()));
    let none = put(json!({"region": "eu-west", "relayedLanes": []})).await;
    assert_eq!(none.json["rule"], "node.no_lane_relayed", "{}", none.text);
    assert!(none.text.contains("relayedLanes: a node relays one lane at least"), "{}", none.text);
    assert_eq!(lanes().await, Some(two));
    let all = put(json!({"relayedLanes": ["interactive", "media", "bulk"]})).await;
    assert_eq!(all.status, 200, "{}", all.text);
    assert_eq!(lanes().await, None);
    world.stop().await;
}

#[tokio::test]
async fn the_platform_renews_every_snapshot_as_often_as_it_wants() {
    let (world, root, acme, path) = with_a_node().await;
    let version = async || root.get(&path).await.json["snapshotVersion"].as_u64().unwrap();
    let own = acme.api.post(RENEW, json!({})).await;
    assert_eq!(own.problem(), "forbidden", "{}", own.text);
    let mut before = version().await;
    for _ in 0..3 {
        let renewed = root.post(RENEW, json!({})).await;
        assert_eq!(renewed.status, 200, "{}", renewed.text);
        let after = version().await;
        assert!(after > before, "{after} is not above {before}");
        before = after;
    }
    world.stop().await;
}
