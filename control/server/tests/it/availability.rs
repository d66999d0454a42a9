//! The one word that an organization learns of how its resources are reached.

use std::{collections::BTreeSet, time::Duration};

use rap_proto::bus::{Heartbeat, NodeBody};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    bus::{message, say},
    events::{Subscription, messages, subscribe},
    node::{self, Host},
    world::{Api, Reply, Tenant, World, tenant},
};

/// Says that the node lives, and waits until that is known; nothing else changes by it.
pub(crate) async fn lives(world: &World, api: &Api, host: &Host, beat: u32, draining: bool) {
    let body = NodeBody::Heartbeat(Heartbeat {
        agent_version: "1.2.3".to_owned(),
        snapshot_version: 3,
        snapshot_digest: None,
        capabilities: BTreeSet::new(),
        open_sessions: beat,
        draining,
    });
    say(world, host, &message(world, host, u64::from(beat), body), &host.key).await;
    let path = format!("/nodes/{}", host.node());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while api.get(&path).await.json["live"]["openSessions"] != json!(beat) {
        assert!(tokio::time::Instant::now() < deadline, "the heartbeat was not heard");
        tokio::task::yield_now().await;
    }
}

/// The word of the tenant's resource, which every way to ask for it has.
async fn word(tenant: &Tenant) -> String {
    let within = format!("/organizations/{}/resources", tenant.organization);
    let one = tenant.api.get(&format!("{within}/{}", tenant.resource)).await;
    let lists = [tenant.api.get(&within).await, tenant.api.get("/resources").await];
    let of = |json: &Value| json["availability"].as_str().unwrap().to_owned();
    let word = of(&one.json);
    for list in lists {
        assert_eq!(list.json["items"].as_array().unwrap().len(), 1);
        assert_eq!(of(&list.json["items"][0]), word);
    }
    word
}

async fn drain(api: &Api, host: &Host, how: &str) -> Reply {
    let path = format!("/nodes/{}", host.node());
    let revision = api.get(&path).await.revision();
    api.change(Method::POST, &format!("{path}/{how}"), None, revision).await
}

#[tokio::test]
async fn each_resource_has_one_word_of_three_and_it_follows_what_the_nodes_say() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    assert_eq!(word(&acme).await, "unavailable", "there is no node");
    // Each is an entry and an egress.
    let first = node::enroll(&world, &acme.join_secret, "edge-1").await;
    lives(&world, &acme.api, &first, 1, false).await;
    assert_eq!(word(&acme).await, "available");
    lives(&world, &acme.api, &first, 2, true).await;
    assert_eq!(word(&acme).await, "unavailable");
    let second = second(&world, &acme).await;
    lives(&world, &acme.api, &second, 1, false).await;
    assert_eq!(word(&acme).await, "degraded");
    lives(&world, &acme.api, &first, 3, false).await;
    assert_eq!(word(&acme).await, "available");
    assert_eq!(drain(&root, &second, "drain").await.status, 200);
    assert_eq!(word(&acme).await, "degraded");
    assert_eq!(drain(&root, &second, "undrain").await.status, 200);
    assert_eq!(word(&acme).await, "available");
    world.stop().await;
}

/// Another host like the first: a join token lets one in.
async fn second(world: &World, tenant: &Tenant) -> Host {
    let only = [&tenant.organization];
    let join = json!({
        "organization": tenant.name, "ttlSeconds": 600, "autoApprove": true,
        "pools": [tenant.pool],
        "roles": [
            {"role": "entry-node", "organizations": only},
            {"role": "stream-worker", "organizations": only},
        ],
    });
    let join = tenant.api.post("/join-tokens", join).await;
    assert_eq!(join.status, 201, "{}", join.text);
    node::enroll(world, join.json["secret"].as_str().unwrap(), "edge-2").await
}

#[tokio::test]
async fn an_organizations_page_hears_when_a_word_changes() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let whose = subscribe(&world, &root, "?availability=true", None).await;
    assert_eq!(whose.status(), 422, "the platform's stream has no resources");
    let query = format!("?organization={}&availability=true", acme.organization);
    let mut stream = messages(subscribe(&world, &acme.api, &query, None).await);
    assert_eq!(heard(&mut stream, &acme).await, "unavailable", "what it is comes first");
    let host = node::enroll(&world, &acme.join_secret, "edge-1").await;
    assert_eq!(heard(&mut stream, &acme).await, "available");
    lives(&world, &acme.api, &host, 1, true).await;
    assert_eq!(heard(&mut stream, &acme).await, "unavailable", "no event of the log says so");
    lives(&world, &acme.api, &host, 2, false).await;
    assert_eq!(heard(&mut stream, &acme).await, "available");
    // It comes back behind the last event, and is told anew.
    let last = format!("{}:{}", world.running.cluster, 1);
    drop(stream);
    let mut stream = messages(subscribe(&world, &acme.api, &query, Some(&last)).await);
    assert_eq!(heard(&mut stream, &acme).await, "available");
    world.stop().await;
}

/// The next word of the tenant's resource; events of the log may come between.
async fn heard(stream: &mut Subscription, tenant: &Tenant) -> String {
    loop {
        let message = stream.next().await.unwrap();
        if message.event == "availability" {
            assert_eq!(message.id, "", "it is no place in the log");
            let words = message.data["words"].as_array().unwrap();
            assert_eq!(words.len(), 1, "{words:?}");
            assert_eq!(words[0]["resource"], tenant.resource.to_string());
            return words[0]["availability"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn a_creation_says_no_word_as_its_answer_is_repeated() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let resource = json!({
        "name": "another", "kind": "web", "pool": acme.pool,
        "target": {"host": "another.internal", "port": 80},
    });
    let path = format!("/organizations/{}/resources", acme.organization);
    let made = acme.api.post(&path, resource).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json.get("availability"), None);
    let document = world.anonymous().get("/openapi.json").await.json;
    let words = &document["components"]["schemas"]["Availability"]["enum"];
    assert_eq!(*words, json!(["available", "degraded", "unavailable"]));
    world.stop().await;
}
