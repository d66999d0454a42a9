//! Bandwidth: who sets what, and what is told when it is wrong.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Api, Reply, World, tenant};

async fn put(api: &Api, path: &str, body: Value, revision: u64) -> Reply {
    api.change(Method::PUT, path, Some(body), revision).await
}

#[tokio::test]
async fn the_platform_grants_and_the_organization_rules_within_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let (path, grant) = ("/organizations/acme/bandwidth", "/organizations/acme/bandwidth/grant");
    let revision = root.get(path).await.revision();
    let own = put(&acme.api, grant, json!({"capBitsPerSecond": 20_000_000}), revision).await;
    assert_eq!(own.json["rule"], "organization.grant_bandwidth/not_held", "{}", own.text);
    let set = put(&root, grant, json!({"capBitsPerSecond": 20_000_000}), revision).await;
    assert_eq!(set.status, 200, "{}", set.text);

    let revision = acme.api.get(path).await.revision();
    let rules = json!({"rules": [
        {"resource": acme.resource, "capBitsPerSecond": 5_000_000},
        {"lane": "interactive", "reservedBitsPerSecond": 1_000_000.0},
    ]});
    let others = put(&root, path, rules.clone(), revision).await;
    assert_eq!(others.problem(), "forbidden", "the platform does not rule within it");
    assert_eq!(put(&acme.api, path, rules, revision).await.status, 200);
    let shown = acme.api.get(path).await;
    assert_eq!(shown.json["granted"]["capBitsPerSecond"], 20_000_000);
    assert_eq!(shown.json["rules"][0]["resource"]["id"], acme.resource);
    assert_eq!(shown.json["rules"][1]["reservedBitsPerSecond"], 1_000_000);

    assert_eq!(zulu.api.get(path).await.problem(), "not_found");
    let foreign = json!({"rules": [{"resource": acme.resource, "capBitsPerSecond": 5_000_000}]});
    let at = zulu.api.get("/organizations/zulu/bandwidth").await.revision();
    let refused = put(&zulu.api, "/organizations/zulu/bandwidth", foreign, at).await;
    assert_eq!(refused.json["rule"], "resource_exists");
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_named_by_rule_and_field() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let path = "/organizations/acme/bandwidth";
    let revision = acme.api.get(path).await.revision();
    let fine = json!({"capBitsPerSecond": 5_000_000});
    let cases = [
        (
            json!([{"capBitsPerSecond": 7_999}]),
            "bandwidth_out_of_range",
            "rules[0].capBitsPerSecond",
        ),
        (json!([fine, fine]), "organization.bandwidth_rule_twice", "rules[1]"),
        (
            json!([{"lane": "bulk"}]),
            "organization.bandwidth_says_nothing",
            "rules[0].capBitsPerSecond",
        ),
        (
            json!([{"each": "user", "reservedBitsPerSecond": 8_000}]),
            "organization.reserve_for_many",
            "rules[0].reservedBitsPerSecond",
        ),
        (
            json!([fine, {"user": "nobody-here", "capBitsPerSecond": 8_000}]),
            "user_is_member",
            "rules[1].user",
        ),
    ];
    let many: Vec<Value> = (0..65)
        .map(|at| json!({"user": format!("nobody-{at}"), "capBitsPerSecond": 8_000}))
        .collect();
    let too_many = (json!(many), "organization.too_many_bandwidth_rules", "rules");
    let edge = (
        json!([{"capBitsPerSecond": u64::MAX}]),
        "bandwidth_out_of_range",
        "rules[0].capBitsPerSecond",
    );
    for (rules, rule, field) in cases.into_iter().chain([too_many, edge]) {
        let refused = put(&acme.api, path, json!({"rules": rules}), revision).await;
        assert_eq!(refused.problem(), "validation_failed", "{}", refused.text);
        assert_eq!((&refused.json["rule"], &refused.json["field"]), (&json!(rule), &json!(field)));
    }
    let grant = "/organizations/acme/bandwidth/grant";
    let contradiction = json!({"capBitsPerSecond": 8_000, "reservedBitsPerSecond": 9_000});
    let refused = put(&root, grant, contradiction, revision).await;
    assert_eq!(refused.json["rule"], "organization.reserve_above_cap", "{}", refused.text);
    assert_eq!(refused.json["field"], "reservedBitsPerSecond");
    let stale = put(&acme.api, path, json!({"rules": []}), revision + 1).await;
    assert_eq!(stale.problem(), "precondition_failed");
    world.stop().await;
}

#[tokio::test]
async fn rules_about_what_is_gone_stay_or_go_one_by_one_and_none_is_made() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let (api, path) = (&acme.api, "/organizations/acme/bandwidth");
    let first = json!({"name": "first", "class": "fast"});
    let second = json!({"name": "second", "class": "fast"});
    for connection in [first, second] {
        let made = api.post("/organizations/acme/vpn-connections", connection).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    let rule = |connection: &Value| json!({"connection": connection, "capBitsPerSecond": 9_000});
    let rules = json!({"rules": [rule(&json!("first")), rule(&json!("second"))]});
    let revision = api.get(path).await.revision();
    assert_eq!(put(api, path, rules, revision).await.status, 200);
    for name in ["first", "second"] {
        let connection = format!("/organizations/acme/vpn-connections/{name}");
        let removed = api.change(Method::DELETE, &connection, None, 1).await;
        assert_eq!(removed.status, 204, "{}", removed.text);
    }
    let shown = api.get(path).await;
    let gone = &shown.json["rules"][1]["connection"];
    assert_eq!(gone.get("name").filter(|name| !name.is_null()), None);
    let left = json!({"rules": [rule(&gone["id"])]});
    let set = put(api, path, left.clone(), shown.revision()).await;
    assert_eq!(set.status, 200, "one of two goes: {}", set.text);
    let revision = api.get(path).await.revision();
    assert_eq!(put(api, path, json!({"rules": []}), revision).await.status, 200);
    let revision = api.get(path).await.revision();
    let again = put(api, path, left, revision).await;
    assert_eq!(again.json["rule"], "connection_exists", "no rule is made about what is gone");
    world.stop().await;
}

#[tokio::test]
async fn an_organization_says_what_its_lanes_run_on() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let path = "/organizations/acme/carriers";
    let said = acme.api.get(path).await;
    assert_eq!(said.status, 200, "{}", said.text);
    assert_eq!(said.json.get("bulk"), None, "{}", said.text);
    let rules = json!({"interactive": "quic", "bulk": "tcp-only"});
    let others = put(&root, path, rules.clone(), said.revision()).await;
    assert_eq!(others.problem(), "forbidden", "the platform does not rule within it");
    assert_eq!(zulu.api.get(path).await.problem(), "not_found");
    let unknown = put(&acme.api, path, json!({"bulk": "udp"}), said.revision()).await;
    assert_eq!(unknown.problem(), "malformed_request", "{}", unknown.text);
    assert_eq!(put(&acme.api, path, rules, said.revision()).await.status, 200);
    let said = acme.api.get(path).await;
    assert_eq!(
        (&said.json["interactive"], &said.json["bulk"]),
        (&json!("quic"), &json!("tcp-only"))
    );
    assert_eq!(put(&acme.api, path, json!({}), said.revision()).await.status, 200);
    assert_eq!(root.get(path).await.json.get("bulk"), None, "entries choose again");
    world.stop().await;
}

#[tokio::test]
async fn the_platform_says_what_everybodys_lanes_run_on_and_an_organization_narrows_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let (path, own) = ("/platform/carriers", "/organizations/acme/carriers");
    let said = root.get(path).await;
    assert_eq!((said.status.as_u16(), said.json.get("bulk")), (200, None), "{}", said.text);
    let rules = json!({"interactive": "quic", "media": "quic-only", "bulk": "tcp-only"});
    let refused = put(&acme.api, path, rules.clone(), said.revision()).await;
    assert_eq!(refused.json["rule"], "platform.rule_carriers/not_held", "{}", refused.text);
    assert_eq!(acme.api.get(path).await.problem(), "forbidden");
    let unknown = put(&root, path, json!({"voice": "quic"}), said.revision()).await;
    assert_eq!(unknown.problem(), "malformed_request", "{}", unknown.text);
    let stale = put(&root, path, rules.clone(), said.revision() + 1).await;
    assert_eq!(stale.problem(), "precondition_failed");
    let set = put(&root, path, rules, said.revision()).await;
    assert_eq!(set.status, 200, "{}", set.text);
    assert_eq!(root.get(path).await.json["media"], "quic-only");

    let said = acme.api.get(own).await;
    let taken = json!({"interactive": "quic", "media": "quic-only", "bulk": "tcp-only"});
    assert_eq!(said.json["taken"], taken, "{}", said.text);
    let rules = json!({"interactive": "tcp", "media": "tcp-only", "bulk": "quic"});
    assert_eq!(put(&acme.api, own, rules, said.revision()).await.status, 200);
    let said = acme.api.get(own).await;
    let taken = json!({"interactive": "tcp", "media": "none", "bulk": "tcp-only"});
    assert_eq!(said.json["taken"], taken, "{}", said.text);
    assert_eq!(
        (&said.json["bulk"], &said.json["platform"]["bulk"]),
        (&json!("quic"), &json!("tcp-only"))
    );

    let recorded = root.get("/audit?limit=500").await;
    let events = recorded.json["items"].as_array().unwrap();
    let ruled = events.iter().find(|event| event["type"] == "cluster.carriers_ruled").unwrap();
    assert_eq!(ruled["payload"]["carriers"]["media"], "quic-only", "{ruled}");
    let shown = acme.api.get("/audit?organization=acme&limit=500").await;
    assert!(shown.json["items"].as_array().is_some_and(|items| !items.is_empty()));
    assert!(!shown.text.contains("cluster.carriers_ruled"), "{}", shown.text);
    world.stop().await;
}

#[tokio::test]
async fn the_platforms_owner_says_whether_lanes_may_be_direct_and_no_organization_hears_of_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let path = "/platform/paths";
    let said = root.get(path).await;
    assert_eq!((said.status.as_u16(), &said.json["direct"]), (200, &json!("allowed")));
    assert_eq!(said.json["audited"], false, "{}", said.text);
    let rule = json!({"direct": "forbidden", "audited": true});
    let refused = put(&acme.api, path, rule.clone(), said.revision()).await;
    assert_eq!(refused.json["rule"], "platform.rule_paths/not_held", "{}", refused.text);
    assert_eq!(acme.api.get(path).await.problem(), "forbidden");
    for unknown in [json!({"direct": "never"}), json!({"audited": true}), json!({"holes": "no"})] {
        let unknown = put(&root, path, unknown, said.revision()).await;
        assert_eq!(unknown.problem(), "malformed_request", "{}", unknown.text);
    }
    let stale = put(&root, path, rule.clone(), said.revision() + 1).await;
    assert_eq!(stale.problem(), "precondition_failed");
    let set = put(&root, path, rule, said.revision()).await;
    assert_eq!(set.status, 200, "{}", set.text);
    let said = root.get(path).await;
    assert_eq!((&said.json["direct"], &said.json["audited"]), (&json!("forbidden"), &json!(true)));

    let recorded = root.get("/audit?limit=500").await;
    let events = recorded.json["items"].as_array().unwrap();
    let ruled = events.iter().find(|event| event["type"] == "cluster.paths_ruled").unwrap();
    assert_eq!(ruled["payload"]["rule"], json!({"direct": "forbidden", "audited": true}));
    let shown = acme.api.get("/audit?organization=acme&limit=500").await;
    assert!(shown.json["items"].as_array().is_some_and(|items| !items.is_empty()));
    assert!(!shown.text.contains("cluster.paths_ruled"), "{}", shown.text);
    let rule = json!({"direct": "when_better"});
    assert_eq!(put(&root, path, rule, said.revision()).await.status, 200);
    let said = root.get(path).await;
    assert_eq!(said.json["direct"], "when_better", "{}", said.text);
    assert_eq!(put(&root, path, json!({"direct": "allowed"}), said.revision()).await.status, 200);
    assert_eq!(root.get(path).await.json["audited"], false, "what is not said is not so");
    world.stop().await;
}

#[tokio::test]
async fn the_platforms_owner_says_what_becomes_of_sessions_at_nodes_that_are_cut_off() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let path = "/platform/stale";
    let said = root.get(path).await;
    assert_eq!((said.status.as_u16(), &said.json["policy"]), (200, &json!("keep_sessions")));
    let rule = json!({"policy": "stop"});
    let refused = put(&acme.api, path, rule.clone(), said.revision()).await;
    assert_eq!(refused.json["rule"], "platform.rule_stale/not_held", "{}", refused.text);
    assert_eq!(acme.api.get(path).await.problem(), "forbidden");
    for unknown in [json!({"policy": "never"}), json!({}), json!({"policy": "stop", "for": "1h"})] {
        let unknown = put(&root, path, unknown, said.revision()).await;
        assert_eq!(unknown.problem(), "malformed_request", "{}", unknown.text);
    }
    let late = put(&root, path, rule.clone(), said.revision() + 1).await;
    assert_eq!(late.problem(), "precondition_failed");
    let set = put(&root, path, rule, said.revision()).await;
    assert_eq!(set.status, 200, "{}", set.text);
    assert_eq!(root.get(path).await.json["policy"], "stop");

    let recorded = root.get("/audit?limit=500").await;
    let events = recorded.json["items"].as_array().unwrap();
    let ruled = events.iter().find(|event| event["type"] == "cluster.stale_ruled").unwrap();
    assert_eq!(ruled["payload"], json!({"policy": "stop"}));
    let shown = acme.api.get("/audit?organization=acme&limit=500").await;
    assert!(shown.json["items"].as_array().is_some_and(|items| !items.is_empty()));
    assert!(!shown.text.contains("cluster.stale_ruled"), "{}", shown.text);
    world.stop().await;
}
