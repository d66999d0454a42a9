//! The guardian over real actors, and the dialer over the real worker. No control plane: the
//! state directory is filled by hand, and its address is a port where nobody listens.

#![allow(clippy::unwrap_used)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use actix::Addr;
use rap_agent_core::standing::Standing;
use rap_mesh::{DialRequest, Dialer as _};
use rap_pki::{ClusterAuthority, NodeCertificate};
use rap_proto::{
    ChannelKind, OrganizationId, RefusalCode, ResourceId, ResourceKind, SessionId, Signer as _,
    snapshot::{Resource, Target},
    wire::node_api::Credentials,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    BusChoice,
    actors::{Die, Revoked},
    clock::Clock,
    random,
    servers::SharedServers,
    state::{self},
};

const PATIENCE: Duration = Duration::from_secs(10);

struct Fixture {
    agent: Agent,
    _directory: TempDir,
}

fn fixture(worker: PathBuf) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let mut state = State::open(directory.path()).unwrap();
    let (cluster, node) = (ClusterId::from_u128(1), NodeId::from_u128(2));
    let ca_key = random::key();
    let now = Clock::MACHINE.now();
    let authority = ClusterAuthority::create(cluster, &ca_key, random::bytes(), now);
    let day = Duration::from_secs(86_400);
    let key = state.key.public_key();
    let leaf = authority.issue_node(&NodeCertificate {
        cluster,
        node,
        key: &key,
        serial: random::bytes(),
        renewal: 0,
        authority_epoch: 1,
        now,
        lifetime: day,
    });
    let credentials = Credentials {
        cluster,
        node,
        renewal: 0,
        certificates: vec![leaf.into(), authority.certificate_der().to_vec().into()],
        expires_at: now + day,
        control_keys: vec![ca_key.public_key()],
        bus: None,
    };
    state::check_credentials(&credentials, node, &state.key, authority.fingerprint()).unwrap();
    let held = state::held(credentials, now);
    state.keep_first_credentials(&held).unwrap();
    let enrollment = Enrollment {
        control: "https://127.0.0.1:9".to_owned(),
        ca: authority.fingerprint(),
        name: "edge".parse().unwrap(),
        addresses: Vec::new(),
        node: Some(node),
        cluster: Some(cluster),
    };
    state.keep_enrollment(&enrollment).unwrap();
    let options = RunOptions {
        state_dir: directory.path().to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4433)),
        advertise: Vec::new(),
        worker,
        bus: BusChoice::Local(Arc::new(rap_bus::LocalBus::default())),
        carrier: None,
        peers: None,
        drain_limit: Duration::ZERO,
        driver: crate::DriverChoice::None,
        metrics: None,
    };
    let board = Board::new(enrollment.name.clone(), state.fingerprint(), now);
    let servers = SharedServers::at(enrollment.control.parse().unwrap(), &[], 0);
    let control = Reach { servers, ground: Arc::new(ThisMachine) };
    let crew = Crew::default();
    let agent = Agent::start(options, state, &enrollment, control, &held, board, crew).unwrap();
    agent.start_actor(ActorName::Status);
    Fixture { agent, _directory: directory }
}

/// Runs a test inside an actix system like that of an agent.
fn in_system(test: impl Future<Output = ()>) {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    };
    actix_rt::System::with_tokio_rt(runtime).block_on(test);
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Kills an actor as a mistake in it would.
async fn kill<A>(addr: Option<Addr<A>>)
where
    A: actix::Actor<Context = actix::Context<A>> + actix::Handler<Die>,
{
    addr.unwrap().send(Die).await.unwrap_err();
}

async fn kill_by_name(crew: &Crew, name: ActorName) {
    match name {
        ActorName::Identity => kill(crew.identity.addr()).await,
        ActorName::Snapshots => kill(crew.snapshots.addr()).await,
        ActorName::Fetcher => kill(crew.fetcher.addr()).await,
        ActorName::Witness => kill(crew.witness.addr()).await,
        ActorName::Beat => kill(crew.beat.addr()).await,
        ActorName::Link => kill(crew.link.addr()).await,
        ActorName::Spool => kill(crew.spool.addr()).await,
        ActorName::Workload => kill(crew.workload.addr()).await,
        ActorName::Leases => kill(crew.leases.addr()).await,
        ActorName::Mesh => kill(crew.mesh.addr()).await,
        ActorName::Status => kill(crew.status.addr()).await,
        ActorName::Telemetry => kill(crew.telemetry.addr()).await,
        ActorName::Peers => kill(crew.peers.addr()).await,
    }
}

#[test]
fn each_actor_can_die_alone_and_is_started_again() {
    in_system(async {
        let Fixture { agent, _directory } = fixture(PathBuf::from("/nonexistent"));
        let all_alive = || ActorName::ALL.into_iter().all(|name| agent.alive(name));
        let killing = async {
            for (killed, name) in ActorName::ALL.into_iter().enumerate() {
                until("every actor runs", all_alive).await;
                kill_by_name(&agent.crew, name).await;
                assert!(!agent.alive(name), "{name:?}");
                let others = ActorName::ALL.into_iter().filter(|other| *other != name);
                assert!(others.clone().all(|other| agent.alive(other)), "{name:?} died alone");
                until("the guardian noticed", || {
                    agent.parts.board.read().actor_restarts == killed as u64 + 1
                })
                .await;
            }
            until("every actor runs again", all_alive).await;
        };
        agent.guard(Box::pin(killing)).await.unwrap();
    });
}

#[test]
fn an_actor_that_keeps_dying_ends_the_agent() {
    in_system(async {
        let Fixture { agent, _directory } = fixture(PathBuf::from("/nonexistent"));
        let killing = async {
            loop {
                until("it runs", || agent.alive(ActorName::Link)).await;
                kill_by_name(&agent.crew, ActorName::Link).await;
            }
        };
        let ended = timeout(PATIENCE, agent.guard(Box::pin(killing))).await.unwrap();
        assert!(matches!(ended, Err(RunError::KeepsDying(ActorName::Link))));
    });
}

#[test]
fn a_revocation_is_kept_and_survives_the_actors() {
    in_system(async {
        let Fixture { agent, _directory } = fixture(PathBuf::from("/nonexistent"));
        let by = rap_agent_core::standing::RevokedBy::Control;
        agent.crew.identity.addr().unwrap().send(Revoked(by)).await.unwrap();
        let standing = agent.parts.state.standing().unwrap();
        assert!(matches!(standing, Standing::Revoked { by: found, .. } if found == by));
        assert_eq!(agent.parts.board.read().state, AgentState::Revoked);
        // Nothing takes it back: not a drain, not a fresh start of every actor.
        agent.parts.board.enter(AgentState::Running);
        for name in ActorName::ALL {
            agent.start_actor(name);
        }
        sleep(Duration::from_millis(50)).await;
        assert_eq!(agent.parts.board.read().state, AgentState::Revoked);
    });
}

/// The real worker, when it was built: `RAP_STREAM_WORKER`, or beside the tests. Else the test of
/// this name is skipped.
fn worker(test: &str) -> Option<PathBuf> {
    let found = built_worker();
    if found.is_none() {
        rap_skips::skip(test, "rap-stream-worker is not built; name it by RAP_STREAM_WORKER");
    }
    found
}

fn built_worker() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("RAP_STREAM_WORKER") {
        return Some(PathBuf::from(named));
    }
    let own = std::env::current_exe().unwrap();
    let built = own.parent()?.parent()?.join("rap-stream-worker");
    built.is_file().then_some(built)
}

fn request(port: u16, session: u128) -> DialRequest {
    DialRequest {
        session: SessionId::from_u128(session),
        resource: Resource {
            id: ResourceId::from_u128(1),
            organization: OrganizationId::from_u128(1),
            kind: ResourceKind::Tcp,
            target: Target { host: "127.0.0.1".to_owned(), port, allow_local: true },
            users: std::collections::BTreeSet::new(),
            carried: None,
        },
        channel: ChannelKind::Stream,
        traceparent: None,
    }
}

async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    port
}

async fn echoes(dialed: &mut rap_mesh::Dialed) {
    dialed.stream.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    dialed.stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
}

#[test]
fn a_killed_worker_ends_its_channels_and_its_successor_opens_new_ones() {
    let test = "a_killed_worker_ends_its_channels_and_its_successor_opens_new_ones";
    let Some(worker) = worker(test) else { return };
    in_system(async move {
        let Fixture { agent, _directory } = fixture(worker);
        let dialer = WorkerDialer::new(agent.serving.subscribe());
        let none = dialer.dial(request(1, 1)).await.unwrap_err();
        assert_eq!(none.code, RefusalCode::WorkerUnavailable);

        agent.crew.workload.tell(Needed(true));
        let port = echo().await;
        until("a worker serves", || agent.serving.borrow().is_some()).await;
        let mut first = dialer.dial(request(port, 1)).await.unwrap();
        echoes(&mut first).await;
        let board = &agent.parts.board;
        let process = board.read().worker.process.unwrap();
        let id = rustix::process::Pid::from_raw(process.cast_signed()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        timeout(PATIENCE, first.worker_died).await.unwrap();
        // The socket that was handed over lives on, as the agent's. The flow ends nevertheless.
        assert!(first.stream.other_side_is_gone());
        drop(first.stream);

        until("a successor serves", || {
            let successor = board.read().worker.process.is_some_and(|now| now != process);
            successor && agent.serving.borrow().is_some()
        })
        .await;
        let mut second = dialer.dial(request(port, 2)).await.unwrap();
        echoes(&mut second).await;
        until("the death was observed", || board.read().spool.waiting == 1).await;
        assert_eq!(board.read().worker.restarts, 1);

        agent.crew.workload.tell(Needed(false));
        until("the worker is gone", || board.read().worker.process.is_none()).await;
        let left = std::fs::read_dir(agent.parts.state.disk.run_dir()).unwrap();
        let left = left.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        assert_eq!(left, 0, "its directory too");
    });
}

#[test]
fn half_closed_channels_stay_usable_and_refusals_come_through() {
    let test = "half_closed_channels_stay_usable_and_refusals_come_through";
    let Some(worker) = worker(test) else { return };
    in_system(async move {
        let Fixture { agent, _directory } = fixture(worker);
        let dialer = WorkerDialer::new(agent.serving.subscribe());
        agent.crew.workload.tell(Needed(true));
        let port = echo().await;
        until("a worker serves", || agent.serving.borrow().is_some()).await;
        let mut dialed = dialer.dial(request(port, 1)).await.unwrap();
        dialed.stream.write_all(b"last").await.unwrap();
        dialed.stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, dialed.stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, b"last", "our end closed, the other direction went on");

        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = free.local_addr().unwrap().port();
        drop(free);
        let refused = dialer.dial(request(closed, 1)).await.unwrap_err();
        assert_eq!(refused.code, RefusalCode::TargetRefused);
        let mut local = request(port, 1);
        local.resource.target.allow_local = false;
        let refused = dialer.dial(local).await.unwrap_err();
        assert_eq!(refused.code, RefusalCode::AddressNotAllowed);
        let mut strange = request(port, 1);
        strange.resource.target.host = "a b\r\n".to_owned();
        let refused = dialer.dial(strange).await.unwrap_err();
        assert_eq!(refused.code, RefusalCode::AddressNotAllowed);
    });
}

#[test]
fn a_worker_that_cannot_be_started_is_reported_and_tried_again() {
    in_system(async {
        let Fixture { agent, _directory } = fixture(PathBuf::from("/nonexistent/worker"));
        agent.crew.workload.tell(Needed(true));
        let board = &agent.parts.board;
        until("it was tried again", || board.read().worker.restarts >= 2).await;
        let report = board.read().worker;
        assert!(!report.serving && report.last_error.is_some());
        assert_eq!(board.read().spool.waiting, 0, "no session was lost with it");
    });
}
