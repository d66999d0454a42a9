//! Listens for the authority beat, and tells mesh and leases what control's word is worth.

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message,
    SpawnHandle, WrapFuture as _,
};
use rap_agent_core::beat::{BeatFloor, BeatListener, Effect, Input};
use rap_proto::{Authority, ControlUrl, observation::Observation, wire::node_api::BeatRequest};

use crate::{
    actors::{
        Crew, Parts, Renewed, fetcher::Doorbell, leases::Lasts, link::ControlKeys, mesh::Trusts,
        snapshots::TellAgain, spool::Observe,
    },
    board::AuthorityStatus,
    clock::Clock,
    control::{CallError, ControlClient},
    shell::{MAILBOX, Shell},
};

/// Control says that a beat is worth hearing.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Rung {
    pub(crate) sequence: u64,
}

/// Mesh or leases were started afresh and ask to be told again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TellTrust;

pub(crate) struct BeatActor {
    parts: Parts,
    crew: Crew,
    machine: BeatListener,
    timer: Option<SpawnHandle>,
    /// Whether what is on disk was taken in: without keys nothing can be judged.
    restored: bool,
    /// Taken while a call is under way.
    client: Option<ControlClient>,
    /// The server that answered last.
    answered: Option<ControlUrl>,
    /// Whether the servers are being written.
    keeping: bool,
}

impl BeatActor {
    pub(crate) fn new(parts: Parts, crew: Crew) -> Self {
        let machine = BeatListener::new(parts.cluster, parts.seed());
        let (timer, client, answered) = (None, None, None);
        Self { parts, crew, machine, timer, restored: false, client, answered, keeping: false }
    }

    fn client(&mut self) -> Result<ControlClient, String> {
        self.client.take().map_or_else(|| self.parts.control_client(), Ok)
    }

    fn ask(&mut self, request: BeatRequest, ctx: &mut Context<Self>) {
        let client = self.client();
        let call = async move {
            match client {
                Ok(mut client) => {
                    let outcome = client.beat(&request).await;
                    (Some(client), outcome)
                }
                Err(error) => (None, Err(CallError::Unreachable(error))),
            }
        };
        let call = call.into_actor(self).map(|(client, outcome), actor, ctx| {
            actor.client = client;
            let input = match outcome {
                Ok((reply, server)) => {
                    actor.answered = Some(server);
                    Input::Answered { reply, at: actor.parts.clock.now() }
                }
                Err(error) => {
                    tracing::debug!(%error, "no beat came");
                    actor.client = None;
                    Input::Failed
                }
            };
            actor.feed(input, ctx);
            actor.parts.show_servers();
        });
        ctx.spawn(call);
    }

    /// One write at a time: what is not on disk after it is written beside the next beat.
    fn keep_servers(&mut self, ctx: &mut Context<Self>) {
        if self.keeping {
            return;
        }
        let Some(held) = self.parts.control.servers.unkept() else { return };
        self.keeping = true;
        let mut state = self.parts.state.clone();
        let write = self.parts.offload(move || state.keep_servers(&held).map(|()| held));
        let write = write.into_actor(self).map(|outcome, actor, _| {
            actor.keeping = false;
            match outcome {
                Ok(Ok(held)) => actor.parts.control.servers.kept(held),
                _ => tracing::warn!("the servers of control could not be kept"),
            }
        });
        ctx.spawn(write);
    }

    fn persist(&self, floor: BeatFloor, ctx: &mut Context<Self>) {
        let mut state = self.parts.state.clone();
        let write = self.parts.offload(move || state.keep_beat(&floor));
        let write = write.into_actor(self).map(|outcome, actor, ctx| {
            let error = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            let input = match error {
                None => Input::Persisted { at: actor.parts.clock.now() },
                Some(error) => {
                    tracing::error!(error, "a beat could not be kept; it does not count");
                    Input::PersistFailed
                }
            };
            actor.feed(input, ctx);
            actor.show();
        });
        ctx.spawn(write);
    }

    fn show(&self) {
        let (beat, statement) = (self.machine.beat(), self.machine.statement());
        let status = AuthorityStatus {
            standing: self.machine.authority(),
            epoch: beat.map(|beat| beat.epoch),
            sequence: beat.map_or(0, |beat| beat.sequence),
            expires_at: beat.map(|beat| beat.expires_at),
            replicas: statement.map_or(0, |statement| statement.replicas.len()),
            needed: statement.map_or(0, |statement| statement.threshold),
        };
        self.parts.board.update(|report| report.authority = status);
    }

    fn entered(&self, authority: Authority) {
        match authority {
            Authority::Unheard | Authority::Healthy => {
                tracing::info!(?authority, "control has a quorum");
            }
            Authority::Degraded { since } => {
                tracing::warn!(%since, "no beat: what was authorized goes on, nothing later counts");
            }
            Authority::Isolated { since } => {
                tracing::error!(%since, "no beat for long: nothing new is accepted");
            }
        }
        self.show();
        self.crew.mesh.tell(Trusts(authority));
    }
}

impl Actor for BeatActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        // Answered with the control keys.
        self.crew.snapshots.tell(TellAgain);
    }
}

impl Shell for BeatActor {
    type Machine = BeatListener;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut BeatListener {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Ask(request) => self.ask(request, ctx),
            Effect::Persist(floor) => self.persist(*floor, ctx),
            Effect::Entered(authority) => self.entered(authority),
            Effect::Changed(change) => {
                let observation = Observation::AuthorityChanged { change };
                self.crew.spool.tell(Observe { observation, at: self.parts.clock.now() });
            }
            Effect::Lasts { until } => self.crew.leases.tell(Lasts { until }),
            Effect::Denied { version } => self.crew.fetcher.tell(Doorbell { version }),
            Effect::Refused(reason) => tracing::error!(%reason, "a beat was refused"),
            Effect::Servers { named, counts } => {
                self.parts.control.servers.told(&named, counts);
                self.parts.show_servers();
                self.keep_servers(ctx);
            }
            Effect::AskElsewhere => {
                let Some(server) = &self.answered else { return };
                self.parts.control.servers.leave(self.parts.clock.moment(), server);
            }
        }
    }
}

impl Handler<ControlKeys> for BeatActor {
    type Result = ();

    fn handle(&mut self, ControlKeys(keys): ControlKeys, ctx: &mut Self::Context) {
        self.feed(Input::ControlKeys(keys), ctx);
        if self.restored {
            return;
        }
        match self.parts.state.beat() {
            Ok(kept) => {
                self.restored = true;
                self.feed(Input::Restore { kept, at: self.parts.clock.now() }, ctx);
                self.show();
            }
            Err(error) => {
                tracing::error!(%error, "the beat on disk cannot be used");
                ctx.stop();
            }
        }
    }
}

impl Handler<Rung> for BeatActor {
    type Result = ();

    fn handle(&mut self, Rung { sequence }: Rung, ctx: &mut Self::Context) {
        self.feed(Input::Rung { sequence }, ctx);
    }
}

impl Handler<TellTrust> for BeatActor {
    type Result = ();

    fn handle(&mut self, _: TellTrust, _: &mut Self::Context) {
        if self.restored {
            self.crew.mesh.tell(Trusts(self.machine.authority()));
            self.crew.leases.tell(Lasts { until: self.machine.isolated_at() });
        }
    }
}

impl Handler<Renewed> for BeatActor {
    type Result = ();

    fn handle(&mut self, _: Renewed, _: &mut Self::Context) {
        self.client = None;
    }
}
