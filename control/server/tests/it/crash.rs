//! The real program and a real PostgreSQL, killed and stopped while people work.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rap_bus::{nats_authority::Revocations, private::PrivateNats};
use rap_control::nats_authority;
use rap_events::{
    DomainEvent, Envelope, Log as _, leadership::LeadershipEvent, log::MAX_READ_EVENTS,
    organization::OrganizationEvent,
};
use rap_log_postgres::{
    PostgresLog,
    private::{Durability, PrivatePostgres},
};
use rap_pki::tls;
use rap_proto::Digest;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::watch,
    time::timeout,
};

use crate::{
    relay::url,
    replicas::MOST,
    world::{Api, PASSWORD, With, fresh_key},
};

/// How many times something is killed; `RAP_CRASH_ROUNDS` asks for more.
const ROUNDS: u64 = 20;
/// What is killed when follows from the seed; how the writers come between does not.
const SEED_VARIABLE: &str = "RAP_CRASH_SEED";
const WRITERS: u64 = 3;
/// At most so many commands are acknowledged before the next kill.
const MOST_BETWEEN: u64 = 16;
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// What the program may be and do without being asked why.
const RATE: &str = "100000/100000";

/// Where a cluster's programs find what they share.
pub(crate) struct Place {
    // Stopped before its folder is removed.
    postgres: PrivatePostgres,
    nats: PrivateNats,
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) async fn start(durability: Durability) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("postgres");
        let postgres = PrivatePostgres::start(&folder, durability).await.unwrap();
        postgres.create_log("control").await.unwrap();
        let authority = nats_authority(&dir.path().join("one")).unwrap();
        let (nats_dir, nobody) = (dir.path().join("nats"), Revocations::new());
        let nats = PrivateNats::start(&nats_dir, &authority, &nobody, rap_control::now());
        let nats = nats.await.unwrap();
        Self { postgres, nats, dir }
    }

    pub(crate) fn database(&self) -> String {
        url(&self.dir.path().join("postgres/run"), "control")
    }

    fn state_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the program over the state directory of this name, on this port.
    pub(crate) async fn program(&self, name: &str, port: u16) -> Program {
        self.program_with(name, port, &[]).await
    }

    /// The same with more words on its command line.
    pub(crate) async fn program_with(&self, name: &str, port: u16, words: &[&str]) -> Program {
        let (state_dir, nats) = (self.state_dir(name), self.nats.url());
        Program::start(&state_dir, &self.database(), &nats, port, words).await
    }
}

/// A running `rap-control`. Killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// Kept, so that it can go on speaking.
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) port: u16,
    metrics: String,
    pub(crate) ca: Digest,
}

impl Program {
    async fn start(
        state_dir: &Path,
        database: &str,
        nats: &str,
        port: u16,
        words: &[&str],
    ) -> Self {
        let metrics = format!("127.0.0.1:{}", free_port());
        let mut child = Command::new(env!("CARGO_BIN_EXE_rap-control"))
            .args(["run", "--metrics", &metrics])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--database", database])
            .args(["--nats", nats, "--name", "localhost", "--workers", "1"])
            .args(["--rate-user", RATE, "--rate-address", RATE])
            .arg("--state-dir")
            .arg(state_dir)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.expect("it starts").unwrap();
        let first = first.expect("it says what its CA is");
        let ca = first.rsplit_once("sha256:").unwrap().1.parse().unwrap();
        Self { child, lines, port, metrics: format!("http://{metrics}"), ca }
    }

    fn api(&self) -> Api {
        let config = tls::pinned_client(self.ca, &[b"http/1.1"]);
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(config)
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Api::new(client, format!("https://localhost:{}", self.port), self.metrics.clone())
    }

    /// The first platform owner, with the code that the program prints as long as there is none.
    pub(crate) async fn set_up(&mut self) -> Api {
        let line = timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap().unwrap();
        let (_, code) = line.rsplit_once(' ').expect("the setup code");
        let body = json!({"setupCode": code, "name": "root", "password": PASSWORD});
        let reply = self.api().post("/setup", body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        self.api().with_token(reply.json["secret"].as_str().unwrap())
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn leads(&self, wanted: bool) {
        let line = format!("rap_control_leading{{duty=\"processes\"}} {}", u8::from(wanted));
        let api = self.api();
        let looking = async {
            while !api.get("/metrics").await.text.contains(&line) {
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("no {line}"));
    }
}

/// One that stays free while its program is down: the kernel gives none below these to who asks for any.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let one = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id().wrapping_mul(64).wrapping_add(one) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Numbers that follow from a seed, so that a failure can be run again.
struct Chance(u64);

impl Chance {
    /// From the seed that is given, or a fresh one; says how `test` is run with it again.
    fn of(test: &str) -> Self {
        let given = std::env::var(SEED_VARIABLE).ok();
        let seed = given.map_or_else(
            || {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).unwrap();
                u64::from_be_bytes(bytes)
            },
            |seed| seed.parse().unwrap_or_else(|error| panic!("{SEED_VARIABLE}: {error}")),
        );
        println!("again: {SEED_VARIABLE}={seed} cargo test -p rap-control --test it -- {test}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What the writers are told, and what they tell.
#[derive(Clone)]
struct Work {
    api: Api,
    stop: Arc<AtomicBool>,
    /// False while something is down on purpose: nobody hammers at it.
    up: watch::Receiver<bool>,
    acknowledged: watch::Sender<u64>,
}

/// Creates organizations, repeating each command until it is acknowledged.
async fn write(writer: u64, mut work: Work) -> Vec<String> {
    let mut names = Vec::new();
    while !work.stop.load(Ordering::SeqCst) {
        let name = format!("w{writer}-{}", names.len());
        let with =
            With { body: Some(json!({ "name": name })), key: Some(fresh_key()), if_match: None };
        loop {
            work.up.wait_for(|up| *up).await.unwrap();
            match work.api.try_send(Method::POST, "/organizations", with.clone()).await {
                Some(reply) if reply.status == 201 => break,
                // Nobody knows: the same key asks what became of it.
                None => tokio::time::sleep(POLL).await,
                Some(reply) => {
                    let told = reply.problem().to_owned();
                    let waits = [
                        "unavailable",
                        "outcome_unknown",
                        "authority_frozen",
                        "conflict",
                        "idempotency_key_in_flight",
                    ];
                    assert!(waits.contains(&told.as_str()), "{}", reply.text);
                    tokio::time::sleep(POLL).await;
                }
            }
        }
        names.push(name);
        work.acknowledged.send_modify(|count| *count += 1);
    }
    names
}

pub(crate) async fn read_all(database: &str) -> Vec<Envelope> {
    let log = PostgresLog::connect(database).await.unwrap();
    let mut events: Vec<Envelope> = Vec::new();
    loop {
        // Reading halts at a gap by itself.
        let after = events.last().map_or(0, |event| event.position);
        let page = log.read(after, MAX_READ_EVENTS).await.unwrap();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// How often each organization was created.
pub(crate) fn created(events: &[Envelope]) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for event in events {
        if let DomainEvent::Organization(OrganizationEvent::Created(created)) =
            DomainEvent::from_envelope(event).unwrap()
        {
            *times.entry(created.name.to_string()).or_insert(0) += 1;
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_programs_and_databases_lose_nothing_and_repeat_nothing() {
    let rounds = std::env::var("RAP_CRASH_ROUNDS").ok().map(|text| text.parse().unwrap());
    let mut chance =
        Chance::of("crash::killed_programs_and_databases_lose_nothing_and_repeat_nothing");
    let mut place = Place::start(Durability::Safe).await;
    let port = free_port();
    let mut program = place.program("one", port).await;
    let root = program.set_up().await;
    let (up_sender, up) = watch::channel(true);
    let (acknowledged, mut seen) = watch::channel(0);
    let stop = Arc::new(AtomicBool::new(false));
    let work = Work { api: root.clone(), stop: Arc::clone(&stop), up, acknowledged };
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(writer, work.clone()))).collect();
    for _ in 0..rounds.unwrap_or(ROUNDS) {
        let until = *seen.borrow() + 1 + chance.below(MOST_BETWEEN);
        let progress = seen.wait_for(|count| *count >= until);
        timeout(PATIENCE, progress).await.expect("commands go on being acknowledged").unwrap();
        let (database, server) = match chance.below(3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        if server {
            program.kill().await;
            up_sender.send_replace(false);
        }
        if database {
            place.postgres.kill().await;
            place.postgres.restart().await.unwrap();
        }
        if server {
            program = place.program("one", port).await;
            up_sender.send_replace(true);
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut names = Vec::new();
    for writer in writers {
        names.extend(
            timeout(PATIENCE, writer).await.expect("the last one is acknowledged").unwrap(),
        );
    }
    let times = created(&read_all(&place.database()).await);
    let lost: Vec<_> = names.iter().filter(|name| !times.contains_key(*name)).collect();
    assert!(lost.is_empty(), "{lost:?} were acknowledged and are gone");
    assert!(times.values().all(|count| *count == 1), "something was created twice");
    assert_eq!(times.len(), names.len(), "what nobody asked for is there");
    let replay = root.get("/audit/replay").await;
    assert_eq!(replay.json["equal"], true, "{}", replay.text);
    program.kill().await;
}

/// Two programs over one log, of which the first leads, and the platform's owner at each.
pub(crate) async fn two(place: &Place) -> [(Program, Api); 2] {
    let mut first = place.program("one", free_port()).await;
    let root = first.set_up().await;
    copy(&place.state_dir("one"), &place.state_dir("two"));
    let second = place.program("two", free_port()).await;
    first.leads(true).await;
    let beside = second.api().with_token(root.token.as_ref().unwrap());
    [(first, root), (second, beside)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_past_its_lease_does_nothing_when_it_goes_on() {
    let place = Place::start(Durability::Fast).await;
    let [(mut first, root), (mut second, beside)] = two(&place).await;
    first.signal(Signal::STOP);
    second.leads(true).await;
    let created = beside.post("/organizations", json!({"name": "meanwhile"})).await;
    assert_eq!(created.status, 201, "{}", created.text);
    first.signal(Signal::CONT);
    first.leads(false).await;
    let position = created.position();
    let seen = root.get(&format!("/organizations/meanwhile?min_position={position}")).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    assert_eq!(root.post("/organizations", json!({"name": "later"})).await.status, 201);
    second.leads(true).await;
    let events = read_all(&place.database()).await;
    let granted: Vec<_> = events
        .iter()
        .filter_map(|event| match DomainEvent::from_envelope(event).unwrap() {
            DomainEvent::Leadership(LeadershipEvent::Granted(granted)) => {
                Some((granted.generation, granted.replica))
            }
            _ => None,
        })
        .collect();
    assert!(granted.is_sorted() && granted.len() == 2, "{granted:?}");
    first.kill().await;
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leaders_duties_are_done_by_the_program_beside_it_within_its_lease() {
    let place = Place::start(Durability::Fast).await;
    let [(mut first, _), (mut second, beside)] = two(&place).await;
    let person = json!({"name": "somebody", "password": PASSWORD});
    assert_eq!(beside.post("/users", person.clone()).await.status, 201);
    assert_eq!(second.api().post("/logins", person).await.status, 201);

    first.signal(Signal::KILL);
    let killed = Instant::now();
    // To log out whoever is disabled is a duty of the leader's.
    let revision = beside.get("/users/somebody").await.revision();
    let (disable, reason) = ("/users/somebody/disable", Some(json!({"reason": ""})));
    let disabled = beside.change(Method::POST, disable, reason, revision).await;
    assert!(disabled.status.is_success(), "{}", disabled.text);
    second.leads(true).await;
    assert!(killed.elapsed() <= MOST, "{:?}", killed.elapsed());
    let done = async {
        let closed = |event: &Envelope| event.event_type == "login.closed";
        while !read_all(&place.database()).await.iter().any(closed) {
            tokio::time::sleep(POLL).await;
        }
    };
    timeout(PATIENCE, done).await.expect("the duties are done, not only held");
    assert!(!first.child.wait().await.unwrap().success());
    second.kill().await;
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
