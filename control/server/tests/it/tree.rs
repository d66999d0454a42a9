//! The log's tree over the API, and what happens to a log that is not the one that nodes saw.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rap_events::{
    Append, Envelope, Heads as _, Log as _,
    export::Verification,
    log::{MAX_READ_EVENTS, NewEvent, StreamWrite},
    memory::MemoryLog,
};
use rap_proto::{
    Digest,
    bus::{Heartbeat, NodeBody},
    codec,
    key::LocalKey,
    observation::LogRefusal,
    signed::{self, Trusted},
    snapshot::{Bundle, Manifest},
    wire::node_api::{Credentials, NodeApiCode, SnapshotRequest, TreeReply, TreeRequest},
};
use rap_tlog::{
    ProofFile, TreeHead, VerifierKey, WitnessKey, WitnessVerifier,
    proof::check_consistency,
    tile::{bundle_from_bytes, hashes_from_bytes},
};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    bus::{heartbeat, message, say},
    node::{Host, call, enroll},
    world::{Api, With, World, fresh_key, tenant},
};

const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);

async fn bytes(world: &World, api: &Api, path: &str) -> (StatusCode, Vec<u8>) {
    let request = world.client.get(format!("{}/api/v1{path}", world.base));
    let response = request.bearer_auth(api.token.as_ref().unwrap()).send().await.unwrap();
    (response.status(), response.bytes().await.unwrap().to_vec())
}

pub(crate) async fn ok(world: &World, api: &Api, path: &str) -> Vec<u8> {
    let (status, body) = bytes(world, api, path).await;
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    body
}

pub(crate) async fn keys(api: &Api) -> Vec<VerifierKey> {
    let keys = api.get("/log/keys").await.json["keys"].clone();
    keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn whoever_may_replay_the_log_can_mirror_and_verify_it() {
    let world = World::start().await;
    let root = world.set_up().await;
    tenant(&world, &root, "acme").await;
    let keys = keys(&root).await;
    assert_eq!(keys.len(), 2);
    let note = ok(&world, &root, "/log/checkpoint").await;
    let head = TreeHead::open(&note, world.running.cluster, &keys).unwrap();
    for key in &keys {
        let alone = TreeHead::open(&note, world.running.cluster, std::slice::from_ref(key));
        assert_eq!(alone.as_ref(), Ok(&head), "either line suffices");
    }
    assert_eq!(head.size, world.head().await);
    let width = head.size;
    let leaves = ok(&world, &root, &format!("/log/tile/0/000.p/{width}")).await;
    let leaves = hashes_from_bytes(&leaves).unwrap();
    let entries = ok(&world, &root, &format!("/log/tile/entries/000.p/{width}")).await;
    let payloads = ok(&world, &root, &format!("/log/payloads/000.p/{width}")).await;
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
    assert!(withheld.contains(&"user.password_changed".to_owned()), "{withheld:?}");
    assert!(!withheld.contains(&"organization.created".to_owned()), "{withheld:?}");
}

#[tokio::test]
async fn one_event_is_proven_and_what_is_not_there_is_not() {
    let world = World::start().await;
    let root = world.set_up().await;
    let keys = keys(&root).await;
    let proven = root.get("/log/proof/1").await.json;
    let file = ProofFile {
        index: 0,
        entry: STANDARD.decode(proven["entry"].as_str().unwrap()).unwrap(),
        hashes: serde_json::from_value(proven["proof"].clone()).unwrap(),
        checkpoint: proven["checkpoint"].as_str().unwrap().as_bytes().to_vec(),
    };
    let head = file.check(world.running.cluster, &keys).unwrap();
    assert_eq!(head.size, proven["size"]);
    for path in [
        "/log/proof/0",
        "/log/proof/999",
        "/log/proof/x",
        "/log/tile/0/000",
        "/log/tile/9/000",
        "/log/tile/0/000.p/999",
        "/log/tile/entries/001.p/1",
        "/log/payloads/001.p/1",
        "/log/payloads/entries/000.p/1",
    ] {
        assert_eq!(bytes(&world, &root, path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn nobody_else_is_shown_any_of_the_tree() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let (nobody, _) = world.user(&root, "nobody").await;
    for path in [
        "/log/keys",
        "/log/checkpoint",
        "/log/tile/0/000.p/1",
        "/log/tile/entries/000.p/1",
        "/log/payloads/000.p/1",
        "/log/proof/1",
        "/audit/replay?as_of=1",
    ] {
        for api in [&acme.api, &nobody] {
            let status = bytes(&world, api, path).await.0;
            assert!(status == 404 || status == 403, "{path}: {status}");
        }
    }
}

#[tokio::test]
async fn a_replay_of_an_earlier_moment_gives_that_moments_snapshot() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let edge = enroll(&world, &acme.join_secret, "edge-1").await;
    let then = world.head().await;
    let path = format!("/audit/replay?as_of={then}&min_position={then}&node=edge-1");
    let first = root.get(&path).await.json;
    assert_eq!(first["snapshot"]["servedDigest"], json!(null), "it asked for none yet");
    assert_eq!(first["equal"], json!(null), "there was nothing to compare it with");
    let served = fetch(&world, &edge).await;
    let first = root.get(&path).await.json;
    assert_eq!(first["snapshot"]["servedDigest"], json!(served));
    assert_eq!(first["snapshot"]["digest"], json!(served));
    assert_eq!((&first["equal"], &first["events"]), (&json!(true), &json!(then)));
    assert!(first["snapshot"]["version"].as_u64().unwrap() <= then);

    let rename = json!({"name": "acme-2"});
    let organization = format!("/organizations/{}", acme.organization);
    let revision = root.get(&organization).await.revision();
    acme.api.change(Method::PATCH, &organization, Some(rename), revision).await;
    let suspend = json!({"reason": "unpaid"});
    let revision = root.get(&organization).await.revision();
    let path_of = format!("{organization}/suspend");
    let suspended = root.change(Method::POST, &path_of, Some(suspend), revision).await;
    assert_eq!(suspended.status, 200, "{}", suspended.text);
    let again = root.get(&path).await.json;
    let stays = |of: &serde_json::Value| {
        ["digest", "projections", "root", "snapshot"].map(|name| of[name].clone())
    };
    assert_eq!(stays(&again), stays(&first), "what was known then does not change");
    assert_eq!((&again["equal"], &again["events"]), (&json!(true), &json!(then)));
    assert!(again["livePosition"].as_u64().unwrap() > then, "it was folded on and compared");
    assert_eq!(again["liveDigest"], serde_json::Value::Null);
    let now = root.get("/audit/replay?node=edge-1").await.json;
    assert_ne!(now["snapshot"]["digest"], first["snapshot"]["digest"]);
    assert_eq!(now["digest"], now["liveDigest"]);
    let future = root.get("/audit/replay?as_of=100000").await;
    assert_eq!(future.problem(), "validation_failed");
}

#[tokio::test]
async fn a_snapshot_that_another_process_served_is_compared_with_the_nodes_own_word() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let edge = enroll(&world, &acme.join_secret, "edge-1").await;
    let right = fetch(&world, &edge).await;
    let (dir, log) = world.stop().await;

    let world = World::start_over(dir, log).await;
    let root = world.anonymous().with_token(root.token.as_ref().unwrap());
    let replay = async || root.get("/audit/replay?node=edge-1").await.json;
    let unknown = replay().await;
    assert_eq!(unknown["equal"], json!(null));
    let version = unknown["snapshot"]["version"].as_u64().unwrap();
    let says = async |sequence: u64, digest: Digest| {
        let body = NodeBody::Heartbeat(Heartbeat {
            snapshot_version: version,
            snapshot_digest: Some(digest),
            ..heartbeat()
        });
        say(&world, &edge, &message(&world, &edge, sequence, body), &edge.key).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let replay = replay().await;
            if replay["snapshot"]["appliedDigest"] == json!(digest) {
                return replay["equal"].clone();
            }
            assert!(Instant::now() < deadline, "the heartbeat was not heard: {replay}");
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(says(1, Digest::of(b"another")).await, json!(false));
    assert_eq!(says(2, right).await, json!(true));
}

/// Lets the node fetch its snapshot, and returns what it is known by.
async fn fetch(world: &World, host: &Host) -> Digest {
    let credentials = host.credentials().unwrap();
    let request = SnapshotRequest { have: 0, sections: [].into() };
    let bundle = call(world, credentials, &host.key, "/node/v1/snapshot", &request).await;
    let trusted = Trusted::new(credentials.control_keys.clone(), 1);
    let bundle: Bundle = bundle.read();
    let manifest = signed::open::<Manifest>(&bundle.manifest, &trusted).unwrap();
    Digest::of(&codec::encode(&*manifest))
}

/// The first `size` events of a log, as an old backup has them.
async fn copy(log: &MemoryLog, size: u64) -> Arc<MemoryLog> {
    let copy = Arc::new(MemoryLog::new());
    let events = log.read(0, MAX_READ_EVENTS).await.unwrap();
    for event in events.into_iter().filter(|event| event.position <= size) {
        copy.append(again(event)).await.unwrap();
    }
    copy
}

/// The append that stores the event again; commands are of no matter here.
fn again(event: Envelope) -> Append {
    let new = NewEvent {
        event_type: event.event_type,
        schema: event.schema,
        payload: event.payload,
        organization: event.organization,
    };
    let (stream, expected) = (event.stream, event.revision - 1);
    Append {
        actor: event.actor,
        causation: event.causation,
        allowed: event.allowed,
        ..Append::plain(
            rap_proto::CommandId::from_u128(u128::from(event.position)),
            event.at,
            vec![StreamWrite { stream, expected, events: vec![new] }],
        )
    }
}

/// A node that saw the tree of `seen` events.
struct Watcher {
    credentials: Credentials,
    key: LocalKey,
    seen: TreeReply,
}

impl Watcher {
    async fn ask(&self, world: &World, known: &[u8]) -> crate::node::Answer {
        self.present(world, known, &[]).await
    }

    /// As an agent that co-signs does.
    async fn present(&self, world: &World, known: &[u8], witness: &[u8]) -> crate::node::Answer {
        let request = TreeRequest { known: known.to_vec(), witness: witness.to_vec() };
        call(world, &self.credentials, &self.key, "/node/v1/tree", &request).await
    }

    fn witness_key(&self) -> WitnessKey {
        WitnessKey::derive(self.credentials.node, &self.key.to_der())
    }

    /// The newest head that it saw, co-signed.
    fn cosigned(&self) -> Vec<u8> {
        self.witness_key().cosign(&self.seen.head, rap_control::now()).unwrap()
    }
}

/// A world with a node that saw everything, and its owner.
async fn watched() -> (World, Api, Watcher) {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = enroll(&world, &acme.join_secret, "edge-1").await;
    let (credentials, key) = (host.credentials().unwrap().clone(), host.key.clone());
    let none = TreeReply { head: Vec::new(), consistency: Vec::new() };
    let mut watcher = Watcher { credentials, key, seen: none };
    root.post("/organizations", json!({"name": "later"})).await;
    watcher.seen = watcher.ask(&world, b"").await.read();
    (world, root, watcher)
}

#[tokio::test]
async fn a_node_is_shown_that_the_log_only_grew() {
    let (world, root, watcher) = watched().await;
    let key = VerifierKey::p256(world.running.cluster, watcher.credentials.control_keys[0]);
    let open = |head: &[u8]| {
        TreeHead::open(head, world.running.cluster, std::slice::from_ref(&key)).unwrap()
    };
    let before = open(&watcher.seen.head);
    root.post("/organizations", json!({"name": "even-later"})).await;
    let reply: TreeReply = watcher.ask(&world, &watcher.seen.head).await.read();
    let after = open(&reply.head);
    assert!(after.size > before.size);
    let (earlier, later) = ((before.size, &before.root), (after.size, &after.root));
    check_consistency(&reply.consistency, earlier, later).unwrap();

    let forged = watcher.ask(&world, b"not a head\n").await;
    assert_eq!(forged.refusal(), NodeApiCode::Malformed);
    let created = root.post("/organizations", json!({"name": "still-open"})).await;
    assert_eq!(created.status, 201, "what a node makes up freezes nothing");
}

#[tokio::test]
async fn a_log_that_nodes_saw_longer_or_otherwise_is_frozen() {
    for (goes_on, code) in [(false, LogRefusal::Shorter), (true, LogRefusal::Forked)] {
        let (world, root, watcher) = watched().await;
        let size = world.head().await;
        let (dir, log) = world.stop().await;
        let older = copy(&log, size - 2).await;
        let world = World::start_over(dir, older).await;
        let root = world.anonymous().with_token(root.token.as_ref().unwrap());
        if goes_on {
            for name in ["another", "and-another", "and-one-more"] {
                let created = root.post("/organizations", json!({"name": name})).await;
                assert_eq!(created.status, 201, "nobody knows yet: {}", created.text);
            }
        }
        watcher.ask(&world, &watcher.seen.head).await;
        let refused = root.post("/organizations", json!({"name": "after"})).await;
        assert_eq!(refused.problem(), "authority_frozen");
        assert_eq!(refused.json["rule"], format!("log_{code}"));
        assert_eq!(root.get("/organizations").await.status, 200, "reading goes on");
        let with = With { body: None, key: Some(fresh_key()), if_match: None };
        let left = root.send(Method::DELETE, "/logins/current", with).await;
        assert_eq!(left.status, 204, "whoever wants to leave may: {}", left.text);
        let ready = world.client.get(format!("{}/readyz", world.base)).send().await.unwrap();
        assert_eq!(ready.status(), 503);
    }
}

#[tokio::test]
async fn what_a_node_co_signed_stands_below_the_checkpoint() {
    let (world, root, watcher) = watched().await;
    let verifier =
        WitnessVerifier::new(watcher.credentials.node, &watcher.witness_key().public()).unwrap();
    let witness = watcher.witness_key().public();
    watcher.present(&world, &watcher.cosigned(), &witness).await.read::<TreeReply>();
    let events = world.log.read(0, MAX_READ_EVENTS).await.unwrap();
    let recorded = events.iter().filter(|event| event.event_type == "node.witness_key_recorded");
    assert_eq!(recorded.count(), 1);

    // That event made the log grow: the node sees it, and co-signs once more.
    let reply: TreeReply = watcher.ask(&world, &watcher.seen.head).await.read();
    let watcher = Watcher { seen: reply, ..watcher };
    watcher.present(&world, &watcher.cosigned(), &witness).await.read::<TreeReply>();
    let events = world.log.read(0, MAX_READ_EVENTS).await.unwrap();
    let recorded = events.iter().filter(|event| event.event_type == "node.witness_key_recorded");
    assert_eq!(recorded.count(), 1, "once and for good");
    let note = ok(&world, &root, "/log/checkpoint").await;
    let head = TreeHead::open(&note, world.running.cluster, &keys(&root).await).unwrap();
    assert_eq!(head.size, world.head().await);
    assert!(verifier.find(&note).unwrap().is_some(), "{}", String::from_utf8_lossy(&note));

    let heads = root.get("/log/heads").await.json;
    let cosigned: Vec<&serde_json::Value> = heads["items"].as_array().unwrap().iter().collect();
    let sizes: Vec<u64> = cosigned.iter().map(|head| head["size"].as_u64().unwrap()).collect();
    assert!(sizes.is_sorted_by(|one, other| one > other), "{sizes:?}");
    let by_node = cosigned.iter().filter(|head| head["nodes"] == json!([watcher.credentials.node]));
    assert_eq!(by_node.count(), 2, "{heads}");
    let behind = root.get(&format!("/log/heads?limit=1&after={}", head.size)).await.json;
    assert!(behind["items"][0]["size"].as_u64().unwrap() < head.size);
}

#[tokio::test]
async fn a_false_cosignature_and_another_key_are_refused_and_change_nothing() {
    let (world, root, watcher) = watched().await;
    let key = watcher.witness_key();
    let cosigned = watcher.cosigned();
    let mut false_line = cosigned.clone();
    let last = false_line.len() - 10;
    false_line[last] = if false_line[last] == b'A' { b'B' } else { b'A' };
    let other = WitnessKey::derive(watcher.credentials.node, b"another identity");
    let before = world.head().await;
    for (known, witness) in [(&false_line, &key.public()[..]), (&cosigned, &key.public()[1..])] {
        let refused = watcher.present(&world, known, witness).await;
        assert_eq!(refused.refusal(), NodeApiCode::Malformed);
    }
    let stranger = WitnessKey::derive(rap_proto::NodeId::from_u128(9), b"another identity");
    let strangers = stranger.cosign(&watcher.seen.head, rap_control::now()).unwrap();
    watcher.present(&world, &strangers, &stranger.public()).await.read::<TreeReply>();
    assert_eq!(world.head().await, before, "another node's line is not this node's");

    watcher.present(&world, &cosigned, &key.public()).await.read::<TreeReply>();
    let others = other.cosign(&watcher.seen.head, rap_control::now()).unwrap();
    let refused = watcher.present(&world, &others, &other.public()).await;
    assert_eq!(refused.refusal(), NodeApiCode::NotPermitted);
    let heads = root.get("/log/heads").await.text;
    let verifier = WitnessVerifier::new(watcher.credentials.node, &other.public()).unwrap();
    assert!(!heads.contains(&verifier.to_string()), "{heads}");
}

/// A replica of the release before sealed the head as another text: no line is kept below that one
/// that it does not hold for.
#[tokio::test]
async fn a_cosignature_is_kept_below_the_text_that_it_was_made_for() {
    let (world, _root, watcher) = watched().await;
    let control = std::fs::read_to_string(world.state_dir().join("control.key")).unwrap();
    let control = LocalKey::from_pem(&control).unwrap();
    let key = [VerifierKey::p256(world.running.cluster, watcher.credentials.control_keys[0])];
    let cluster = world.running.cluster;
    let witness = watcher.witness_key();
    let seen = TreeHead::open(&watcher.seen.head, cluster, &key).unwrap();
    assert_eq!(seen.said_epoch, Some(1));
    let before = TreeHead { said_epoch: None, ..seen };
    let note = before.sign(&control, &rap_tlog::HeadKey::from_seed(&[1; 32]));
    // The sealer may have been faster, with its own text.
    world.log.seal(before.size, note.clone(), rap_control::now()).await.unwrap();
    let sealed = async || {
        let sealed = world.log.heads(Some(before.size + 1), 1).await.unwrap().pop().unwrap();
        assert_eq!(sealed.size, before.size);
        sealed
    };
    let cosigned = witness.cosign(&note, rap_control::now()).unwrap();
    let (fits, other) = match sealed().await.note == note {
        true => (cosigned, watcher.cosigned()),
        false => (watcher.cosigned(), cosigned),
    };
    watcher.present(&world, &other, &witness.public()).await.read::<TreeReply>();
    assert_eq!(sealed().await.cosignatures.len(), 0, "it would be false there");
    watcher.present(&world, &fits, &witness.public()).await.read::<TreeReply>();
    assert_eq!(sealed().await.cosignatures.len(), 1);
}

#[tokio::test]
async fn a_head_of_a_later_epoch_is_not_this_logs_to_judge() {
    let (world, root, watcher) = watched().await;
    let control = std::fs::read_to_string(world.state_dir().join("control.key")).unwrap();
    let control = LocalKey::from_pem(&control).unwrap();
    let cluster = world.running.cluster;
    let root_of_another = Digest::of(b"the log of whoever was promoted");
    let promoted = TreeHead { cluster, size: 1_000, root: root_of_another, said_epoch: Some(2) };
    let note = promoted.sign(&control, &rap_tlog::HeadKey::from_seed(&[1; 32]));
    let refused = watcher.present(&world, &note, &[]).await;
    assert_eq!(refused.refusal(), NodeApiCode::Unavailable);
    let created = root.post("/organizations", json!({"name": "goes-on"})).await;
    assert_eq!(created.status, 201, "nothing is refuted: {}", created.text);
}

/// Looks again and again for what is bound to happen.
async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it is bound to happen")
}

#[tokio::test]
async fn the_leader_seals_what_the_log_comes_to() {
    let world = World::start().await;
    let root = world.set_up().await;
    let head = world.head().await;
    let sealed = until(async || {
        let newest = world.log.heads(None, 1).await.unwrap().pop();
        newest.filter(|newest| newest.size >= head)
    });
    let sealed = sealed.await;
    let keys = keys(&root).await;
    let opened = TreeHead::open(&sealed.note, world.running.cluster, &keys).unwrap();
    assert_eq!(opened.size, sealed.size);
    let listed = root.get("/log/heads").await.json;
    assert!(listed["items"].as_array().unwrap().iter().any(|head| head["size"] == sealed.size));
}

#[tokio::test]
async fn a_log_that_is_not_what_was_sealed_is_frozen_before_any_node_looks() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (size, cluster) = (world.head().await, world.running.cluster);
    let custody = world.state_dir();
    let control = std::fs::read_to_string(custody.join("control.key")).unwrap();
    let control = LocalKey::from_pem(&control).unwrap();
    let root_of_another = Digest::of(b"what was here once");
    let forged = TreeHead { cluster, size: size + 100, root: root_of_another, said_epoch: Some(1) };
    let note = forged.sign(&control, &rap_tlog::HeadKey::from_seed(&[1; 32]));
    world.log.seal(forged.size, note, rap_control::now()).await.unwrap();
    root.post("/organizations", json!({"name": "grows"})).await;
    until(async || {
        let ready = world.client.get(format!("{}/readyz", world.base)).send().await.unwrap();
        (ready.status() == 503).then_some(())
    })
    .await;
    let refused = root.post("/organizations", json!({"name": "after"})).await;
    assert_eq!(refused.problem(), "authority_frozen");
}
