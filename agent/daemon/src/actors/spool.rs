//! Keeps observations until control has recorded them.

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    WrapFuture as _,
};
use rap_agent_core::{
    disk::{Disk, StateFile},
    spool::{Effect, Input, Spool, Write},
};
use rap_proto::{Timestamp, bus::NodeBody, observation::Observation};

use crate::{
    actors::{Crew, Parts, link::Say},
    clock::Clock,
    shell::{MAILBOX, Shell},
};

/// Says how much waits, whatever was told before among it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Count;

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Observe {
    pub(crate) observation: Observation,
    pub(crate) at: Timestamp,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Recorded {
    pub(crate) through: u64,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Link {
    pub(crate) up: bool,
}

pub(crate) struct SpoolActor {
    parts: Parts,
    crew: Crew,
    machine: Spool,
    timer: Option<SpawnHandle>,
}

impl SpoolActor {
    pub(crate) fn new(parts: Parts, crew: Crew) -> Self {
        let bytes = parts.state.disk.read(StateFile::Spool).unwrap_or_else(|error| {
            tracing::error!(%error, "the spool cannot be read; it starts anew");
            // Not the same as no file: sequence numbers were used.
            Some(Vec::new())
        });
        let machine = Spool::restore(bytes.as_deref(), parts.seed());
        Self { parts, crew, machine, timer: None }
    }

    fn write(&mut self, write: Write, ctx: &mut Context<Self>) {
        let mut disk = self.parts.state.disk.clone();
        let write = self.parts.offload(move || match write {
            Write::Append(bytes) => disk.append(StateFile::Spool, &bytes),
            Write::Replace(bytes) => disk.replace(StateFile::Spool, &bytes),
        });
        let write = write.into_actor(self).map(|outcome, actor, ctx| {
            let input = match outcome {
                Ok(Ok(())) => Input::Written,
                Ok(Err(error)) => {
                    tracing::error!(%error, "observations could not be kept");
                    Input::WriteFailed
                }
                Err(error) => {
                    tracing::error!(%error, "observations could not be kept");
                    Input::WriteFailed
                }
            };
            actor.feed(input, ctx);
            actor.report();
        });
        ctx.spawn(write);
    }

    fn report(&self) {
        let waiting = self.machine.waiting();
        self.parts.board.update(|report| report.spool.waiting = waiting);
    }
}

impl Actor for SpoolActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.report();
        let up = self.parts.board.read().bus_connected;
        self.feed(Input::Link { up }, ctx);
    }
}

impl Shell for SpoolActor {
    type Machine = Spool;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut Spool {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Write(write) => self.write(write, ctx),
            Effect::Send(batch) => self.crew.link.tell(Say(NodeBody::Observations(batch))),
            Effect::LeftOut(count) => {
                tracing::error!(count, "the spool is full: observations were left out");
                self.parts.board.update(|report| report.spool.left_out += count);
            }
        }
    }
}

impl Handler<Count> for SpoolActor {
    type Result = ();

    fn handle(&mut self, _: Count, _: &mut Self::Context) {
        self.report();
    }
}

impl Handler<Observe> for SpoolActor {
    type Result = ();

    fn handle(&mut self, Observe { observation, at }: Observe, ctx: &mut Self::Context) {
        self.feed(Input::Observed { observation, at }, ctx);
    }
}

impl Handler<Recorded> for SpoolActor {
    type Result = ();

    fn handle(&mut self, Recorded { through }: Recorded, ctx: &mut Self::Context) {
        self.feed(Input::Recorded { through }, ctx);
        self.report();
    }
}

impl Handler<Link> for SpoolActor {
    type Result = ();

    fn handle(&mut self, Link { up }: Link, ctx: &mut Self::Context) {
        self.feed(Input::Link { up }, ctx);
    }
}
