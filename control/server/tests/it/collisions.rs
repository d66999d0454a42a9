//! Commands that would be carried out, with names that a stranger has: whether they collide.

use std::collections::BTreeMap;

use rap_proto::{Signer as _, key::LocalKey};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    differ::essence,
    world::{PASSWORD, Tenant, World, tenant},
};

/// The names of what an organization makes later. None of them is anybody else's by chance.
pub(crate) struct Names {
    pub(crate) user: String,
    pub(crate) pool: String,
    pub(crate) resource: String,
    pub(crate) policy: String,
    pub(crate) connection: String,
}

impl Names {
    pub(crate) fn of(tenant: &Tenant) -> Self {
        let of = |kind: &str| format!("canary-{kind}-of-{}", tenant.name);
        Self {
            user: format!("bob-of-{}", tenant.name),
            pool: of("pool"),
            resource: of("web"),
            policy: of("rules"),
            connection: of("vpn"),
        }
    }
}

/// What is blank in an answer, because each time it is another one.
const FRESH: &[&str] = &["id", "token", "secret", "createdAt", "expiresAt", "joinLine"];

/// What somebody is answered who uses a stranger's names in the own organization. Whatever that made
/// is removed again.
pub(crate) async fn attempt(own: &Tenant, foreign: &Names) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    for (method, path, body) in commands(own, foreign) {
        let asked = format!("{method} {path} {body}");
        let reply = match method {
            Method::POST => own.api.post(&path, body).await,
            _ => {
                let revision = own.api.get(&path).await.revision();
                own.api.change(method, &path, Some(body), revision).await
            }
        };
        if reply.status == 201 {
            let made = reply.json.get("token").unwrap_or(&reply.json);
            let id = made["id"].as_str().unwrap_or_else(|| panic!("{asked}: {}", reply.text));
            let (place, revision) = (format!("{path}/{id}"), made["revision"].as_u64());
            let removed = own.api.change(Method::DELETE, &place, None, revision.unwrap_or(1)).await;
            assert_eq!(removed.status, 204, "{asked}: {}", removed.text);
        }
        assert!(!reply.status.is_server_error(), "{asked}: {}", reply.text);
        answers.insert(asked, essence(&reply, FRESH));
    }
    answers
}

/// Some are permitted, whatever the stranger has, and some refused, because nobody here has such a
/// name.
fn commands(own: &Tenant, foreign: &Names) -> Vec<(Method, String, Value)> {
    let within = |path: &str| format!("/organizations/{}{path}", own.name);
    let (owner, ssh) = (format!("{}-owner", own.name), format!("{}-ssh", own.name));
    let target = json!({"host": "own.internal", "port": 80});
    let resource = |name: &str, pool: &str| {
        let labels = json!({"env": "prod"});
        json!({"name": name, "kind": "web", "pool": pool, "labels": labels, "target": target})
    };
    let lists = |user: &str, resource: &str| {
        let rules = json!({"users": [user], "resources": [resource]});
        json!({"name": foreign.policy, "rules": rules})
    };
    let document = |user: &str, resource: &str| {
        let text = format!(
            "permit(principal == User::\"{user}\", action, resource == Resource::\"{resource}\");"
        );
        json!({"name": foreign.policy, "document": {"text": text}})
    };
    let post = |path: &str, body| (Method::POST, within(path), body);
    let put = |path: &str, body| (Method::PUT, within(path), body);
    vec![
        post("/pools", json!({"name": foreign.pool})),
        post("/resources", resource(&foreign.resource, &own.pool)),
        post("/resources", resource(&foreign.resource, &foreign.pool)),
        post("/policies", lists(&owner, &ssh)),
        post("/policies", lists(&foreign.user, &ssh)),
        post("/policies", lists(&owner, &foreign.resource)),
        post("/policies", document(&owner, &ssh)),
        post("/policies", document(&foreign.user, &ssh)),
        post("/policies", document(&owner, &foreign.resource)),
        post("/vpn-connections", json!({"name": foreign.connection, "class": "fast"})),
        put(
            "/bandwidth",
            json!({"rules": [{"user": foreign.user, "capBitsPerSecond": 4_000_000}]}),
        ),
        (
            Method::POST,
            "/join-tokens".to_owned(),
            json!({"organization": own.name, "roles": [], "ttlSeconds": 60, "host": "canary"}),
        ),
        (
            Method::POST,
            "/sessions".to_owned(),
            json!({
                "organization": own.name, "resource": foreign.resource,
                "clientKey": LocalKey::from_random(&[7; 32]).unwrap().public_key(),
            }),
        ),
    ]
}

/// The names that are the whole cluster's, and what is learned of them: that they are taken.
#[tokio::test]
async fn whose_a_name_of_the_cluster_is_is_not_told() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (acme, zulu) = (tenant(&world, &root, "acme").await, tenant(&world, &root, "zulu").await);
    let account = async |name: String| {
        let body = json!({"name": name, "organization": "acme", "password": PASSWORD});
        let reply = acme.api.post("/users", body).await;
        assert_eq!(reply.problem(), "name_taken");
        essence(&reply, &[])
    };
    let own = account(format!("{}-owner", acme.name)).await;
    assert_eq!(account(format!("{}-owner", zulu.name)).await, own);
    assert_eq!(account("root".to_owned()).await, own);
    let (path, name) = ("/organizations/acme", json!({"name": "zulu"}));
    let revision = acme.api.get(path).await.revision();
    let reply = acme.api.change(Method::PATCH, path, Some(name), revision).await;
    let rule = |of: &str| format!("unique_{of}_name");
    assert_eq!(essence(&reply, &[]), own.replace(&rule("user"), &rule("organization")));
    world.stop().await;
}
