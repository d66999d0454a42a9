//! A node: an actor around its holders, and one that listens to control.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    WrapFuture as _,
};
use rap_agent_core::{
    disk::SimDisk,
    lease::{
        Holders, floor,
        holders::{Effect, Input},
    },
};
use rap_proto::{
    LeaseClass, OrganizationId, VpnConnectionId,
    bus::{ControlBody, LeaseReport},
    codec,
    snapshot::Connection,
    wire::node_api::{LeasesReply, LeasesRequest},
};
use rap_simulations::{kit::Chance, lease::admin::connection_id};
use turmoil::net::TcpStream;

use super::{Carried, control::REPORT_PORT};
use crate::actors::{
    CONTROL, Notes, Shell, now,
    wire::{API_PORT, BUS_PORT, receive, send},
};

const ANSWER_LIMIT: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(500);
/// A connection on which nothing comes for so long is given up.
const IDLE: Duration = Duration::from_secs(5);
/// How long a driver takes to start, and to stop.
const STARTS_IN: Duration = Duration::from_millis(100);
const STOPS_IN: Duration = Duration::from_millis(20);
/// The snapshot outlives the run: what ends here are leases.
const SNAPSHOT_LASTS: Duration = Duration::from_secs(3_600);
const MAX_FRAME: usize = 64 * 1024;

/// What survives a crash of the host, and where it says what it does.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) node: usize,
    pub(super) disk: Rc<RefCell<SimDisk>>,
    pub(super) notes: Notes,
    pub(super) carried: Carried,
    pub(super) seed: Rc<RefCell<Chance>>,
}

/// The host's program.
pub(super) async fn run(parts: Parts) -> turmoil::Result {
    parts.notes.add(format_args!("node {} starts", parts.node));
    let carrier = Carrier::new(parts.clone()).start();
    Listener { node: parts.node, carrier }.start();
    std::future::pending().await
}

struct Carrier {
    parts: Parts,
    machine: Holders,
    timer: Option<SpawnHandle>,
    /// The connection that a driver was started for.
    driven: Option<VpnConnectionId>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Heard(ControlBody);

impl Carrier {
    fn new(parts: Parts) -> Self {
        let machine = Holders::new(now(), parts.seed.borrow_mut().number());
        Self { parts, machine, timer: None, driven: None }
    }

    /// Feeds what becomes of some work.
    fn then(&self, work: impl Future<Output = Input> + 'static, ctx: &mut Context<Self>) {
        ctx.spawn(work.into_actor(self).map(|input, actor, ctx| actor.feed(input, ctx)));
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.parts.notes.add(format_args!("node {} {what}", self.parts.node));
    }
}

impl Actor for Carrier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let told = Connection {
            id: connection_id(0),
            organization: OrganizationId::from_u128(1),
            class: LeaseClass::Fast,
            enabled: true,
            granted: None,
        };
        let until = now() + SNAPSHOT_LASTS;
        // This control knows no beats.
        self.feed(Input::Authority { until: None }, ctx);
        self.feed(Input::Told { connections: vec![told], draining: false, until }, ctx);
    }
}

impl Shell for Carrier {
    type Machine = Holders;

    fn machine(&mut self) -> &mut Holders {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn settle(&mut self) {
        let permit = self.driven.and_then(|connection| self.machine.permit(connection));
        let mut carried = self.parts.carried.borrow_mut();
        match permit {
            Some(permit) => carried.insert(self.parts.node, permit),
            None => carried.remove(&self.parts.node),
        };
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::LoadFloor { connection } => {
                let floor = floor::load(&*self.parts.disk.borrow(), connection).unwrap();
                self.then(async move { Input::Loaded { connection, floor: Some(floor) } }, ctx);
            }
            Effect::PersistFloor { connection, generation } => {
                let mut disk = self.parts.disk.borrow_mut();
                floor::persist(&mut *disk, connection, generation).unwrap();
                drop(disk);
                self.then(async move { Input::Persisted { connection, generation } }, ctx);
            }
            Effect::Activate { connection, generation } => {
                self.note(format_args!("carries under {generation}"));
                self.driven = Some(connection);
                self.settle();
                let started = async move {
                    tokio::time::sleep(STARTS_IN).await;
                    Input::Activated { connection, generation }
                };
                self.then(started, ctx);
            }
            Effect::Deactivate { connection, generation } => {
                self.note(format_args!("stops under {generation}"));
                self.driven = None;
                self.settle();
                let stopped = async move {
                    tokio::time::sleep(STOPS_IN).await;
                    Input::Deactivated { connection, generation }
                };
                self.then(stopped, ctx);
            }
            Effect::Probe { connection } => {
                self.then(async move { Input::Probed { connection, ready: true } }, ctx);
            }
            Effect::Call(request) => {
                let node = self.parts.node;
                let call = async move {
                    let reply = tokio::time::timeout(ANSWER_LIMIT, call(node, &request)).await;
                    Input::Answered(reply.ok().and_then(Result::ok))
                };
                self.then(call, ctx);
            }
            Effect::Report(report) => {
                let node = self.parts.node;
                let said = async move {
                    // What is lost is said again a second later.
                    let _ = tokio::time::timeout(ANSWER_LIMIT, tell(node, &report)).await;
                };
                ctx.spawn(said.into_actor(self));
            }
        }
    }
}

impl Handler<Heard> for Carrier {
    type Result = ();

    fn handle(&mut self, Heard(body): Heard, ctx: &mut Self::Context) {
        match body {
            ControlBody::LeaseOffered { connection, generation, class } => {
                self.feed(Input::Offered { connection, generation, class }, ctx);
            }
            ControlBody::ReleaseAsked { connection, generation } => {
                self.feed(Input::ReleaseAsked { connection, generation }, ctx);
            }
            _ => {}
        }
    }
}

async fn call(node: usize, request: &LeasesRequest) -> io::Result<LeasesReply> {
    let mut stream = TcpStream::connect((CONTROL, API_PORT)).await?;
    send(&mut stream, &codec::encode(&(node, request))).await?;
    let bytes = receive(&mut stream).await?;
    codec::decode(&bytes, MAX_FRAME).map_err(io::Error::other)
}

async fn tell(node: usize, report: &LeaseReport) -> io::Result<()> {
    let mut stream = TcpStream::connect((CONTROL, REPORT_PORT)).await?;
    send(&mut stream, &codec::encode(&(node, report))).await
}

/// Hears what control says to this node.
struct Listener {
    node: usize,
    carrier: Addr<Carrier>,
}

impl Listener {
    /// Listens until the connection is lost, and then again.
    fn listen(&mut self, ctx: &mut Context<Self>) {
        let (node, carrier) = (self.node, self.carrier.clone());
        let listen = async move {
            let mut stream = TcpStream::connect((CONTROL, BUS_PORT)).await?;
            loop {
                let read = tokio::time::timeout(IDLE, receive(&mut stream)).await;
                let bytes = read.map_err(io::Error::other)??;
                let said: (usize, ControlBody) =
                    codec::decode(&bytes, MAX_FRAME).map_err(io::Error::other)?;
                if said.0 == node && carrier.send(Heard(said.1)).await.is_err() {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        ctx.spawn(listen.into_actor(self).map(|_, _, ctx| {
            ctx.run_later(RECONNECT, Self::listen);
        }));
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.listen(ctx);
    }
}
