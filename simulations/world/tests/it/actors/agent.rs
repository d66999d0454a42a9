//! The agent's actors: snapshot store, fetcher and link, each the shell of its machine.

use std::{cell::RefCell, io, rc::Rc, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    WrapFuture as _,
};
use rap_agent_core::{
    Machine,
    disk::SimDisk,
    fetch::{self, Fetcher},
    link::{self, Link},
    snapshot::{self, SnapshotStore},
};
use rap_proto::{
    IncarnationId, PublicKey, codec,
    snapshot::Bundle,
    wire::node_api::{Credentials, SnapshotRequest},
};
use rap_simulations::{kit::Chance, turn::calendar};
use turmoil::net::TcpStream;

use super::{
    CONTROL, Notes, now,
    wire::{API_PORT, BUS_PORT, receive, send},
};

const RECONNECT: Duration = Duration::from_secs(1);
/// A connection on which nothing comes for so long is given up.
const IDLE: Duration = Duration::from_secs(20);

/// What survives a crash of the host, and where it says what it does.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) credentials: Arc<Credentials>,
    pub(super) disk: Rc<RefCell<SimDisk>>,
    pub(super) notes: Notes,
    pub(super) applied: Rc<RefCell<u64>>,
    pub(super) seed: Rc<RefCell<Chance>>,
}

/// The host's program.
pub(super) async fn run(parts: Parts) -> turmoil::Result {
    parts.notes.add("the agent starts");
    *parts.applied.borrow_mut() = 0;
    let fetcher = FetchActor::new(&parts).start();
    let link = LinkActor::new(&parts, fetcher.clone()).start();
    let store = StoreActor::new(&parts, fetcher.clone(), link).start();
    fetcher.send(Meet(store)).await?;
    std::future::pending().await
}

/// An actor that owns a machine, performs its effects and keeps one timer.
pub(crate) trait Shell: Actor<Context = Context<Self>> {
    type Machine: Machine;

    fn machine(&mut self) -> &mut Self::Machine;
    fn timer(&mut self) -> &mut Option<SpawnHandle>;
    fn perform(&mut self, effect: <Self::Machine as Machine>::Effect, ctx: &mut Context<Self>);

    /// Comes after each input and before its effects.
    fn settle(&mut self) {}

    fn feed(&mut self, input: <Self::Machine as Machine>::Input, ctx: &mut Context<Self>) {
        self.machine().handle_input(now(), input);
        self.drain(ctx);
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.settle();
        while let Some(effect) = self.machine().poll_effect() {
            self.perform(effect, ctx);
        }
        if let Some(timer) = self.timer().take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.machine().poll_timeout() {
            let timer = ctx.run_later(at.since(now()), |actor, ctx| {
                *actor.timer() = None;
                actor.machine().handle_timeout(now());
                actor.drain(ctx);
            });
            *self.timer() = Some(timer);
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Meet(Addr<StoreActor>);

#[derive(Message)]
#[rtype(result = "bool")]
struct Offered(Bundle);

#[derive(Message)]
#[rtype(result = "()")]
struct FetchInput(fetch::Input);

#[derive(Message)]
#[rtype(result = "()")]
struct Heard(Vec<u8>);

#[derive(Message)]
#[rtype(result = "()")]
struct Keys(Vec<PublicKey>);

struct StoreActor {
    machine: SnapshotStore,
    timer: Option<SpawnHandle>,
    parts: Parts,
    fetcher: Addr<FetchActor>,
    link: Addr<LinkActor>,
    refused: bool,
}

impl StoreActor {
    fn new(parts: &Parts, fetcher: Addr<FetchActor>, link: Addr<LinkActor>) -> Self {
        let identity = snapshot::Identity {
            cluster: parts.credentials.cluster,
            node: parts.credentials.node,
            control_keys: parts.credentials.control_keys.clone(),
        };
        let (floor, _) = snapshot::load(&*parts.disk.borrow()).unwrap();
        let machine = SnapshotStore::new(identity, floor);
        Self { machine, timer: None, parts: parts.clone(), fetcher, link, refused: false }
    }

    fn tell_holding(&self) {
        let (version, sections) = self.machine.holding();
        let holding = fetch::Input::Holding { version, sections };
        self.fetcher.try_send(FetchInput(holding)).unwrap();
        self.link.try_send(Keys(self.machine.control_keys())).unwrap();
    }
}

impl Actor for StoreActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (_, kept) = snapshot::load(&*self.parts.disk.borrow()).unwrap();
        if let Some(kept) = kept {
            self.feed(snapshot::Input::Restore { kept, at: calendar(now()) }, ctx);
        }
        self.tell_holding();
    }
}

impl Shell for StoreActor {
    type Machine = SnapshotStore;

    fn machine(&mut self) -> &mut SnapshotStore {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: snapshot::Effect, _: &mut Context<Self>) {
        match effect {
            snapshot::Effect::Persist(plan) => {
                let mut disk = self.parts.disk.borrow_mut();
                snapshot::persist(&mut *disk, &plan).unwrap();
                drop(disk);
                let at = calendar(now());
                self.machine.handle_input(now(), snapshot::Input::Persisted { at });
            }
            snapshot::Effect::Apply { snapshot, .. } => {
                let version = snapshot.manifest.version;
                let before = self.parts.applied.replace(version);
                assert!(before <= version, "{version} was applied after {before}");
                self.parts.notes.add(format_args!("the agent applies {version}"));
            }
            snapshot::Effect::Refused { version, code } => {
                self.refused = true;
                self.parts.notes.add(format_args!("the agent refuses {version}: {code}"));
            }
            snapshot::Effect::Expired(_) | snapshot::Effect::Denied => {}
        }
    }
}

impl Handler<Offered> for StoreActor {
    type Result = bool;

    fn handle(&mut self, Offered(bundle): Offered, ctx: &mut Self::Context) -> bool {
        self.refused = false;
        self.feed(snapshot::Input::Offered { bundle, at: calendar(now()) }, ctx);
        self.tell_holding();
        !self.refused
    }
}

struct FetchActor {
    machine: Fetcher,
    timer: Option<SpawnHandle>,
    notes: Notes,
    store: Option<Addr<StoreActor>>,
}

impl FetchActor {
    fn new(parts: &Parts) -> Self {
        let machine = Fetcher::new(parts.seed.borrow_mut().number());
        Self { machine, timer: None, notes: parts.notes.clone(), store: None }
    }

    fn ask(&mut self, request: SnapshotRequest, ctx: &mut Context<Self>) {
        let store = self.store.clone();
        let call = async move {
            match tokio::time::timeout(fetch::ANSWER_LIMIT / 2, call(&request)).await {
                Ok(Ok(Some(bundle))) => match store {
                    Some(store) if store.send(Offered(bundle)).await.unwrap_or(false) => {
                        fetch::Answer::Delivered
                    }
                    _ => fetch::Answer::Failed,
                },
                Ok(Ok(None)) => fetch::Answer::NotModified,
                Ok(Err(_)) | Err(_) => fetch::Answer::Failed,
            }
        };
        ctx.spawn(call.into_actor(self).map(|answer, actor, ctx| {
            actor.notes.add(format_args!("the agent asked: {answer:?}"));
            actor.feed(fetch::Input::Answered(answer), ctx);
        }));
    }
}

async fn call(request: &SnapshotRequest) -> io::Result<Option<Bundle>> {
    let mut stream = TcpStream::connect((CONTROL, API_PORT)).await?;
    send(&mut stream, &codec::encode(request)).await?;
    let bytes = receive(&mut stream).await?;
    codec::decode(&bytes, bytes.len()).map_err(io::Error::other)
}

impl Actor for FetchActor {
    type Context = Context<Self>;
}

impl Shell for FetchActor {
    type Machine = Fetcher;

    fn machine(&mut self) -> &mut Fetcher {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, fetch::Effect::Ask(request): fetch::Effect, ctx: &mut Context<Self>) {
        self.ask(request, ctx);
    }
}

impl Handler<Meet> for FetchActor {
    type Result = ();

    fn handle(&mut self, Meet(store): Meet, _: &mut Self::Context) {
        self.store = Some(store);
    }
}

impl Handler<FetchInput> for FetchActor {
    type Result = ();

    fn handle(&mut self, FetchInput(input): FetchInput, ctx: &mut Self::Context) {
        self.feed(input, ctx);
    }
}

struct LinkActor {
    machine: Link,
    timer: Option<SpawnHandle>,
    notes: Notes,
    fetcher: Addr<FetchActor>,
}

impl LinkActor {
    fn new(parts: &Parts, fetcher: Addr<FetchActor>) -> Self {
        let mut seed = parts.seed.borrow_mut();
        let incarnation = IncarnationId::new(calendar(now()), seed.bytes());
        let (cluster, node) = (parts.credentials.cluster, parts.credentials.node);
        let machine = Link::new(cluster, node, incarnation, seed.number());
        Self { machine, timer: None, notes: parts.notes.clone(), fetcher }
    }

    /// Listens until the connection is lost, and then again.
    fn listen(&mut self, ctx: &mut Context<Self>) {
        let me = ctx.address();
        let listen = async move {
            let mut stream = TcpStream::connect((CONTROL, BUS_PORT)).await?;
            loop {
                let read = tokio::time::timeout(IDLE, receive(&mut stream)).await;
                let bytes = read.map_err(io::Error::other)??;
                if me.send(Heard(bytes)).await.is_err() {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        ctx.spawn(listen.into_actor(self).map(|_, actor, ctx| {
            actor.notes.add("the link was lost");
            ctx.run_later(RECONNECT, Self::listen);
        }));
    }
}

impl Actor for LinkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.feed(link::Input::Connected, ctx);
        self.listen(ctx);
    }
}

impl Shell for LinkActor {
    type Machine = Link;

    fn machine(&mut self) -> &mut Link {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: link::Effect, _: &mut Context<Self>) {
        match effect {
            link::Effect::Doorbell { version } => {
                self.notes.add(format_args!("the doorbell rings for {version}"));
                self.fetcher.try_send(FetchInput(fetch::Input::Doorbell { version })).unwrap();
            }
            link::Effect::Ignored(reason) => self.notes.add(reason),
            link::Effect::Beat
            | link::Effect::AuthorityBeat { .. }
            | link::Effect::LeaseOffered { .. }
            | link::Effect::ReleaseAsked { .. }
            | link::Effect::Explain { .. }
            | link::Effect::Publish(_)
            | link::Effect::Recorded { .. } => {}
        }
    }
}

impl Handler<Heard> for LinkActor {
    type Result = ();

    fn handle(&mut self, Heard(bytes): Heard, ctx: &mut Self::Context) {
        self.feed(link::Input::Received { bytes, at: calendar(now()) }, ctx);
    }
}

impl Handler<Keys> for LinkActor {
    type Result = ();

    fn handle(&mut self, Keys(keys): Keys, ctx: &mut Self::Context) {
        self.feed(link::Input::ControlKeys(keys), ctx);
    }
}
