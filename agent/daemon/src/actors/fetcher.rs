//! Asks control for newer snapshots.

use std::collections::BTreeSet;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    WrapFuture as _,
};
use rap_agent_core::{
    fetch::{Answer, Effect, Fetcher, Input},
    standing::RevokedBy,
};
use rap_proto::{Digest, snapshot::Bundle, wire::node_api::SnapshotRequest};

use crate::{
    actors::{
        Crew, Parts, Renewed, Revoked,
        snapshots::{Offered, TellAgain},
    },
    clock::Clock,
    control::{CallError, ControlClient},
    shell::{MAILBOX, Shell},
};

/// What the snapshot store holds.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Holding {
    pub(crate) version: u64,
    pub(crate) sections: BTreeSet<Digest>,
}

/// Somebody says that a newer version exists.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Doorbell {
    pub(crate) version: u64,
}

/// The last bundle was refused.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NotTaken;

pub(crate) struct FetcherActor {
    parts: Parts,
    crew: Crew,
    machine: Fetcher,
    timer: Option<SpawnHandle>,
    /// Taken while a call is under way.
    client: Option<ControlClient>,
}

impl FetcherActor {
    pub(crate) fn new(parts: Parts, crew: Crew) -> Self {
        let machine = Fetcher::new(parts.seed());
        Self { parts, crew, machine, timer: None, client: None }
    }

    fn client(&mut self) -> Result<ControlClient, String> {
        self.client.take().map_or_else(|| self.parts.control_client(), Ok)
    }

    fn ask(&mut self, request: SnapshotRequest, ctx: &mut Context<Self>) {
        let client = self.client();
        let call = async move {
            match client {
                Ok(mut client) => {
                    let outcome = client.snapshot(&request).await;
                    (Some(client), outcome)
                }
                Err(error) => (None, Err(CallError::Unreachable(error))),
            }
        };
        let call = call.into_actor(self).map(|(client, outcome), actor, ctx| {
            actor.client = client;
            actor.answered(outcome, ctx);
        });
        ctx.spawn(call);
    }

    fn answered(&mut self, outcome: Result<Option<Bundle>, CallError>, ctx: &mut Context<Self>) {
        let error = outcome.as_ref().err().map(ToString::to_string);
        self.parts.board.update(|report| {
            let control = &mut report.control;
            control.reachable = error.is_none();
            if error.is_none() {
                control.last_answer_at = Some(self.parts.clock.now());
            }
            control.last_error = error;
            self.parts.control.servers.show(control);
        });
        let answer = match outcome {
            Ok(Some(bundle)) => {
                self.crew.snapshots.tell(Offered(bundle));
                Answer::Delivered
            }
            Ok(None) => Answer::NotModified,
            Err(error) if error.means_revoked() => {
                self.crew.identity.tell(Revoked(RevokedBy::Control));
                Answer::Revoked
            }
            Err(error) => {
                tracing::warn!(%error, "no snapshot came");
                // A certificate that control no longer takes may have been renewed meanwhile.
                self.client = None;
                Answer::Failed
            }
        };
        self.feed(Input::Answered(answer), ctx);
    }
}

impl Actor for FetcherActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.crew.snapshots.tell(TellAgain);
    }
}

impl Shell for FetcherActor {
    type Machine = Fetcher;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut Fetcher {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        let Effect::Ask(request) = effect;
        self.ask(request, ctx);
    }
}

impl Handler<Holding> for FetcherActor {
    type Result = ();

    fn handle(&mut self, Holding { version, sections }: Holding, ctx: &mut Self::Context) {
        self.feed(Input::Holding { version, sections }, ctx);
    }
}

impl Handler<Doorbell> for FetcherActor {
    type Result = ();

    fn handle(&mut self, Doorbell { version }: Doorbell, ctx: &mut Self::Context) {
        self.feed(Input::Doorbell { version }, ctx);
    }
}

impl Handler<NotTaken> for FetcherActor {
    type Result = ();

    fn handle(&mut self, _: NotTaken, ctx: &mut Self::Context) {
        self.feed(Input::Answered(Answer::Failed), ctx);
    }
}

impl Handler<Renewed> for FetcherActor {
    type Result = ();

    fn handle(&mut self, _: Renewed, _: &mut Self::Context) {
        self.client = None;
    }
}

impl Handler<Revoked> for FetcherActor {
    type Result = ();

    fn handle(&mut self, _: Revoked, ctx: &mut Self::Context) {
        self.feed(Input::Answered(Answer::Revoked), ctx);
    }
}
