//! Keeps the stream worker running while the node's roles need one.

use std::sync::Arc;

use actix::{Actor, AsyncContext as _, Context, Handler, Message, SpawnHandle};
use rap_agent_core::workload::{Effect, Generation, Input, Workload};
use rap_proto::observation::Observation;
use tokio::sync::mpsc;

use crate::{
    actors::{Crew, Parts, Revoked, snapshots::TellAgain, spool::Observe},
    clock::Clock,
    shell::{MAILBOX, Shell},
    worker::{Event, ORDERS, Order, Process, WorkerHandle},
};

/// What audits call this kind of worker.
const KIND: &str = "stream";

/// Whether the node's roles need a worker.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Needed(pub(crate) bool);

#[derive(Message)]
#[rtype(result = "()")]
struct Reported(Generation, Event);

pub(crate) type ServingSender = Arc<rap_watch::Sender<Option<Arc<WorkerHandle>>>>;

pub(crate) struct WorkloadActor {
    parts: Parts,
    crew: Crew,
    machine: Workload,
    timer: Option<SpawnHandle>,
    /// Where the dialer finds the worker; it outlives this actor.
    serving: ServingSender,
    /// Dropping it kills the process.
    orders: Option<mpsc::Sender<Order>>,
    ready: Option<Arc<WorkerHandle>>,
    revoked: bool,
}

impl WorkloadActor {
    pub(crate) fn new(parts: Parts, crew: Crew, serving: ServingSender) -> Self {
        let machine = Workload::new(parts.seed());
        Self {
            parts,
            crew,
            machine,
            timer: None,
            serving,
            orders: None,
            ready: None,
            revoked: false,
        }
    }

    fn spawn(&mut self, generation: Generation, ctx: &mut Context<Self>) {
        let run_dir = self.parts.state.disk.run_dir();
        match Process::spawn(&self.parts.options.worker, &run_dir) {
            Ok(process) => {
                let id = process.id();
                self.report(move |worker| worker.process = id);
                self.attend(process, generation, ctx);
            }
            Err(error) => {
                tracing::error!(%error, "the stream worker cannot be started");
                let error = Some(error.to_string());
                self.report(move |worker| worker.last_error = error);
                ctx.notify(Reported(generation, Event::NotStarted));
            }
        }
    }

    fn attend(&mut self, process: Process, generation: Generation, ctx: &mut Context<Self>) {
        let (orders, received) = mpsc::channel(ORDERS);
        let (events, mut happened) = mpsc::channel(ORDERS);
        self.orders = Some(orders);
        // Not tied to this actor: should it die, the process is still killed and reaped.
        tokio::spawn(process.attend(received, events));
        let me = ctx.address();
        tokio::spawn(async move {
            while let Some(event) = happened.recv().await {
                if me.send(Reported(generation, event)).await.is_err() {
                    return;
                }
            }
        });
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders
            && let Err(error) = orders.try_send(order)
        {
            tracing::warn!(%error, "an order did not reach the worker");
        }
    }

    fn lost(&mut self, asked: bool) {
        self.serving.send_replace(None);
        let Some(handle) = self.ready.take() else { return };
        if asked {
            return;
        }
        let sessions = handle.sessions();
        tracing::error!(sessions, "the stream worker is gone");
        let observation = Observation::WorkerExited { kind: KIND.to_owned(), sessions };
        self.crew.spool.tell(Observe { observation, at: self.parts.clock.now() });
    }

    fn report(&self, change: impl FnOnce(&mut crate::board::WorkerStatus)) {
        let restarts = self.machine.restarts();
        self.parts.board.update(|report| {
            report.worker.restarts = restarts;
            change(&mut report.worker);
        });
    }
}

impl Actor for WorkloadActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.serving.send_replace(None);
        self.crew.snapshots.tell(TellAgain);
    }
}

impl Shell for WorkloadActor {
    type Machine = Workload;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut Workload {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Spawn(generation) => self.spawn(generation, ctx),
            Effect::Serve(_) => {
                self.serving.send_replace(self.ready.clone());
                self.report(|worker| {
                    worker.serving = true;
                    worker.last_error = None;
                });
            }
            Effect::Ping(_) => self.order(Order::Ping),
            Effect::Kill(_) => self.order(Order::Kill),
            Effect::Lost { asked, .. } => {
                self.lost(asked);
                self.report(|worker| worker.serving = false);
            }
        }
    }
}

impl Handler<Needed> for WorkloadActor {
    type Result = ();

    fn handle(&mut self, Needed(needed): Needed, ctx: &mut Self::Context) {
        self.feed(Input::Wanted(needed && !self.revoked), ctx);
    }
}

impl Handler<Reported> for WorkloadActor {
    type Result = ();

    fn handle(&mut self, Reported(generation, event): Reported, ctx: &mut Self::Context) {
        match event {
            Event::Ready(handle) => {
                self.ready = Some(handle);
                self.feed(Input::Ready(generation), ctx);
            }
            Event::NotStarted => self.feed(Input::SpawnFailed(generation), ctx),
            Event::Pong => self.feed(Input::Pong(generation), ctx),
            Event::Exited(how) => {
                tracing::info!(how, "a stream worker ended");
                self.orders = None;
                self.report(|worker| worker.process = None);
                self.feed(Input::Exited(generation), ctx);
                self.report(|_| {});
            }
        }
    }
}

impl Handler<Revoked> for WorkloadActor {
    type Result = ();

    fn handle(&mut self, _: Revoked, ctx: &mut Self::Context) {
        self.revoked = true;
        self.feed(Input::Wanted(false), ctx);
    }
}
