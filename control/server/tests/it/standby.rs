//! A control server whose database's address leads to a standby.

use std::{path::Path, time::Duration};

use rap_control::{ControlOptions, LogChoice, ServeError};
use serde_json::json;
use tokio::time::{interval, timeout};
use tokio_postgres::NoTls;

use crate::{
    beat::{Cluster, at, authority, copy_without_own_key, created},
    relay::{Relay, url},
    world::{Api, World},
};

const SOCKET: &str = "run/.s.PGSQL.5432";
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);

/// Three replicas, so that the beats of two are there to be read on the standby.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_neither_started_on_nor_believed() {
    let cluster = Cluster::start().await;
    let (primary, follows) =
        (cluster.dir.path().join("postgres"), cluster.dir.path().join("standby"));
    let standby = cluster.postgres.start_standby(&follows).await.unwrap();
    let relay = Relay::start(primary.join(SOCKET));
    let first = cluster.replica(None).await;
    let root = first.set_up().await;
    let own = tempfile::tempdir().unwrap();
    copy_without_own_key(&first.state_dir(), &own.path().join("control"));
    let second = cluster.replica_over(LogChoice::Postgres(relay.url("control")), own).await;
    let third = cluster.replica(Some(&first)).await;
    let beside = at(&second, &root);
    for world in [&first, &second, &third] {
        cluster.add(world).await;
    }
    for world in [&first, &second, &third] {
        authority(world, "quorum").await;
    }

    // It has everything, and can store nothing.
    assert_eq!(created(&root, "early").await, 201);
    shows(&beside, "early").await;
    reaches(&follows, head(&primary).await).await;
    relay.lead_to(follows.join(SOCKET));
    authority(&second, "frozen").await;
    let refused = beside.post("/organizations", json!({"name": "lost"})).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (503, "authority_frozen"));
    shows(&beside, "early").await;
    says(&second, "frozen: too few replicas see the database").await;
    authority(&first, "quorum").await;
    relay.lead_to(primary.join(SOCKET));
    authority(&second, "quorum").await;

    // It is behind what the replica has read.
    ask(&follows, "SELECT pg_wal_replay_pause()::text").await;
    assert_eq!(created(&root, "late").await, 201);
    shows(&beside, "late").await;
    relay.lead_to(follows.join(SOCKET));
    says(&second, "the log went back behind what this replica had read: start it again").await;
    let refused = beside.post("/organizations", json!({"name": "lost"})).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (503, "authority_frozen"));
    shows(&beside, "late").await;

    // Started again there it says what is wrong, and at the primary it goes on.
    let there = LogChoice::Postgres(url(&follows.join("run"), "control"));
    let options = ControlOptions { log: there, ..cluster.options(&second) };
    let (kept, _) = second.stop().await;
    let refused = rap_control::serve(options, std::future::pending()).await.unwrap_err();
    let ServeError::Log(said) = &refused else { panic!("{refused}") };
    assert!(said.contains("is a standby"), "{said}");
    let second = cluster.replica_in(kept).await;
    authority(&second, "quorum").await;
    shows(&at(&second, &root), "late").await;
    for world in [first, second, third] {
        world.stop().await;
    }
    standby.stop().await;
}

/// Waits until an organization can be read.
async fn shows(api: &Api, name: &str) {
    until(name, async || api.get(&format!("/organizations/{name}")).await.status == 200).await;
}

/// Waits until a replica says this to load balancers.
async fn says(world: &World, words: &str) {
    until(words, async || {
        let ready = world.client.get(format!("{}/readyz", world.base)).send().await.unwrap();
        ready.text().await.unwrap().contains(words)
    })
    .await;
}

/// The end of the log in the database of this folder.
async fn head(folder: &Path) -> u64 {
    ask(folder, "SELECT position::text FROM log_head").await.parse().unwrap()
}

async fn reaches(folder: &Path, position: u64) {
    until("the standby follows", async || head(folder).await >= position).await;
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut looks = interval(LOOK_EVERY);
    let waiting = async {
        while !holds().await {
            looks.tick().await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The one text that a statement returns, asked past all replicas.
async fn ask(folder: &Path, sql: &str) -> String {
    let config = format!("host={} user=rap dbname=control", folder.join("run").display());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one(sql, &[]).await.unwrap().get(0)
}
