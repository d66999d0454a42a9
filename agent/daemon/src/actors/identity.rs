//! Keeps the certificate fresh, and says when the node is no longer one.

use std::sync::Arc;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, SpawnHandle, WrapFuture as _,
};
use rap_agent_core::{
    record::HeldCredentials,
    renewal::{Effect, Input, Renewal},
    standing::{RevokedBy, Standing},
};
use rap_pki::csr;
use rap_proto::wire::node_api::{Credentials, EnrollReply, RenewRequest};

use crate::{
    AgentState,
    actors::{Crew, Parts, Renewed, Revoked},
    board::CertificateStatus,
    clock::Clock,
    control::{CallError, ControlClient},
    host,
    shell::{MAILBOX, Shell},
    state,
};

pub(crate) struct IdentityActor {
    parts: Parts,
    crew: Crew,
    machine: Renewal,
    timer: Option<SpawnHandle>,
    held: Option<Arc<HeldCredentials>>,
}

impl IdentityActor {
    pub(crate) fn new(parts: Parts, crew: Crew) -> Self {
        let machine = Renewal::new(parts.seed());
        Self { parts, crew, machine, timer: None, held: None }
    }

    /// Acts on credentials that are on disk.
    fn hold(&mut self, held: HeldCredentials, ctx: &mut Context<Self>) {
        let credentials = &held.credentials;
        let certificate =
            CertificateStatus { renewal: credentials.renewal, expires_at: credentials.expires_at };
        self.parts.board.update(|report| report.certificate = Some(certificate));
        let input = Input::Certificate {
            obtained_at: held.obtained_at,
            expires_at: credentials.expires_at,
            at: self.parts.clock.now(),
        };
        self.held = Some(Arc::new(held));
        self.feed(input, ctx);
    }

    fn ask(&self, effect: Effect, ctx: &mut Context<Self>) {
        let (parts, held) = (self.parts.clone(), self.held.clone());
        let call = async move {
            match (effect, held) {
                (Effect::Renew, Some(held)) => renew(&parts, &held).await,
                _ => recover(&parts).await,
            }
        };
        let call = call.into_actor(self).map(|outcome, actor, ctx| actor.answered(outcome, ctx));
        ctx.spawn(call);
    }

    fn answered(&mut self, outcome: Result<Credentials, CallError>, ctx: &mut Context<Self>) {
        let outcome = match outcome {
            Ok(credentials) => self.keep(credentials),
            Err(error) if error.means_revoked() => {
                self.revoke(RevokedBy::Control, ctx);
                return;
            }
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(held) => {
                tracing::info!(renewal = held.credentials.renewal, "the certificate was renewed");
                self.hold(held, ctx);
                self.publish();
            }
            Err(error) => {
                tracing::warn!(error, "the certificate was not renewed");
                self.feed(Input::Failed, ctx);
            }
        }
    }

    fn keep(&mut self, credentials: Credentials) -> Result<HeldCredentials, String> {
        let Parts { node, ca, .. } = self.parts;
        state::check_credentials(&credentials, node, &self.parts.state.key, ca)
            .map_err(|error| error.to_string())?;
        if let Some(held) = &self.held {
            state::check_succession(&held.credentials, &credentials)
                .map_err(|error| error.to_string())?;
        }
        let held = state::held(credentials, self.parts.clock.now());
        self.parts.state.keep_credentials(&held).map_err(|error| error.to_string())?;
        Ok(held)
    }

    fn publish(&self) {
        let Some(held) = &self.held else { return };
        self.crew.fetcher.tell(Renewed(held.clone()));
        self.crew.witness.tell(Renewed(held.clone()));
        self.crew.beat.tell(Renewed(held.clone()));
        self.crew.link.tell(Renewed(held.clone()));
        self.crew.mesh.tell(Renewed(held.clone()));
        self.crew.leases.tell(Renewed(held.clone()));
        self.crew.snapshots.tell(Renewed(held.clone()));
    }

    fn revoke(&mut self, by: RevokedBy, ctx: &mut Context<Self>) {
        if self.parts.board.read().state != AgentState::Revoked {
            tracing::error!(?by, "this node was revoked; it stops serving for good");
        }
        let standing = Standing::Revoked { at: self.parts.clock.now(), by };
        if let Err(error) = self.parts.state.keep_standing(standing) {
            tracing::error!(%error, "the revocation could not be kept on disk");
        }
        self.spread_revocation(by, ctx);
    }

    fn spread_revocation(&mut self, by: RevokedBy, ctx: &mut Context<Self>) {
        self.parts.board.enter(AgentState::Revoked);
        self.crew.mesh.tell(Revoked(by));
        self.crew.workload.tell(Revoked(by));
        self.crew.fetcher.tell(Revoked(by));
        self.crew.link.tell(Revoked(by));
        self.crew.leases.tell(Revoked(by));
        self.feed(Input::Revoked, ctx);
    }
}

async fn renew(parts: &Parts, held: &HeldCredentials) -> Result<Credentials, CallError> {
    let mut client =
        ControlClient::authenticated(parts.control.clone(), &held.credentials, &parts.state.key)
            .map_err(|error| CallError::Answer(error.to_string()))?;
    let request = RenewRequest {
        csr: csr::make(&parts.state.key),
        renewal: held.credentials.renewal,
        addresses: host::advertised(parts.options.listen, &parts.options.advertise),
    };
    client.renew(&request).await
}

/// Asks as during enrollment, when there is no valid certificate to ask with.
async fn recover(parts: &Parts) -> Result<Credentials, CallError> {
    let mut client = ControlClient::pinned(parts.control.clone(), parts.ca);
    match client.poll(parts.node, parts.clock.now(), &parts.state.key).await? {
        EnrollReply::Enrolled(credentials) => Ok(*credentials),
        EnrollReply::Pending { .. } | EnrollReply::Rejected => {
            Err(CallError::Answer("control does not count this node as enrolled".to_owned()))
        }
    }
}

impl Actor for IdentityActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        if let Ok(Standing::Revoked { by, .. }) = self.parts.state.standing() {
            self.spread_revocation(by, ctx);
            return;
        }
        match self.parts.state.credentials() {
            Ok(Some(held)) => self.hold(held, ctx),
            Ok(None) => tracing::error!("the credentials are gone from the state directory"),
            Err(error) => tracing::error!(%error, "the credentials cannot be read"),
        }
    }
}

impl Shell for IdentityActor {
    type Machine = Renewal;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut Renewal {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        self.ask(effect, ctx);
    }
}

impl Handler<Revoked> for IdentityActor {
    type Result = ();

    fn handle(&mut self, Revoked(by): Revoked, ctx: &mut Self::Context) {
        self.revoke(by, ctx);
    }
}
