//! Carries connections under leases.

use std::{collections::BTreeMap, sync::Arc};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    WrapFuture as _,
};
use rap_agent_core::{
    lease::{
        Holders,
        holders::{Effect, Input},
    },
    snapshot::Snapshot,
};
use rap_proto::{
    Generation, LeaseClass, Moment, VpnConnectionId, bus::NodeBody, wire::node_api::LeasesRequest,
};

use crate::{
    actors::{
        Crew, Parts, Renewed, Revoked,
        beat::TellTrust,
        link::Say,
        snapshots::{Suspended, TellAgain},
    },
    board::ConnectionStatus,
    clock::Clock,
    control::{CallError, ControlClient},
    disk::FileDisk,
    driver::{Driver, Gate},
    floors::Floors,
    leases::NodeLeases,
    shell::{MAILBOX, Shell},
};

/// The snapshot that is acted on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Told(pub(crate) Arc<Snapshot>);

/// Until when control's authority lasts here, as far as the beat tells.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Lasts {
    pub(crate) until: Option<Moment>,
}

/// Control granted this node a lease.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaseOffered {
    pub(crate) connection: VpnConnectionId,
    pub(crate) generation: Generation,
    pub(crate) class: LeaseClass,
}

/// Control asks for a lease.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReleaseAsked {
    pub(crate) connection: VpnConnectionId,
    pub(crate) generation: Generation,
}

/// Hand over, as before leaving.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Leave;

/// Stop, whether somebody follows or not.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GiveUp;

pub(crate) struct LeaseActor {
    parts: Parts,
    crew: Crew,
    /// It outlives this actor, and so may what it carries.
    driver: Arc<dyn Driver>,
    /// What the mesh is shown; it outlives this actor, too.
    leases: NodeLeases,
    /// It outlives this actor, too, and so may a write.
    floors: Floors<FileDisk>,
    machine: Holders,
    timer: Option<SpawnHandle>,
    /// Of each connection that was activated.
    gates: BTreeMap<VpnConnectionId, Gate>,
    /// Taken while a call is under way.
    client: Option<ControlClient>,
}

impl LeaseActor {
    pub(crate) fn new(
        parts: Parts,
        crew: Crew,
        driver: Arc<dyn Driver>,
        leases: NodeLeases,
        floors: Floors<FileDisk>,
    ) -> Self {
        let machine = Holders::new(parts.clock.moment(), parts.seed());
        let (timer, gates, client) = (None, BTreeMap::new(), None);
        Self { parts, crew, driver, leases, floors, machine, timer, gates, client }
    }

    /// Feeds what becomes of some work.
    fn then(&self, work: impl Future<Output = Input> + 'static, ctx: &mut Context<Self>) {
        ctx.spawn(work.into_actor(self).map(|input, actor, ctx| actor.feed(input, ctx)));
    }

    fn load(&self, connection: VpnConnectionId, ctx: &mut Context<Self>) {
        let read = self.floors.clone().load(connection);
        let read = async move {
            let refused = |error| {
                tracing::error!(%error, %connection, "the connection is not carried here");
            };
            Input::Loaded { connection, floor: read.await.map_err(refused).ok() }
        };
        self.then(read, ctx);
    }

    fn persist(
        &self,
        connection: VpnConnectionId,
        generation: Generation,
        ctx: &mut Context<Self>,
    ) {
        let write = self.floors.clone().persist(connection, generation);
        let write = async move {
            match write.await {
                Ok(()) => Input::Persisted { connection, generation },
                Err(error) => {
                    tracing::error!(%error, "a lease is not taken");
                    Input::Failed { connection, generation }
                }
            }
        };
        self.then(write, ctx);
    }

    fn activate(
        &mut self,
        connection: VpnConnectionId,
        generation: Generation,
        ctx: &mut Context<Self>,
    ) {
        let gate = Gate::new(self.parts.clock);
        gate.set(self.machine.permit(connection));
        self.gates.insert(connection, gate.clone());
        let started = self.driver.activate(connection, generation, gate);
        let started = async move {
            match started.await {
                true => Input::Activated { connection, generation },
                false => Input::Failed { connection, generation },
            }
        };
        self.then(started, ctx);
        tracing::info!(%connection, %generation, "the connection is carried here");
    }

    fn deactivate(
        &mut self,
        connection: VpnConnectionId,
        generation: Generation,
        ctx: &mut Context<Self>,
    ) {
        if let Some(gate) = self.gates.remove(&connection) {
            gate.set(None);
            tracing::info!(%connection, %generation, "the connection is carried here no more");
        }
        let stopped = self.driver.deactivate(connection);
        let stopped = async move {
            stopped.await;
            Input::Deactivated { connection, generation }
        };
        self.then(stopped, ctx);
    }

    fn call(&mut self, request: LeasesRequest, ctx: &mut Context<Self>) {
        let client = self.client.take().map_or_else(|| self.parts.control_client(), Ok);
        let call = async move {
            match client {
                Ok(mut client) => {
                    let outcome = client.leases(&request).await;
                    (Some(client), outcome)
                }
                Err(error) => (None, Err(CallError::Unreachable(error))),
            }
        };
        let call = call.into_actor(self).map(|(client, outcome), actor, ctx| {
            let reply = match outcome {
                Ok(reply) => {
                    actor.client = client;
                    Some(reply)
                }
                Err(error) => {
                    tracing::warn!(%error, "leases were not renewed");
                    None
                }
            };
            actor.feed(Input::Answered(reply), ctx);
        });
        ctx.spawn(call);
    }

    fn show(&self) {
        let status = self.machine.each().map(|(connection, class, phase, report)| {
            let (floor, ready, overdue) = (report.floor, report.ready, report.overdue);
            let (state, generation) = (phase.as_str().to_owned(), phase.generation());
            ConnectionStatus { connection, class, state, generation, floor, ready, overdue }
        });
        let connections: Vec<_> = status.collect();
        let held = self.machine.each().filter(|(.., report)| report.holding.is_some()).count();
        let (busy, counts) = (!self.machine.is_idle(), self.machine.counts());
        self.parts.board.update(|report| {
            report.leases.connections = connections;
            report.leases.held = held;
            report.leases.busy = busy;
            report.leases.renewed = counts.renewed;
            report.leases.refused = counts.refused;
            report.leases.fenced = counts.fenced;
        });
    }
}

impl Actor for LeaseActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.crew.beat.tell(TellTrust);
        self.crew.snapshots.tell(TellAgain);
    }
}

impl Shell for LeaseActor {
    type Machine = Holders;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut Holders {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    /// Every gate shows what holds now, before anything else is done.
    fn settle(&mut self) {
        for (connection, gate) in &self.gates {
            gate.set(self.machine.permit(*connection));
        }
        self.leases.show(self.machine.permits().collect());
        self.show();
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::LoadFloor { connection } => self.load(connection, ctx),
            Effect::PersistFloor { connection, generation } => {
                self.persist(connection, generation, ctx);
            }
            Effect::Activate { connection, generation } => {
                self.activate(connection, generation, ctx);
            }
            Effect::Deactivate { connection, generation } => {
                self.deactivate(connection, generation, ctx);
            }
            Effect::Probe { connection } => {
                let probed = self.driver.probe(connection);
                let probed = async move { Input::Probed { connection, ready: probed.await } };
                self.then(probed, ctx);
            }
            Effect::Call(request) => self.call(request, ctx),
            Effect::Report(report) => self.crew.link.tell(Say(NodeBody::Leases(report))),
        }
    }
}

impl Handler<Told> for LeaseActor {
    type Result = ();

    fn handle(&mut self, Told(snapshot): Told, ctx: &mut Self::Context) {
        let life = snapshot.manifest.expires_at.since(self.parts.clock.now());
        let connections = snapshot.connections.connections.clone();
        let (draining, until) = (snapshot.assignment.draining, self.parts.clock.moment() + life);
        self.feed(Input::Told { connections, draining, until }, ctx);
    }
}

impl Handler<Lasts> for LeaseActor {
    type Result = ();

    fn handle(&mut self, Lasts { until }: Lasts, ctx: &mut Self::Context) {
        self.feed(Input::Authority { until }, ctx);
    }
}

impl Handler<LeaseOffered> for LeaseActor {
    type Result = ();

    fn handle(&mut self, offered: LeaseOffered, ctx: &mut Self::Context) {
        let LeaseOffered { connection, generation, class } = offered;
        self.feed(Input::Offered { connection, generation, class }, ctx);
    }
}

impl Handler<ReleaseAsked> for LeaseActor {
    type Result = ();

    fn handle(&mut self, asked: ReleaseAsked, ctx: &mut Self::Context) {
        let ReleaseAsked { connection, generation } = asked;
        self.feed(Input::ReleaseAsked { connection, generation }, ctx);
    }
}

impl Handler<Leave> for LeaseActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        self.feed(Input::Leave, ctx);
    }
}

impl Handler<GiveUp> for LeaseActor {
    type Result = ();

    fn handle(&mut self, _: GiveUp, ctx: &mut Self::Context) {
        self.feed(Input::GiveUp, ctx);
    }
}

/// Of a control whose log was rewritten nothing new is taken.
impl Handler<Suspended> for LeaseActor {
    type Result = ();

    fn handle(&mut self, _: Suspended, ctx: &mut Self::Context) {
        self.feed(Input::Leave, ctx);
    }
}

impl Handler<Renewed> for LeaseActor {
    type Result = ();

    fn handle(&mut self, _: Renewed, _: &mut Self::Context) {
        self.client = None;
    }
}

impl Handler<Revoked> for LeaseActor {
    type Result = ();

    fn handle(&mut self, _: Revoked, ctx: &mut Self::Context) {
        self.feed(Input::GiveUp, ctx);
    }
}
