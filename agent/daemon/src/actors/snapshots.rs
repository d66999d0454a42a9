//! Holds the snapshot that this node acts on.

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message,
    SpawnHandle, WrapFuture as _,
};
use rap_agent_core::{
    snapshot::{self, Effect, Freshness, Identity, Input, Plan, Snapshot, SnapshotStore},
    standing::RevokedBy,
};
use rap_proto::{observation::Observation, snapshot::Bundle};
use std::sync::Arc;

use crate::{
    AgentState,
    actors::{
        Crew, Parts, Renewed, Revoked,
        fetcher::{Holding, NotTaken},
        leases::Told,
        link::{AuthorityEpoch, BeatNow, ControlKeys},
        mesh::Apply,
        spool::Observe,
        workload::Needed,
    },
    board::SnapshotStatus,
    clock::Clock,
    shell::{MAILBOX, Shell},
};

/// A bundle that control sent; nothing of it is believed yet.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Offered(pub(crate) Bundle);

/// The log that control shows was rewritten.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Suspended;

/// Some actor was started afresh and asks to be told again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TellAgain;

pub(crate) struct SnapshotActor {
    parts: Parts,
    crew: Crew,
    machine: SnapshotStore,
    timer: Option<SpawnHandle>,
    loaded: bool,
}

impl SnapshotActor {
    pub(crate) fn new(parts: Parts, crew: Crew) -> Self {
        let identity =
            Identity { cluster: parts.cluster, node: parts.node, control_keys: Vec::new() };
        let machine = SnapshotStore::new(identity, snapshot::Floor::nothing());
        Self { parts, crew, machine, timer: None, loaded: false }
    }

    fn load(&mut self, ctx: &mut Context<Self>) -> Result<(), String> {
        let held = self.parts.state.credentials().map_err(|error| error.to_string())?;
        let control_keys = held.map(|held| held.credentials.control_keys).unwrap_or_default();
        let (floor, kept) =
            snapshot::load(&self.parts.state.disk).map_err(|error| error.to_string())?;
        let identity =
            Identity { cluster: self.parts.cluster, node: self.parts.node, control_keys };
        self.machine = SnapshotStore::new(identity, floor);
        self.loaded = true;
        let witnessed = self.parts.state.witnessed().map_err(|error| error.to_string())?;
        if witnessed.is_some_and(|witnessed| witnessed.refuted.is_some()) {
            self.feed(Input::LogRefused { at: self.parts.clock.now() }, ctx);
        }
        if let Some(kept) = kept {
            self.feed(Input::Restore { kept, at: self.parts.clock.now() }, ctx);
        }
        self.tell_holding();
        Ok(())
    }

    fn tell_holding(&self) {
        let (version, sections) = self.machine.holding();
        self.crew.fetcher.tell(Holding { version, sections });
        self.crew.link.tell(ControlKeys(self.machine.control_keys()));
        self.crew.link.tell(AuthorityEpoch(self.machine.authority_epoch()));
        self.crew.witness.tell(ControlKeys(self.machine.control_keys()));
        self.crew.beat.tell(ControlKeys(self.machine.control_keys()));
    }

    fn persist(&mut self, plan: Plan, ctx: &mut Context<Self>) {
        let mut disk = self.parts.state.disk.clone();
        let write = self.parts.offload(move || {
            snapshot::persist(&mut disk, &plan)?;
            if let Err(error) = snapshot::forget_unused(&mut disk, &plan.keep) {
                tracing::warn!(%error, "unused sections were not removed");
            }
            Ok::<(), rap_agent_core::disk::DiskError>(())
        });
        let write = write.into_actor(self).map(|outcome, actor, ctx| {
            let input = match outcome {
                Ok(Ok(())) => Input::Persisted { at: actor.parts.clock.now() },
                Ok(Err(error)) => {
                    tracing::error!(%error, "a snapshot could not be kept; it is not applied");
                    Input::PersistFailed
                }
                Err(error) => {
                    tracing::error!(%error, "a snapshot could not be kept; it is not applied");
                    Input::PersistFailed
                }
            };
            actor.feed(input, ctx);
            actor.tell_holding();
        });
        ctx.spawn(write);
    }

    fn apply(&self, snapshot: &Arc<Snapshot>, freshness: Freshness) {
        let manifest = &snapshot.manifest;
        tracing::info!(version = manifest.version, ?freshness, "a snapshot was applied");
        let status = SnapshotStatus {
            version: manifest.version,
            digest: snapshot.digest,
            authority_epoch: manifest.authority_epoch,
            issued_at: manifest.issued_at,
            expires_at: manifest.expires_at,
            roles: snapshot.assignment.roles.iter().map(|scope| scope.role).collect(),
            draining: snapshot.assignment.draining,
        };
        self.parts.board.update(|report| report.snapshot = Some(status));
        if freshness == Freshness::Fresh {
            self.parts.board.enter(AgentState::Running);
        }
        self.tell_applied(snapshot);
        // Control waits for nodes to have what it published.
        self.crew.link.tell(BeatNow);
    }

    fn tell_applied(&self, snapshot: &Arc<Snapshot>) {
        self.crew.mesh.tell(Apply(snapshot.clone()));
        self.crew.leases.tell(Told(snapshot.clone()));
        let serves = |role| snapshot.assignment.roles.iter().any(|scope| scope.role == role);
        self.crew.workload.tell(Needed(serves(rap_proto::NodeRole::StreamWorker)));
    }
}

impl Actor for SnapshotActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        if let Err(error) = self.load(ctx) {
            tracing::error!(error, "the snapshot on disk cannot be used");
            ctx.stop();
        }
    }
}

impl Shell for SnapshotActor {
    type Machine = SnapshotStore;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut SnapshotStore {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Persist(plan) => self.persist(*plan, ctx),
            Effect::Apply { snapshot, freshness } => self.apply(&snapshot, freshness),
            Effect::Refused { version, code } => {
                tracing::error!(version, %code, "a snapshot was refused");
                let observation = Observation::SnapshotRefused { version, code };
                self.crew.spool.tell(Observe { observation, at: self.parts.clock.now() });
                self.crew.fetcher.tell(NotTaken);
            }
            Effect::Expired(policy) => {
                tracing::error!(?policy, "the snapshot's life ended; nothing new is accepted");
                self.parts.board.enter(AgentState::Stale);
            }
            Effect::Denied => self.crew.identity.tell(Revoked(RevokedBy::Snapshot)),
        }
    }
}

impl Handler<Offered> for SnapshotActor {
    type Result = ();

    fn handle(&mut self, Offered(bundle): Offered, ctx: &mut Self::Context) {
        if self.loaded {
            self.feed(Input::Offered { bundle, at: self.parts.clock.now() }, ctx);
        }
    }
}

impl Handler<Suspended> for SnapshotActor {
    type Result = ();

    fn handle(&mut self, _: Suspended, ctx: &mut Self::Context) {
        self.feed(Input::LogRefused { at: self.parts.clock.now() }, ctx);
    }
}

impl Handler<Renewed> for SnapshotActor {
    type Result = ();

    fn handle(&mut self, Renewed(held): Renewed, ctx: &mut Self::Context) {
        self.feed(Input::ControlKeys(held.credentials.control_keys.clone()), ctx);
        self.tell_holding();
    }
}

impl Handler<TellAgain> for SnapshotActor {
    type Result = ();

    fn handle(&mut self, _: TellAgain, _: &mut Self::Context) {
        self.tell_holding();
        if let Some(snapshot) = self.machine.active() {
            self.tell_applied(snapshot);
        }
    }
}
