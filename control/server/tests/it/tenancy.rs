//! Two organizations walk every route of the document with the other one's ids and names.

use std::collections::BTreeMap;

use rap_events::{Log as _, user::MAX_RECORDED_REFUSALS};
use rap_proto::Signer as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node::{self, Host},
    world::{Tenant, With, World, fresh_key, tenant},
};

/// Routes that show nobody anything of anybody: without a login, or about the caller alone.
const OWN: &[&str] = &[
    "/api/v1/setup",
    "/api/v1/logins",
    "/api/v1/logins/current",
    "/api/v1/invitations/accept",
    "/api/v1/me",
    "/api/v1/me/logins",
    "/api/v1/me/password",
    "/api/v1/cluster",
    "/api/v1/openapi.json",
];
/// Routes that the platform's roles have to themselves; who is none of them is told so.
const PLATFORM: &[(&str, &str)] = &[
    ("POST", "/api/v1/organizations"),
    ("GET", "/api/v1/nodes/{node}/why/{other}"),
    ("GET", "/api/v1/leases"),
    ("POST", "/api/v1/leases/accept-loss"),
    ("POST", "/api/v1/snapshots/renew"),
    ("GET", "/api/v1/platform/carriers"),
    ("PUT", "/api/v1/platform/carriers"),
    ("GET", "/api/v1/platform/paths"),
    ("PUT", "/api/v1/platform/paths"),
    ("GET", "/api/v1/platform/stale"),
    ("PUT", "/api/v1/platform/stale"),
    ("GET", "/api/v1/platform/mesh"),
    ("PUT", "/api/v1/platform/mesh"),
    ("GET", "/api/v1/audit/replay"),
    ("GET", "/api/v1/projections/rebuild"),
    ("POST", "/api/v1/projections/rebuild"),
    ("GET", "/api/v1/log/keys"),
    ("GET", "/api/v1/log/heads"),
    ("GET", "/api/v1/log/checkpoint"),
    ("GET", "/api/v1/log/tile/{tile}"),
    ("GET", "/api/v1/log/payloads/{tile}"),
    ("GET", "/api/v1/log/proof/{position}"),
];

pub(crate) struct Target<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) host: Host,
    pub(crate) node: String,
    pub(crate) session: String,
}

impl Target<'_> {
    /// The path with the tenant's ids, or with its names where there are any.
    pub(crate) fn fill(&self, path: &str, by_name: bool) -> String {
        let own = |id: &str, name: String| if by_name { name } else { id.to_owned() };
        let tenant = self.tenant;
        let token =
            if path.contains("join-tokens") { &tenant.join_token } else { &tenant.api_token };
        path.replace("{organization}", &own(&tenant.organization, tenant.name.clone()))
            .replace("{user}", &own(&tenant.owner, format!("{}-owner", tenant.name)))
            .replace("{pool}", &own(&tenant.pool, format!("{}-pool", tenant.name)))
            .replace("{resource}", &own(&tenant.resource, format!("{}-ssh", tenant.name)))
            .replace("{policy}", &own(&tenant.policy, format!("{}-policy", tenant.name)))
            .replace("{connection}", &own(&tenant.connection, format!("{}-vpn", tenant.name)))
            .replace("{node}", &own(&self.node, format!("{}-edge", tenant.name)))
            .replace("{other}", &own(&self.node, format!("{}-edge", tenant.name)))
            .replace("{session}", &self.session)
            .replace("{token}", token)
            .replace("{role}", "platform_admin")
            .replace("{action}", "resource.read")
    }

    /// A body that the route would take from the tenant's own people.
    fn body(&self, method: &str, path: &str) -> Option<Value> {
        let tenant = self.tenant;
        let organization = &tenant.organization;
        let key = node::fresh_key().public_key();
        let rules = json!({"roles": ["organization_user"], "kinds": ["ssh"]});
        let target = json!({"host": "h", "port": 1});
        let mut bodies: BTreeMap<(&str, &str), Value> = BTreeMap::from([
            (("POST", "/users"), json!({"name": "eve", "organization": organization})),
            (("POST", "/users/{user}/disable"), json!({"reason": ""})),
            (
                ("POST", "/api-tokens"),
                json!({
                    "label": "l", "scopes": ["read"], "ttlSeconds": 60, "organization": organization,
                }),
            ),
            (("POST", "/organizations"), json!({"name": "mine"})),
            (("PATCH", "/organizations/{organization}"), json!({"name": "mine"})),
            (("POST", "/organizations/{organization}/suspend"), json!({"reason": ""})),
            (
                ("PUT", "/organizations/{organization}/members/{user}"),
                json!({"role": "organization_user"}),
            ),
            (("PUT", "/organizations/{organization}/quotas"), json!({"nodes": 1})),
            (("POST", "/organizations/{organization}/pools"), json!({"name": "p"})),
            (
                ("POST", "/organizations/{organization}/resources"),
                json!({
                    "name": "r", "kind": "ssh", "pool": tenant.pool, "target": target,
                }),
            ),
            (
                ("PATCH", "/organizations/{organization}/resources/{resource}"),
                json!({"target": target}),
            ),
            (
                ("PUT", "/organizations/{organization}/resources/{resource}/connection"),
                json!({"connection": tenant.connection}),
            ),
            (
                ("POST", "/organizations/{organization}/policies"),
                json!({"name": "p", "rules": rules}),
            ),
            (("PUT", "/organizations/{organization}/policies/{policy}"), json!({"rules": rules})),
            (
                ("POST", "/organizations/{organization}/vpn-connections"),
                json!({"name": "v", "class": "fast"}),
            ),
            (
                ("PUT", "/organizations/{organization}/vpn-connections/{connection}/nodes"),
                json!({"nodes": []}),
            ),
            (
                ("POST", "/sessions"),
                json!({
                    "organization": organization, "resource": tenant.resource, "clientKey": key,
                }),
            ),
            (
                ("POST", "/join-tokens"),
                json!({
                    "organization": organization, "roles": [], "ttlSeconds": 60,
                }),
            ),
        ]);
        bodies.extend(fleet());
        bodies.extend(bandwidth());
        bodies.get(&(method, path.trim_start_matches("/api/v1"))).cloned()
    }

    /// Whatever would betray the tenant in a reply.
    fn traces(&self) -> Vec<String> {
        let tenant = self.tenant;
        let mut traces: Vec<String> = [
            &tenant.organization,
            &tenant.owner,
            &tenant.pool,
            &tenant.resource,
            &tenant.policy,
            &tenant.connection,
            &tenant.api_token,
            &tenant.join_token,
            &self.node,
            &self.session,
            &tenant.join_secret,
        ]
        .map(Clone::clone)
        .into();
        traces.push(tenant.name.clone());
        traces
    }
}

/// Bodies for what is about nodes and their leases.
fn fleet() -> [((&'static str, &'static str), Value); 7] {
    [
        (("POST", "/leases/accept-loss"), json!({"timeline": 1})),
        (("POST", "/nodes/{node}/approve"), json!({"fingerprint": "0".repeat(64)})),
        (("POST", "/nodes/{node}/reject"), json!({"reason": ""})),
        (("POST", "/nodes/{node}/revoke"), json!({"reason": ""})),
        (("PUT", "/nodes/{node}/roles"), json!({"roles": []})),
        (("PUT", "/nodes/{node}/pools"), json!({"pools": []})),
        (
            ("PUT", "/nodes/{node}/place"),
            json!({"region": "eu-west", "preference": "avoided", "relayedLanes": ["interactive"]}),
        ),
    ]
}

fn bandwidth() -> [((&'static str, &'static str), Value); 8] {
    let cap = || json!({"capBitsPerSecond": 1_000_000});
    [
        (("PUT", "/organizations/{organization}/bandwidth"), json!({"rules": []})),
        (("PUT", "/organizations/{organization}/bandwidth/grant"), cap()),
        (("PUT", "/nodes/{node}/bandwidth"), cap()),
        (("PUT", "/organizations/{organization}/carriers"), json!({"bulk": "tcp-only"})),
        (("PUT", "/platform/carriers"), json!({"bulk": "tcp-only"})),
        (("PUT", "/platform/paths"), json!({"direct": "forbidden"})),
        (("PUT", "/platform/stale"), json!({"policy": "stop"})),
        (("PUT", "/platform/mesh"), json!({"weights": {"bulk": {"latency": 1}}})),
    ]
}

#[tokio::test]
async fn neither_of_two_organizations_sees_or_touches_the_other() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, beta) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let acme_target = target(&world, &acme).await;
    let beta_target = target(&world, &beta).await;
    let document = world.anonymous().get("/openapi.json").await.json;
    walk(&world, &document, &acme, &beta_target).await;
    walk(&world, &document, &beta, &acme_target).await;
    world.stop().await;
}

pub(crate) async fn target<'a>(world: &World, tenant: &'a Tenant) -> Target<'a> {
    let name = format!("{}-edge", tenant.name);
    let host = node::enroll(world, &tenant.join_secret, &name).await;
    let key = node::fresh_key().public_key();
    let body = json!({"resource": tenant.resource, "clientKey": key});
    let access = tenant.api.post("/sessions", body).await;
    assert_eq!(access.status, 201, "{}", access.text);
    let session = access.json["session"].as_str().unwrap().to_owned();
    let node = host.node().to_string();
    Target { tenant, host, node, session }
}

async fn walk(world: &World, document: &Value, caller: &Tenant, other: &Target<'_>) {
    let head = world.head().await;
    let mut walked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if OWN.contains(&path.as_str()) || path == "/api/v1/events" {
                continue;
            }
            let method = method.to_uppercase();
            let body = other.body(&method, path);
            let described = operation["requestBody"].is_object();
            assert_eq!(body.is_some(), described, "give {method} {path} a body in this test");
            for by_name in [false, true] {
                check(caller, other, (&method, path), by_name, body.clone()).await;
                walked += 1;
            }
        }
    }
    assert!(walked > 80, "only {walked} requests");
    // By id and by name the caller asked for a session: that is on the caller's own record.
    let written = world.log.read(head, 100).await.unwrap();
    assert_eq!(written.len(), 2, "{written:?}");
    for event in written {
        assert_eq!((&*event.event_type, event.organization), ("user.access_refused", None));
        assert_eq!(event.stream.id.to_string(), caller.owner);
    }
}

#[tokio::test]
async fn a_strangers_request_for_a_session_is_on_a_record_that_no_organization_sees() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let ask = async |organization: &str| {
        let key = node::fresh_key().public_key();
        let resource = "acme-ssh";
        let body = json!({"organization": organization, "resource": resource, "clientKey": key});
        let with = With { body: Some(body), key: Some(fresh_key()), if_match: None };
        let refused = zulu.api.send(Method::POST, "/sessions", with.clone()).await;
        let again = zulu.api.send(Method::POST, "/sessions", with).await;
        for reply in [&refused, &again] {
            assert_eq!(reply.problem(), "not_found");
            assert_eq!(reply.json["detail"], "nothing that you may see is here");
            assert_eq!(reply.json.get("rule"), None);
        }
    };
    let head = world.head().await;
    for (asked, organization) in (1..).zip(["acme", "no-such-organization"]) {
        ask(organization).await;
        assert_eq!(world.head().await, head + asked, "{organization}: one event");
    }
    for reader in [&acme, &zulu] {
        let audit = reader.api.get(&format!("/audit?organization={}&limit=500", reader.name)).await;
        assert_eq!(audit.status, 200, "{}", audit.text);
        assert!(!audit.text.contains("access_refused"), "{}", audit.text);
    }
    let audit = root.get(&format!("/audit?limit=500&after={head}")).await;
    let events = audit.json["items"].as_array().unwrap();
    assert_eq!(events.len(), 2, "{}", audit.text);
    for event in events {
        assert_eq!(event["type"], "user.access_refused");
        assert_eq!(event["payload"]["action"], "request_session");
        assert_eq!(event["actor"]["user"], zulu.owner);
        assert!(!event.to_string().contains("acme"), "{event}");
    }

    // Twice the limit, should a day end meanwhile.
    let mut recorded = 2;
    loop {
        let before = world.head().await;
        ask("acme").await;
        if world.head().await == before {
            break;
        }
        recorded += 1;
        assert!(recorded <= 2 * MAX_RECORDED_REFUSALS);
    }
    assert!(recorded >= MAX_RECORDED_REFUSALS);
    world.stop().await;
}

async fn check(
    caller: &Tenant,
    other: &Target<'_>,
    (method, path): (&str, &str),
    by_name: bool,
    body: Option<Value>,
) {
    let is_command = method != "GET";
    let with = With {
        body: body.clone(),
        key: is_command.then(fresh_key),
        if_match: is_command.then_some(1),
    };
    let filled = other.fill(path, by_name);
    let reply = caller.api.send(method.parse::<Method>().unwrap(), &filled, with).await;
    let traces = other.traces();
    let leak = traces.iter().find(|trace| reply.text.contains(trace.as_str()));
    assert_eq!(leak, None, "{method} {filled}: {}", reply.text);
    let about_other = path.contains('{') || body.is_some();
    if PLATFORM.contains(&(method, path)) {
        assert_eq!(reply.problem(), "forbidden", "{method} {filled}");
    } else if about_other {
        assert_eq!(reply.problem(), "not_found", "{method} {filled}: {}", reply.text);
        assert_eq!(reply.json["detail"], "nothing that you may see is here");
        assert_eq!(reply.json.get("rule"), None, "{method} {filled}");
    } else {
        assert_eq!(reply.status, 200, "{method} {filled}: {}", reply.text);
    }
}
