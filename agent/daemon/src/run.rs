//! Running an agent: its actors, the guardian over them, and leaving.

use std::{
    cell::RefCell,
    io,
    pin::pin,
    rc::Rc,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use actix::Actor as _;
use futures_util::future::{Either, select};
use rap_agent_core::{
    Machine as _,
    guardian::{ActorName, Effect, Guardian, Input},
    record::{Enrollment, HeldCredentials},
    snapshot,
};
use rap_mesh::MeshEndpoint;
use rap_proto::{ClusterId, Digest, NodeId, ParseControlUrlError};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    AgentState, RunOptions, StatusReport,
    actors::{
        Crew, Parts,
        beat::BeatActor,
        fetcher::FetcherActor,
        identity::IdentityActor,
        leases::{GiveUp, LeaseActor, Leave},
        link::{BeatNow, LinkActor},
        mesh::{self, CLOSE_GRACE, Drain, Hull, MeshActor},
        peers::PeerActor,
        snapshots::SnapshotActor,
        spool::{Count, SpoolActor},
        status::StatusActor,
        telemetry::{self, TelemetryActor},
        witness::WitnessActor,
        workload::{Needed, ServingSender, WorkloadActor},
    },
    board::Board,
    control::Reach,
    dialer::WorkerDialer,
    disk::FileDisk,
    driver::Driver,
    floors::Floors,
    ground::{Ground, ThisMachine},
    join::{self, JoinError},
    leases::NodeLeases,
    options::MAX_DRAIN_LIMIT,
    servers::SharedServers,
    state::{State, StateError},
    worker,
};

/// How often the guardian looks whether an actor died.
const SWEEP: Duration = Duration::from_millis(200);
/// How often a drain looks whether the last session ended.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// How long the other nodes have to take over what this one carries.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(3);
/// How long the last observations may take to reach control.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The most threads of one agent's runtime; bytes are moved on them.
const MAX_THREADS: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("this host has not joined a cluster yet: run `rap-node-agent join`")]
    NotJoined,
    #[error(transparent)]
    Enrollment(#[from] JoinError),
    #[error("the enrollment in the state directory is damaged: {0}")]
    Control(#[from] ParseControlUrlError),
    #[error(transparent)]
    Snapshot(#[from] snapshot::LoadError),
    #[error("the {} actor keeps dying", .0.as_str())]
    KeepsDying(ActorName),
    #[error("the agent's thread cannot be started: {0}")]
    Thread(io::Error),
    #[error("the agent's thread panicked")]
    Panicked,
}

/// What a caller is told while an agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEvent {
    /// The enrollment waits for an approver, who compares the fingerprint.
    Pending { node: NodeId, fingerprint: Digest },
    /// Every actor was started.
    Running(Ready),
    /// A stop was asked for; open sessions may finish.
    Draining,
}

/// An agent that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    pub node: NodeId,
    pub cluster: ClusterId,
}

/// Runs an agent on this thread until `shutdown` resolves, then drains and returns.
///
/// The thread becomes an actix system of its own, with a tokio runtime for the bytes. Errors are
/// final: what can heal is retried within.
pub fn run(
    options: RunOptions,
    shutdown: impl Future<Output = ()>,
    on_event: impl FnMut(RunEvent),
) -> Result<(), RunError> {
    run_with(options, shutdown, on_event, &Arc::default())
}

fn run_with(
    options: RunOptions,
    shutdown: impl Future<Output = ()>,
    on_event: impl FnMut(RunEvent),
    board: &Arc<OnceLock<Board>>,
) -> Result<(), RunError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("agent")
        .enable_all()
        .build()
        .map_err(RunError::Thread)?;
    let system = actix_rt::System::with_tokio_rt(|| runtime);
    system.block_on(serve(Arc::new(ThisMachine), options, shutdown, on_event, board))
}

/// What an agent shows of itself, from when it opened its state directory. Clones show the same one.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<OnceLock<Board>>);

impl Shown {
    /// `None` before there is anything.
    pub fn status(&self) -> Option<StatusReport> {
        self.0.get().map(Board::read)
    }
}

/// Runs an agent on a ground that is given, within the local task set of the caller's runtime:
/// of its threads there are none but that one.
pub async fn run_on(
    ground: Arc<dyn Ground>,
    options: RunOptions,
    shutdown: impl Future<Output = ()>,
    on_event: impl FnMut(RunEvent),
    shown: &Shown,
) -> Result<(), RunError> {
    serve(ground, options, shutdown, on_event, &shown.0).await
}

async fn serve(
    ground: Arc<dyn Ground>,
    options: RunOptions,
    shutdown: impl Future<Output = ()>,
    mut on_event: impl FnMut(RunEvent),
    shared: &OnceLock<Board>,
) -> Result<(), RunError> {
    let mut state = State::open(&options.state_dir)?;
    let enrollment = state.enrollment()?.ok_or(RunError::NotJoined)?;
    let clock = ground.clock();
    let board = Board::new(enrollment.name.clone(), state.fingerprint(), clock.now());
    let board = shared.get_or_init(|| board).clone();
    let mut shutdown = pin!(shutdown);
    let crew = Crew::default();
    let (run_dir, metrics) = (state.disk.run_dir(), options.metrics.clone());
    let status = StatusActor::new(&run_dir, board.clone(), metrics, clock);
    crew.status.set(status.start());
    let control = Reach { servers: servers(&state, &enrollment, &*ground)?, ground };
    board.update(|report| control.servers.show(&mut report.control));
    let held = match state.credentials()? {
        Some(held) => held,
        None => {
            let node = enrollment.node.ok_or(RunError::NotJoined)?;
            board.update(|report| report.node = Some(node));
            on_event(RunEvent::Pending { node, fingerprint: state.fingerprint() });
            let approved = {
                let waiting = join::await_approval(&mut state, &enrollment, control.clone(), node);
                match select(pin!(waiting), shutdown.as_mut()).await {
                    Either::Left((outcome, _)) => Some(outcome?),
                    Either::Right(_) => None,
                }
            };
            if approved.is_none() {
                return Ok(());
            }
            state.credentials()?.ok_or(RunError::NotJoined)?
        }
    };
    // Said before anything starts: an actor that finds this could only die of it again and again.
    snapshot::load(&state.disk)?;
    if let Err(error) = worker::remove_leftovers(&state.disk.run_dir()) {
        tracing::warn!(%error, "the directories of earlier workers were not removed");
    }
    let agent = Agent::start(options, state, &enrollment, control, &held, board, crew)?;
    on_event(RunEvent::Running(agent.ready()));
    agent.guard(shutdown).await?;
    on_event(RunEvent::Draining);
    agent.leave().await;
    Ok(())
}

/// Those that were known before: without them it begins at the one that it joined at.
fn servers(
    state: &State,
    enrollment: &Enrollment,
    ground: &dyn Ground,
) -> Result<SharedServers, RunError> {
    let held = state.servers().unwrap_or_else(|error| {
        tracing::warn!(%error, "the servers on disk are left aside");
        None
    });
    let mut seed = [0; 8];
    ground.fill(&mut seed);
    let joined = enrollment.control.parse()?;
    Ok(SharedServers::new(joined, held.unwrap_or_default(), u64::from_le_bytes(seed)))
}

/// The actors of a running agent and what outlives each of them.
struct Agent {
    parts: Parts,
    crew: Crew,
    hull: Hull,
    driver: Arc<dyn Driver>,
    leases: NodeLeases,
    floors: Floors<FileDisk>,
    serving: ServingSender,
}

impl Agent {
    fn start(
        options: RunOptions,
        state: State,
        enrollment: &Enrollment,
        control: Reach,
        held: &HeldCredentials,
        board: Board,
        crew: Crew,
    ) -> Result<Self, RunError> {
        let (cluster, node) = (held.credentials.cluster, held.credentials.node);
        board.update(|report| {
            report.node = Some(node);
            report.cluster = Some(cluster);
        });
        board.enter(AgentState::Starting);
        // Before the first heartbeat: it must not say that this host can do nothing.
        telemetry::look(&*control.ground, &options, &board);
        let driver = control.ground.driver(&options.driver);
        let (ground, clock) = (control.ground.clone(), control.ground.clock());
        let leases = NodeLeases::open(state.disk.clone(), ground.clone());
        let floors = Floors::new(state.disk.clone(), ground.clone());
        let options = Arc::new(options);
        let ca = enrollment.ca;
        let bulk = Arc::new(ground.bulk().map_err(RunError::Thread)?);
        let parts =
            Parts { ground, clock, options, control, ca, cluster, node, state, board, bulk };
        let hull = Rc::new(RefCell::new(None));
        let serving = Arc::new(rap_watch::Sender::new(None));
        let agent = Self { parts, crew, hull, driver, leases, floors, serving };
        for name in ActorName::ALL {
            if name != ActorName::Status {
                agent.start_actor(name);
            }
        }
        Ok(agent)
    }

    fn ready(&self) -> Ready {
        Ready { node: self.parts.node, cluster: self.parts.cluster }
    }

    fn start_actor(&self, name: ActorName) {
        let (parts, crew) = (self.parts.clone(), self.crew.clone());
        let own = &self.crew;
        match name {
            ActorName::Identity => own.identity.set(IdentityActor::new(parts, crew).start()),
            ActorName::Snapshots => own.snapshots.set(SnapshotActor::new(parts, crew).start()),
            ActorName::Fetcher => own.fetcher.set(FetcherActor::new(parts, crew).start()),
            ActorName::Witness => own.witness.set(WitnessActor::new(parts, crew).start()),
            ActorName::Beat => own.beat.set(BeatActor::new(parts, crew).start()),
            ActorName::Link => own.link.set(LinkActor::new(parts, crew).start()),
            ActorName::Spool => own.spool.set(SpoolActor::new(parts, crew).start()),
            ActorName::Workload => {
                let actor = WorkloadActor::new(parts, crew, self.serving.clone());
                own.workload.set(actor.start());
            }
            ActorName::Mesh => {
                let workers = Arc::new(WorkerDialer::new(self.serving.subscribe()));
                let dialer = self.parts.ground.dialer(workers);
                let (hull, leases) = (self.hull.clone(), self.leases.clone());
                own.mesh.set(MeshActor::new(parts, crew, hull, dialer, leases).start());
            }
            ActorName::Leases => {
                let (driver, leases) = (self.driver.clone(), self.leases.clone());
                let floors = self.floors.clone();
                own.leases.set(LeaseActor::new(parts, crew, driver, leases, floors).start());
            }
            ActorName::Status => {
                let run_dir = parts.state.disk.run_dir();
                let metrics = parts.options.metrics.clone();
                let status = StatusActor::new(&run_dir, parts.board, metrics, parts.clock);
                own.status.set(status.start());
            }
            ActorName::Telemetry => own.telemetry.set(TelemetryActor::new(parts, crew).start()),
            ActorName::Peers => {
                own.peers.set(PeerActor::new(parts, crew, self.hull.clone()).start());
            }
        }
    }

    fn alive(&self, name: ActorName) -> bool {
        match name {
            ActorName::Identity => self.crew.identity.alive(),
            ActorName::Snapshots => self.crew.snapshots.alive(),
            ActorName::Fetcher => self.crew.fetcher.alive(),
            ActorName::Witness => self.crew.witness.alive(),
            ActorName::Beat => self.crew.beat.alive(),
            ActorName::Link => self.crew.link.alive(),
            ActorName::Spool => self.crew.spool.alive(),
            ActorName::Workload => self.crew.workload.alive(),
            ActorName::Mesh => self.crew.mesh.alive(),
            ActorName::Leases => self.crew.leases.alive(),
            ActorName::Status => self.crew.status.alive(),
            ActorName::Telemetry => self.crew.telemetry.alive(),
            ActorName::Peers => self.crew.peers.alive(),
        }
    }

    /// Watches over the actors until the shutdown. A panicked actor says nothing, so each is
    /// looked at.
    async fn guard(&self, mut shutdown: impl Future<Output = ()> + Unpin) -> Result<(), RunError> {
        let mut guardian = Guardian::new();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                _ = sweep.tick() => {}
            }
            for name in ActorName::ALL.into_iter().filter(|name| !self.alive(*name)) {
                guardian.handle_input(self.parts.clock.moment(), Input::Died(name));
            }
            while let Some(effect) = guardian.poll_effect() {
                match effect {
                    Effect::Restart(name) => {
                        tracing::error!(
                            actor = name.as_str(),
                            "an actor died; it is started again"
                        );
                        self.parts.board.update(|report| report.actor_restarts += 1);
                        self.start_actor(name);
                    }
                    Effect::Exit(name) => return Err(RunError::KeepsDying(name)),
                }
            }
        }
    }

    /// One heartbeat with the new state, so that control sends nobody here any more.
    async fn say_so(&self) {
        if let Some(link) = self.crew.link.addr() {
            // Without a bus, or a link actor, there is nobody to tell.
            let _ = timeout(LAST_WORDS, link.send(BeatNow)).await;
        }
    }

    /// Lets other nodes take the connections over, and stops those that nobody takes.
    async fn hand_over(&self) {
        let board = &self.parts.board;
        self.crew.leases.tell(Leave);
        wait_until(HAND_OVER_LIMIT, || !board.read().leases.busy).await;
        if board.read().leases.busy {
            self.crew.leases.tell(GiveUp);
            wait_until(LAST_WORDS, || !board.read().leases.busy).await;
        }
    }

    /// Accepts nothing new, lets sessions finish within the limit, then closes in order: mesh,
    /// worker, and the last observations.
    async fn leave(&self) {
        self.parts.board.enter(AgentState::Draining);
        self.crew.mesh.tell(Drain);
        self.say_so().await;
        self.hand_over().await;
        let endpoint = self.hull.borrow().clone();
        if let Some(endpoint) = endpoint {
            let limit = self.parts.options.drain_limit.min(MAX_DRAIN_LIMIT);
            drained(&endpoint, limit).await;
            endpoint.shut_down(CLOSE_GRACE).await;
            let _ = timeout(LAST_WORDS, self.spooled(&endpoint)).await;
        }
        self.crew.workload.tell(Needed(false));
        let board = &self.parts.board;
        wait_until(LAST_WORDS, || {
            let report = board.read();
            let said = report.spool.waiting == 0 || !report.bus_connected;
            said && report.worker.process.is_none()
        })
        .await;
    }

    /// What the mesh saw is in the spool, and the board says how much waits there.
    async fn spooled(&self, endpoint: &MeshEndpoint) {
        endpoint.events_taken().await;
        if let Some(spool) = self.crew.spool.addr() {
            // One that dies at this moment reads what it has kept when the agent starts again.
            let _ = spool.send(Count).await;
        }
    }
}

async fn drained(endpoint: &MeshEndpoint, limit: Duration) {
    wait_until(limit, || {
        let report = mesh::report_of(endpoint);
        report.entry_sessions == 0 && report.egress_sessions == 0 && report.relayed_flows == 0
    })
    .await;
}

async fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() && Instant::now() < deadline {
        sleep(DRAIN_LOOK).await;
    }
}

/// An agent on a thread of its own. Dropping it asks the agent to stop and does not wait.
#[derive(Debug)]
pub struct RunningAgent {
    stop: Option<oneshot::Sender<()>>,
    events: rap_watch::Receiver<Option<RunEvent>>,
    board: Arc<OnceLock<Board>>,
    thread: Option<thread::JoinHandle<Result<(), RunError>>>,
}

/// Starts an agent on a thread of its own, with its own actix system and tokio runtime.
pub fn start(options: RunOptions) -> Result<RunningAgent, RunError> {
    let (stop, stopped) = oneshot::channel();
    let (sender, events) = rap_watch::channel(None);
    let board = Arc::new(OnceLock::new());
    let shared = board.clone();
    let thread = thread::Builder::new()
        .name("node-agent".to_owned())
        .spawn(move || {
            // A dropped sender means that nobody holds the agent any more.
            let shutdown = async move { drop(stopped.await) };
            let tell = |event| {
                sender.send_replace(Some(event));
            };
            run_with(options, shutdown, tell, &shared)
        })
        .map_err(RunError::Thread)?;
    Ok(RunningAgent { stop: Some(stop), events, board, thread: Some(thread) })
}

impl RunningAgent {
    /// Waits until every actor was started. An enrollment that waits for approval is not ready.
    pub async fn ready(&mut self) -> Result<Ready, RunError> {
        loop {
            if let Some(RunEvent::Running(ready)) = *self.events.borrow_and_update() {
                return Ok(ready);
            }
            if self.events.changed().await.is_err() {
                return Err(self.joined().await.err().unwrap_or(RunError::Panicked));
            }
        }
    }

    /// The agent's report; `None` before it opened its state directory.
    pub fn status(&self) -> Option<StatusReport> {
        self.board.get().map(Board::read)
    }

    /// Drains, stops, and waits for the end.
    pub async fn stop(mut self) -> Result<(), RunError> {
        drop(self.stop.take());
        self.joined().await
    }

    async fn joined(&mut self) -> Result<(), RunError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        match joined {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(RunError::Panicked),
        }
    }
}

#[cfg(test)]
mod tests;
