//! An organization takes what it may, and hears how much that is.

use futures_util::future::join_all;
use rap_events::Log as _;
use rap_proto::{Signer as _, wire::node_api::NodeApiCode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node,
    replicas::{Cluster, at},
    world::{Api, Reply, Tenant, World, tenant},
};

/// How many ask at each of two replicas, one thing after the other.
const ASKING: usize = 4;
/// How many commands are in flight at both together, at most: so far may a count be passed.
const IN_FLIGHT: usize = 2 * ASKING;
/// Nobody is refused before so many are in use.
const LIMIT: usize = 3;
/// One who is never refused gives up after this many; all of them are then far above the bound.
const MOST_EACH: usize = LIMIT + 3;

async fn set(root: &Api, name: &str, quotas: Value) {
    let path = format!("/organizations/{name}/quotas");
    let revision = root.get(&path).await.revision();
    let set = root.change(Method::PUT, &path, Some(quotas), revision).await;
    assert_eq!(set.status, 200, "{}", set.text);
}

async fn connect(tenant: &Tenant) -> Reply {
    let key = node::fresh_key().public_key();
    tenant.api.post("/sessions", json!({"resource": tenant.resource, "clientKey": key})).await
}

#[track_caller]
fn reached(reply: &Reply, rule: &str, limit: u32, used: u32) {
    assert_eq!((reply.status.as_u16(), reply.problem()), (429, "quota_reached"), "{}", reply.text);
    assert_eq!(reply.json["rule"], rule);
    assert_eq!((&reply.json["limit"], &reply.json["used"]), (&json!(limit), &json!(used)));
}

#[tokio::test]
async fn sessions_at_once_are_bounded_for_each_organization() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    node::enroll(&world, &acme.join_secret, "acme-edge").await;
    node::enroll(&world, &zulu.join_secret, "zulu-edge").await;
    set(&root, "acme", json!({"sessions": 1})).await;
    let first = connect(&acme).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let refused = connect(&acme).await;
    reached(&refused, "quota.sessions", 1, 1);
    assert_eq!(refused.json["detail"], "1 of 1 sessions are in use");
    assert_eq!(connect(&zulu).await.status, 201);
    let shown = acme.api.get("/organizations/acme/quotas").await;
    assert_eq!((&shown.json["sessions"], &shown.json["sessionsUsed"]), (&json!(1), &json!(1)));
    let session = format!("/sessions/{}", first.json["session"].as_str().unwrap());
    assert_eq!(acme.api.change(Method::DELETE, &session, None, 0).await.status, 204);
    assert_eq!(connect(&acme).await.status, 201);
    let metrics = world.anonymous().get("/metrics").await.text;
    assert!(metrics.contains("rap_control_quota_reached_total{outcome=\"sessions\"} 1"));
    world.stop().await;
}

#[tokio::test]
async fn nodes_are_bounded_and_the_join_token_waits_for_room() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    set(&root, "acme", json!({"nodes": 0})).await;
    let refused = node::enroll(&world, &acme.join_secret, "edge").await;
    assert_eq!(refused.refusal(), NodeApiCode::QuotaReached);
    let message = &refused.reply.as_ref().unwrap_err().message;
    assert_eq!(message, "0 of 0 nodes are in use");
    set(&root, "acme", json!({"nodes": 1})).await;
    assert!(node::enroll(&world, &acme.join_secret, "edge").await.credentials().is_some());
    assert_eq!(acme.api.get("/organizations/acme/quotas").await.json["nodesUsed"], 1);
    world.stop().await;
}

/// How many of those who ask at once, one thing after the other, got what they asked for.
async fn admitted(asking: impl IntoIterator<Item = impl Future<Output = usize>>) -> usize {
    join_all(asking).await.into_iter().sum()
}

#[track_caller]
fn within_the_bound(admitted: usize) {
    println!("{admitted} of {LIMIT}, by {IN_FLIGHT} in flight");
    assert!((LIMIT..=LIMIT + IN_FLIGHT).contains(&admitted), "{admitted} of {LIMIT}");
}

/// What acme may take and takes, as a replica says that knows all that was done.
async fn shown(cluster: &Cluster, api: &Api) -> Value {
    let head = cluster.log().head().await.unwrap();
    api.get(&format!("/organizations/acme/quotas?min_position={head}")).await.json
}

/// Sessions that one caller opens before it is refused; before each it waits until the replica
/// knows the last.
async fn sessions_of(api: &Api, resource: &str) -> usize {
    for opened in 0..MOST_EACH {
        let key = node::fresh_key().public_key();
        let body = json!({"resource": resource, "clientKey": key});
        let reply = api.post("/sessions", body).await;
        if reply.status != 201 {
            assert_eq!(reply.problem(), "quota_reached", "{}", reply.text);
            return opened;
        }
        let known = format!("/organizations/acme/quotas?min_position={}", reply.position());
        assert_eq!(api.get(&known).await.status, 200);
    }
    MOST_EACH
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_at_two_replicas_pass_their_count_by_no_more_than_are_in_flight() {
    let (cluster, _relay, first, root) = Cluster::start().await;
    let second = cluster.replica().await;
    let acme = tenant(&first, &root, "acme").await;
    node::enroll(&first, &acme.join_secret, "edge").await;
    set(&root, "acme", json!({"sessions": LIMIT})).await;
    let beside = at(&second, &acme.api);
    let apis = [&acme.api, &beside];
    for api in apis {
        assert_eq!(shown(&cluster, api).await["sessions"], LIMIT);
    }
    let callers = apis.into_iter().cycle().take(IN_FLIGHT);
    let opened = admitted(callers.map(|api| sessions_of(api, &acme.resource))).await;
    within_the_bound(opened);
    assert_eq!(shown(&cluster, &acme.api).await["sessionsUsed"], opened);
    second.stop().await;
    first.stop().await;
}

/// Nodes that one caller enrolls before it is refused. The answer says that the replica knows them.
async fn nodes_of(world: &World, caller: usize, secrets: &[String]) -> usize {
    for (enrolled, secret) in secrets.iter().enumerate() {
        let host = node::enroll(world, secret, &format!("edge-{caller}-{enrolled}")).await;
        if host.credentials().is_none() {
            assert_eq!(host.refusal(), NodeApiCode::QuotaReached);
            return enrolled;
        }
    }
    secrets.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_at_two_replicas_pass_their_count_by_no_more_than_are_in_flight() {
    let (cluster, _relay, first, root) = Cluster::start().await;
    let second = cluster.replica().await;
    let acme = tenant(&first, &root, "acme").await;
    let mut secrets = Vec::new();
    for _ in 0..IN_FLIGHT * MOST_EACH {
        let roles = json!([{"role": "entry-node", "organizations": [acme.organization]}]);
        let join = json!({
            "organization": "acme", "ttlSeconds": 600, "autoApprove": true,
            "pools": [acme.pool], "roles": roles,
        });
        let join = acme.api.post("/join-tokens", join).await;
        secrets.push(join.json["secret"].as_str().unwrap().to_owned());
    }
    set(&root, "acme", json!({"nodes": LIMIT})).await;
    for api in [&acme.api, &at(&second, &acme.api)] {
        assert_eq!(shown(&cluster, api).await["nodes"], LIMIT);
    }
    let worlds = [&first, &second].into_iter().cycle();
    let asking = worlds.zip(secrets.chunks(MOST_EACH)).enumerate();
    let enrolled =
        admitted(asking.map(|(caller, (world, secrets))| nodes_of(world, caller, secrets))).await;
    within_the_bound(enrolled);
    assert_eq!(shown(&cluster, &acme.api).await["nodesUsed"], enrolled);
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn events_are_bounded_for_members_and_never_for_what_takes_authority_away() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    node::enroll(&world, &acme.join_secret, "edge").await;
    let session = connect(&acme).await;
    set(&root, "acme", json!({"eventsPerSecond": 1})).await;
    let mut refused = None;
    // More than a burst, and than it gains while they are answered.
    for number in 0..40 {
        let pool = json!({"name": format!("pool-{number}")});
        let reply = acme.api.post("/organizations/acme/pools", pool).await;
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
        assert_eq!(reply.status, 201, "{}", reply.text);
    }
    let refused = refused.expect("one is refused");
    reached(&refused, "quota.events_per_second", 1, 1);
    let seconds = refused.json["retryAfterSeconds"].as_u64().unwrap();
    assert_eq!(refused.headers["retry-after"], seconds.to_string());
    // To end, to remove and to revoke is always possible.
    let session = format!("/sessions/{}", session.json["session"].as_str().unwrap());
    assert_eq!(acme.api.change(Method::DELETE, &session, None, 0).await.status, 204);
    let policy = format!("/organizations/acme/policies/{}", acme.policy);
    assert_eq!(acme.api.change(Method::DELETE, &policy, None, 1).await.status, 204);
    // Neither others nor the platform wait for it.
    let pool = zulu.api.post("/organizations/zulu/pools", json!({"name": "more"})).await;
    assert_eq!(pool.status, 201);
    set(&root, "acme", json!({"eventsPerSecond": 1000})).await;
    let pool = acme.api.post("/organizations/acme/pools", json!({"name": "at-last"})).await;
    assert_eq!(pool.status, 201, "{}", pool.text);
    world.stop().await;
}

#[tokio::test]
async fn the_platforms_owner_sets_quotas_and_nobody_else() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let path = "/organizations/acme/quotas";
    let body = Some(json!({"nodes": 7}));
    let revision = acme.api.get(path).await.revision();
    let own = acme.api.change(Method::PUT, path, body.clone(), revision).await;
    assert_eq!(
        (own.problem(), own.json["rule"].as_str()),
        ("forbidden", Some("organization.set_quotas/not_held"))
    );
    assert_eq!(zulu.api.get(path).await.problem(), "not_found");
    let stale = root.change(Method::PUT, path, body.clone(), revision + 1).await;
    assert_eq!(stale.problem(), "precondition_failed");
    for wrong in [json!({"nodes": 1_000_001}), json!({"eventsPerSecond": 0})] {
        let refused = root.change(Method::PUT, path, Some(wrong), revision).await;
        assert_eq!(refused.problem(), "validation_failed", "{}", refused.text);
        assert_eq!(refused.json["rule"], "organization.quota_out_of_range");
    }
    assert_eq!(root.change(Method::PUT, path, body, revision).await.status, 200);
    let shown = root.get(path).await;
    assert_eq!(shown.json["nodes"], 7);
    assert_eq!(shown.json["sessions"], 20_000, "what is not said stays");
    world.stop().await;
}
