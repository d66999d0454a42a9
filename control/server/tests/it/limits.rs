use rap_control::{Limits, Rates};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{PASSWORD, Reply, With, World, fresh_key, tenant};

#[tokio::test]
async fn a_large_body_is_refused_before_anybody_is_asked_who_he_is() {
    let world = World::start().await;
    let large = "x".repeat(rap_proto::api::MAX_API_BODY_BYTES);
    let with = With { body: Some(json!({"name": large})), key: None, if_match: None };
    let refused = world.anonymous().send(Method::POST, "/users", with).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (413, "body_too_large"));
    // The same without a length that announces it.
    let chunks =
        futures_util::stream::iter((0..70).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024])));
    let reply = world
        .client
        .post(format!("{}/api/v1/users", world.base))
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 413);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_said_to_be_so() {
    let world = World::start().await;
    let root = world.set_up().await;
    let url = format!("{}/api/v1/organizations", world.base);
    let post = |body: &'static str, content_type: &'static str| {
        world
            .client
            .post(&url)
            .bearer_auth(root.token.as_ref().unwrap())
            .header("Idempotency-Key", fresh_key())
            .header("Content-Type", content_type)
            .body(body)
            .send()
    };
    assert_eq!(post("{\"name\":\"a\"}", "text/plain").await.unwrap().status(), 415);
    assert_eq!(post("{\"name\":", "application/json").await.unwrap().status(), 400);
    assert_eq!(post("{\"name\":7}", "application/json").await.unwrap().status(), 400);
    assert_eq!(root.get("/no/such/route").await.problem(), "not_found");
    let wrong = root.send(Method::PATCH, "/users", With::default()).await;
    assert_eq!(wrong.problem(), "method_not_allowed");
    world.stop().await;
}

#[tokio::test]
async fn health_readiness_and_metrics_name_nobody() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    crate::node::enroll(&world, &acme.join_secret, "canary-node").await;
    acme.api.get("/organizations/acme/resources/acme-ssh").await;
    acme.api.get("/organizations/no-such-canary").await;
    let fetch = async |path: &str| {
        let reply = world.client.get(format!("{}{path}", world.base)).send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    assert_eq!(fetch("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(fetch("/readyz").await, (200, "ready; one replica, no quorum\n".to_owned()));
    // Whoever can log in must not read how busy all others are.
    let (status, text) = fetch("/metrics").await;
    assert_eq!(status, 404, "{text}");
    let Reply { status, text, .. } = world.anonymous().get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains(
        "route=\"/api/v1/organizations/{organization}/resources/{resource}\",status=\"200\""
    ));
    assert!(text.contains("rap_control_nodes{state=\"approved\"} 1"), "{text}");
    let (cluster, version) =
        (root.get("/cluster").await.json["id"].clone(), env!("CARGO_PKG_VERSION"));
    let info = format!("rap_control_info{{cluster={cluster},version=\"{version}\"}} 1");
    assert!(text.contains(&info), "{info} is not in {text}");
    for name in ["acme", "canary", "root", &acme.organization, &acme.owner, &acme.resource] {
        assert!(!text.contains(name), "{name}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_document_is_open_and_every_route_in_it_is_served() {
    // Each route is asked once, by one address.
    let rates = Rates { address: "1000/1000".parse().unwrap(), ..Rates::default() };
    let world = World::start_within(Limits { rates, ..Limits::default() }).await;
    let document = world.anonymous().get("/openapi.json").await;
    assert_eq!(document.status, 200);
    assert!(document.json["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, item) in document.json["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            let filled = path.replace(['{', '}'], "x");
            let with = With { key: Some(fresh_key()), if_match: Some(1), body: None };
            let reply = world.anonymous().send(method, &filled, with).await;
            if operation["security"] == Value::Null {
                assert!(matches!(reply.status.as_u16(), 200 | 400), "{path}: {}", reply.text);
            } else {
                assert_eq!(reply.problem(), "unauthenticated", "{path}");
            }
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn too_many_password_hashes_at_once_are_turned_away() {
    let world = World::start().await;
    let anonymous = world.anonymous();
    let attempts = (0..60).map(|number| {
        let body = json!({"name": format!("user-{number}"), "password": PASSWORD});
        let anonymous = anonymous.clone();
        async move { anonymous.post("/logins", body).await }
    });
    let replies = futures_util::future::join_all(attempts).await;
    let limited = replies.iter().filter(|reply| reply.status == 429).count();
    assert!(limited > 0, "nobody was turned away");
    assert!(replies.iter().all(|reply| matches!(reply.status.as_u16(), 401 | 429)));
    let refused = replies.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(refused.json["rule"], "max_waiting_hashes");
    world.stop().await;
}
