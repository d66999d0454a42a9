//! Whoever asks too often is told when to come back, and nobody else notices.

use std::time::Duration;

use futures_util::future::join_all;
use rap_control::{Limits, Rates};
use rap_proto::wire::node_api::{NodeApiCode, SnapshotRequest};
use serde_json::json;

use crate::{
    node,
    world::{Api, Reply, World, tenant},
};

/// More requests than a bucket of the tests holds, and than it gains while they are answered.
const FLOOD: usize = 40;

async fn world(rates: Rates) -> World {
    World::start_within(Limits { rates, ..Limits::default() }).await
}

async fn flood(api: &Api, path: &str) -> Vec<Reply> {
    join_all((0..FLOOD).map(|_| api.get(path))).await
}

/// The first answer of those that were refused for their number, after its form was checked.
#[track_caller]
fn limited<'a>(replies: &'a [Reply], rule: &str) -> &'a Reply {
    let refused = replies.iter().find(|reply| reply.status == 429).expect("one is refused");
    assert_eq!((refused.problem(), refused.json["rule"].as_str()), ("rate_limited", Some(rule)));
    let seconds = refused.json["retryAfterSeconds"].as_u64().unwrap();
    assert_eq!(refused.headers["retry-after"], seconds.to_string());
    assert!(seconds > 0);
    refused
}

#[tokio::test]
async fn a_user_who_asks_too_often_waits_as_long_as_was_said_and_others_do_not() {
    let rate = "1/6".parse().unwrap();
    let world = world(Rates { user: rate, api_token: "1/2".parse().unwrap(), ..Rates::default() });
    let world = world.await;
    let root = world.set_up().await;
    let (other, _) = world.user(&root, "other").await;
    let token = json!({"label": "program", "scopes": ["read"], "ttlSeconds": 600});
    let created = other.post("/api-tokens", token).await;
    let program = other.with_token(created.json["secret"].as_str().unwrap());

    let replies = flood(&root, "/me").await;
    assert!(replies.iter().all(|reply| matches!(reply.status.as_u16(), 200 | 429)));
    let wait = limited(&replies, "rate.user").json["retryAfterSeconds"].as_u64().unwrap();
    assert_eq!(other.get("/me").await.status, 200);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(root.get("/me").await.status, 200);

    // A token runs dry before its user does.
    limited(&flood(&program, "/me").await, "rate.api_token");
    assert_eq!(other.get("/me").await.status, 200);
    let metrics = world.anonymous().get("/metrics").await.text;
    for class in ["user", "api_token"] {
        let counted = format!("rap_control_rate_limited_total{{outcome=\"{class}\"}}");
        assert!(metrics.contains(&counted), "{metrics}");
    }
    assert!(metrics.contains("rap_control_rate_buckets{class=\"user\"}"), "{metrics}");
    world.stop().await;
}

#[tokio::test]
async fn a_stranger_pays_by_address_and_a_login_buys_no_guesses() {
    let world = world(Rates { address: "1/8".parse().unwrap(), ..Rates::default() }).await;
    let root = world.set_up().await;
    let replies = flood(&world.anonymous(), "/me").await;
    assert!(replies.iter().any(|reply| reply.status == 401));
    limited(&replies, "rate.address");
    limited(&flood(&world.anonymous().with_token("raps_x"), "/me").await, "rate.address");
    // A public route, asked with a valid login; and the same login where it counts.
    limited(&flood(&root, "/openapi.json").await, "rate.address");
    let fine = flood(&root, "/me").await;
    assert!(fine.iter().all(|reply| reply.status == 200));
    let guesses = (0..FLOOD).map(|number| {
        let body = json!({"name": format!("user-{number}"), "password": "a wrong password"});
        let anonymous = world.anonymous();
        async move { anonymous.post("/logins", body).await }
    });
    limited(&join_all(guesses).await, "rate.address");
    world.stop().await;
}

#[tokio::test]
async fn a_node_pays_for_itself_and_a_host_without_a_certificate_by_address() {
    let rates = Rates {
        node: "1/4".parse().unwrap(),
        address: "1/30".parse().unwrap(),
        ..Rates::default()
    };
    let world = world(rates).await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let beta = tenant(&world, &root, "beta").await;
    let hosts = [
        node::enroll(&world, &acme.join_secret, "greedy").await,
        node::enroll(&world, &beta.join_secret, "modest").await,
    ];
    let request = SnapshotRequest { have: 0, sections: [].into() };
    let [greedy, modest] = hosts.each_ref().map(|host| {
        let (credentials, key) = (host.credentials().unwrap(), &host.key);
        let (world, request) = (&world, &request);
        move || node::call(world, credentials, key, "/node/v1/snapshot", request)
    });
    let answers = join_all((0..FLOOD).map(|_| greedy())).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    let refused = answers.iter().find(|answer| answer.status == 429).expect("one is refused");
    assert_eq!(refused.refusal(), NodeApiCode::Unavailable);
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "), "{}", refused.head);
    assert_eq!(modest().await.status, 200);

    let polls = (0..FLOOD).map(|_| {
        let host = &hosts[0];
        node::poll(&world, host.node(), &host.key, rap_control::now())
    });
    let polled = join_all(polls).await;
    assert!(polled.iter().any(|answer| answer.status == 429));
    assert_eq!(modest().await.status, 200);
    world.stop().await;
}
