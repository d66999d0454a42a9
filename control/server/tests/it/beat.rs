//! The authority beat: real control servers over one PostgreSQL, of which more than half must be
//! there for anything to be granted.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rap_bus::{Bus as _, LocalBus};
use rap_control::{
    BusChoice, ControlOptions, Limits, LogChoice, Pace, Rates,
    replica::{self, Change, ReplicaError},
};
use rap_log_postgres::private::{Durability, PrivatePostgres};
use rap_proto::{
    ClusterId, KeyId, NodeId, Signer as _,
    beat::{Beat, EpochStatement},
    bus::{ControlBody, ControlMessage, down_subject},
    signed::{self, Trusted},
    wire::node_api::{BeatReply, BeatRequest, NodeApiCode},
};
use reqwest::Method;
use serde_json::json;
use tokio::time::{interval, timeout};
use tokio_postgres::NoTls;

use crate::{
    node,
    relay::{Relay, url},
    world::{Api, ELSEWHERE, HERE, Reply, Tenant, With, World, fresh_key, tenant},
};

/// Fast enough to wait for, and slow enough for a machine that is busy with other things.
const PACE: Pace = Pace { every: Duration::from_millis(250), valid: Duration::from_secs(4) };
/// More beats than one of them is valid for.
const LONGER_THAN_VALID: u64 = 18;
/// How many read a stream and are kept waiting.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE wait_event_type = 'Lock' AND query LIKE '%FROM events WHERE category = $1%'";
const LOOK_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

struct Cluster {
    // Stopped before its folder is removed.
    _postgres: PrivatePostgres,
    dir: tempfile::TempDir,
    bus: LocalBus,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("postgres");
        let postgres = PrivatePostgres::start(&folder, Durability::Fast).await.unwrap();
        postgres.create_log("control").await.unwrap();
        Self { _postgres: postgres, dir, bus: LocalBus::new() }
    }

    fn log(&self) -> LogChoice {
        LogChoice::Postgres(url(&self.dir.path().join("postgres/run"), "control"))
    }

    /// Over a state directory of its own, a copy of `first`'s without its own key.
    async fn replica(&self, first: Option<&World>) -> World {
        let own = tempfile::tempdir().unwrap();
        if let Some(first) = first {
            copy_without_own_key(&first.state_dir(), &own.path().join("control"));
        }
        self.replica_in(own).await
    }

    async fn replica_in(&self, own: tempfile::TempDir) -> World {
        self.replica_over(self.log(), own).await
    }

    async fn replica_over(&self, log: LogChoice, own: tempfile::TempDir) -> World {
        let rates = Rates { user: "100000/100000".parse().unwrap(), ..Rates::default() };
        let limits = Limits { rates, beat: PACE, ..Limits::default() };
        let bus = BusChoice::Local(Arc::new(self.bus.clone()));
        World::start_as(own, log, bus, limits).await
    }

    /// What a command on the host of `world` works with.
    fn options(&self, world: &World) -> ControlOptions {
        ControlOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            metrics: None,
            state_dir: world.state_dir(),
            log: self.log(),
            bus: BusChoice::Local(Arc::new(self.bus.clone())),
            names: vec!["localhost".to_owned()],
            servers: Vec::new(),
            workers: 1,
            limits: Limits::default(),
        }
    }

    /// Lets nobody read the events until the client is dropped.
    async fn hold_events(&self) -> tokio_postgres::Client {
        let client = self.client().await;
        client.batch_execute("BEGIN; LOCK TABLE events").await.unwrap();
        client
    }

    async fn client(&self) -> tokio_postgres::Client {
        let socket = self.dir.path().join("postgres/run");
        let config = format!("host={} user=rap dbname=control", socket.display());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Waits until so many commands wait for the streams that they are decided over.
    async fn waiting(&self, commands: i64) {
        let client = self.client().await;
        let mut looks = interval(LOOK_EVERY);
        let waiting = async {
            while client.query_one(WAITING, &[]).await.unwrap().get::<_, i64>(0) < commands {
                looks.tick().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("they wait for the events");
    }

    async fn add(&self, world: &World) -> replica::Replicas {
        replica::change(&self.options(world), Change::Add).await.unwrap()
    }
}

fn copy_without_own_key(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_name() != "replica.key" {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn at(world: &World, api: &Api) -> Api {
    world.anonymous().with_token(api.token.as_ref().unwrap())
}

async fn authority(world: &World, state: &str) {
    world.settles(&format!("rap_control_authority{{state=\"{state}\"}}"), |set| set == 1).await;
}

/// Waits for as many beats as one of them is valid for.
async fn outlive_a_beat(world: &World) {
    let last = std::sync::atomic::AtomicU64::new(u64::MAX);
    let enough = |sequence: u64| {
        use std::sync::atomic::Ordering::SeqCst;
        let _ = last.compare_exchange(u64::MAX, sequence, SeqCst, SeqCst);
        sequence >= last.load(SeqCst) + LONGER_THAN_VALID
    };
    world.settles("rap_control_beat_sequence", enough).await;
}

async fn created(api: &Api, name: &str) -> u16 {
    api.post("/organizations", json!({ "name": name })).await.status.as_u16()
}

async fn delete(api: &Api, path: &str) -> Reply {
    let with = With { body: None, key: Some(fresh_key()), if_match: None };
    api.send(Method::DELETE, path, with).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_serves_and_says_that_it_is_no_quorum() {
    let world = World::start().await;
    let root = world.set_up().await;
    assert_eq!(root.get("/cluster").await.json["authority"], "no_quorum");
    authority(&world, "no_quorum").await;
    let metrics = world.anonymous().get("/metrics").await.text;
    assert!(metrics.contains("rap_control_replicas 1"), "{metrics}");
    assert!(metrics.contains("rap_control_authority_epoch 1"), "{metrics}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_replicas_go_on_and_one_alone_is_frozen() {
    let cluster = Cluster::start().await;
    let first = cluster.replica(None).await;
    let root = first.set_up().await;
    let second = cluster.replica(Some(&first)).await;
    let third = cluster.replica(Some(&first)).await;
    cluster.add(&first).await;
    cluster.add(&second).await;
    let listed = cluster.add(&third).await;
    assert!(listed.to_string().contains("2 of 3 replicas make a quorum"), "{listed}");
    for world in [&first, &second, &third] {
        world.settles("rap_control_replicas ", |replicas| replicas == 3).await;
        authority(world, "quorum").await;
    }
    let acme = tenant(&first, &root, "acme").await;
    let session = session(&first, &acme).await;

    third.stop().await;
    outlive_a_beat(&first).await;
    assert_eq!(created(&at(&second, &root), "with-two").await, 201);
    assert_eq!(root.get("/cluster").await.json["authority"], "quorum");

    let (second_dir, _) = second.stop().await;
    authority(&first, "frozen").await;
    let refused = root.post("/organizations", json!({"name": "alone"})).await;
    assert_eq!(refused.problem(), "authority_frozen");
    assert_eq!(refused.json["rule"], "no_quorum");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(root.get("/organizations").await.status, 200, "reading goes on");
    assert_eq!(root.get("/cluster").await.json["authority"], "frozen");
    takes_authority_away(&first, &root, &acme, &session).await;
    let ready = first.client.get(format!("{}/readyz", first.base)).send().await.unwrap();
    assert_eq!(ready.status(), 200);
    assert!(ready.text().await.unwrap().contains("frozen"));

    let second = cluster.replica_in(second_dir).await;
    authority(&first, "quorum").await;
    assert_eq!(created(&root, "together-again").await, 201);
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_in_before_the_beat_ended_is_not_stored_after_it() {
    let cluster = Cluster::start().await;
    let first = cluster.replica(None).await;
    let root = first.set_up().await;
    let relay = Relay::start(cluster.dir.path().join("postgres/run/.s.PGSQL.5432"));
    let own = tempfile::tempdir().unwrap();
    copy_without_own_key(&first.state_dir(), &own.path().join("control"));
    let second = cluster.replica_over(LogChoice::Postgres(relay.url("control")), own).await;
    cluster.add(&first).await;
    cluster.add(&second).await;
    for world in [&first, &second] {
        world.settles("rap_control_replicas ", |replicas| replicas == 2).await;
        authority(world, "quorum").await;
    }
    let acme = tenant(&first, &root, "acme").await;
    authority(&first, "quorum").await;

    let events = cluster.hold_events().await;
    let with = With { body: Some(json!({"name": "late"})), key: Some(fresh_key()), if_match: None };
    let create = || root.send(Method::POST, "/organizations", with.clone());
    let commands = async {
        tokio::join!(
            create(),
            node::enroll(&first, &acme.join_secret, "late"),
            delete(&acme.api, "/logins/current"),
        )
    };
    let the_end_of_the_beat = async {
        cluster.waiting(3).await;
        assert_eq!(create().await.problem(), "idempotency_key_in_flight", "it was let in");
        relay.freeze();
        authority(&first, "frozen").await;
        drop(events);
    };
    let ((created, joined, left), ()) = tokio::join!(commands, the_end_of_the_beat);
    assert_eq!(
        (created.problem(), &created.json["rule"]),
        ("authority_frozen", &json!("no_quorum"))
    );
    assert_eq!(joined.refusal(), NodeApiCode::Unavailable);
    assert!(left.status.is_success(), "what takes authority away is stored: {}", left.text);
    assert_eq!(acme.api.get("/me").await.status, 401);

    relay.thaw();
    authority(&first, "quorum").await;
    let again = create().await;
    assert_eq!(again.status, 201, "nothing was stored of it: {}", again.text);
    assert!(node::enroll(&first, &acme.join_secret, "late").await.credentials().is_some());
    second.stop().await;
    first.stop().await;
}

/// Whoever may reach `acme-ssh` asks for it, at a node that was heard lately.
async fn session(world: &World, acme: &Tenant) -> String {
    let host = node::enroll(world, &acme.join_secret, "edge").await;
    assert!(host.credentials().is_some());
    let key = serde_json::to_value(node::fresh_key().public_key()).unwrap();
    let body = json!({"resource": "acme-ssh", "clientKey": key});
    let access = acme.api.post("/sessions", body).await;
    assert_eq!(access.status, 201, "{}", access.text);
    access.json["session"].as_str().unwrap().to_owned()
}

/// Logging out, ending a session, revoking and disabling go on; joining does not.
async fn takes_authority_away(world: &World, root: &Api, acme: &Tenant, session: &str) {
    let joined = node::enroll(world, &acme.join_secret, "late").await;
    assert_eq!(joined.refusal(), NodeApiCode::Unavailable);
    let ended = delete(&acme.api, &format!("/sessions/{session}")).await;
    assert!(ended.status.is_success(), "{}", ended.text);
    let node = root.get("/nodes").await.json["items"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/nodes/{node}");
    let revision = root.get(&path).await.revision();
    let because = Some(json!({"reason": "lost"}));
    let revoked = root.change(Method::POST, &format!("{path}/revoke"), because, revision).await;
    assert!(revoked.status.is_success(), "{}", revoked.text);
    let connection =
        format!("/organizations/{}/vpn-connections/{}", acme.organization, acme.connection);
    let enabled = acme.api.change_current(Method::POST, &connection, "/enable").await;
    assert_eq!(enabled.problem(), "authority_frozen");
    let left = delete(&acme.api, "/logins/current").await;
    assert!(left.status.is_success(), "{}", left.text);
    assert_eq!(acme.api.get("/me").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_listed_once_and_the_last_one_stays() {
    let cluster = Cluster::start().await;
    let first = cluster.replica(None).await;
    let options = cluster.options(&first);
    let implied = replica::list(&options).await.unwrap();
    assert_eq!((implied.statement.revision, implied.statement.replicas.len()), (0, 1));
    let added = cluster.add(&first).await;
    assert_eq!(added.statement.revision, 1);
    assert_eq!(added.statement.replicas[0].id(), added.own);
    let again = replica::change(&options, Change::Add).await;
    assert!(matches!(again, Err(ReplicaError::Listed)), "{again:?}");
    let nobody = replica::change(&options, Change::Remove(KeyId::of(b"nobody"))).await;
    assert!(matches!(nobody, Err(ReplicaError::Unknown)), "{nobody:?}");
    let last = replica::change(&options, Change::Remove(added.own)).await;
    assert!(matches!(last, Err(ReplicaError::Rejected(_))), "{last:?}");
    first.settles("rap_control_replicas ", |replicas| replicas == 1).await;
    authority(&first, "no_quorum").await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_ends_when_the_lost_replica_is_removed() {
    let cluster = Cluster::start().await;
    let first = cluster.replica(None).await;
    let root = first.set_up().await;
    let second = cluster.replica(Some(&first)).await;
    cluster.add(&first).await;
    let lost = cluster.add(&second).await.own;
    authority(&first, "quorum").await;
    second.stop().await;
    authority(&first, "frozen").await;
    assert_eq!(created(&root, "frozen").await, 503);
    replica::change(&cluster.options(&first), Change::Remove(lost)).await.unwrap();
    authority(&first, "no_quorum").await;
    assert_eq!(created(&root, "thawed").await, 201);
    first.stop().await;
}

/// A node's call for the newest beat, verified as a node does.
async fn beat_of(
    world: &World,
    host: &node::Host,
    known: Option<rap_proto::Digest>,
) -> (BeatReply, Option<EpochStatement>) {
    let credentials = host.credentials().unwrap();
    let request = BeatRequest { statement: known };
    let answer = node::call(world, credentials, &host.key, "/node/v1/beat", &request).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let reply: BeatReply = answer.read();
    let control = Trusted::new(credentials.control_keys.clone(), 1);
    let statement = (!reply.statement.is_empty())
        .then(|| signed::open::<EpochStatement>(&reply.statement, &control).unwrap().into_inner());
    (reply, statement)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_get_the_beat_and_are_rung_when_something_is_denied() {
    let world = World::start().await;
    let root = world.set_up().await;
    let acme = tenant(&world, &root, "acme").await;
    let host = node::enroll(&world, &acme.join_secret, "edge").await;
    let (reply, statement) = beat_of(&world, &host, None).await;
    let statement = statement.unwrap();
    let opened = signed::open::<Beat>(&reply.beat, &statement.trusted()).unwrap();
    assert_eq!(opened.deny_version, 0);
    assert_eq!(reply.servers, [ELSEWHERE, HERE], "where else to ask");
    let (again, unsent) = beat_of(&world, &host, Some(opened.statement)).await;
    assert!(unsent.is_none() && !again.beat.is_empty());

    let subject = down_subject(world.running.cluster, host.node());
    let rings = world.bus.subscribe(subject).await.unwrap();
    let key = serde_json::to_value(node::fresh_key().public_key()).unwrap();
    let access =
        acme.api.post("/sessions", json!({"resource": "acme-ssh", "clientKey": key})).await;
    let path = format!("/sessions/{}", access.json["session"].as_str().unwrap());
    let denied = delete(&acme.api, &path).await;
    assert!(denied.status.is_success(), "{}", denied.text);
    rung(world.running.cluster, host.node(), rings, &host).await;
    let (reply, _) = beat_of(&world, &host, Some(opened.statement)).await;
    let later = signed::open::<Beat>(&reply.beat, &statement.trusted()).unwrap();
    assert!(later.sequence > opened.sequence && later.deny_version > 0);
    assert!(later.snapshot_floor >= later.deny_version);
    world.stop().await;
}

/// Waits until the node is told that there is a beat to hear.
async fn rung(
    cluster: ClusterId,
    node: NodeId,
    mut rings: rap_bus::Subscription,
    host: &node::Host,
) {
    use futures_util::StreamExt as _;
    let control = Trusted::new(host.credentials().unwrap().control_keys.clone(), 1);
    let hearing = async {
        loop {
            let heard = rings.next().await.unwrap();
            let message = signed::open::<ControlMessage>(&heard.payload, &control).unwrap();
            assert_eq!((message.cluster, message.audience), (cluster, node));
            if matches!(message.body, ControlBody::BeatAvailable { .. }) {
                return;
            }
        }
    };
    timeout(PATIENCE, hearing).await.expect("the bell rings");
}
