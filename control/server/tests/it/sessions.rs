use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rap_proto::{
    Signer as _,
    signed::{self, Trusted},
    token::AccessClaims,
};
use reqwest::Method;
use serde_json::json;

use crate::{
    node,
    world::{With, World, fresh_key, tenant},
};

fn client_key() -> String {
    serde_json::to_value(node::fresh_key().public_key()).unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_permitted_user_gets_a_token_that_the_cluster_signed() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    let control = Trusted::new(host.credentials().unwrap().control_keys.clone(), 1);
    let reachable = acme.api.get("/resources").await;
    assert_eq!(reachable.json["items"][0]["name"], "acme-ssh");
    assert!(!reachable.text.contains("internal"), "a user learns no address");

    let key = client_key();
    let body = json!({"resource": "acme-ssh", "clientKey": key});
    let with = With { body: Some(body), key: Some(fresh_key()), if_match: None };
    let access = acme.api.send(Method::POST, "/sessions", with.clone()).await;
    assert_eq!(access.status, 201, "{}", access.text);
    let token = URL_SAFE_NO_PAD.decode(access.json["token"].as_str().unwrap()).unwrap();
    let claims = signed::open::<AccessClaims>(&token, &control).unwrap();
    assert_eq!(claims.resource.to_string(), acme.resource);
    assert!(claims.entries.contains(&host.node()) && claims.egresses.contains_key(&host.node()));
    assert_eq!(access.json["entries"][0]["addresses"], json!(["127.0.0.1:4433"]));
    assert!(access.json["authorities"].as_str().unwrap().starts_with("-----BEGIN CERT"));

    let session = access.json["session"].as_str().unwrap();
    let refresh = json!({"resource": "acme-ssh", "clientKey": key, "session": session});
    let refreshing = With { body: Some(refresh), key: Some(fresh_key()), if_match: None };
    let newer = acme.api.send(Method::POST, "/sessions", refreshing.clone()).await;
    assert_eq!(newer.status, 201, "{}", newer.text);
    assert_eq!(newer.json["session"], session);
    assert_ne!(newer.json["token"], access.json["token"]);
    // A repetition gets its own token again, which nothing has kept.
    let repeated = acme.api.send(Method::POST, "/sessions", with).await;
    assert_eq!((repeated.status, repeated.text), (access.status, access.text.clone()));
    let repeated = acme.api.send(Method::POST, "/sessions", refreshing).await;
    assert_eq!((repeated.status, &repeated.text), (newer.status, &newer.text));
    let log = format!("{:?}", world.log);
    for stored in [&access.json, &newer.json] {
        assert!(log.contains(stored["attachment"].as_str().unwrap()), "the reply is kept");
        assert!(!log.contains(stored["token"].as_str().unwrap()), "the token is not");
    }
    let stolen = json!({"resource": "acme-ssh", "clientKey": client_key(), "session": session});
    assert_eq!(acme.api.post("/sessions", stolen).await.problem(), "access_denied");

    let path = format!("/sessions/{session}");
    assert_eq!(acme.api.change(Method::DELETE, &path, None, 0).await.status, 204);
    assert_eq!(acme.api.get(&path).await.json["state"], "terminated");
    let over = json!({"resource": "acme-ssh", "clientKey": key, "session": session});
    let refused = acme.api.post("/sessions", over).await;
    assert_eq!(
        (refused.problem(), refused.json["rule"].as_str()),
        ("access_denied", Some("session_terminated"))
    );
    world.stop().await;
}

#[tokio::test]
async fn what_is_denied_and_what_is_absent_answer_alike_and_are_recorded() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    node::enroll(&world, &acme.join_secret, "edge").await;
    let bob = json!({"name": "bob", "organization": "acme", "password": crate::world::PASSWORD});
    assert_eq!(acme.api.post("/users", bob).await.status, 201);
    let bob = world.log_in("bob").await;
    let mut refusals = Vec::new();
    for resource in ["acme-ssh", "no-such-thing"] {
        let body = Some(json!({"resource": resource, "clientKey": client_key()}));
        let with = With { body, key: Some(fresh_key()), if_match: None };
        let refused = bob.send(Method::POST, "/sessions", with.clone()).await;
        assert_eq!(refused.problem(), "access_denied");
        let again = bob.send(Method::POST, "/sessions", with).await;
        assert_eq!(
            (again.problem(), &again.json["rule"]),
            ("access_denied", &refused.json["rule"])
        );
        refusals.push((refused.json["detail"].clone(), refused.json["rule"].clone()));
    }
    assert_eq!(refusals[0], refusals[1]);
    assert_eq!(bob.get("/resources").await.json["items"], json!([]));
    let audit = acme.api.get("/audit?organization=acme&limit=500").await;
    assert_eq!(audit.text.matches("session.denied").count(), 2);
    assert_eq!(bob.get("/audit?organization=acme").await.problem(), "forbidden");
    world.stop().await;
}

#[tokio::test]
async fn a_withdrawn_policy_ends_the_session_by_authority() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    node::enroll(&world, &acme.join_secret, "edge").await;
    let body = json!({"resource": "acme-ssh", "clientKey": client_key()});
    let access = acme.api.post("/sessions", body).await;
    let session = access.json["session"].as_str().unwrap();
    let policy = format!("/organizations/acme/policies/{}", acme.policy);
    let removed = acme.api.change(Method::DELETE, &policy, None, 1).await;
    assert_eq!(removed.status, 204);
    let mut position = removed.position();
    loop {
        position += 1;
        let shown = acme.api.get(&format!("/sessions/{session}?min_position={position}")).await;
        if shown.json["state"] == "terminated" {
            break;
        }
        assert_eq!(shown.status, 200, "{}", shown.text);
    }
    world.stop().await;
}
