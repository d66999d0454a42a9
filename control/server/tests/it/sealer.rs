//! No tree head is sealed while nobody can tell whether the log is still the one of the last.

use std::{path::Path, sync::Arc};

use rap_bus::LocalBus;
use rap_control::{BusChoice, LogChoice};
use rap_events::Heads as _;
use rap_log_postgres::private::{Durability, PrivatePostgres};
use rap_proto::{Digest, key::LocalKey};
use rap_tlog::{HeadKey, TreeHead};
use serde_json::json;
use tokio_postgres::NoTls;

use crate::world::{Api, World};

const OBSTACLE: &str = "rap_control_sealing_obstacle{obstacle=";
const TRIES: &str = "rap_control_tree_heads_total{outcome=";

async fn ready(world: &World) -> (u16, String) {
    let reply = world.client.get(format!("{}/readyz", world.base)).send().await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

async fn obstacle(world: &World, word: &str, present: bool) {
    let gauge = format!("{OBSTACLE}\"{word}\"}} ");
    world.settles(&gauge, |value| value == u64::from(present)).await;
}

async fn grow(root: &Api, name: &str) {
    let created = root.post("/organizations", json!({"name": name})).await;
    assert_eq!(created.status, 201, "the log itself is not refuted: {}", created.text);
}

/// The sizes of sealed heads, the newest first.
async fn sealed(root: &Api) -> Vec<u64> {
    let heads = root.get("/log/heads").await.json;
    let items = heads["items"].as_array().unwrap().clone();
    items.iter().map(|head| head["size"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_sealed_head_that_was_not_signed_here_is_reported_and_nothing_is_sealed_behind_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let size = world.head().await;
    world.settles(&format!("{TRIES}\"sealed\"}} "), |count| count > 0).await;
    let stranger = LocalKey::from_random(&[7; 32]).unwrap();
    let head = TreeHead {
        cluster: world.running.cluster,
        size: size + 1_000,
        root: Digest::of(b"a log that nobody has"),
        said_epoch: Some(1),
    };
    let note = head.sign(&stranger, &HeadKey::from_seed(&[1; 32]));
    world.log.seal(head.size, note, rap_control::now()).await.unwrap();
    grow(&root, "first").await;
    obstacle(&world, "unopened", true).await;
    let line = "no tree head is sealed: the newest sealed one was not signed here\n";
    let (status, text) = ready(&world).await;
    assert_eq!((status, text.ends_with(line)), (200, true), "{text}");

    // It is tried again and again, and counted each time; a forged head freezes nobody.
    world.settles(&format!("{TRIES}\"unopened\"}} "), |count| count > 1).await;
    let before = sealed(&root).await;
    assert_eq!(before[0], head.size);
    grow(&root, "second").await;
    world.settles(&format!("{TRIES}\"unopened\"}} "), |count| count > 3).await;
    assert_eq!(sealed(&root).await, before);
    world.stop().await;
}

/// Past every server, as who holds the database can.
pub(crate) async fn execute(dir: &Path, sql: &str) {
    let config = format!("host={} user=rap dbname=control", dir.display());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    let running = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_log_whose_growth_cannot_be_proven_is_reported_and_sealed_again_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("postgres");
    let postgres = PrivatePostgres::start(&folder, Durability::Fast).await.unwrap();
    let database = postgres.create_log("control").await.unwrap();
    let socket = folder.join("run");
    let bus = BusChoice::Local(Arc::new(LocalBus::new()));
    let world = World::start_with(dir, LogChoice::Postgres(database), bus).await;
    let root = world.set_up().await;
    world.settles(&format!("{TRIES}\"sealed\"}} "), |count| count > 0).await;

    // The tree loses a leaf: no proof from any earlier head is to be had.
    execute(
        &socket,
        "CREATE TABLE lost AS SELECT position, leaf FROM events WHERE position = 1; \
         UPDATE events SET leaf = NULL WHERE position = 1",
    )
    .await;
    let mut names = (0..).map(|number| format!("name-{number}"));
    grow(&root, &names.next().unwrap()).await;
    obstacle(&world, "unproven", true).await;
    let line = "no tree head is sealed: the log's tree lacks what proves that it grew\n";
    let (status, text) = ready(&world).await;
    assert_eq!((status, text.ends_with(line)), (200, true), "{text}");
    let before = sealed(&root).await;
    grow(&root, &names.next().unwrap()).await;
    world.settles(&format!("{TRIES}\"unproven\"}} "), |count| count > 1).await;
    assert_eq!(sealed(&root).await, before, "nothing is sealed that nobody could prove");

    execute(
        &socket,
        "UPDATE events SET leaf = lost.leaf FROM lost WHERE events.position = lost.position",
    )
    .await;
    obstacle(&world, "unproven", false).await;
    world.settles(&format!("{TRIES}\"sealed\"}} "), |count| count > before.len() as u64).await;
    assert!(sealed(&root).await[0] > before[0]);
    assert!(!ready(&world).await.1.contains("no tree head"));
    let (_dir, _) = world.stop().await;
    postgres.stop().await;
}
