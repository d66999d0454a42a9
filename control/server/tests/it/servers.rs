//! The same server on a real PostgreSQL and a real NATS.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt as _;
use rap_bus::{
    Bus as _, NatsAuthority, NatsBus, NatsCredentials, NatsOptions, Subscription,
    nats_authority::{BusKey, Revocations, ServerOptions, TlsFiles},
    private::PrivateNats,
};
use rap_control::{BusChoice, LogChoice, nats_authority};
use rap_log_postgres::private::{Durability, PrivatePostgres};
use rap_pki::{ClusterAuthority, pem, tls};
use rap_proto::{
    ClusterId, NodeId, Signer as _,
    bus::{ControlBody, ControlMessage, down_subject},
    key::LocalKey,
    signed::{self, Trusted},
};
use reqwest::Method;
use serde_json::json;

use crate::{
    node,
    world::{Api, With, World, fresh_key, tenant},
};

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one doorbell is waited for, and how many there are.
const RING: Duration = Duration::from_secs(4);
const MAX_RINGS: usize = 10;

#[tokio::test]
async fn everything_outlives_a_restart_on_postgresql_and_nodes_hear_nats() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("control");
    let postgres =
        PrivatePostgres::start(&dir.path().join("postgres"), Durability::Fast).await.unwrap();
    let database = postgres.create_log("control").await.unwrap();
    let authority = nats_authority(&state_dir).unwrap();
    let nats_dir = dir.path().join("nats");
    let (nats, ca) = encrypted(&nats_dir, &authority).await;
    let log = || LogChoice::Postgres(database.clone());
    let bus = || BusChoice::Nats {
        servers: vec![nats.url()],
        advertised: Vec::new(),
        ca: Some(ca.clone()),
    };

    let world = World::start_with(dir, log(), bus()).await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let bus_key = BusKey::from_random([7; 32]);
    let public = bus_key.public();
    let key = node::fresh_key();
    let tamper = |request: &mut rap_proto::wire::node_api::EnrollRequest| {
        request.bus_key.clone_from(&public);
    };
    let host = node::enroll_with(&world, &acme.join_secret, "edge", key, tamper).await;
    let credentials = host.credentials().unwrap();
    let issued = credentials.bus.clone().unwrap();
    assert_eq!(issued.servers, [nats.url()]);
    assert!(issued.servers[0].starts_with("tls://"));
    let roots = tls::roots(&issued.authorities).unwrap();
    let options = NatsOptions {
        servers: issued.servers,
        credentials: NatsCredentials {
            jwt: issued.jwt,
            key: bus_key,
            inbox_prefix: format!("_INBOX_{}", host.node()),
        },
        tls: Some(tls::client(roots, None, &[]).unwrap()),
    };
    let heard = NatsBus::connect(options).await.unwrap();
    heard.wait_connected(PATIENCE).await.unwrap();
    let mut connected = heard.connected();
    let subject = down_subject(world.running.cluster, host.node());
    let mut down = heard.subscribe(subject).await.unwrap();
    let control = Trusted::new(credentials.control_keys.clone(), 1);
    // A doorbell may be lost, so a single one proves nothing when it does not come.
    let mut changes = ["/drain", "/undrain"].iter().cycle().take(MAX_RINGS);
    let version = loop {
        let change = changes.next().expect("one doorbell of many is heard");
        let changed = acme.api.change_current(Method::POST, "/nodes/edge", change).await;
        let version = changed.position();
        if tokio::time::timeout(RING, rung(&mut down, &control, version)).await.is_ok() {
            break version;
        }
    };

    // A revoked node is cut off from the bus at once.
    revoke(&acme.api, host.node(), version).await;
    let cut = connected.wait_for(|connected| !connected);
    tokio::time::timeout(PATIENCE, cut).await.unwrap().unwrap();

    let with = With { body: Some(json!({"name": "beta"})), key: Some(fresh_key()), if_match: None };
    let created = root.send(Method::POST, "/organizations", with.clone()).await;
    let (dir, ..) = world.stop().await;
    let world = World::start_with(dir, log(), bus()).await;
    let root = world.anonymous().with_token(root.token.as_ref().unwrap());
    let repeated = root.send(Method::POST, "/organizations", with).await;
    assert_eq!((repeated.status, repeated.text), (created.status, created.text));
    let replay = root.get("/audit/replay").await;
    assert_eq!(replay.json["equal"], true, "{}", replay.text);
    let (dir, ..) = world.stop().await;
    postgres.stop().await;
    drop((nats, dir));
}

async fn revoke(api: &Api, node: NodeId, seen: u64) {
    let settled = format!("/nodes/edge?min_position={seen}");
    let revision = api.get(&settled).await.revision();
    let body = Some(json!({"reason": "lost"}));
    let revoked = api.change(Method::POST, &format!("/nodes/{node}/revoke"), body, revision).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
}

/// A NATS server that proves itself by another CA than the cluster's, and that CA's file.
async fn encrypted(dir: &Path, authority: &NatsAuthority) -> (PrivateNats, PathBuf) {
    let now = rap_control::now();
    let [ca_key, key] = [1, 2].map(|seed| LocalKey::from_random(&[seed; 32]).unwrap());
    let ca = ClusterAuthority::create(ClusterId::from_u128(9), &ca_key, [1; 16], now);
    let names = ["127.0.0.1".to_owned()];
    let leaf = ca.issue_server(&names, &key.public_key(), [2; 16], now, HOUR).unwrap();
    fs::create_dir_all(dir).unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let options = ServerOptions {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        accounts: dir.join("accounts"),
        tls: Some(TlsFiles {
            certificates: file("tls.crt", &pem::encode([&*leaf, ca.certificate_der()])),
            key: file("tls.key", &key.to_pem()),
        }),
    };
    let nobody = Revocations::new();
    let nats = PrivateNats::start_with(dir, authority, &options, &nobody, now).await.unwrap();
    (nats, file("ca.crt", &pem::encode([ca.certificate_der()])))
}

/// Waits until the control plane says that this snapshot is there.
async fn rung(down: &mut Subscription, control: &Trusted, version: u64) {
    loop {
        let event = down.next().await.unwrap();
        let message = signed::open::<ControlMessage>(&event.payload, control).unwrap();
        if message.body == (ControlBody::SnapshotAvailable { version }) {
            return;
        }
    }
}
