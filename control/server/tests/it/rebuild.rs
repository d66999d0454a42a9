//! The projections rebuilt while the server answers: nobody waits for it, nobody sees half of it, and
//! what was wrong is found and healed.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rap_bus::LocalBus;
use rap_control::{BusChoice, Limits, LogChoice, Rates};
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres},
};
use rap_proto::{Digest, codec};
use reqwest::Method;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

use crate::{
    crash::copy,
    events::{Subscription, messages, subscribe},
    folds::grow,
    sealer::execute,
    skew::FoldCache,
    watched::watched,
    world::{Api, Reply, With, World, fresh_key},
};

const PATH: &str = "/projections/rebuild";
/// So many that a rebuild takes dozens of reads.
const EVENTS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

async fn ask(api: &Api) -> Reply {
    api.send(Method::POST, PATH, With { key: Some(fresh_key()), ..With::default() }).await
}

fn is_under_way(rebuild: &Value) -> bool {
    ["folding", "comparing"].contains(&rebuild["state"].as_str().unwrap())
}

/// Waits until it is over, and returns how it ended.
async fn over(api: &Api) -> Value {
    let waiting = async {
        loop {
            let shown = api.get(PATH).await.json;
            if !is_under_way(&shown) {
                return shown;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it comes to its end")
}

/// Puts one name in the place of another in the state that the next start goes on from. The
/// cache is whole otherwise, so no check of it can tell.
fn plant(state_dir: &Path, right: &str, wrong: &str) {
    assert_eq!(right.len(), wrong.len());
    let file = state_dir.join("fold_cache");
    let bytes = fs::read(&file).unwrap();
    let mut cache: FoldCache = codec::decode(&bytes, bytes.len()).unwrap();
    let mut planted = 0;
    for at in 0..cache.state.len() - right.len() {
        if cache.state[at..].starts_with(right.as_bytes()) {
            cache.state[at..at + right.len()].copy_from_slice(wrong.as_bytes());
            planted += 1;
        }
    }
    assert!(planted > 0, "the state knows the name");
    cache.digest = Digest::of(&cache.state);
    cache.state = ByteBuf::from(std::mem::take(&mut cache.state).into_vec());
    fs::write(&file, codec::encode(&cache)).unwrap();
}

#[tokio::test]
async fn a_living_state_that_is_wrong_is_found_named_and_healed_and_stays_so() {
    let world = World::start().await;
    let root = world.set_up().await;
    assert_eq!(root.get(PATH).await.json["state"], "none");
    root.post("/organizations", json!({"name": "wellmade"})).await;
    let state_dir = world.state_dir();
    let (dir, log) = world.stop().await;
    plant(&state_dir, "wellmade", "misshape");

    let world = World::start_over(dir, log).await;
    let root = world.anonymous().with_token(root.token.as_ref().unwrap());
    assert_eq!(root.get("/organizations/misshape").await.status, 200, "it is served");
    for asked in ["/audit/replay", "/audit/replay?as_of=1"] {
        let replay = root.get(asked).await.json;
        assert_eq!(replay["equal"], false, "{asked}");
        assert_eq!(replay["differing"], json!(["organizations"]), "{asked}");
    }
    let asked = ask(&root).await;
    assert_eq!(asked.status, 202, "{}", asked.text);
    let over = over(&root).await;
    assert_eq!(over["state"], "differed", "{over}");
    assert_eq!(over["differing"], json!(["organizations"]));
    assert!(over["exchangedAt"].as_u64().unwrap() > 3, "{over}");
    assert_eq!(over["replica"], asked.json["replica"]);
    assert_eq!(root.get("/organizations/misshape").await.status, 404);
    assert_eq!(root.get("/organizations/wellmade").await.status, 200);
    assert_eq!(root.get("/audit/replay").await.json["equal"], true);
    let metrics = root.get("/metrics").await.text;
    assert!(metrics.contains("rap_control_rebuilds_total{outcome=\"differed\"} 1"), "{metrics}");

    // A power cut leaves the healed one for the next start.
    let after = tempfile::tempdir().unwrap();
    copy(&world.state_dir(), &after.path().join("control"));
    let (_dir, log) = world.stop().await;
    let again = World::start_over(after, log).await;
    let root = again.anonymous().with_token(root.token.as_ref().unwrap());
    assert_eq!(root.get("/organizations/wellmade").await.status, 200);
    assert_eq!(root.get("/audit/replay").await.json["equal"], true);
    again.stop().await;
}

#[tokio::test]
async fn a_repetition_begins_no_other_rebuild() {
    let world = World::start().await;
    let root = world.set_up().await;
    let with = With { key: Some(fresh_key()), ..With::default() };
    assert_eq!(root.send(Method::POST, PATH, with.clone()).await.status, 202);
    let first = over(&root).await;
    assert_eq!((&first["state"], &first["percent"]), (&json!("same"), &json!(100)), "{first}");
    let again = root.send(Method::POST, PATH, with).await;
    assert_eq!((again.status.as_u16(), again.json), (202, first));
    assert_eq!(ask(&root).await.status, 202, "another command begins another one");
    assert_eq!(over(&root).await["state"], "same");
    let metrics = root.get("/metrics").await.text;
    assert!(metrics.contains("rap_control_rebuilds_total{outcome=\"same\"} 2"), "{metrics}");
    world.stop().await;
}

/// Over so short a log the one read that a rebuild takes is the one for which the living state is
/// held: whoever dies then must let it go.
#[tokio::test]
async fn a_rebuild_whose_driver_dies_is_interrupted_and_the_next_one_is_not() {
    let deadly = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&deadly);
    let log = Arc::new(watched(move |after, _| {
        // Nobody else reads from the beginning.
        assert!(after > 0 || !armed.swap(false, Ordering::Relaxed), "planted");
    }));
    let bus = BusChoice::Local(Arc::new(LocalBus::new()));
    let dir = tempfile::tempdir().unwrap();
    let world = World::start_with(dir, LogChoice::Local(log), bus).await;
    let root = world.set_up().await;
    root.post("/organizations", json!({"name": "wellmade"})).await;

    deadly.store(true, Ordering::Relaxed);
    assert_eq!(ask(&root).await.status, 202);
    let ended = over(&root).await;
    assert!(!deadly.load(Ordering::Relaxed), "it died of it");
    assert_eq!(ended["state"], "interrupted", "{ended}");
    assert_eq!((&ended["exchangedAt"], &ended["reason"]), (&Value::Null, &Value::Null));
    assert!(ended["endedAt"].is_string(), "{ended}");
    let metrics = root.get("/metrics").await.text;
    assert!(metrics.contains("rap_control_rebuilds_total{outcome=\"interrupted\"} 1"), "{metrics}");
    assert!(metrics.contains("rap_control_rebuilding 0"), "{metrics}");

    // The state is held by nobody: it is folded on, and is what it was.
    let made = root.post("/organizations", json!({"name": "afterwards"})).await;
    let path = format!("/organizations/afterwards?min_position={}", made.position());
    assert_eq!(root.get(&path).await.status, 200);
    assert_eq!(root.get("/audit/replay").await.json["equal"], true);
    assert_eq!(ask(&root).await.status, 202);
    assert_eq!(over(&root).await["state"], "same");
    world.stop().await;
}

/// A database of its own, and a server over it.
async fn on_postgres() -> (PrivatePostgres, String, std::path::PathBuf, World) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("postgres");
    let postgres = PrivatePostgres::start(&folder, Durability::Fast).await.unwrap();
    let database = postgres.create_log("control").await.unwrap();
    let bus = BusChoice::Local(Arc::new(LocalBus::new()));
    let rates = Rates { user: "100000/100000".parse().unwrap(), ..Rates::default() };
    let limits = Limits { rates, ..Limits::default() };
    let world = World::start_as(dir, LogChoice::Postgres(database.clone()), bus, limits).await;
    (postgres, database, folder.join("run"), world)
}

/// The names of the organizations that the stream tells of, in order.
async fn created(stream: &mut Subscription, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        let message = stream.next().await.expect("the stream goes on");
        if message.event == "organization.created" {
            names.push(message.data["payload"]["name"].as_str().unwrap().to_owned());
        }
    }
    names
}

/// What was done and seen while a rebuild went on.
struct Meanwhile {
    names: Vec<String>,
    /// How far it was.
    seen: Vec<u64>,
    outcome: Value,
}

/// One after the other changes and looks, until the rebuild is over: each is answered, by a state
/// that is whole and never goes back.
async fn work_meanwhile(root: &Api) -> Meanwhile {
    let (mut names, mut last, mut seen) = (Vec::new(), 0, Vec::new());
    loop {
        let name = format!("made-{}", names.len());
        let made = root.post("/organizations", json!({ "name": name })).await;
        assert_eq!(made.status, 201, "{}", made.text);
        assert!(made.position() > last, "nothing goes back");
        last = made.position();
        let found = root.get(&format!("/organizations/{name}?min_position={last}")).await;
        assert_eq!(found.status, 200, "{}", found.text);
        let old = root.get("/organizations/noise").await;
        assert_eq!((old.status.as_u16(), old.position() >= last), (200, true), "{}", old.text);
        names.push(name);
        let outcome = root.get(PATH).await.json;
        if !is_under_way(&outcome) {
            return Meanwhile { names, seen, outcome };
        }
        seen.push(outcome["position"].as_u64().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_projections_are_rebuilt_every_request_is_answered_and_streams_go_on() {
    let (postgres, database, _, world) = on_postgres().await;
    let root = world.set_up().await;
    let noise = root.post("/organizations", json!({"name": "noise"})).await.id().parse().unwrap();
    let log = PostgresLog::connect(&database).await.unwrap();
    grow(&log, noise, EVENTS).await;
    log.close().await;
    world.settles("rap_control_folded_position ", |folded| folded > EVENTS).await;
    let mut stream = messages(subscribe(&world, &root, "", None).await);

    assert_eq!(ask(&root).await.status, 202);
    let second = ask(&root).await;
    assert_eq!((second.status.as_u16(), second.problem()), (409, "rejected"));
    assert_eq!(second.json["rule"], "rebuild.under_way");
    let working = tokio::time::timeout(PATIENCE, work_meanwhile(&root));
    let Meanwhile { mut names, seen, outcome } = working.await.expect("it comes to its end");
    assert_eq!(outcome["state"], "same", "{outcome}");
    assert!(outcome["exchangedAt"].as_u64().unwrap() > EVENTS, "{outcome}");
    // Who waited for all of the reads would have been answered once.
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(seen.is_sorted() && seen.iter().any(|at| (1..EVENTS).contains(at)), "{seen:?}");
    // What is served from now on goes on as before, and so do those who follow.
    names.push("afterwards".to_owned());
    let after = root.post("/organizations", json!({"name": "afterwards"})).await;
    assert_eq!(after.status, 201, "{}", after.text);
    assert_eq!(created(&mut stream, names.len()).await, names);
    assert_eq!(root.get("/audit/replay").await.json["equal"], true);
    drop(stream);
    let (_dir, _) = world.stop().await;
    postgres.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_changed_in_the_database_is_named_and_not_taken() {
    let (postgres, _, socket, world) = on_postgres().await;
    let root = world.set_up().await;
    root.post("/organizations", json!({"name": "wellmade"})).await;
    let before = root.get("/organizations").await.json;
    execute(&socket, "UPDATE events SET recorded_at = recorded_at + 1 WHERE position = 2").await;
    assert_eq!(ask(&root).await.status, 202);
    let over = over(&root).await;
    assert_eq!((&over["state"], &over["altered"]), (&json!("altered"), &json!(2)), "{over}");
    assert_eq!(over["exchangedAt"], Value::Null);
    assert_eq!(root.get("/organizations").await.json, before, "what is served stays");
    let metrics = root.get("/metrics").await.text;
    assert!(metrics.contains("rap_control_rebuilds_total{outcome=\"altered\"} 1"), "{metrics}");
    let (_dir, _) = world.stop().await;
    postgres.stop().await;
}
