//! Everything that can be created, read, changed and removed.

use rap_proto::Signer as _;
use reqwest::Method;
use serde_json::json;

use crate::world::{PASSWORD, World, tenant};

#[tokio::test]
async fn organizations_members_pools_resources_and_policies_live_and_go() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let api = &acme.api;

    // By name as by id.
    let by_name = api.get("/organizations/acme").await;
    assert_eq!(by_name.id(), acme.organization);
    let renamed =
        api.change(Method::PATCH, "/organizations/acme", Some(json!({"name": "apex"})), 1).await;
    assert_eq!((renamed.status.as_u16(), renamed.json["revision"].as_u64()), (200, Some(2)));
    assert_eq!(api.get("/organizations/acme").await.problem(), "not_found");

    let bob = json!({"name": "bob", "organization": "apex", "password": PASSWORD});
    let bob = api.post("/users", bob).await;
    assert_eq!(bob.status, 201, "{}", bob.text);
    let members = api.get("/organizations/apex/members").await;
    assert_eq!(members.json["items"].as_array().unwrap().len(), 2);
    let path = "/organizations/apex/members/bob";
    let role = Some(json!({"role": "organization_admin"}));
    let promoted = api.change(Method::PUT, path, role, 1).await;
    assert_eq!(promoted.status, 200, "{}", promoted.text);
    assert_eq!(api.change(Method::DELETE, path, None, 2).await.status, 204);
    assert_eq!(api.get(path).await.problem(), "not_found");

    let path = "/organizations/apex/resources/acme-ssh";
    let shown = api.get(path).await;
    assert_eq!((shown.id(), shown.json["poolName"].as_str()), (acme.resource, Some("acme-pool")));
    let target = json!({"target": {"host": "10.0.0.7", "port": 2222}});
    let changed = api.change(Method::PATCH, path, Some(target), shown.revision()).await;
    assert_eq!(changed.revision(), 2);
    assert_eq!(api.get(path).await.json["target"]["port"], 2222);

    let path = "/organizations/apex/policies/acme-policy";
    let rules = json!({"rules": {"roles": ["organization_user"], "kinds": ["ssh", "web"]}});
    assert_eq!(api.change(Method::PUT, path, Some(rules), 1).await.status, 200);
    assert_eq!(api.get(path).await.json["kinds"], json!(["ssh", "web"]));
    assert_eq!(api.change(Method::DELETE, path, None, 2).await.status, 204);

    let pool = "/organizations/apex/pools/acme-pool";
    let in_use = api.change(Method::DELETE, pool, None, 1).await;
    assert_eq!((in_use.problem(), in_use.json["rule"].as_str()), ("rejected", Some("pool.in_use")));
    let resource = "/organizations/apex/resources/acme-ssh";
    assert_eq!(api.change(Method::DELETE, resource, None, 2).await.status, 204);
    assert_eq!(api.change(Method::DELETE, pool, None, 1).await.status, 204);

    let body = Some(json!({"reason": "unpaid"}));
    let path = "/organizations/apex/suspend";
    assert_eq!(root.change(Method::POST, path, body, 2).await.status, 200);
    let frozen = api.post("/organizations/apex/pools", json!({"name": "p"})).await;
    assert_eq!(
        (frozen.problem(), frozen.json["rule"].as_str()),
        ("forbidden", Some("organization_suspended"))
    );
    let removed = root.change(Method::DELETE, "/organizations/apex", None, 3).await;
    assert_eq!(removed.status, 204, "{}", removed.text);
    // The name is free again.
    assert_eq!(root.post("/organizations", json!({"name": "apex"})).await.status, 201);
    world.stop().await;
}

#[tokio::test]
async fn names_are_unique_within_their_scope_and_never_look_like_ids() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let taken = root.post("/organizations", json!({"name": "acme"})).await;
    assert_eq!(taken.problem(), "name_taken");
    assert_eq!(taken.json["rule"], "unique_organization_name");
    let like_id = json!({"name": acme.organization});
    let refused = root.post("/organizations", like_id).await;
    assert_eq!(refused.json["rule"], "name_like_an_id");
    for bad in ["Acme", "a b", "a;rm", "-a", "a\r\nb", "", "a\u{e9}"] {
        let refused = root.post("/organizations", json!({"name": bad})).await;
        assert_eq!(refused.problem(), "malformed_request", "{bad}");
        assert_eq!(refused.json["field"], "name");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_target_on_a_nodes_own_network_takes_more_than_an_owner() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    // A platform's node serves the organization's pool: what is local to it is not theirs.
    let join = json!({"roles": [], "ttlSeconds": 60, "autoApprove": true, "pools": [acme.pool]});
    let join = root.post("/join-tokens", join).await;
    let node = crate::node::enroll(&world, join.json["secret"].as_str().unwrap(), "shared").await;
    assert!(node.credentials().is_some());
    let local = json!({
        "name": "local", "kind": "tcp", "pool": "acme-pool",
        "target": {"host": "127.0.0.1", "port": 22, "allowLocal": true},
    });
    let refused = acme.api.post("/organizations/acme/resources", local).await;
    assert_eq!(refused.problem(), "forbidden");
    assert_eq!(refused.json["rule"], "pool.allow_local_target/not_held");
    world.stop().await;
}

#[tokio::test]
async fn pages_cover_everything_once() {
    let world = World::start().await;
    let root = world.set_up().await;
    for number in 0..7 {
        let name = format!("organization-{number}");
        assert_eq!(root.post("/organizations", json!({"name": name})).await.status, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/organizations?limit=3".to_owned();
    loop {
        let page = root.get(&path).await;
        let items = page.json["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page.json["next"].as_str() else { break };
        path = format!("/organizations?limit=3&after={next}");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 7);
    for bad in ["limit=0", "limit=501", "limit=x", "after=x", "unknown=1", "limit=1&limit=2"] {
        let refused = root.get(&format!("/organizations?{bad}")).await;
        assert_eq!(refused.problem(), "malformed_request", "{bad}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_connection_is_wanted_changed_and_removed_by_its_organization() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let beta = tenant(&world, &root, "beta").await;
    let own = crate::node::enroll(&world, &acme.join_secret, "acme-edge").await.node();
    crate::node::enroll(&world, &beta.join_secret, "beta-edge").await;
    let api = &acme.api;
    let connections = "/organizations/acme/vpn-connections";
    let body =
        json!({"name": "office", "class": "steady", "nodes": ["acme-edge"], "enabled": true});
    let created = api.post(connections, body.clone()).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.json["nodes"], json!([own.to_string()]));
    assert_eq!((&created.json["held"], &created.json["generation"]), (&json!(false), &json!(0)));
    assert_eq!(api.post(connections, body).await.problem(), "name_taken");
    let foreign = json!({"name": "other", "class": "fast", "nodes": ["beta-edge"]});
    let refused = api.post(connections, foreign).await;
    assert_eq!(refused.json["rule"], "node_exists", "{}", refused.text);

    let path = "/organizations/acme/vpn-connections/office";
    let shown = api.get(path).await;
    assert_eq!((shown.id(), shown.revision()), (created.id(), 1));
    let disabled = api.change(Method::POST, &format!("{path}/disable"), None, 1).await;
    assert_eq!((disabled.status.as_u16(), disabled.revision()), (200, 2));
    let shown = api.get(path).await.json;
    assert_eq!((&shown["enabled"], &shown["reason"]), (&json!(false), &json!("disabled")));
    let enabled = api.change(Method::POST, &format!("{path}/enable"), None, 2).await;
    assert_eq!(enabled.revision(), 3);
    let any = Some(json!({"nodes": []}));
    assert_eq!(api.change(Method::PUT, &format!("{path}/nodes"), any, 3).await.revision(), 4);
    // Nobody carries it: there is nobody to ask.
    assert_eq!(api.change(Method::POST, &format!("{path}/drain"), None, 4).await.revision(), 4);
    assert_eq!(api.change(Method::DELETE, path, None, 4).await.status, 204);
    assert_eq!(api.get(path).await.problem(), "not_found");
    let listed = api.get(connections).await;
    assert_eq!(listed.json["items"].as_array().unwrap().len(), 1, "the tenant's own");
    world.stop().await;
}

#[tokio::test]
async fn a_resource_is_carried_by_a_connection_of_its_organization_and_of_no_other() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let beta = tenant(&world, &root, "beta").await;
    crate::node::enroll(&world, &acme.join_secret, "acme-edge").await;
    let api = &acme.api;
    let path = "/organizations/acme/resources/acme-ssh";
    let carry = format!("{path}/connection");
    let on = |connection: &str| Some(json!({"connection": connection}));
    for foreign in [&beta.connection, "beta-vpn", "00000000-0000-7000-8000-000000000009"] {
        let refused = api.change(Method::PUT, &carry, on(foreign), 1).await;
        assert_eq!(refused.problem(), "validation_failed", "{foreign}: {}", refused.text);
        assert_eq!(refused.json["rule"], "connection_exists");
    }
    let stale = api.change(Method::PUT, &carry, on(&acme.connection), 7).await;
    assert_eq!(stale.status, 412, "{}", stale.text);
    let carried = api.change(Method::PUT, &carry, on(&acme.connection), 1).await;
    assert_eq!((carried.status.as_u16(), carried.revision()), (200, 2), "{}", carried.text);
    let shown = api.get(path).await.json;
    assert_eq!(shown["connection"], json!(acme.connection));
    assert!(shown["connectionName"].is_string(), "{shown}");

    // A policy lets its owner in, and nobody holds the lease.
    let key = crate::node::fresh_key().public_key();
    let access = json!({"resource": acme.resource, "clientKey": key});
    let denied = api.post("/sessions", access).await;
    assert_eq!(
        (denied.problem(), denied.json["rule"].as_str()),
        ("access_denied", Some("lease_not_held"))
    );

    let connection = format!("/organizations/acme/vpn-connections/{}", acme.connection);
    let in_use = api.change(Method::DELETE, &connection, None, 1).await;
    let rule = in_use.json["rule"].as_str();
    assert_eq!((in_use.problem(), rule), ("rejected", Some("vpn_connection.in_use")));
    let none = Some(json!({"connection": null}));
    assert_eq!(api.change(Method::PUT, &carry, none, 2).await.revision(), 3);
    assert!(api.get(path).await.json.get("connection").is_none());
    let removed = api.change(Method::DELETE, &connection, None, 1).await;
    assert_eq!(removed.status, 204, "{}", removed.text);
    world.stop().await;
}
