//! The node's voice and ear on the bus.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, ResponseFuture,
    SpawnHandle, StreamHandler, WrapFuture as _,
};
use bytes::Bytes;
use rap_agent_core::link::{Effect, Input, Link};
use rap_bus::{
    Bus, BusEvent, NatsBus, NatsCredentials, NatsOptions, Subscription,
    nats_authority::node_inbox_prefix,
};
use rap_pki::tls;
use rap_proto::{
    IncarnationId, InquiryId, NodeId, PublicKey,
    bus::{NodeBody, NodeMessage, down_subject, up_subject},
    signed,
    wire::node_api::{BusCredentials, Credentials},
};

use tokio::sync::oneshot;

use crate::{
    BusChoice,
    actors::{
        Crew, Parts, Renewed, Revoked,
        beat::Rung,
        fetcher::Doorbell,
        leases::{LeaseOffered, ReleaseAsked},
        snapshots::TellAgain,
        spool,
    },
    clock::Clock,
    explain::explain,
    join::heartbeat,
    shell::{MAILBOX, Shell},
};

/// How long to wait before a subscription is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The keys that control signs with.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ControlKeys(pub(crate) Vec<PublicKey>);

/// The authority epoch of what this node acts on, after each change.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AuthorityEpoch(pub(crate) u64);

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Say(pub(crate) NodeBody);

/// One heartbeat now; answered when it has left.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct BeatNow;

/// An operator asks what this node makes of another.
#[derive(Message)]
#[rtype(result = "()")]
struct Explain {
    inquiry: InquiryId,
    node: NodeId,
}

#[derive(Message)]
#[rtype(result = "()")]
struct BusState {
    connected: bool,
}

pub(crate) struct LinkActor {
    parts: Parts,
    crew: Crew,
    machine: Link,
    timer: Option<SpawnHandle>,
    bus: Option<Arc<dyn Bus>>,
    /// The same bus, when it is NATS.
    nats: Option<Arc<NatsBus>>,
    listening: Option<SpawnHandle>,
    watching: Option<SpawnHandle>,
    revoked: bool,
    /// Resolves when the newest message has left.
    leaving: Option<oneshot::Receiver<()>>,
}

impl LinkActor {
    pub(crate) fn new(parts: Parts, crew: Crew) -> Self {
        // A restarted actor counts from one again, so it is another incarnation.
        let incarnation = IncarnationId::new(parts.clock.now(), parts.random());
        let machine = Link::new(parts.cluster, parts.node, incarnation, parts.seed());
        Self {
            parts,
            crew,
            machine,
            timer: None,
            bus: None,
            nats: None,
            listening: None,
            watching: None,
            revoked: false,
            leaving: None,
        }
    }

    fn open(&mut self, ctx: &mut Context<Self>) {
        match self.parts.options.bus.clone() {
            BusChoice::Local(bus) => {
                self.bus = Some(bus);
                self.listen(ctx);
            }
            BusChoice::Credentials => self.open_nats(ctx),
        }
    }

    fn open_nats(&mut self, ctx: &mut Context<Self>) {
        let held = self.parts.state.credentials().ok().flatten();
        let Some(held) = held else { return };
        let Some(bus) = held.credentials.bus.clone() else {
            tracing::warn!("the credentials name no bus; polling alone keeps this node up to date");
            return;
        };
        let options = nats_options(&self.parts, &held.credentials, bus);
        let connect = async move { NatsBus::connect(options).await };
        let connect = connect.into_actor(self).map(|outcome, actor, ctx| match outcome {
            Ok(bus) => {
                let bus = Arc::new(bus);
                actor.bus = Some(bus.clone());
                actor.nats = Some(bus);
                actor.listen(ctx);
            }
            Err(error) => {
                tracing::error!(%error, "the bus cannot be used");
                ctx.run_later(RETRY, Self::open_nats);
            }
        });
        ctx.spawn(connect);
    }

    /// Subscribes, and tries again until it works.
    fn listen(&mut self, ctx: &mut Context<Self>) {
        let Some(bus) = self.bus.clone() else { return };
        let subject = down_subject(self.parts.cluster, self.parts.node);
        let subscribe = async move { bus.subscribe(subject).await };
        let subscribe = subscribe.into_actor(self).map(|outcome, actor, ctx| match outcome {
            Ok(subscription) => actor.subscribed(subscription, ctx),
            Err(error) => {
                tracing::debug!(%error, "not subscribed yet");
                ctx.run_later(RETRY, Self::listen);
            }
        });
        ctx.spawn(subscribe);
    }

    fn subscribed(&mut self, subscription: Subscription, ctx: &mut Context<Self>) {
        self.listening = Some(ctx.add_stream(subscription));
        match &self.nats {
            None => self.connected(true, ctx),
            Some(nats) => {
                let (mut connected, me) = (nats.connected(), ctx.address());
                let watch = async move {
                    loop {
                        let now = *connected.borrow_and_update();
                        if me.send(BusState { connected: now }).await.is_err() {
                            return;
                        }
                        if connected.changed().await.is_err() {
                            return;
                        }
                    }
                };
                self.watching = Some(ctx.spawn(watch.into_actor(self)));
            }
        }
    }

    fn connected(&mut self, connected: bool, ctx: &mut Context<Self>) {
        self.parts.board.update(|report| report.bus_connected = connected);
        let input = if connected { Input::Connected } else { Input::Disconnected };
        self.feed(input, ctx);
        self.crew.spool.tell(spool::Link { up: connected });
    }

    fn publish(&mut self, message: &NodeMessage, ctx: &mut Context<Self>) {
        let Some(bus) = self.bus.clone() else { return };
        let bytes = Bytes::from(signed::seal(message, &[&self.parts.state.key]));
        let subject = up_subject(self.parts.cluster, self.parts.node);
        let (left, leaving) = oneshot::channel();
        self.leaving = Some(leaving);
        let publish = async move {
            if let Err(error) = bus.publish(subject, bytes).await {
                tracing::debug!(%error, "a message was not sent; it is repeated if it matters");
            }
            // Most messages are not waited for.
            let _ = left.send(());
        };
        ctx.spawn(publish.into_actor(self));
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        let body = NodeBody::Heartbeat(heartbeat(&self.parts.board.read()));
        self.feed(Input::Say { body, at: self.parts.clock.now() }, ctx);
    }
}

fn nats_options(parts: &Parts, credentials: &Credentials, bus: BusCredentials) -> NatsOptions {
    let own = credentials.certificates.get(1..).unwrap_or_default();
    let authorities = if bus.authorities.is_empty() { own } else { &bus.authorities };
    let tls = tls::roots(authorities).and_then(|roots| tls::client(roots, None, &[])).ok();
    NatsOptions {
        servers: bus.servers,
        credentials: NatsCredentials {
            jwt: bus.jwt,
            key: parts.state.bus_key.clone(),
            inbox_prefix: node_inbox_prefix(parts.node),
        },
        tls,
    }
}

impl Actor for LinkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.crew.snapshots.tell(TellAgain);
        self.open(ctx);
    }
}

impl Shell for LinkActor {
    type Machine = Link;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut Link {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Beat => {
                // Answered in its own turn, for the machine is being drained.
                ctx.notify(BeatNow);
            }
            Effect::Publish(message) => self.publish(&message, ctx),
            Effect::Doorbell { version } => self.crew.fetcher.tell(Doorbell { version }),
            Effect::AuthorityBeat { sequence } => self.crew.beat.tell(Rung { sequence }),
            Effect::Recorded { through } => self.crew.spool.tell(spool::Recorded { through }),
            Effect::LeaseOffered { connection, generation, class } => {
                self.crew.leases.tell(LeaseOffered { connection, generation, class });
            }
            Effect::ReleaseAsked { connection, generation } => {
                self.crew.leases.tell(ReleaseAsked { connection, generation });
            }
            // In its own turn too.
            Effect::Explain { inquiry, node } => ctx.notify(Explain { inquiry, node }),
            Effect::Ignored(reason) => tracing::warn!(%reason, "a bus message was ignored"),
        }
    }
}

impl StreamHandler<BusEvent> for LinkActor {
    fn handle(&mut self, event: BusEvent, ctx: &mut Self::Context) {
        let bytes = event.payload.to_vec();
        self.feed(Input::Received { bytes, at: self.parts.clock.now() }, ctx);
    }

    /// The bus ended the subscription: start over, but keep the actor.
    fn finished(&mut self, ctx: &mut Self::Context) {
        if !self.revoked {
            self.connected(false, ctx);
            ctx.run_later(RETRY, Self::listen);
        }
    }
}

impl Handler<BusState> for LinkActor {
    type Result = ();

    fn handle(&mut self, BusState { connected }: BusState, ctx: &mut Self::Context) {
        self.connected(connected, ctx);
    }
}

impl Handler<BeatNow> for LinkActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: BeatNow, ctx: &mut Self::Context) -> Self::Result {
        self.leaving = None;
        self.beat(ctx);
        let leaving = self.leaving.take();
        Box::pin(async move {
            if let Some(leaving) = leaving {
                // An error means that the actor ended first, and the message with it.
                let _ = leaving.await;
            }
        })
    }
}

impl Handler<Explain> for LinkActor {
    type Result = ();

    fn handle(&mut self, Explain { inquiry, node }: Explain, ctx: &mut Self::Context) {
        let explanation = explain(&self.parts.board.read(), inquiry, node);
        let body = NodeBody::Explained(explanation);
        self.feed(Input::Say { body, at: self.parts.clock.now() }, ctx);
    }
}

impl Handler<ControlKeys> for LinkActor {
    type Result = ();

    fn handle(&mut self, ControlKeys(keys): ControlKeys, ctx: &mut Self::Context) {
        self.feed(Input::ControlKeys(keys), ctx);
    }
}

impl Handler<AuthorityEpoch> for LinkActor {
    type Result = ();

    fn handle(&mut self, AuthorityEpoch(epoch): AuthorityEpoch, ctx: &mut Self::Context) {
        self.feed(Input::AuthorityEpoch(epoch), ctx);
    }
}

impl Handler<Say> for LinkActor {
    type Result = ();

    fn handle(&mut self, Say(body): Say, ctx: &mut Self::Context) {
        self.feed(Input::Say { body, at: self.parts.clock.now() }, ctx);
    }
}

impl Handler<Renewed> for LinkActor {
    type Result = ();

    fn handle(&mut self, Renewed(held): Renewed, ctx: &mut Self::Context) {
        match (&self.nats, &held.credentials.bus) {
            (Some(nats), Some(bus)) => nats.set_token(bus.jwt.clone()),
            (None, Some(_)) if self.bus.is_none() => self.open(ctx),
            _ => {}
        }
    }
}

impl Handler<Revoked> for LinkActor {
    type Result = ();

    fn handle(&mut self, _: Revoked, ctx: &mut Self::Context) {
        self.revoked = true;
        for handle in [self.listening.take(), self.watching.take()].into_iter().flatten() {
            ctx.cancel_future(handle);
        }
        self.connected(false, ctx);
        self.bus = None;
        self.nats = None;
    }
}
