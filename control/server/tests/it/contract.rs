//! What the document allows is taken, and what stands just beside it is not.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Tenant, World, tenant};

/// A body's field, as the document describes it.
fn field<'a>(document: &'a Value, body: &str, field: &str) -> &'a Value {
    let found = &document["components"]["schemas"][body]["properties"][field];
    assert!(found.is_object(), "{body}.{field}");
    found
}

async fn start() -> (World, Tenant, crate::world::Api, Value) {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let document = world.anonymous().get("/openapi.json").await.json;
    (world, acme, root, document)
}

#[tokio::test]
async fn numbers_are_taken_from_the_least_to_the_greatest_of_the_document() {
    let (world, _, root, document) = start().await;
    let life = field(&document, "NewApiToken", "ttlSeconds");
    let (least, most) = (life["minimum"].as_u64().unwrap(), life["maximum"].as_u64().unwrap());
    assert!(
        document["components"]["schemas"]["NewApiToken"]["required"]
            .as_array()
            .unwrap()
            .contains(&json!("ttlSeconds"))
    );
    for (seconds, status) in [(least, 201), (most, 201), (least - 1, 422), (most + 1, 422)] {
        let body = json!({"label": "edge", "scopes": ["read"], "ttlSeconds": seconds});
        let reply = root.post("/api-tokens", body).await;
        assert_eq!(reply.status, status, "{seconds}: {}", reply.text);
    }
    for name in ["nodes", "sessions", "eventsPerSecond"] {
        let quota = field(&document, "SetQuotas", name);
        let (least, most) =
            (quota["minimum"].as_u64().unwrap(), quota["maximum"].as_u64().unwrap());
        let path = "/organizations/acme/quotas";
        let beside = least.checked_sub(1).into_iter().chain([most + 1]);
        let tried = [(least, 200), (most, 200)].into_iter().chain(beside.map(|out| (out, 422)));
        for (value, status) in tried {
            let revision = root.get(path).await.revision();
            let reply = root.change(Method::PUT, path, Some(json!({name: value})), revision).await;
            assert_eq!(reply.status, status, "{name}: {value}: {}", reply.text);
        }
    }
    let required = &document["components"]["schemas"]["SetQuotas"]["required"];
    assert!(required.as_array().is_none_or(Vec::is_empty), "{required}");
    world.stop().await;
}

#[tokio::test]
async fn the_key_of_a_label_is_a_name_as_the_document_says() {
    let (world, acme, _, document) = start().await;
    let name = &document["components"]["schemas"]["Name"]["pattern"];
    assert!(name.is_string());
    for body in ["NewResource", "ChangeResource", "Resource"] {
        assert_eq!(&field(&document, body, "labels")["propertyNames"]["pattern"], name, "{body}");
    }
    for (key, status) in [("team", 201), ("No Name", 400), ("", 400), ("-", 400)] {
        let resource = json!({
            "name": "labelled", "kind": "ssh", "pool": acme.pool, "labels": {key: "blue"},
            "target": {"host": "labelled.internal", "port": 22},
        });
        let reply = acme.api.post("/organizations/acme/resources", resource).await;
        assert_eq!(reply.status, status, "{key}: {}", reply.text);
    }
    world.stop().await;
}

#[tokio::test]
async fn every_time_of_rfc_3339_is_understood_by_the_audit() {
    let (world, _, root, _) = start().await;
    let all = root.get("/audit").await.json["items"].as_array().unwrap().len();
    let shown = async |query: &str| {
        let reply = root.get(&format!("/audit?{query}")).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
        reply.json["items"].as_array().unwrap().len()
    };
    for early in ["0001-01-01T00:00:00Z", "1066-10-14T09:00:00Z", "1969-12-31T23:59:59.999Z"] {
        assert_eq!(shown(&format!("since={early}")).await, all, "{early}");
        assert_eq!(shown(&format!("until={early}")).await, 0, "{early}");
    }
    // In UTC it is of a year that cannot be written.
    for late in ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z"] {
        assert_eq!(shown(&format!("since={late}")).await, 0, "{late}");
        assert_eq!(shown(&format!("until={late}")).await, all, "{late}");
    }
    for wrong in ["1066", "1969-12-31", "now", "1970-01-01T00:00:00"] {
        assert_eq!(root.get(&format!("/audit?since={wrong}")).await.problem(), "malformed_request");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_list_in_the_order_of_names_takes_any_name_as_its_cursor() {
    let (world, acme, _, document) = start().await;
    let path = "/api/v1/organizations/{organization}/vpn-connections";
    let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap();
    let after = parameters.iter().find(|parameter| parameter["name"] == "after").unwrap();
    let name = &document["components"]["schemas"]["Name"]["pattern"];
    assert_eq!(&after["schema"]["pattern"], name);
    for (cursor, rest) in [("aaa", 1), ("null", 0)] {
        let list = format!("/organizations/{}/vpn-connections?after={cursor}", acme.organization);
        let page = acme.api.get(&list).await;
        assert_eq!(page.json["items"].as_array().unwrap().len(), rest, "{}", page.text);
    }
    let no_name = acme.api.get("/organizations/acme/vpn-connections?after=No%20Name").await;
    assert_eq!(no_name.problem(), "malformed_request");
    world.stop().await;
}

/// `cargo xtask test contract` asks each operation with names of things that are there, and with
/// made-up ones. A parameter without a list would be made up alone.
#[tokio::test]
async fn what_a_path_names_has_real_names_in_the_run_against_the_document() {
    let (world, _, _, document) = start().await;
    let rules = include_str!("../../contract/schemathesis.toml");
    let mut named = 0;
    for operation in document["paths"].as_object().unwrap().values() {
        for method in operation.as_object().unwrap().values() {
            let parameters = method["parameters"].as_array().into_iter().flatten();
            let in_path = parameters.filter(|parameter| parameter["in"] == "path");
            // Of an enumeration every value is real.
            for parameter in in_path.filter(|parameter| parameter["schema"]["enum"].is_null()) {
                let name = parameter["name"].as_str().unwrap();
                assert!(rules.contains(&format!("\"path.{name}\" = {{")), "{name}");
                named += 1;
            }
        }
    }
    assert!(named > 50, "{named}");
    world.stop().await;
}
