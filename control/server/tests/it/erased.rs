//! What is held about a person, and what is left of it anywhere when the person was erased.

use std::{fs, path::Path};

use rap_events::{
    Append, Log as _, StreamId, SubjectKeys as _,
    export::Verification,
    log::{MAX_READ_EVENTS, NewEvent, StreamWrite},
    personal::SubjectChange,
};
use rap_proto::{CommandId, codec};
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
    assert_eq!(create(&beside).await["displayName"], CALLED, "it is answered alike");
    let id: Uuid = created["id"].as_str().unwrap().parse().unwrap();
    let (alice, shown) = devices(&first, "alice").await;
    assert_eq!(shown, [DEVICE]);
    for api in [&root, &beside] {
        let position = root.get("/cluster").await.json["position"].clone();
        let shown = api.get(&format!("/users/alice?min_position={position}")).await.json;
        assert_eq!((&shown["displayName"], &shown["erased"]), (&json!(CALLED), &json!(false)));
    }
    let told = loop {
        let told = followed.next().await.unwrap();
        if told.event == "user.created" {
            break told;
        }
    };
    assert_eq!(told.data["payload"]["display_name"], "personal");
    let audit = root.get("/audit?limit=100").await.text;
    assert!(audit.contains(r#""device":"personal""#) && !audit.contains(DEVICE), "{audit}");
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
            assert!(text.contains("\"erased\"") && !text.contains(CALLED), "{text}");
            assert!(!text.contains(DEVICE), "{text}");
        }
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
struct CreatedBefore {
    name: &'static str,
    display_name: &'static str,
}

#[tokio::test]
async fn a_name_from_before_names_were_sealed_is_shown_and_after_an_erasure_given_to_nobody() {
    let world = World::start().await;
    let root = world.set_up().await;
    let payload = codec::encode(&CreatedBefore { name: "old", display_name: CALLED });
    let event = NewEvent {
        event_type: "user.created".to_owned(),
        schema: 1,
        payload: payload.into(),
        organization: None,
    };
    let stream = StreamId::new("user", Uuid::from_u128(7));
    let append = Append {
        claim: vec!["user-name/old".to_owned()],
        ..Append::plain(
            CommandId::from_u128(7),
            rap_control::now(),
            vec![StreamWrite { stream, expected: 0, events: vec![event] }],
        )
    };
    let position = world.log.append(append).await.unwrap().last;
    let shown = root.get(&format!("/users/old?min_position={position}")).await.json;
    assert_eq!(shown["displayName"], CALLED);
    // There is no key of this person's, so what the device is called is not kept.
    let revision = root.get("/users/old").await.revision();
    let invited = root.change(Method::POST, "/users/old/invite", None, revision).await;
    let body = json!({"invitation": invited.json["invitation"], "password": PASSWORD});
    assert_eq!(world.anonymous().post("/invitations/accept", body).await.status, 201);
    let (_, shown) = devices(&world, "old").await;
    assert_eq!(shown, ["", ""]);
    let audit = root.get("/audit?limit=100").await.text;
    assert!(!audit.contains(CALLED), "{audit}");
    let erased = erase(&root, "/users/old").await;
    assert_eq!(erased.status, 200, "{}", erased.text);
    assert_eq!(root.get("/users/old").await.json["displayName"], "erased");
    assert!(verify(&world, &root).await.contains(&"user.created".to_owned()));
    assert_eq!(root.get("/audit/replay").await.json["equal"], true);
    // What was written in clear stays in the log itself.
    let events = world.log.read(0, MAX_READ_EVENTS).await.unwrap();
    assert!(events.iter().any(|event| holds(&event.payload, CANARY)));
    let (dir, _) = world.stop().await;
    assert!(!search(dir.path(), b"old").is_empty(), "the account's name is in the fold cache");
    assert_eq!(search(dir.path(), CANARY), [""; 0], "the fold cache forgets the other");
}

#[tokio::test]
async fn whoever_has_a_key_of_another_state_directory_logs_in_without_a_device() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (_, id) = world.user(&root, "bob").await;
    let wrapped = vec![7; 60].into();
    let foreign = Append {
        subjects: vec![SubjectChange::Keep { subject: id.parse().unwrap(), wrapped }],
        ..Append::plain(CommandId::from_u128(7), rap_control::now(), Vec::new())
    };
    world.log.append(foreign).await.unwrap();
    let (_, shown) = devices(&world, "bob").await;
    assert_eq!(shown, ["", ""]);
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
