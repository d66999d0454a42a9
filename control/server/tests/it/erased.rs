//! What is held about a person, and what is left of it anywhere when the person was erased.

use std::{fs, path::Path, time::Duration};

use rap_events::{
    Append, AppendError, Log as _, StreamId, SubjectKeys as _,
    export::Verification,
    keys::subject_key,
    log::{MAX_READ_EVENTS, NewEvent, StreamWrite},
    personal::SubjectChange,
};
use rap_proto::{ApiScope, CommandId, Digest, OrganizationId, Timestamp, UserId, codec};
use rap_tlog::{
    TreeHead,
    tile::{bundle_from_bytes, hashes_from_bytes},
};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    events::{messages, subscribe},
    replicas::{Cluster, at},
    tree::{keys, ok},
    world::{Api, PASSWORD, Reply, With, World},
};

const CALLED: &str = "Alice of Wonderland";
const DEVICE: &str = "laptop-of-Wonderland";
const LABEL: &str = "CI in Wonderland";
/// What is looked for: no other text has it.
const CANARY: &[u8] = b"Wonderland";

/// Creates the account with one key, however often.
async fn create(root: &Api) -> Value {
    let body = json!({"name": "alice", "displayName": CALLED, "password": PASSWORD});
    let with = With { body: Some(body), key: Some("alice-1".to_owned()), if_match: None };
    let created = root.send(Method::POST, "/users", with).await;
    assert_eq!(created.status, 201, "{}", created.text);
    created.json["user"].clone()
}

async fn erase(api: &Api, path: &str) -> Reply {
    let revision = api.get(path).await.revision();
    api.change(Method::POST, &format!("{path}/erase"), None, revision).await
}

/// Logs in from a device that says how it is called; returns the devices that its user is shown.
async fn devices(world: &World, name: &str) -> (Api, Vec<String>) {
    let body = json!({"name": name, "password": PASSWORD, "device": DEVICE});
    let reply = world.anonymous().post("/logins", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let api = world.anonymous().with_token(reply.json["secret"].as_str().unwrap());
    let logins = api.get("/me/logins").await.json["items"].clone();
    let device = |login: &Value| login["device"].as_str().unwrap().to_owned();
    (api, logins.as_array().unwrap().iter().map(device).collect())
}

async fn make_token(api: &Api) -> Value {
    let body = json!({"label": LABEL, "scopes": ["read"], "ttlSeconds": 600});
    let reply = api.post("/api-tokens", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json["token"].clone()
}

/// What the caller is shown of each API token's label, and whether it is sealed.
async fn labels(api: &Api) -> Vec<(String, bool)> {
    let tokens = api.get("/api-tokens").await;
    assert_eq!(tokens.status, 200, "{}", tokens.text);
    let shown = |token: &Value| {
        (token["label"].as_str().unwrap().to_owned(), token["sealed"].as_bool().unwrap())
    };
    tokens.json["items"].as_array().unwrap().iter().map(shown).collect()
}

/// Another key in the place of a person's, as another state directory would have wrapped it.
fn foreign_key(person: &str) -> Append {
    let wrapped = vec![7; 60].into();
    Append {
        subjects: vec![SubjectChange::Keep { subject: person.parse().unwrap(), wrapped }],
        ..Append::plain(CommandId::from_u128(7), rap_control::now(), Vec::new())
    }
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|part| part == text)
}

/// The files below a folder that hold a text.
fn search(folder: &Path, text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(search(&entry.path(), text));
        // The database may remove a file of its own at any time.
        } else if kind.is_file() && holds(&fs::read(entry.path()).unwrap_or_default(), text) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// The log, as an auditor mirrors it, verifies; returns the types of the events whose payloads are
/// withheld.
async fn verify(world: &World, root: &Api) -> Vec<String> {
    let note = ok(world, root, "/log/checkpoint").await;
    let head = TreeHead::open(&note, world.running.cluster, &keys(root).await).unwrap();
    let place = format!("000.p/{}", head.size);
    let leaves = ok(world, root, &format!("/log/tile/0/{place}")).await;
    let entries = ok(world, root, &format!("/log/tile/entries/{place}")).await;
    let payloads = ok(world, root, &format!("/log/payloads/{place}")).await;
    assert!(!holds(&payloads, CANARY) && !holds(&entries, CANARY));
    let leaves = hashes_from_bytes(&leaves).unwrap();
    let entries = bundle_from_bytes(&entries).unwrap();
    let payloads = bundle_from_bytes(&payloads).unwrap();
    let mut verification = Verification::new(head.clone(), None);
    let mut withheld = Vec::new();
    for ((entry, leaf), payload) in entries.iter().zip(&leaves).zip(&payloads) {
        let shown = (!payload.is_empty()).then_some(*payload);
        let entry = verification.take(entry, Some(leaf), shown).unwrap();
        withheld.extend(shown.is_none().then_some(entry.event_type));
    }
    assert_eq!(verification.finish(), Ok(head));
    withheld
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_named_nowhere_and_the_log_still_proves_itself() {
    let (cluster, _relay, first, root) = Cluster::start().await;
    let second = cluster.replica().await;
    let beside = at(&second, &root);
    let mut followed = messages(subscribe(&second, &beside, "", None).await);
    let created = create(&root).await;
    assert_eq!(created["displayName"], CALLED);
    let position = root.get("/cluster").await.json["position"].clone();
    beside.get(&format!("/cluster?min_position={position}")).await;
    assert_eq!(create(&beside).await["displayName"], CALLED, "it is answered alike");
    let id: Uuid = created["id"].as_str().unwrap().parse().unwrap();
    let (alice, shown) = devices(&first, "alice").await;
    assert_eq!(shown, [DEVICE]);
    assert_eq!(make_token(&alice).await["label"], LABEL);
    for api in [&root, &beside] {
        let position = root.get("/cluster").await.json["position"].clone();
        let shown = api.get(&format!("/users/alice?min_position={position}")).await.json;
        assert_eq!((&shown["displayName"], &shown["erased"]), (&json!(CALLED), &json!(false)));
        assert_eq!(labels(api).await, [(LABEL.to_owned(), false)]);
    }
    let told = loop {
        let told = followed.next().await.unwrap();
        if told.event == "user.created" {
            break told;
        }
    };
    assert_eq!(told.data["payload"]["display_name"], "personal");
    let audit = root.get("/audit?limit=100").await.text;
    for field in ["device", "label"] {
        assert!(audit.contains(&format!(r#""{field}":"personal""#)), "{audit}");
    }
    assert!(!audit.contains("Wonderland"), "{audit}");
    assert_eq!(cluster.log().keys(vec![id]).await.unwrap().len(), 1);
    assert!(!verify(&first, &root).await.contains(&"user.created".to_owned()));
    let before = root.get("/audit/replay").await.json;

    let erased = erase(&beside, "/users/alice").await;
    assert_eq!(erased.status, 200, "{}", erased.text);
    assert!(cluster.log().keys(vec![id]).await.unwrap().is_empty(), "in one transaction");
    for api in [&root, &beside] {
        let position = erased.position();
        let shown = api.get(&format!("/users/alice?min_position={position}")).await.json;
        assert_eq!((&shown["displayName"], &shown["erased"]), (&json!("erased"), &json!(true)));
        assert_eq!((&shown["disabled"], &shown["active"]), (&json!(true), &json!(false)));
        let users = api.get("/users").await.text;
        let audit = api.get("/audit?limit=100").await.text;
        for text in [users, audit] {
            assert!(text.contains("\"erased\"") && !text.contains("Wonderland"), "{text}");
        }
        assert_eq!(labels(api).await, [("erased".to_owned(), false)]);
        assert_eq!(create(api).await["displayName"], "erased", "so is the repeated command");
        let replay = api.get("/audit/replay").await.json;
        assert_eq!((&replay["equal"], &replay["altered"]), (&json!(true), &json!(null)));
        let then = api.get(&format!("/audit/replay?as_of={}", before["position"])).await.json;
        assert_eq!((&then["digest"], &then["root"]), (&before["digest"], &before["root"]));
    }
    assert_eq!(at(&second, &alice).get("/me").await.status, 401);
    assert!(verify(&second, &beside).await.contains(&"user.created".to_owned()));
    let revision = root.get("/users/alice").await.revision();
    let enabled = root.change(Method::POST, "/users/alice/enable", None, revision).await;
    assert_eq!(enabled.json["rule"], "user.erased", "{}", enabled.text);

    // Who writes nothing any more leaves a fold cache.
    cluster.sees("login.closed").await;
    let (second, _) = second.stop().await;
    let (first, _) = first.stop().await;
    let postgres = cluster.dir.path();
    assert!(!search(postgres, b"alice").is_empty(), "the account's name is found there");
    for folder in [first.path(), second.path()] {
        assert!(!search(folder, b"alice").is_empty(), "the account's name is in the fold cache");
    }
    for folder in [postgres, first.path(), second.path()] {
        assert_eq!(search(folder, CANARY), [""; 0]);
    }
}

/// `user.created` as it was written before names were sealed.
#[derive(Serialize)]
struct UserBefore {
    name: &'static str,
    display_name: &'static str,
}

/// `api_token.created` as it was written before labels were sealed.
#[derive(Serialize)]
struct TokenBefore {
    user: UserId,
    secret: Digest,
    label: &'static str,
    scopes: [ApiScope; 1],
    organization: Option<OrganizationId>,
    expires_at: Timestamp,
}

const OLD: Uuid = Uuid::from_u128(7);

/// An account and an API token of a release that knew of no keys; returns the account, once the
/// server has folded both.
async fn from_before(world: &World, root: &Api) -> Value {
    let write = |category: &str, payload: Vec<u8>| StreamWrite {
        stream: StreamId::new(category, OLD),
        expected: 0,
        events: vec![NewEvent {
            event_type: format!("{category}.created"),
            schema: 1,
            payload: payload.into(),
            organization: None,
        }],
    };
    let user = UserBefore { name: "old", display_name: CALLED };
    let token = TokenBefore {
        user: UserId::from_uuid(OLD),
        secret: Digest::default(),
        label: LABEL,
        scopes: [ApiScope::Read],
        organization: None,
        expires_at: rap_control::now() + Duration::from_secs(600),
    };
    let writes =
        vec![write("user", codec::encode(&user)), write("api_token", codec::encode(&token))];
    let append = Append {
        claim: vec!["user-name/old".to_owned()],
        ..Append::plain(CommandId::from_u128(7), rap_control::now(), writes)
    };
    let position = world.log.append(append).await.unwrap().last;
    root.get(&format!("/users/old?min_position={position}")).await.json
}

/// The person of [`from_before`] chooses a password.
async fn invite(world: &World, root: &Api) {
    let revision = root.get("/users/old").await.revision();
    let invited = root.change(Method::POST, "/users/old/invite", None, revision).await;
    let body = json!({"invitation": invited.json["invitation"], "password": PASSWORD});
    assert_eq!(world.anonymous().post("/invitations/accept", body).await.status, 201);
}

#[tokio::test]
async fn a_name_from_before_names_were_sealed_is_shown_and_after_an_erasure_given_to_nobody() {
    let world = World::start().await;
    let root = world.set_up().await;
    assert_eq!(from_before(&world, &root).await["displayName"], CALLED);
    assert_eq!(labels(&root).await, [(LABEL.to_owned(), false)]);
    let audit = root.get("/audit?limit=100").await.text;
    assert!(!audit.contains("Wonderland"), "{audit}");
    invite(&world, &root).await;
    let erased = erase(&root, "/users/old").await;
    assert_eq!(erased.status, 200, "{}", erased.text);
    assert_eq!(root.get("/users/old").await.json["displayName"], "erased");
    assert_eq!(labels(&root).await, [("erased".to_owned(), false)]);
    assert!(verify(&world, &root).await.contains(&"user.created".to_owned()));
    assert_eq!(root.get("/audit/replay").await.json["equal"], true);
    // What was written in clear stays in the log itself.
    let events = world.log.read(0, MAX_READ_EVENTS).await.unwrap();
    assert!(events.iter().any(|event| holds(&event.payload, CANARY)));
    let (dir, _) = world.stop().await;
    assert!(!search(dir.path(), b"old").is_empty(), "the account's name is in the fold cache");
    assert_eq!(search(dir.path(), CANARY), [""; 0], "the fold cache forgets the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_from_before_each_had_a_key_is_given_one_by_the_first_that_needs_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    from_before(&world, &root).await;
    invite(&world, &root).await;
    assert!(world.log.keys(vec![OLD]).await.unwrap().is_empty());
    // Each of them finds none.
    let at_once = [(); 4].map(|()| devices(&world, "old"));
    let (old, _) = futures_util::future::join_all(at_once).await.remove(0);
    assert_eq!(world.log.keys(vec![OLD]).await.unwrap().len(), 1);
    assert_eq!(make_token(&old).await["label"], LABEL);
    let logins = old.get("/me/logins").await.json["items"].clone();
    let named = logins.as_array().unwrap().iter().filter(|login| login["device"] == DEVICE);
    assert_eq!(named.count(), 4, "one key opens what each of them sealed: {logins}");
    erase(&root, "/users/old").await;
    assert!(world.log.keys(vec![OLD]).await.unwrap().is_empty());
    // Whoever found no key before this one was kept comes too late with another, for good.
    let claim = vec![subject_key(UserId::from_uuid(OLD))];
    let late = Append {
        claim: claim.clone(),
        ..Append::plain(CommandId::from_u128(8), rap_control::now(), Vec::new())
    };
    let taken = AppendError::Claimed { key: claim[0].clone() };
    assert_eq!(world.log.append(late).await, Err(taken));
    let after = world.log.read(0, MAX_READ_EVENTS).await.unwrap();
    let later = after.iter().filter(|event| event.schema != 1 || event.stream.id != OLD);
    assert!(!later.into_iter().any(|event| holds(&event.payload, CANARY)), "it was sealed");
    world.stop().await;
}

#[tokio::test]
async fn what_a_key_of_another_state_directory_sealed_is_shown_as_sealed_and_keeps_nobody_out() {
    let world = World::start().await;
    let root = world.set_up().await;
    let body = json!({"name": "bob", "displayName": CALLED, "password": PASSWORD});
    let with = With { body: Some(body), key: Some("bob-1".to_owned()), if_match: None };
    let created = root.send(Method::POST, "/users", with.clone()).await.json["user"].clone();
    let (bob, shown) = devices(&world, "bob").await;
    assert_eq!((shown, created["sealed"].clone()), (vec![DEVICE.to_owned()], json!(false)));
    make_token(&bob).await;
    make_token(&root).await;
    world.log.append(foreign_key(created["id"].as_str().unwrap())).await.unwrap();

    let sealed = |shown: &Value, text: &str| {
        assert_eq!((&shown[text], &shown["sealed"]), (&json!("sealed"), &json!(true)), "{shown}");
    };
    let users = root.get("/users").await;
    assert_eq!(users.status, 200, "{}", users.text);
    let items = users.json["items"].as_array().unwrap();
    sealed(items.iter().find(|user| user["name"] == "bob").unwrap(), "displayName");
    assert!(items.iter().any(|user| user["name"] == "root" && user["sealed"] == false));
    let one = root.get("/users/bob").await.json;
    sealed(&one, "displayName");
    assert_eq!(one["erased"], false);
    sealed(&root.send(Method::POST, "/users", with).await.json["user"], "displayName");
    sealed(&bob.get("/me/logins").await.json["items"][0], "device");
    assert_eq!(labels(&bob).await, [("sealed".to_owned(), true)]);
    let all = labels(&root).await;
    assert_eq!(all, [("sealed".to_owned(), true), (LABEL.to_owned(), false)]);

    // What comes now is left out: nobody could show it.
    let (_, shown) = devices(&world, "bob").await;
    assert_eq!(shown, ["sealed", ""]);
    assert_eq!(make_token(&bob).await["label"], "");
    assert_eq!(erase(&root, "/users/bob").await.status, 200);
    let one = root.get("/users/bob").await.json;
    assert_eq!((&one["displayName"], &one["sealed"]), (&json!("erased"), &json!(false)));
    world.stop().await;
}

#[tokio::test]
async fn only_the_platforms_owner_erases_and_one_owner_stays() {
    let world = World::start().await;
    let root = world.set_up().await;
    create(&root).await;
    let (bob, _) = world.user(&root, "bob").await;
    let revision = root.get("/users/bob").await.revision();
    let granted =
        root.change(Method::PUT, "/users/bob/platform-roles/platform_admin", None, revision).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(erase(&bob, "/users/alice").await.status, 403);
    assert_eq!(erase(&root, "/users/root").await.problem(), "forbidden");
    assert_eq!(root.get("/users/alice").await.json["displayName"], CALLED);
}
