use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use rap_control::{Limits, StreamLimits};
use rap_proto::api::EventId;
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
                if let (Some(event), Some(data)) = (field("event: "), field("data: ")) {
                    // What is no event of the log has none.
                    let id = field("id: ").unwrap_or_default();
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
    let at = format!("{}:{}:", world.running.cluster, first.data["position"]);
    assert!(first.id.starts_with(&at) && first.id.len() == at.len() + 16, "{}", first.id);
    drop(stream);
    let mut stream = messages(subscribe(&world, &root, "", Some(&first.id)).await);
    for name in ["two", "three"] {
        assert_eq!(stream.next().await.unwrap().data["payload"]["name"], name);
    }
    let future = format!("{}:{}", world.running.cluster, 1_000_000);
    let foreign = "00000000-0000-0000-0000-000000000000:1";
    for (id, status) in [(future.as_str(), 410), (foreign, 410), ("nonsense", 410)] {
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
async fn streams_are_counted_for_each_user_and_for_all() {
    let streams = StreamLimits { open: 5, open_per_user: 3, ..StreamLimits::default() };
    let world = World::start_within(Limits { streams, ..Limits::default() }).await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let open = async |api: &Api| subscribe(&world, api, "", None).await;
    let refused = async |api: &Api| {
        let refused = open(api).await;
        assert_eq!(refused.status(), 429);
        let problem: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
        assert_eq!(problem["type"], "urn:rap:problem:limit_reached");
        problem["rule"].as_str().unwrap().to_owned()
    };
    let of_root = [open(&root).await, open(&root).await, open(&root).await];
    assert!(of_root.iter().all(|response| response.status() == 200));
    assert_eq!(refused(&root).await, "max_streams_per_user");
    // Another login of the same user has no places of its own.
    assert_eq!(refused(&world.log_in("root").await).await, "max_streams_per_user");
    let of_acme = [open(&acme.api).await, open(&acme.api).await];
    assert_eq!(refused(&acme.api).await, "max_streams");
    // Whoever has no place is told so before anything is looked up for him.
    let unread = subscribe(&world, &root, "", Some("nonsense")).await;
    assert_eq!(unread.status(), 429);
    drop((of_root, of_acme));
    world.settles("rap_control_event_subscribers", |open| open == 0).await;
    // One who could not begin gave his place back.
    for _ in 0..4 {
        assert_eq!(subscribe(&world, &root, "", Some("nonsense")).await.status(), 410);
    }
    assert_eq!(open(&root).await.status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn a_stream_ends_at_once_with_the_login_and_with_the_server() {
    let world = World::start().await;
    let root = world.set_up().await;
    let second = world.log_in("root").await;
    let mut ended = messages(subscribe(&world, &second, "", None).await);
    let mut goes_on = messages(subscribe(&world, &root, "", None).await);
    let gone = second.change(Method::DELETE, "/logins/current", None, 0).await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert!(ended.next().await.is_none());
    assert_eq!(goes_on.next().await.unwrap().event, "login.closed");
    world.stop().await;
    assert!(goes_on.next().await.is_none());
}

#[tokio::test]
async fn a_narrower_role_narrows_the_stream() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let (_, id) = world.user(&root, "second").await;
    let role = |method, role: &str| {
        let (root, user) = (root.clone(), format!("/users/{id}"));
        let path = format!("{user}/platform-roles/{role}");
        async move {
            let revision = root.get(&user).await.revision();
            let changed = root.change(method, &path, None, revision).await;
            assert!(changed.status.is_success(), "{}", changed.text);
        }
    };
    role(Method::PUT, "platform_owner").await;
    role(Method::PUT, "platform_admin").await;
    let second = world.log_in("second").await;
    let mut stream = messages(subscribe(&world, &second, "", None).await);
    acme.api.post("/organizations/acme/pools", json!({"name": "seen"})).await;
    loop {
        if stream.next().await.unwrap().event == "pool.created" {
            break;
        }
    }
    role(Method::DELETE, "platform_owner").await;
    acme.api.post("/organizations/acme/pools", json!({"name": "unseen"})).await;
    root.post("/organizations", json!({"name": "last"})).await;
    root.post("/users", json!({"name": "third"})).await;
    loop {
        let message = stream.next().await.unwrap();
        assert_ne!(message.event, "pool.created");
        if message.event == "user.created" {
            break;
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_quiet_stream_tells_how_far_it_is_and_one_from_too_far_back_begins_anew() {
    let streams = StreamLimits {
        keep_alive: Duration::from_millis(100),
        resume_events: 30,
        ..StreamLimits::default()
    };
    let world = World::start_within(Limits { streams, ..Limits::default() }).await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let mut stream = messages(subscribe(&world, &acme.api, "?organization=acme", None).await);
    for number in 0..40 {
        let created = root.post("/organizations", json!({"name": format!("other-{number}")}));
        assert_eq!(created.await.status, 201);
    }
    let head = world.head().await;
    let told = loop {
        let message = stream.next().await.unwrap();
        assert_eq!((message.event.as_str(), &message.data), ("bookmark", &json!({})));
        let id: EventId = message.id.parse().unwrap();
        assert!(id.imprint.is_some(), "{id}");
        if id.position >= head {
            break message.id;
        }
    };
    drop(stream);
    let mut stream =
        messages(subscribe(&world, &acme.api, "?organization=acme", Some(&told)).await);
    acme.api.post("/organizations/acme/pools", json!({"name": "next"})).await;
    loop {
        let message = stream.next().await.unwrap();
        if message.event != "bookmark" {
            assert_eq!(message.event, "pool.created");
            break;
        }
    }
    let old = format!("{}:{}", world.running.cluster, world.head().await - 40);
    let gone = subscribe(&world, &root, "", Some(&old)).await;
    assert_eq!(gone.status(), 410);
    let problem: Value = serde_json::from_str(&gone.text().await.unwrap()).unwrap();
    assert_eq!(problem["type"], "urn:rap:problem:position_too_old");
    let near = format!("{}:{}", world.running.cluster, world.head().await - 20);
    assert_eq!(subscribe(&world, &root, "", Some(&near)).await.status(), 200);
    world.stop().await;
}
