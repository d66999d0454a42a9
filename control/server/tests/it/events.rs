use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Api, World, tenant};

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

pub(crate) struct Subscription {
    chunks: std::pin::Pin<Box<dyn Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: String,
}

pub(crate) async fn subscribe(
    world: &World,
    api: &Api,
    query: &str,
    last: Option<&str>,
) -> reqwest::Response {
    let mut request = world
        .client
        .get(format!("{}/api/v1/events{query}", world.base))
        .bearer_auth(api.token.as_ref().unwrap());
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    request.send().await.unwrap()
}

pub(crate) fn messages(response: reqwest::Response) -> Subscription {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Subscription { chunks: Box::pin(response.bytes_stream()), buffer: String::new() }
}

impl Subscription {
    /// The next message; `None` when the stream ended.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            while let Some((block, rest)) =
                self.buffer.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned()))
            {
                self.buffer = rest;
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                };
                if let (Some(id), Some(event), Some(data)) =
                    (field("id: "), field("event: "), field("data: "))
                {
                    return Some(Message { id, event, data: serde_json::from_str(&data).unwrap() });
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.chunks.next());
            let chunk = chunk.await.expect("a message in time")?.ok()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn a_stream_resumes_behind_the_last_event_and_misses_nothing() {
    let world = World::start().await;
    let root = world.set_up().await;
    let mut stream = messages(subscribe(&world, &root, "", None).await);
    for name in ["one", "two", "three"] {
        root.post("/organizations", json!({"name": name})).await;
    }
    let first = stream.next().await.unwrap();
    assert_eq!(first.event, "organization.created");
    assert_eq!(first.data["payload"]["name"], "one");
    assert_eq!(first.id, format!("{}:{}", world.running.cluster, first.data["position"]));
    drop(stream);
    let mut stream = messages(subscribe(&world, &root, "", Some(&first.id)).await);
    for name in ["two", "three"] {
        assert_eq!(stream.next().await.unwrap().data["payload"]["name"], name);
    }
    let future = format!("{}:{}", world.running.cluster, 1_000_000);
    let foreign = "00000000-0000-0000-0000-000000000000:1";
    for (id, status) in [(future.as_str(), 410), (foreign, 410), ("nonsense", 400)] {
        assert_eq!(subscribe(&world, &root, "", Some(id)).await.status(), status, "{id}");
    }
    world.stop().await;
}

#[tokio::test]
async fn each_sees_only_what_is_its_own() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, beta) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "beta").await);
    let foreign = subscribe(&world, &acme.api, "?organization=beta", None).await;
    assert_eq!(foreign.status(), 404);
    let mut stream = messages(subscribe(&world, &acme.api, "?organization=acme", None).await);
    beta.api.post("/organizations/beta/pools", json!({"name": "beta-secret"})).await;
    acme.api.post("/organizations/acme/pools", json!({"name": "acme-own"})).await;
    loop {
        let message = stream.next().await.unwrap();
        assert!(!format!("{message:?}").contains("beta"));
        if message.event == "pool.created" {
            assert_eq!(message.data["payload"]["name"], "acme-own");
            break;
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_authority_to_see_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let (_, second) = world.user(&root, "second").await;
    let path = format!("/organizations/acme/members/{second}");
    let role = Some(json!({"role": "organization_owner"}));
    let granted = acme
        .api
        .send(
            Method::PUT,
            &path,
            crate::world::With { body: role, key: Some(crate::world::fresh_key()), if_match: None },
        )
        .await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    let second = world.log_in("second").await;
    let mut stream = messages(subscribe(&world, &second, "?organization=acme", None).await);
    let removed = acme.api.change(Method::DELETE, &path, None, 1).await;
    assert_eq!(removed.status, 204, "{}", removed.text);
    acme.api.post("/organizations/acme/pools", json!({"name": "after"})).await;
    while let Some(message) = stream.next().await {
        assert_ne!(message.event, "pool.created");
    }
    world.stop().await;
}

#[tokio::test]
async fn streams_are_counted_and_the_last_one_too_many_is_refused() {
    const MAX_SUBSCRIBERS: usize = 256;
    let world = World::start().await;
    let root = world.set_up().await;
    let mut open = Vec::new();
    for _ in 0..MAX_SUBSCRIBERS {
        open.push(subscribe(&world, &root, "", None).await);
    }
    assert!(open.iter().all(|response| response.status() == 200));
    let refused = subscribe(&world, &root, "", None).await;
    assert_eq!(refused.status(), 429);
    let problem: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(problem["rule"], "max_subscribers");
    drop(open);
    world.stop().await;
}
