//! The database's disk is full, as callers of the server see it: a command is done or refused, in words
//! that say so, what was known is shown, and with room everything goes on.

use std::{sync::Arc, time::Duration};

use rap_bus::LocalBus;
use rap_control::{BusChoice, Limits, LogChoice, Rates};
use rap_log_postgres::private::{Durability, PrivatePostgres, SmallDisk};
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::world::{Api, With, World, fresh_key};

const MAX_COMMANDS: usize = 2_000;
/// How many more are tried on the full disk.
const MORE: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

fn create(name: &str) -> With {
    With { body: Some(json!({ "name": name })), key: Some(fresh_key()), if_match: None }
}

/// Whether it was done. A full disk is a reason for three other answers, and for none beside them.
async fn tried(root: &Api, command: &With) -> bool {
    let reply = root.send(Method::POST, "/organizations", command.clone()).await;
    if reply.status == 201 {
        return true;
    }
    let refusals = ["unavailable", "outcome_unknown", "authority_frozen"];
    assert!(refusals.contains(&reply.problem()), "{}", reply.text);
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_commands_clearly_and_ends_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(folder.path()) {
        Ok(disk) => disk,
        Err(reason) => {
            let test = "a_full_disk_refuses_commands_clearly_and_ends_when_there_is_room";
            return rap_skips::skip(test, &reason.to_string());
        }
    };
    let mut postgres = PrivatePostgres::start(disk.path(), Durability::Safe).await.unwrap();
    let bus = BusChoice::Local(Arc::new(LocalBus::new()));
    let rates = Rates { user: "100000/100000".parse().unwrap(), ..Rates::default() };
    let limits = Limits { rates, ..Limits::default() };
    let database = postgres.create_log("control").await.unwrap();
    let (own, log) = (tempfile::tempdir().unwrap(), LogChoice::Postgres(database));
    let world = World::start_as(own, log, bus, limits).await;
    let root = world.set_up().await;
    disk.fill(0).unwrap();
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    while refused.len() <= MORE {
        let number = done.len() + refused.len();
        assert!(number < MAX_COMMANDS, "the disk never was full");
        let name = format!("made-{number}");
        let command = create(&name);
        if tried(&root, &command).await {
            done.push(name);
        } else {
            refused.push((name, command));
            // What is known is shown all the same.
            let known =
                done.last().map_or("/me".to_owned(), |name| format!("/organizations/{name}"));
            assert_eq!(root.get(&known).await.status, 200);
        }
    }
    assert_eq!(root.get("/organizations").await.status, 200);

    disk.make_room().unwrap();
    // Out of room for its write-ahead log a server stops by itself.
    postgres.restart().await.unwrap();
    for (name, command) in refused {
        let repeating = async { while !tried(&root, &command).await {} };
        timeout(PATIENCE, repeating).await.expect("the same server goes on");
        done.push(name);
    }
    for name in done {
        assert_eq!(root.get(&format!("/organizations/{name}")).await.status, 200, "{name}");
    }
    let replay = root.get("/audit/replay").await;
    assert_eq!(replay.json["equal"], true, "{}", replay.text);
    let (_own, _) = world.stop().await;
    postgres.stop().await;
}
