//! Watches that the log only grows.

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler,
    SpawnHandle, WrapFuture as _,
};
use rap_agent_core::witness::{Effect, Input, Witness, Witnessed};
use rap_proto::{observation::Observation, wire::node_api::TreeRequest};
use rap_tlog::WitnessKey;

use crate::{
    AgentState,
    actors::{
        Crew, Parts, Renewed,
        link::ControlKeys,
        snapshots::{Suspended, TellAgain},
        spool::Observe,
    },
    clock::Clock,
    control::{CallError, ControlClient},
    shell::{MAILBOX, Shell},
};

pub(crate) struct WitnessActor {
    parts: Parts,
    crew: Crew,
    machine: Witness,
    timer: Option<SpawnHandle>,
    /// Whether what is on disk was taken in: without keys nothing can be judged.
    restored: bool,
    /// Taken while a call is under way.
    client: Option<ControlClient>,
}

impl WitnessActor {
    pub(crate) fn new(parts: Parts, crew: Crew) -> Self {
        let key = WitnessKey::derive(parts.node, &parts.state.key.to_der());
        let machine = Witness::new(parts.cluster, key, parts.seed());
        Self { parts, crew, machine, timer: None, restored: false, client: None }
    }

    fn restore(&mut self, ctx: &mut Context<Self>) -> Result<(), String> {
        let kept = self.parts.state.witnessed().map_err(|error| error.to_string())?;
        if let Some(kept) = &kept {
            self.show(kept);
        }
        self.restored = true;
        self.feed(Input::Restore(kept), ctx);
        Ok(())
    }

    fn show(&self, witnessed: &Witnessed) {
        self.parts.board.update(|report| {
            report.log.size = witnessed.size;
            report.log.root = witnessed.root;
            report.log.refuted = witnessed.refuted;
        });
    }

    fn client(&mut self) -> Result<ControlClient, String> {
        self.client.take().map_or_else(|| self.parts.control_client(), Ok)
    }

    fn ask(&mut self, request: TreeRequest, ctx: &mut Context<Self>) {
        let client = self.client();
        let call = async move {
            match client {
                Ok(mut client) => {
                    let outcome = client.tree(&request).await;
                    (Some(client), outcome)
                }
                Err(error) => (None, Err(CallError::Unreachable(error))),
            }
        };
        let call = call.into_actor(self).map(|(client, outcome), actor, ctx| {
            actor.client = client;
            let input = match outcome {
                Ok(reply) => Input::Answered { reply, at: actor.parts.clock.now() },
                Err(error) => {
                    tracing::debug!(%error, "no tree head came");
                    actor.client = None;
                    Input::Failed
                }
            };
            actor.feed(input, ctx);
        });
        ctx.spawn(call);
    }

    fn persist(&self, witnessed: Witnessed, ctx: &mut Context<Self>) {
        let mut state = self.parts.state.clone();
        self.show(&witnessed);
        let write = self.parts.offload(move || state.keep_witnessed(&witnessed));
        let write = write.into_actor(self).map(|outcome, actor, ctx| {
            let input = match outcome {
                Ok(Ok(())) => Input::Persisted,
                Ok(Err(error)) => {
                    tracing::error!(%error, "a tree head could not be kept");
                    Input::PersistFailed
                }
                Err(error) => {
                    tracing::error!(%error, "a tree head could not be kept");
                    Input::PersistFailed
                }
            };
            actor.feed(input, ctx);
        });
        ctx.spawn(write);
    }
}

impl Actor for WitnessActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        // Answered with the control keys.
        self.crew.snapshots.tell(TellAgain);
    }
}

impl Shell for WitnessActor {
    type Machine = Witness;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut Witness {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Ask(request) => self.ask(request, ctx),
            Effect::Persist(witnessed) => self.persist(witnessed, ctx),
            Effect::Saw { size, root } => tracing::debug!(size, %root, "the log grew"),
            Effect::Refused { size, known, code } => {
                tracing::error!(size, known, %code, "a tree head was refused");
                let observation = Observation::LogRefused { size, known, code };
                self.crew.spool.tell(Observe { observation, at: self.parts.clock.now() });
            }
            Effect::Suspend(code) => {
                tracing::error!(%code, "the log was rewritten: control has no authority here");
                self.parts.board.update(|report| report.log.refuted = Some(code));
                self.parts.board.enter(AgentState::Suspended);
                self.crew.snapshots.tell(Suspended);
                self.crew.leases.tell(Suspended);
            }
        }
    }
}

impl Handler<ControlKeys> for WitnessActor {
    type Result = ();

    fn handle(&mut self, ControlKeys(keys): ControlKeys, ctx: &mut Self::Context) {
        self.feed(Input::ControlKeys(keys), ctx);
        if !self.restored
            && let Err(error) = self.restore(ctx)
        {
            tracing::error!(error, "the tree head on disk cannot be used");
            ctx.stop();
        }
    }
}

impl Handler<Renewed> for WitnessActor {
    type Result = ();

    fn handle(&mut self, _: Renewed, _: &mut Self::Context) {
        self.client = None;
    }
}
