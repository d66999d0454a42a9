//! Idempotency, preconditions, positions.

use reqwest::Method;
use serde_json::json;

use crate::world::{ELSEWHERE, HERE, With, World, fresh_key, tenant};

#[tokio::test]
async fn a_command_needs_a_key_and_repeating_it_repeats_nothing() {
    let world = World::start().await;
    let root = world.set_up().await;
    let body = Some(json!({"name": "acme"}));
    let keyless = With { body: body.clone(), ..With::default() };
    let refused = root.send(Method::POST, "/organizations", keyless).await;
    assert_eq!(refused.problem(), "idempotency_key_missing");

    let with = With { body, key: Some(fresh_key()), if_match: None };
    let first = root.send(Method::POST, "/organizations", with.clone()).await;
    assert_eq!(first.status, 201);
    let head = world.head().await;
    let second = root.send(Method::POST, "/organizations", with.clone()).await;
    assert_eq!((second.status, &second.text), (first.status, &first.text));
    assert_eq!((second.position(), second.revision()), (first.position(), first.revision()));
    assert_eq!(world.head().await, head);

    let other = With { body: Some(json!({"name": "other"})), ..with.clone() };
    let reused = root.send(Method::POST, "/organizations", other).await;
    assert_eq!(reused.problem(), "idempotency_key_reused");
    // Another caller's keys are their own.
    let second_login = world.log_in("root").await;
    let taken = second_login.send(Method::POST, "/organizations", with).await;
    assert_eq!(taken.problem(), "name_taken");
    for bad in ["", "a b", &"k".repeat(129)] {
        let with = With { body: None, key: Some(bad.to_owned()), if_match: None };
        assert_eq!(root.send(Method::POST, "/organizations", with).await.status, 400, "{bad}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_command_gives_its_secret_again_and_the_log_has_none() {
    let world = World::start().await;
    let root = world.set_up().await;
    let body = Some(json!({"label": "ci", "scopes": ["read"], "ttlSeconds": 60}));
    let with = With { body, key: Some(fresh_key()), if_match: None };
    let first = root.send(Method::POST, "/api-tokens", with.clone()).await;
    let second = root.send(Method::POST, "/api-tokens", with).await;
    assert_eq!(first.text, second.text);
    let secret = first.json["secret"].as_str().unwrap();
    assert!(secret.starts_with("rapa_") && secret.len() > 40);
    let page = root.get("/audit?limit=500").await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("rapa_") && !page.text.contains("argon2"));
    let log = format!("{:?}", world.log);
    for canary in ["rapa_", "raps_", "rapsetup_", crate::world::PASSWORD] {
        assert!(!log.contains(canary), "{canary}");
    }
    world.stop().await;
}

/// Whoever logs in hears of every server, and the log of none.
#[tokio::test]
async fn a_login_is_told_where_the_servers_are_each_time_it_is_asked_for() {
    let world = World::start().await;
    world.set_up().await;
    let body = Some(json!({"name": "root", "password": crate::world::PASSWORD}));
    let with = With { body, key: Some(fresh_key()), if_match: None };
    let first = world.anonymous().send(Method::POST, "/logins", with.clone()).await;
    let second = world.anonymous().send(Method::POST, "/logins", with).await;
    assert_eq!(first.json["servers"], json!([ELSEWHERE, HERE]), "{}", first.text);
    assert_eq!(first.text, second.text);
    assert!(!format!("{:?}", world.log).contains(ELSEWHERE));
    world.stop().await;
}

#[tokio::test]
async fn two_at_once_with_one_key_are_one_command() {
    let world = World::start().await;
    let root = world.set_up().await;
    let body = Some(json!({"name": "slow", "password": crate::world::PASSWORD}));
    let with = With { body, key: Some(fresh_key()), if_match: None };
    let (first, second) = tokio::join!(
        root.send(Method::POST, "/users", with.clone()),
        root.send(Method::POST, "/users", with),
    );
    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert!(matches!(statuses, [201, 409 | 201]), "{statuses:?}");
    let refused = [&first, &second].into_iter().find(|reply| reply.status == 409);
    if let Some(refused) = refused {
        assert_eq!(refused.problem(), "idempotency_key_in_flight");
    }
    let users = root.get("/users").await;
    assert_eq!(users.text.matches("\"slow\"").count(), 1);
    world.stop().await;
}

#[tokio::test]
async fn changes_need_the_revision_that_was_read() {
    let world = World::start().await;
    let root = world.set_up().await;
    tenant(&world, &root, "acme").await;
    let rename = |name: &str, if_match| With {
        body: Some(json!({"name": name})),
        key: Some(fresh_key()),
        if_match,
    };
    let path = "/organizations/acme";
    let missing = root.send(Method::PATCH, path, rename("a", None)).await;
    assert_eq!((missing.status.as_u16(), missing.problem()), (428, "precondition_required"));
    let stale = root.send(Method::PATCH, path, rename("a", Some(7))).await;
    assert_eq!((stale.status.as_u16(), stale.problem()), (412, "precondition_failed"));
    let (left, right) = tokio::join!(
        root.send(Method::PATCH, path, rename("left", Some(1))),
        root.send(Method::PATCH, path, rename("right", Some(1))),
    );
    let mut statuses = [left.status.as_u16(), right.status.as_u16()];
    statuses.sort_unstable();
    assert!(matches!(statuses, [200, 404 | 412]), "{statuses:?}");
    world.stop().await;
}

#[tokio::test]
async fn reads_wait_for_the_position_that_was_written() {
    let world = World::start().await;
    let root = world.set_up().await;
    let created = root.post("/organizations", json!({"name": "acme"})).await;
    let position = created.position();
    let read = root.get(&format!("/organizations/acme?min_position={position}")).await;
    assert_eq!(read.status, 200);
    assert!(read.position() >= position);
    let never = root.get(&format!("/organizations/acme?min_position={}", position + 1_000)).await;
    assert_eq!(never.problem(), "position_not_reached");
    world.stop().await;
}

#[tokio::test]
async fn a_replay_from_zero_equals_the_live_projections() {
    let world = World::start().await;
    let root = world.set_up().await;
    tenant(&world, &root, "acme").await;
    tenant(&world, &root, "beta").await;
    let replay = root.get("/audit/replay").await;
    assert_eq!(replay.status, 200, "{}", replay.text);
    assert_eq!(replay.json["equal"], true);
    assert_eq!(replay.json["digest"], replay.json["liveDigest"]);
    assert!(replay.json["events"].as_u64().unwrap() > 10);
    world.stop().await;
}
