//! Walking every list, page by page, while others create and remove what is in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use rap_control::{Limits, Rates};
use rap_proto::Signer as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node,
    world::{Api, Tenant, World, fresh_key, tenant},
};

/// Of each kind: what exists throughout, and what is removed meanwhile.
const LASTING: usize = 7;
const DOOMED: usize = 7;
/// So few that every walk has many pages.
const PAGE: usize = 2;
const MAX_PAGES: usize = 2_000;

/// A list, and the field by which its items are told apart.
struct List {
    path: &'static str,
    key: &'static str,
    /// Whether the platform's owner walks it; else the organization's does.
    by_root: bool,
}

const fn list(path: &'static str, key: &'static str, by_root: bool) -> List {
    List { path, key, by_root }
}

const LISTS: &[List] = &[
    list("/me/logins", "id", true),
    list("/users", "id", true),
    list("/organizations", "id", true),
    list("/nodes", "id", true),
    list("/join-tokens", "id", true),
    list("/audit", "position", true),
    list("/log/heads", "size", true),
    list("/api-tokens", "id", false),
    list("/organizations/{organization}/members", "user", false),
    list("/organizations/{organization}/pools", "id", false),
    list("/organizations/{organization}/resources", "id", false),
    list("/organizations/{organization}/policies", "id", false),
    list("/organizations/{organization}/vpn-connections", "id", false),
    list("/resources", "id", false),
    list("/sessions", "id", false),
];

/// Everybody who has a part in it.
struct Scene {
    world: World,
    root: Api,
    acme: Tenant,
    /// A member whom no policy lets in: each request of hers is a session that was denied.
    stranger: Api,
    /// Of the platform, to be used by hosts that wait for approval.
    node_secrets: tokio::sync::Mutex<Vec<String>>,
}

impl Scene {
    async fn open() -> Self {
        let rates = Rates {
            user: "100000/100000".parse().unwrap(),
            address: "100000/100000".parse().unwrap(),
            ..Rates::default()
        };
        let world = World::start_within(Limits { rates, ..Limits::default() }).await;
        let root = world.set_up().await;
        let acme = tenant(&world, &root, "acme").await;
        let (stranger, id) = world.user(&root, "stranger").await;
        let role = Some(json!({"role": "organization_user"}));
        let path = format!("/organizations/acme/members/{id}");
        let with = crate::world::With { body: role, key: Some(fresh_key()), if_match: None };
        assert_eq!(acme.api.send(Method::PUT, &path, with).await.status, 200);
        let rules = json!({"users": ["acme-owner"], "kinds": ["web"]});
        let policy = json!({"name": "m-reachable", "rules": rules});
        assert_eq!(acme.api.post("/organizations/acme/policies", policy).await.status, 201);
        Self { world, root, acme, stranger, node_secrets: Default::default() }
    }

    /// Makes one of everything, with a name of its own; where it can be removed again.
    async fn create(&self) -> Vec<(bool, String)> {
        let name = format!("{}-{}", &fresh_key()[..4], &fresh_key()[..8]);
        let made = async |api: &Api, path: &str, body: Value| {
            let reply = api.post(path, body).await;
            assert_eq!(reply.status, 201, "{path} {}", reply.text);
            reply
        };
        let (root, acme) = (&self.root, &self.acme.api);
        self.world.log_in("root").await;
        let user = made(root, "/users", json!({"name": name})).await.json["user"]["id"].clone();
        let member = format!("/organizations/acme/members/{}", user.as_str().unwrap());
        let role = Some(json!({"role": "organization_user"}));
        let with = crate::world::With { body: role, key: Some(fresh_key()), if_match: None };
        assert_eq!(acme.send(Method::PUT, &member, with).await.status, 200);
        let organization = made(root, "/organizations", json!({"name": name})).await.id();
        let token = json!({"label": name, "scopes": ["read"], "ttlSeconds": 600});
        let token = made(acme, "/api-tokens", token).await.json["token"]["id"].clone();
        let join = json!({
            "roles": [{"role": "relay-node", "organizations": null}], "ttlSeconds": 600,
        });
        let spare = made(root, "/join-tokens", join.clone()).await.json["token"]["id"].clone();
        let used = made(root, "/join-tokens", join).await;
        self.node_secrets.lock().await.push(used.json["secret"].as_str().unwrap().to_owned());
        let within = |path: &str| format!("/organizations/acme/{path}");
        let pool = made(acme, &within("pools"), json!({"name": name})).await.id();
        let resource = json!({
            "name": name, "kind": "web", "pool": self.acme.pool,
            "target": {"host": "web.internal", "port": 80},
        });
        let resource = made(acme, &within("resources"), resource).await.id();
        let rules = json!({"roles": ["organization_admin"], "resources": [resource]});
        let policy = json!({"name": name, "rules": rules});
        let policy = made(acme, &within("policies"), policy).await.id();
        let connection = json!({"name": name, "class": "fast"});
        let connection = made(acme, &within("vpn-connections"), connection).await.id();
        let key = node::fresh_key().public_key();
        let ask = json!({"organization": "acme", "resource": "acme-ssh", "clientKey": key});
        assert_eq!(self.stranger.post("/sessions", ask).await.problem(), "access_denied");
        vec![
            (false, member),
            (true, format!("/organizations/{organization}")),
            (false, within(&format!("policies/{policy}"))),
            (false, within(&format!("resources/{resource}"))),
            (false, within(&format!("vpn-connections/{connection}"))),
            (false, within(&format!("pools/{pool}"))),
            (false, format!("/api-tokens/{}", token.as_str().unwrap())),
            (true, format!("/join-tokens/{}", spare.as_str().unwrap())),
        ]
    }

    async fn enroll(&self) {
        let secret = self.node_secrets.lock().await.pop().unwrap();
        let name = format!("{}-node", &fresh_key()[..8]);
        node::enroll(&self.world, &secret, &name).await.node();
    }

    async fn remove(&self, (by_root, path): (bool, String)) {
        let api = self.who(by_root);
        let removed = if path.contains("-tokens/") {
            api.change(Method::DELETE, &path, None, 1).await
        } else {
            api.change_current(Method::DELETE, &path, "").await
        };
        assert_eq!(removed.status, 204, "{path} {}", removed.text);
    }

    fn who(&self, by_root: bool) -> &Api {
        if by_root { &self.root } else { &self.acme.api }
    }

    /// The keys of all items, in the order of their pages.
    async fn walk(&self, list: &List) -> Vec<String> {
        let path = list.path.replace("{organization}", "acme");
        let (mut keys, mut after) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let page = self.who(list.by_root).get(&format!("{path}?limit={PAGE}{after}")).await;
            assert_eq!(page.status, 200, "{path} {}", page.text);
            let items = page.json["items"].as_array().unwrap();
            assert!(items.len() <= PAGE);
            keys.extend(items.iter().map(|item| item[list.key].to_string()));
            match page.json["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return keys,
            }
        }
        panic!("{path} has no end");
    }
}

#[tokio::test]
async fn a_walk_meets_once_whatever_was_there_throughout() {
    let scene = Scene::open().await;
    let mut doomed = Vec::new();
    let mut lasting: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    // Interleaved, so that removals are before, behind and within the pages of a walk.
    let mut doomed_keys: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..LASTING.max(DOOMED) {
        scene.create().await;
        scene.enroll().await;
        let before = all_keys(&scene).await;
        doomed.push(scene.create().await);
        for (path, keys) in all_keys(&scene).await {
            let new = keys.difference(&before[path]).cloned();
            doomed_keys.entry(path).or_default().extend(new);
        }
    }
    for (path, keys) in all_keys(&scene).await {
        let gone = doomed_keys.remove(path).unwrap_or_default();
        // Only what can be removed is removed: events, sessions, logins and accounts stay.
        let stays = matches!(path, "/audit" | "/sessions" | "/me/logins" | "/users");
        lasting.insert(path, if stays { keys } else { &keys - &gone });
    }
    // Sealed heads come with time, and not with what is made here.
    let few: Vec<_> = lasting
        .iter()
        .filter(|(path, keys)| **path != "/log/heads" && keys.len() < LASTING)
        .collect();
    assert!(few.is_empty(), "{few:?}");

    let done = AtomicBool::new(false);
    let churn = async {
        for places in doomed {
            scene.create().await;
            scene.enroll().await;
            for place in places {
                scene.remove(place).await;
            }
        }
        done.store(true, Ordering::Release);
    };
    let walks = async {
        let mut walked = 0;
        while !done.load(Ordering::Acquire) {
            for list in LISTS {
                check(list, &scene.walk(list).await, &lasting[list.path]);
            }
            walked += 1;
        }
        walked
    };
    let ((), walked) = tokio::join!(churn, walks);
    assert!(walked > 0);
    for list in LISTS {
        check(list, &scene.walk(list).await, &lasting[list.path]);
    }
    scene.world.stop().await;
}

#[track_caller]
fn check(list: &List, walked: &[String], lasting: &BTreeSet<String>) {
    let met: BTreeSet<String> = walked.iter().cloned().collect();
    assert_eq!(met.len(), walked.len(), "{}: something came twice", list.path);
    let missed: Vec<_> = lasting.difference(&met).collect();
    assert!(missed.is_empty(), "{}: {missed:?} missed", list.path);
}

async fn all_keys(scene: &Scene) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for list in LISTS {
        all.insert(list.path, scene.walk(list).await.into_iter().collect());
    }
    all
}

#[tokio::test]
async fn every_list_of_the_document_is_walked() {
    let world = World::start().await;
    let document = world.anonymous().get("/openapi.json").await.json;
    let of = |path: &str| path.strip_prefix("/api/v1").unwrap().to_owned();
    let answer = |item: &Value| {
        let content = &item["get"]["responses"]["200"]["content"]["application/json"];
        content["schema"]["properties"]["next"].is_object()
    };
    let paths = document["paths"].as_object().unwrap().iter();
    let listed: BTreeSet<String> =
        paths.filter(|(_, item)| answer(item)).map(|(path, _)| of(path)).collect();
    assert_eq!(listed, LISTS.iter().map(|list| list.path.to_owned()).collect());
    world.stop().await;
}
