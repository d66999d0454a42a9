//! Two releases over one log: what the one before wrote is read, and what a later one wrote is
//! not guessed at.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use rap_bus::LocalBus;
use rap_control::{BusChoice, ControlOptions, Limits, LogChoice, serve};
use rap_events::{
    Append, Log as _, MemoryLog, StreamId,
    log::{NewEvent, StreamWrite},
};
use rap_proto::{
    ClusterId, CommandId, Digest, Name, OrganizationId, PoolId, ResourceKind, codec,
    wire::node_api::{BeatRequest, NodeApiCode, SnapshotRequest},
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::json;
use uuid::Uuid;

use crate::{
    node,
    world::{With, World, fresh_key, tenant},
};

/// Stores an event as some other release writes it, and returns its position.
async fn store(
    log: &MemoryLog,
    (event_type, schema): (&str, u16),
    organization: Option<OrganizationId>,
    payload: Vec<u8>,
) -> u64 {
    let (category, _) = event_type.split_once('.').unwrap();
    let event = NewEvent {
        event_type: event_type.to_owned(),
        schema,
        payload: Bytes::from(payload),
        organization,
    };
    let id = Uuid::from_u128(u128::from(schema) << 64 | 77);
    let write =
        StreamWrite { stream: StreamId::new(category, id), expected: 0, events: vec![event] };
    let append = Append::plain(CommandId::from_u128(id.as_u128()), rap_control::now(), vec![write]);
    log.append(append).await.unwrap().last
}

#[tokio::test]
async fn an_event_of_a_later_release_halts_the_fold_and_the_replica_says_so() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    world.settles("rap_control_leading{duty=\"processes\"} ", |leads| leads == 1).await;
    let follow = world.client.get(format!("{}/api/v1/events", world.base));
    let follow = follow.bearer_auth(root.token.as_ref().unwrap()).send();
    let mut followed = follow.await.unwrap();
    let later = store(&world.log, ("organization.renamed", 2), None, vec![0x80]).await;
    world.settles("rap_control_fold_halted ", |halted| halted == 1).await;
    let ready = world.client.get(format!("{}/readyz", world.base)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let why = "the log has an event of a later release: update this replica\n";
    assert_eq!(ready.text().await.unwrap(), why);

    // Who follows the log here is sent away, and can go on elsewhere.
    while followed.chunk().await.unwrap().is_some() {}
    assert_eq!(root.get("/events").await.problem(), "unavailable");

    // A node is sent away, too, and keeps what it has if there is nobody else.
    let (known, request) = (host.credentials().unwrap(), BeatRequest { statement: None });
    let sent_away = node::call(&world, known, &host.key, "/node/v1/beat", &request).await;
    assert_eq!((sent_away.status, sent_away.refusal()), (503, NodeApiCode::Unavailable));
    let request = SnapshotRequest { have: u64::MAX, sections: BTreeSet::new() };
    let kept = node::call(&world, known, &host.key, "/node/v1/snapshot", &request).await;
    assert_eq!(kept.status, 304);

    // Nothing is granted by a state that is too old, and nobody is shown it for a newer one.
    let refused = root.post("/organizations", json!({"name": "after"})).await;
    assert_eq!(refused.problem(), "authority_frozen");
    assert_eq!(refused.json["rule"], "fold_halted");
    let newer = root.get(&format!("/organizations?min_position={later}")).await;
    assert_eq!(newer.problem(), "position_not_reached");
    assert_eq!(root.get("/organizations").await.status, 200, "what was known is known");
    let with = With { body: None, key: Some(fresh_key()), if_match: None };
    let left = root.send(Method::DELETE, "/logins/current", with).await;
    assert_eq!(left.status, 204, "whoever wants to leave may: {}", left.text);
    world.settles("rap_control_leading{duty=\"processes\"} ", |leads| leads == 0).await;

    // Started again, it does not get as far.
    let (dir, log) = world.stop().await;
    let options = ControlOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics: None,
        state_dir: dir.path().join("control"),
        log: LogChoice::Local(log),
        bus: BusChoice::Local(Arc::new(LocalBus::new())),
        names: vec!["localhost".to_owned()],
        servers: Vec::new(),
        workers: 1,
        limits: Limits::default(),
    };
    let refused = serve(options, std::future::pending()).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("position {later} ")), "{refused}");
    assert!(refused.contains("unknown event organization.renamed of schema 2"), "{refused}");
}

/// `resource.created` as the release before wrote it.
#[derive(Serialize)]
struct ResourceCreatedV1 {
    organization: OrganizationId,
    name: Name,
    kind: ResourceKind,
    host: String,
    port: u16,
    pool: PoolId,
}

/// A fold cache's file.
#[derive(Serialize, Deserialize)]
pub(crate) struct FoldCache {
    format: u16,
    fold: u32,
    program: String,
    cluster: ClusterId,
    pub(crate) position: u64,
    frontier: ByteBuf,
    pub(crate) digest: Digest,
    pub(crate) state: ByteBuf,
}

#[tokio::test]
async fn what_the_release_before_left_is_read_or_left_aside() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let organization: OrganizationId = acme.organization.parse().unwrap();
    let old = ResourceCreatedV1 {
        organization,
        name: "of-yore".parse().unwrap(),
        kind: ResourceKind::Ssh,
        host: "yore.internal".to_owned(),
        port: 2222,
        pool: acme.pool.parse().unwrap(),
    };
    let payload = codec::encode(&old);
    let position = store(&world.log, ("resource.created", 1), Some(organization), payload).await;
    let path = format!("/organizations/acme/resources/of-yore?min_position={position}");
    let shown = acme.api.get(&path).await.json;
    let target = json!({"host": "yore.internal", "port": 2222, "allowLocal": false});
    assert_eq!(shown["target"], target, "in the shape of today");

    // A cache of the fold before is in a shape that nobody here can read.
    let token = acme.api.token.clone().unwrap();
    let state_dir = world.state_dir();
    let (dir, log) = world.stop().await;
    let file = state_dir.join("fold_cache");
    let bytes = std::fs::read(&file).unwrap();
    let mut cache: FoldCache = codec::decode(&bytes, bytes.len()).unwrap();
    let newest = cache.fold;
    cache.fold -= 1;
    cache.state = ByteBuf::from(b"a state of another shape".to_vec());
    cache.digest = Digest::of(&cache.state);
    std::fs::write(&file, codec::encode(&cache)).unwrap();
    let world = World::start_over(dir, log).await;
    let again = world.anonymous().with_token(&token).get(&path).await.json;
    assert_eq!(again, shown);
    let (_dir, _) = world.stop().await;
    let bytes = std::fs::read(&file).unwrap();
    let cache: FoldCache = codec::decode(&bytes, bytes.len()).unwrap();
    assert_eq!(cache.fold, newest, "the next start has one of its own");
}
