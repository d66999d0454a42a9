//! Who follows a log that lost its end, and has other events in the place of what was shown.

use rap_events::{Log as _, MemoryLog};
use rap_proto::api::UNREADABLE_EVENT_ID;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    events::{Message, Subscription, messages, subscribe},
    streams::burst,
    world::{Api, World},
};

/// What stands in the place of what was lost.
const OTHER: &str = "organization.suspended";
/// How many worlds are tried until one begins a stream before it notices its loss.
const MAX_WORLDS: usize = 5;

/// Reads on until an organization of this name is created.
async fn created(stream: &mut Subscription, name: &str) -> Message {
    loop {
        let message = stream.next().await.expect("it goes on");
        if message.event == "organization.created" && message.data["payload"]["name"] == name {
            return message;
        }
    }
}

async fn create(root: &Api, name: &str) -> Uuid {
    root.post("/organizations", json!({"name": name})).await.id().parse().unwrap()
}

/// The other events, as far as `through` and beyond. Servers may store their own between them.
async fn replace(log: &MemoryLog, organization: Uuid, through: u64) {
    let missing = (through + 5).saturating_sub(log.head().await.unwrap()).max(1);
    burst(log, organization, usize::try_from(missing).unwrap()).await;
}

/// Reads on until one of the other events came, and all as far as `through`.
async fn replaced(stream: &mut Subscription, through: u64) -> Vec<Message> {
    let mut read: Vec<Message> = Vec::new();
    loop {
        read.push(stream.next().await.expect("it goes on"));
        let is_far = read.iter().any(|message| message.data["position"].as_u64() >= Some(through));
        if is_far && read.iter().any(|message| message.event == OTHER) {
            return read;
        }
    }
}

/// The problem of a stream that does not begin.
async fn refused(world: &World, api: &Api, last: &str) -> Value {
    let gone = subscribe(world, api, "", Some(last)).await;
    assert_eq!(gone.status(), 410, "{last}");
    let problem: Value = serde_json::from_str(&gone.text().await.unwrap()).unwrap();
    assert_eq!(problem["type"], "urn:rap:problem:position_too_old");
    problem["rule"].clone()
}

/// The id as the release before wrote it.
fn alone(id: &str) -> &str {
    let (alone, imprint) = id.rsplit_once(':').unwrap();
    assert_eq!(imprint.len(), 16);
    alone
}

/// The id of another event at the same position.
fn of_another(id: &str) -> String {
    let (other, digit) = id.split_at(id.len() - 1);
    format!("{other}{}", if digit == "0" { '1' } else { '0' })
}

#[tokio::test]
async fn who_saw_what_a_failover_lost_is_told_and_who_did_not_sees_what_replaced_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let mut stream = messages(subscribe(&world, &root, "", None).await);
    let organization = create(&root, "kept").await;
    let kept = created(&mut stream, "kept").await;
    let standby = world.log.standby();
    create(&root, "lost").await;
    let lost = created(&mut stream, "lost").await;
    world.log.fail_over_to(standby);
    replace(&world.log, organization, lost.data["position"].as_u64().unwrap()).await;
    while let Some(message) = stream.next().await {
        assert_ne!(message.event, OTHER, "of another log than what was shown");
    }

    // Whoever comes back finds a replica of the log that is left.
    let token = root.token.unwrap();
    let (dir, log) = world.stop().await;
    let world = World::start_over(dir, log).await;
    let root = world.anonymous().with_token(&token);
    assert_eq!(refused(&world, &root, &lost.id).await, "last_event_id");
    let mut stream = messages(subscribe(&world, &root, "", Some(&kept.id)).await);
    let place = lost.data["position"].as_u64().unwrap();
    let read = replaced(&mut stream, place).await;
    let there: Vec<_> = read.iter().filter(|read| read.data["position"] == place).collect();
    let [there] = there[..] else { panic!("{there:?}") };
    assert_ne!((&there.id, &there.data), (&lost.id, &lost.data));
    // What names a position alone cannot be told.
    let unsure = subscribe(&world, &root, "", Some(alone(&lost.id))).await;
    replaced(&mut messages(unsure), place).await;
    world.stop().await;
}

#[tokio::test]
async fn an_id_means_its_event_in_the_window_and_behind_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    let mut stream = messages(subscribe(&world, &root, "", None).await);
    create(&root, "one").await;
    create(&root, "two").await;
    let (one, two) = (created(&mut stream, "one").await, created(&mut stream, "two").await);
    let token = root.token.unwrap();
    let check = async |world: &World| {
        let root = world.anonymous().with_token(&token);
        assert_eq!(refused(world, &root, &of_another(&one.id)).await, "last_event_id");
        let nothing = format!("{}:0:0123456789abcdef", world.running.cluster);
        assert_eq!(refused(world, &root, &nothing).await, "last_event_id");
        for unreadable in [format!("{}:0", one.id), "elsewhere".to_owned()] {
            assert_eq!(refused(world, &root, &unreadable).await, UNREADABLE_EVENT_ID);
        }
        for id in [&one.id, alone(&one.id)] {
            let mut stream = messages(subscribe(world, &root, "", Some(id)).await);
            let next = created(&mut stream, "two").await;
            assert_eq!((next.id, next.data), (two.id.clone(), two.data.clone()));
        }
    };
    check(&world).await;
    drop(stream);
    // A replica that starts holds nothing in its window, and says the same.
    let (dir, log) = world.stop().await;
    let world = World::start_over(dir, log).await;
    check(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn nothing_is_read_behind_the_window_of_a_log_that_lost_what_was_folded() {
    for _ in 0..MAX_WORLDS {
        if a_stream_began_over_a_loss().await {
            return;
        }
    }
    panic!("each of {MAX_WORLDS} worlds noticed its loss first");
}

/// A failover under a stream that is behind the window. `false` where the replica noticed it before
/// the stream began, which shows nothing.
async fn a_stream_began_over_a_loss() -> bool {
    let world = World::start().await;
    let root = world.set_up().await;
    let mut stream = messages(subscribe(&world, &root, "", None).await);
    let organization = create(&root, "early").await;
    let early = created(&mut stream, "early").await;
    drop(stream);
    let standby = world.log.standby();
    create(&root, "late").await;
    let token = root.token.unwrap();
    let (dir, log) = world.stop().await;
    // What is before its start is behind its window.
    let world = World::start_over(dir, log).await;
    let root = world.anonymous().with_token(&token);

    // Nobody is woken by this failover, and the replica looks for its last event every few seconds.
    let other = MemoryLog::with_clock(rap_control::now);
    other.fail_over_to(standby);
    replace(&other, organization, world.head().await).await;
    world.log.fail_over_to(other.standby());
    let response = subscribe(&world, &root, "", Some(&early.id)).await;
    let began = response.status() == 200;
    if began {
        let mut stream = messages(response);
        while let Some(message) = stream.next().await {
            assert_ne!(message.event, OTHER, "beside a state that is of another log");
        }
    } else {
        assert_eq!(response.status(), 503, "it noticed");
    }
    world.stop().await;
    began
}
