//! Several control servers over one PostgreSQL: any of them answers anything, and one leads.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rap_bus::LocalBus;
use rap_control::{BusChoice, LogChoice};
use rap_control_core::leadership::INTERVAL;
use rap_events::{
    Log as _,
    leadership::LEADERSHIP_TTL_MS,
    lease::{LeaseRow, LeaseTable as _},
};
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres},
};
use reqwest::Method;
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::{
    events::{messages, subscribe},
    relay::{self, Relay},
    world::{Api, With, World, fresh_key},
};

const DATABASE: &str = "control";
const PATIENCE: Duration = Duration::from_secs(30);

/// A database, and the state directory that every replica gets a copy of.
pub(crate) struct Cluster {
    // Stopped before its folder is removed.
    _postgres: PrivatePostgres,
    pub(crate) dir: tempfile::TempDir,
    bus: LocalBus,
    /// A look at the database past all replicas.
    log: Option<PostgresLog>,
}

impl Cluster {
    /// With a first replica behind the relay, and its owner.
    pub(crate) async fn start() -> (Self, Relay, World, Api) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("postgres");
        let postgres = PrivatePostgres::start(&folder, Durability::Fast).await.unwrap();
        postgres.create_log(DATABASE).await.unwrap();
        let relay = Relay::start(folder.join("run/.s.PGSQL.5432"));
        let mut cluster = Self { _postgres: postgres, dir, bus: LocalBus::new(), log: None };
        let first = cluster.replica_at(relay.url(DATABASE)).await;
        // From here on the directory is what an operator copies.
        copy(&first.state_dir(), &cluster.dir.path().join("control"));
        let root = first.set_up().await;
        cluster.log = Some(PostgresLog::connect(&cluster.url()).await.unwrap());
        (cluster, relay, first, root)
    }

    fn url(&self) -> String {
        relay::url(&self.dir.path().join("postgres/run"), DATABASE)
    }

    pub(crate) async fn replica(&self) -> World {
        self.replica_at(self.url()).await
    }

    async fn replica_at(&self, url: String) -> World {
        let own = tempfile::tempdir().unwrap();
        let shared = self.dir.path().join("control");
        if shared.exists() {
            copy(&shared, &own.path().join("control"));
        }
        let bus = BusChoice::Local(Arc::new(self.bus.clone()));
        let rates = rap_control::Rates {
            user: "100000/100000".parse().unwrap(),
            ..rap_control::Rates::default()
        };
        let limits = rap_control::Limits { rates, ..rap_control::Limits::default() };
        World::start_as(own, LogChoice::Postgres(url), bus, limits).await
    }

    pub(crate) fn log(&self) -> &PostgresLog {
        self.log.as_ref().unwrap()
    }

    async fn leader(&self) -> LeaseRow {
        self.log().read_leases("leadership", None, 1).await.unwrap().rows[0].1
    }

    /// Waits until `world` leads, and says when its lease was granted.
    async fn led_by(&self, world: &World) -> LeaseRow {
        let waiting = async {
            loop {
                let head = self.log().head().await.unwrap();
                let row = self.leader().await;
                if row.holder == world.running.replica.uuid() && !row.ended {
                    return row;
                }
                self.log().wait_beyond(head).await.unwrap();
            }
        };
        timeout(PATIENCE, waiting).await.expect("the duties move")
    }

    /// Waits until there is an event of this type.
    pub(crate) async fn sees(&self, event_type: &str) {
        let waiting = async {
            loop {
                let head = self.log().head().await.unwrap();
                if self.count(event_type).await > 0 {
                    return;
                }
                self.log().wait_beyond(head).await.unwrap();
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no {event_type}"));
    }

    /// How many events of this type there are.
    async fn count(&self, event_type: &str) -> usize {
        let (mut count, mut after) = (0, 0);
        loop {
            let page = self.log().read(after, 1_000).await.unwrap();
            let Some(last) = page.last() else { return count };
            after = last.position;
            count += page.iter().filter(|event| event.event_type == event_type).count();
        }
    }
}

/// As an operator copies it: the files, for their owner alone.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The same person at another replica.
pub(crate) fn at(world: &World, api: &Api) -> Api {
    world.anonymous().with_token(api.token.as_ref().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_answers_anything_and_waits_for_what_another_wrote() {
    let (cluster, _relay, first, root) = Cluster::start().await;
    let second = cluster.replica().await;
    assert_eq!(first.running.ca_fingerprint, second.running.ca_fingerprint);
    let beside = at(&second, &root);
    for (turn, name) in ["one", "two", "three", "four"].iter().enumerate() {
        let (writer, reader) =
            if turn.is_multiple_of(2) { (&root, &beside) } else { (&beside, &root) };
        let body = Some(json!({ "name": name }));
        let with = With { body, key: Some(fresh_key()), if_match: None };
        let created = writer.send(Method::POST, "/organizations", with.clone()).await;
        assert_eq!(created.status, 201, "{}", created.text);
        // The other replica knows the command and repeats the answer.
        let again = reader.send(Method::POST, "/organizations", with).await;
        assert_eq!((again.status, &again.text), (created.status, &created.text));
        let path = format!("/organizations/{name}?min_position={}", created.position());
        assert_eq!(reader.get(&path).await.status, 200);
    }
    assert_eq!(cluster.count("organization.created").await, 4);
    for api in [&root, &beside] {
        let replay = api.get("/audit/replay").await;
        assert_eq!(replay.json["equal"], true, "{}", replay.text);
    }
    let mut leading = 0;
    for api in [&root, &beside] {
        let text = api.get("/metrics").await.text;
        leading += text.matches("rap_control_leading{duty=\"processes\"} 1").count();
    }
    assert_eq!(leading, 1, "one replica leads");
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_on_another_replica_without_gap_or_double() {
    let (cluster, _relay, first, root) = Cluster::start().await;
    let second = cluster.replica().await;
    let worlds = [&first, &second];
    let mut stream = messages(subscribe(&first, &root, "", None).await);
    let mut last = first_position(&root).await;
    for turn in 0..10_usize {
        let name = format!("organization-{turn}");
        let writer = at(worlds[turn % 2], &root);
        assert_eq!(writer.post("/organizations", json!({ "name": name })).await.status, 201);
        let message = loop {
            let message = stream.next().await.unwrap();
            if message.event != "bookmark" {
                break message;
            }
        };
        let position = message.data["position"].as_u64().unwrap();
        assert_eq!(position, last + 1, "{message:?}");
        last = position;
        // The next replica may not have folded this event yet.
        let other = worlds[(turn + 1) % 2];
        stream = messages(subscribe(other, &at(other, &root), "", Some(&message.id)).await);
    }
    second.stop().await;
    first.stop().await;
}

/// The last position that a fresh stream starts behind.
async fn first_position(api: &Api) -> u64 {
    api.get("/organizations").await.position()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hears_nothing_of_its_database_says_so_and_shows_nothing_wrong() {
    let (cluster, relay, first, root) = Cluster::start().await;
    let second = cluster.replica().await;
    let beside = at(&second, &root);
    root.post("/organizations", json!({"name": "early"})).await;
    relay.freeze();
    let late = beside.post("/organizations", json!({"name": "late"})).await;
    let position = late.position();

    // What it shows is old, says of when it is, and is right for then.
    let known = root.get("/organizations").await;
    assert_eq!((known.status.as_u16(), known.position() < position), (200, true));
    let has = |name: &str| known.text.contains(&format!("\"{name}\""));
    assert!(has("early") && !has("late"), "{}", known.text);
    let newer = root.get(&format!("/organizations?min_position={position}")).await;
    assert_eq!(newer.problem(), "position_not_reached");
    let body = Some(json!({"name": "lost"}));
    let with = With { body, key: Some(fresh_key()), if_match: None };
    let refused = root.send(Method::POST, "/organizations", with.clone()).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (503, "unavailable"));
    let ready = first.client.get(format!("{}/readyz", first.base)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.text().await.unwrap(), "the log cannot be read\n");

    relay.thaw();
    let catching_up = async {
        let path = format!("/organizations/late?min_position={position}");
        while root.get(&path).await.status != 200 {}
        while root.send(Method::POST, "/organizations", with.clone()).await.status != 201 {}
    };
    timeout(PATIENCE, catching_up).await.expect("it goes on by itself");
    assert_eq!(cluster.count("organization.created").await, 3, "the repeated one is there once");
    second.stop().await;
    first.stop().await;
}

/// How long the duties may stand still: what the lost leader renewed at the last moment, and until
/// the next one has looked. Who saw how much of the lease was left looks again as it ends; one
/// interval is for one that did not, and one for a machine on which other tests run.
pub(crate) const MOST: Duration =
    Duration::from_millis(LEADERSHIP_TTL_MS as u64).saturating_add(INTERVAL.saturating_mul(2));

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_lost_its_duties_move_when_its_time_is_over() {
    let (cluster, relay, first, root) = Cluster::start().await;
    let second = cluster.replica().await;
    cluster.led_by(&first).await;
    relay.freeze();
    let lost = Instant::now();
    cluster.led_by(&second).await;
    assert!(lost.elapsed() <= MOST, "{:?}", lost.elapsed());
    // The duties are done, not only held: whoever is disabled is logged out.
    let beside = at(&second, &root);
    disabled_person(&second, &beside).await;
    cluster.sees("login.closed").await;
    relay.thaw();
    first.stop().await;
    second.stop().await;
}

/// Somebody who is logged in and then disabled.
async fn disabled_person(world: &World, admin: &Api) -> String {
    let (_, id) = world.user(admin, "somebody").await;
    let path = format!("/users/{id}");
    let revision = admin.get(&path).await.revision();
    let (disable, body) = (format!("{path}/disable"), Some(json!({"reason": ""})));
    let disabled = admin.change(Method::POST, &disable, body, revision).await;
    assert!(disabled.status.is_success(), "{}", disabled.text);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leaders_append_is_refused_after_another_took_over() {
    let (cluster, relay, first, root) = Cluster::start().await;
    let second = cluster.replica().await;
    cluster.led_by(&first).await;
    let beside = at(&second, &root);
    // The leader decides to close the login, and is paused before its append is begun.
    relay.freeze_at_append();
    let id = disabled_person(&second, &beside).await;
    timeout(PATIENCE, relay.frozen()).await.expect("the leader begins its append");
    // Meanwhile there is nothing to close any more, so the next leader does nothing.
    let path = format!("/users/{id}");
    let enabled = beside.change_current(Method::POST, &path, "/enable").await;
    assert!(enabled.status.is_success(), "{}", enabled.text);
    let taken = cluster.led_by(&second).await;
    relay.thaw();
    // What the first one appends now stands behind its late append.
    let created = root.post("/organizations", json!({"name": "later"})).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(cluster.count("login.closed").await, 0, "a stale leader closed a login");
    let refused = async {
        let metric = "rap_control_processes_total{outcome=\"lease_lost\"} 1";
        while !root.get("/metrics").await.text.contains(metric) {}
    };
    timeout(PATIENCE, refused).await.expect("the append was refused by its guard");
    assert_eq!(cluster.leader().await.generation, taken.generation);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_in_order_hands_its_duties_over_at_once() {
    let (cluster, _relay, first, _) = Cluster::start().await;
    let second = cluster.replica().await;
    let before = cluster.led_by(&first).await;
    first.stop().await;
    let given_back = cluster.leader().await;
    assert!(given_back.ended || given_back.generation > before.generation);
    let taken = cluster.led_by(&second).await;
    assert_eq!(taken.generation, before.generation + 1);
    second.stop().await;
}

const WRITERS: usize = 4;

/// People who create organizations while replicas come and go.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: watch::Receiver<usize>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Writers {
    pub(crate) fn begin(apis: &Arc<Mutex<Vec<Api>>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (acknowledge, acknowledged) = watch::channel(0);
        let begin = |writer| {
            tokio::spawn(write(writer, Arc::clone(apis), Arc::clone(&stop), acknowledge.clone()))
        };
        let tasks = (0..WRITERS).map(begin).collect();
        Self { stop, acknowledged, tasks }
    }

    /// Waits until some more commands were acknowledged.
    pub(crate) async fn progress(&mut self) {
        let until = *self.acknowledged.borrow() + 10;
        let waiting = self.acknowledged.wait_for(|count| *count >= until);
        timeout(PATIENCE, waiting).await.expect("commands go on being acknowledged").unwrap();
    }

    /// The names that were acknowledged, once each has its last answer.
    pub(crate) async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut names = Vec::new();
        for task in self.tasks {
            names.extend(timeout(PATIENCE, task).await.expect("it has its answer").unwrap());
        }
        names
    }
}

/// Creates organizations, each until some replica acknowledges it.
async fn write(
    writer: usize,
    apis: Arc<Mutex<Vec<Api>>>,
    stop: Arc<AtomicBool>,
    acknowledged: watch::Sender<usize>,
) -> Vec<String> {
    let mut names = Vec::new();
    let mut turn = writer;
    while !stop.load(Ordering::SeqCst) {
        let name = format!("w{writer}-{}", names.len());
        let with =
            With { body: Some(json!({ "name": name })), key: Some(fresh_key()), if_match: None };
        loop {
            let api = {
                let apis = apis.lock().unwrap();
                apis[turn % apis.len()].clone()
            };
            turn += 1;
            match api.try_send(Method::POST, "/organizations", with.clone()).await {
                Some(reply) if reply.status == 201 => break,
                // It stops, or has stopped, or does not know: ask another one the same.
                None => {}
                Some(reply) => {
                    assert!(reply.status.as_u16() >= 409, "{}: {}", reply.status, reply.text);
                }
            }
        }
        acknowledged.send_modify(|count| *count += 1);
        names.push(name);
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_loses_no_acknowledged_command() {
    let (cluster, _relay, first, root) = Cluster::start().await;
    let mut worlds = vec![first, cluster.replica().await];
    let apis = Arc::new(Mutex::new(worlds.iter().map(|world| at(world, &root)).collect()));
    let mut writers = Writers::begin(&apis);
    for (place, world) in worlds.iter_mut().enumerate() {
        writers.progress().await;
        let fresh = cluster.replica().await;
        apis.lock().unwrap()[place] = at(&fresh, &root);
        let old = std::mem::replace(world, fresh);
        old.stop().await;
        writers.progress().await;
    }
    let names = writers.end().await;
    assert_eq!(cluster.count("organization.created").await, names.len());
    let head = cluster.log().head().await.unwrap();
    for (world, name) in worlds.iter().cycle().zip(&names) {
        let path = format!("/organizations/{name}?min_position={head}");
        let found = at(world, &root).get(&path).await;
        assert_eq!(found.status, 200, "{name} was acknowledged and is gone");
    }
    for world in worlds {
        let replay = at(&world, &root).get("/audit/replay").await;
        assert_eq!(replay.json["equal"], true, "{}", replay.text);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_other_keys_is_refused() {
    let (cluster, _relay, first, _) = Cluster::start().await;
    let own = tempfile::tempdir().unwrap();
    let options = rap_control::ControlOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics: None,
        state_dir: own.path().join("control"),
        log: LogChoice::Postgres(cluster.url()),
        bus: BusChoice::Local(Arc::new(cluster.bus.clone())),
        names: vec!["localhost".to_owned()],
        servers: Vec::new(),
        workers: 1,
        limits: rap_control::Limits::default(),
    };
    let refused = rap_control::serve(options, std::future::pending()).await.unwrap_err();
    assert!(matches!(refused, rap_control::ServeError::OtherCluster), "{refused}");
    first.stop().await;
}
