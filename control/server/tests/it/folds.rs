//! The fold cache that a server leaves while it runs.

use std::time::Duration;

use rap_events::{
    Append, EventCodec as _, Log, StreamId,
    log::{MAX_EVENTS_PER_APPEND, StreamWrite},
    organization::{OrganizationEvent, OrganizationSuspended},
};
use rap_proto::{CommandId, OrganizationId, codec};
use serde_json::json;

use crate::{crash::copy, skew::FoldCache, world::World};

/// After so many events, by what `actors/fold_keeper.rs` says.
const EVENTS: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_server_that_did_not_stop_in_order_left_its_state_while_it_ran() {
    let world = World::start().await;
    let root = world.set_up().await;
    let created = root.post("/organizations", json!({"name": "noise"})).await;
    let noise: OrganizationId = created.id().parse().unwrap();
    let kept = world.state_dir().join("fold_cache");
    assert!(!kept.exists());
    grow(world.log.as_ref(), noise, EVENTS).await;
    let looking = async {
        while !kept.exists() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it is left");

    // What a power cut leaves: the order in which it stops from now on changes nothing of it.
    let after = tempfile::tempdir().unwrap();
    copy(&world.state_dir(), &after.path().join("control"));
    let (_dir, log) = world.stop().await;
    let left = std::fs::read(after.path().join("control/fold_cache")).unwrap();
    let cache: FoldCache = codec::decode(&left, left.len()).unwrap();
    assert!(cache.position >= EVENTS, "{}", cache.position);

    let again = World::start_over(after, log).await;
    // A start that folds the log from the beginning leaves another one.
    assert!(std::fs::read(again.state_dir().join("fold_cache")).unwrap() == left);
    let replay = again.anonymous().with_token(root.token.as_ref().unwrap());
    let replay = replay.get("/audit/replay").await;
    assert_eq!(replay.json["equal"], true, "{}", replay.text);
    again.stop().await;
}

/// Appends so many events to the stream of an organization that was just created.
pub(crate) async fn grow(log: &dyn Log, organization: OrganizationId, events: u64) {
    let event = OrganizationEvent::from(OrganizationSuspended { reason: "noise".to_owned() });
    let new = event.to_new_event(Some(organization));
    let stream = StreamId::new("organization", organization.uuid());
    let mut expected = 1;
    while expected <= events {
        let write = StreamWrite {
            stream: stream.clone(),
            expected,
            events: vec![new.clone(); MAX_EVENTS_PER_APPEND],
        };
        let append = Append::plain(
            CommandId::from_u128(u128::from(expected)),
            rap_control::now(),
            vec![write],
        );
        log.append(append).await.unwrap();
        expected += MAX_EVENTS_PER_APPEND as u64;
    }
}
