use std::time::Duration;

use rap_events::join_token::MAX_RECORDED_REFUSALS;
use rap_pki::{ClusterAuthority, NodeCertificate, PeerIdentity};
use rap_proto::{
    NodeId, Signer as _,
    key::LocalKey,
    signed::{self, Trusted},
    snapshot::{Assignment, Bundle, Manifest, Section as _},
    wire::node_api::{Credentials, EnrollReply, NodeApiCode, RenewRequest, SnapshotRequest},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node::{self, Host},
    world::{Api, World, tenant},
};

/// The payloads of the events of one type that the platform's auditor sees.
async fn audited(world: &World, root: &Api, event_type: &str) -> Vec<Value> {
    let path = format!("/audit?limit=500&min_position={}", world.head().await);
    let audit = root.get(&path).await;
    assert_eq!(audit.status, 200, "{}", audit.text);
    let events = audit.json["items"].as_array().unwrap().iter();
    let found = events.filter(|event| event["type"] == event_type);
    found.map(|event| event["payload"].clone()).collect()
}

async fn join_secret(root: &Api, auto_approve: bool) -> String {
    let body = json!({
        "roles": [{"role": "relay-node", "organizations": null}],
        "ttlSeconds": 600, "autoApprove": auto_approve,
    });
    let created = root.post("/join-tokens", body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    created.json["secret"].as_str().unwrap().to_owned()
}

fn renewal(host: &Host, renewal: u64) -> RenewRequest {
    let addresses = vec!["127.0.0.1:4433".parse().unwrap()];
    RenewRequest { csr: rap_pki::csr::make(&host.key), renewal, addresses }
}

#[tokio::test]
async fn a_host_waits_for_its_approver_and_gets_a_certificate() {
    let world = World::start().await;
    let root = world.set_up().await;
    let secret = join_secret(&root, false).await;
    let host = node::enroll(&world, &secret, "relay-1").await;
    let id = host.node();
    let shown = root.get("/nodes/relay-1").await;
    assert_eq!((shown.id(), shown.json["state"].as_str()), (id.to_string(), Some("pending")));
    let fingerprint = host.key.public_key().id().to_string();
    assert_eq!(shown.json["fingerprint"], fingerprint);

    let path = "/nodes/relay-1/approve";
    let wrong = Some(json!({"fingerprint": "0".repeat(64)}));
    let refused = root.change(Method::POST, path, wrong, 1).await;
    assert_eq!(refused.json["rule"], "fingerprint_matches");
    let approved =
        root.change(Method::POST, path, Some(json!({"fingerprint": fingerprint})), 1).await;
    assert_eq!(approved.status, 200, "{}", approved.text);

    let answer = node::poll(&world, id, &host.key, rap_control::now()).await;
    let EnrollReply::Enrolled(credentials) = answer.read() else { panic!("not enrolled") };
    let identity = PeerIdentity::from_leaf(&credentials.certificates[0]).unwrap();
    assert_eq!((identity.node, identity.renewal), (id, 1));
    assert_eq!(credentials.renewal, 1);

    // A recorded poll and another key's poll open nothing.
    let old = rap_control::now() - Duration::from_secs(600);
    let stale = node::poll(&world, id, &host.key, old).await;
    assert_eq!(stale.refusal(), NodeApiCode::NotTrusted);
    let other = node::poll(&world, id, &node::fresh_key(), rap_control::now()).await;
    assert_eq!(other.refusal(), NodeApiCode::NotTrusted);
    world.stop().await;
}

#[tokio::test]
async fn of_two_hosts_with_one_token_one_wins() {
    let world = World::start().await;
    let root = world.set_up().await;
    let secret = join_secret(&root, true).await;
    let hosts = tokio::join!(
        node::enroll(&world, &secret, "first"),
        node::enroll(&world, &secret, "second"),
    );
    let (won, lost): (Vec<_>, Vec<_>) =
        [hosts.0, hosts.1].into_iter().partition(|host| host.reply.is_ok());
    assert_eq!((won.len(), lost.len()), (1, 1));
    assert_eq!(lost[0].refusal(), NodeApiCode::TokenUsed);
    let nodes = root.get("/nodes").await.json["items"].clone();
    let loser = if nodes[0]["name"] == "first" { "second" } else { "first" };
    let expected = [json!({"reason": "used", "name": loser})];
    assert_eq!(audited(&world, &root, "join_token.use_refused").await, expected);
    assert_eq!(root.get("/nodes").await.json["items"].as_array().unwrap().len(), 1);
    // The winner may ask again, with its key: the answer was lost on the way.
    let key = won[0].key.clone();
    let again = node::enroll_with(&world, &secret, "first", key, |_| {}).await;
    assert_eq!(again.node(), won[0].node());
    let audited = audited(&world, &root, "join_token.use_refused").await;
    assert_eq!(audited, expected, "its own token is no refused one");
    world.stop().await;
}

/// As a host does that got no answer from one replica and asks the next, whose projections are behind.
#[tokio::test]
async fn a_host_that_asks_again_before_its_node_is_folded_is_the_same_node() {
    let world = World::start().await;
    let root = world.set_up().await;
    let (secret, key) = (join_secret(&root, true).await, node::fresh_key());
    let ask = || node::enroll_with(&world, &secret, "twice", key.clone(), |_| {});
    let (one, two) = tokio::join!(ask(), ask());
    assert_eq!(one.node(), two.node());
    assert_eq!(root.get("/nodes").await.json["items"].as_array().unwrap().len(), 1);
    assert_eq!(audited(&world, &root, "join_token.use_refused").await, [Value::Null; 0]);
    world.stop().await;
}

#[tokio::test]
async fn refused_uses_of_a_token_are_recorded_up_to_a_limit() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let (secret, other) = (join_secret(&root, true).await, join_secret(&root, true).await);
    let first = node::enroll(&world, &secret, "first").await;
    // The key of a node that came with another token; then hosts with keys of their own.
    let known = node::enroll_with(&world, &other, "twin", first.key.clone(), |_| {}).await;
    assert_eq!(known.refusal(), NodeApiCode::TokenUsed);
    let head = world.head().await;
    for _ in 0..MAX_RECORDED_REFUSALS {
        assert_eq!(node::enroll(&world, &secret, "late").await.refusal(), NodeApiCode::TokenUsed);
    }
    let full = world.head().await;
    assert_eq!(full, head + u64::from(MAX_RECORDED_REFUSALS));
    assert_eq!(node::enroll(&world, &secret, "late").await.refusal(), NodeApiCode::TokenUsed);
    assert_eq!(world.head().await, full, "an attacker fills no log");
    let recorded = audited(&world, &root, "join_token.use_refused").await;
    assert_eq!(recorded[0], json!({"reason": "key_enrolled", "name": "twin"}));
    assert!(recorded[1..].iter().all(|payload| payload["reason"] == "used"));

    // An organization's token is in its own audit.
    let revoke = format!("/join-tokens/{}", acme.join_token);
    assert_eq!(acme.api.change(Method::DELETE, &revoke, None, 1).await.status, 204);
    let refused = node::enroll(&world, &acme.join_secret, "late").await;
    assert_eq!(refused.refusal(), NodeApiCode::TokenInvalid);
    let path = format!("/audit?organization=acme&limit=500&min_position={}", world.head().await);
    let text = acme.api.get(&path).await.text;
    assert_eq!(text.matches("join_token.use_refused").count(), 1, "{text}");
    assert!(text.contains(r#""reason":"revoked""#), "{text}");
    assert_eq!(root.get("/nodes").await.json["items"].as_array().unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn an_enrollment_is_bound_to_its_connection_and_its_token() {
    let world = World::start().await;
    let root = world.set_up().await;
    let secret = join_secret(&root, true).await;
    let head = world.head().await;
    let unbound =
        node::enroll_with(&world, &secret, "n", node::fresh_key(), |r| r.binding = [7; 64]).await;
    assert_eq!(unbound.refusal(), NodeApiCode::NotTrusted);
    let stolen = rap_pki::csr::make(&node::fresh_key());
    let other =
        node::enroll_with(&world, &secret, "n", node::fresh_key(), |r| r.csr = stolen).await;
    assert_eq!(other.refusal(), NodeApiCode::NotTrusted);
    let broken =
        node::enroll_with(&world, &secret, "n", node::fresh_key(), |r| r.csr = vec![1]).await;
    assert_eq!(broken.refusal(), NodeApiCode::Malformed);
    for bad in ["rapj_nothing", "raps_x", "x; rm -rf"] {
        let refused = node::enroll(&world, bad, "n").await;
        assert_eq!(refused.refusal(), NodeApiCode::TokenInvalid, "{bad}");
    }
    assert_eq!(world.head().await, head, "nothing may have changed");
    world.stop().await;
}

#[tokio::test]
async fn certificates_are_renewed_and_a_copied_identity_locks_both() {
    let world = World::start().await;
    let root = world.set_up().await;
    let secret = join_secret(&root, true).await;
    let host = node::enroll(&world, &secret, "relay-1").await;
    let first = host.credentials().unwrap().clone();
    let request = renewal(&host, 1);
    let second: Credentials =
        node::call(&world, &first, &host.key, "/node/v1/renew", &request).await.read();
    assert_eq!(second.renewal, 2);
    let third: Credentials =
        node::call(&world, &second, &host.key, "/node/v1/renew", &renewal(&host, 2)).await.read();
    assert_eq!(third.renewal, 3);

    // Whoever holds a copy of the first certificate renews it too.
    let copy = node::call(&world, &first, &host.key, "/node/v1/renew", &request).await;
    assert_eq!((copy.status, copy.refusal()), (409, NodeApiCode::IdentityCopied));
    let path = format!("/nodes/{}", host.node());
    root.get(&format!("{path}?min_position={}", world.head().await)).await;
    assert_eq!(root.get(&path).await.json["state"], "revoked");
    let honest = node::call(&world, &third, &host.key, "/node/v1/renew", &renewal(&host, 3)).await;
    assert_eq!(honest.refusal(), NodeApiCode::IdentityCopied);
    world.stop().await;
}

/// The host's credentials as another authority of this cluster would give them.
fn of_epoch(world: &World, host: &Host, node: NodeId, authority_epoch: u64) -> Credentials {
    let key = std::fs::read_to_string(world.state_dir().join("ca.key")).unwrap();
    let key = LocalKey::from_pem(&key).unwrap();
    let authority = ClusterAuthority::load(&world.running.ca_certificate, &key).unwrap();
    let leaf = authority.issue_node(&NodeCertificate {
        cluster: world.running.cluster,
        node,
        key: &host.key.public_key(),
        serial: [1; 16],
        renewal: 1,
        authority_epoch,
        now: rap_control::now(),
        lifetime: Duration::from_secs(3_600),
    });
    let mut credentials = host.credentials().unwrap().clone();
    credentials.certificates[0] = leaf.into();
    credentials
}

#[tokio::test]
async fn a_node_of_a_later_epoch_is_another_logs_to_serve() {
    let world = World::start().await;
    let root = world.set_up().await;
    let secret = join_secret(&root, true).await;
    let host = node::enroll(&world, &secret, "relay-1").await;
    let issued = &host.credentials().unwrap().certificates[0];
    assert_eq!(PeerIdentity::from_leaf(issued).unwrap().authority_epoch, 1);
    let head = world.head().await;
    let later = of_epoch(&world, &host, host.node(), 2);
    // Enrolled where this log does not reach.
    let unknown = of_epoch(&world, &host, NodeId::from_u128(7), 2);
    for credentials in [&later, &unknown] {
        for path in ["renew", "snapshot", "leases", "tree", "beat"] {
            let path = format!("/node/v1/{path}");
            let body = renewal(&host, 1);
            let refused = node::call(&world, credentials, &host.key, &path, &body).await;
            assert_eq!((refused.status, refused.refusal()), (503, NodeApiCode::Unavailable));
        }
    }
    assert_eq!(world.head().await, head);
    let same = of_epoch(&world, &host, host.node(), 1);
    let renewed = node::call(&world, &same, &host.key, "/node/v1/renew", &renewal(&host, 1)).await;
    assert_eq!(renewed.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_node_fetches_its_signed_configuration_and_only_what_it_lacks() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    let credentials = host.credentials().unwrap();
    let ask = |have, sections| SnapshotRequest { have, sections };
    let fetch = async |request: SnapshotRequest| {
        node::call(&world, credentials, &host.key, "/node/v1/snapshot", &request).await
    };
    let bundle: Bundle = fetch(ask(0, [].into())).await.read();
    let trusted = Trusted::new(credentials.control_keys.clone(), 1);
    let manifest = signed::open::<Manifest>(&bundle.manifest, &trusted).unwrap();
    assert_eq!(manifest.node, host.node());
    assert_eq!(bundle.sections.len(), manifest.sections.len());
    let sections = bundle.sections.iter().map(|bytes| rap_proto::Digest::of(bytes));
    let known: std::collections::BTreeSet<_> = sections.collect();
    let assignment = bundle
        .sections
        .iter()
        .find(|bytes| rap_proto::Digest::of(bytes) == manifest.sections[Assignment::NAME]);
    let assignment = Assignment::from_bytes(assignment.unwrap()).unwrap();
    assert_eq!(assignment.roles.len(), 2);

    assert_eq!(fetch(ask(manifest.version, known.clone())).await.status, 304);
    let again: Bundle = fetch(ask(0, known)).await.read();
    assert!(again.sections.is_empty());
    // Its signature need not be: nodes compare what was signed.
    let again = signed::open::<Manifest>(&again.manifest, &trusted).unwrap();
    assert_eq!(again.digest(), manifest.digest(), "the same state gives the same bytes");
    world.stop().await;
}

#[tokio::test]
async fn a_nodes_certificate_is_no_login_and_a_login_no_node() {
    let world = World::start().await;
    let root = world.set_up().await;
    let secret = join_secret(&root, true).await;
    let host = node::enroll(&world, &secret, "relay-1").await;
    let credentials = host.credentials().unwrap();
    let client = reqwest::Client::builder()
        .use_preconfigured_tls(node::mutual(&world, credentials, &host.key))
        .build()
        .unwrap();
    let reply = client.get(format!("{}/api/v1/nodes", world.base)).send().await.unwrap();
    assert_eq!(reply.status(), 401);

    // The bearer of a person, and no certificate at all.
    let config = rap_pki::tls::pinned_client(world.running.ca_fingerprint, &[b"http/1.1"]);
    let mut stream = node::connect(&world, config).await.unwrap();
    let bearer = format!("Authorization: Bearer {}\r\n", root.token.as_ref().unwrap());
    let request = SnapshotRequest { have: 0, sections: [].into() };
    let answer = node::exchange(&mut stream, "/node/v1/snapshot", &bearer, &request).await;
    assert_eq!((answer.status, answer.refusal()), (401, NodeApiCode::NotTrusted));

    // A revoked node's certificate opens nothing any more.
    let path = format!("/nodes/{}/revoke", host.node());
    let revision = root.get("/nodes/relay-1").await.revision();
    let body = Some(json!({"reason": "lost"}));
    assert_eq!(root.change(Method::POST, &path, body, revision).await.status, 200);
    let answer = node::call(&world, credentials, &host.key, "/node/v1/snapshot", &request).await;
    assert_eq!((answer.status, answer.refusal()), (403, NodeApiCode::Revoked));
    world.stop().await;
}

#[tokio::test]
async fn another_clusters_certificate_does_not_get_through_the_handshake() {
    let (world, foreign) = (World::start().await, World::start().await);
    let secret = join_secret(&foreign.set_up().await, true).await;
    let host = node::enroll(&foreign, &secret, "relay-1").await;
    let config = node::mutual(&world, host.credentials().unwrap(), &host.key);
    let request = SnapshotRequest { have: 0, sections: [].into() };
    // In TLS 1.3 the client learns of it with its first read.
    let refused = match node::connect(&world, config).await {
        Err(_) => true,
        Ok(mut stream) => {
            let attempt = tokio::spawn(async move {
                node::exchange(&mut stream, "/node/v1/snapshot", "", &request).await.status
            });
            attempt.await.is_err()
        }
    };
    assert!(refused);
    world.stop().await;
    foreign.stop().await;
}
