//! Keeps this node's peers: asks them, and tells the mesh what each is worth.

mod report;

use std::collections::BTreeMap;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, SpawnHandle,
    WrapFuture as _,
};
use rap_agent_core::{Machine, record::HeldPeers};
use rap_mesh::{AskPeerError, MeshEndpoint, PeerAnswer};
use rap_mesh_core::peers::{
    Directory, Effect, Input, Kind, PeerBook, PeerPolicy, Step, cache, kind_of_roles,
};
use rap_proto::{Moment, NodeId, Timestamp, snapshot::RoleScope};

use crate::{
    actors::{
        Crew, Parts,
        fetcher::Doorbell,
        mesh::{Apply, Hull, view_of},
        snapshots::TellAgain,
    },
    clock::Clock,
    shell::{MAILBOX, Shell},
};
use report::peers_status;

/// How often the mesh and the report are told what changed.
const TELL: std::time::Duration = std::time::Duration::from_secs(1);

/// The endpoint is closed for good.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Closed;

/// The peer book, driven as every machine of the agent is.
pub(crate) struct PeerMachine(PeerBook);

impl Machine for PeerMachine {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        self.0.handle_input(now, input);
    }

    fn handle_timeout(&mut self, now: Moment) {
        self.0.handle_timeout(now);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.0.poll_effect()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.0.poll_timeout()
    }
}

pub(crate) struct PeerActor {
    parts: Parts,
    crew: Crew,
    hull: Hull,
    machine: PeerMachine,
    timer: Option<SpawnHandle>,
    /// Of the snapshot that the directory was taken from.
    version: u64,
    steps: BTreeMap<String, u64>,
}

impl PeerActor {
    pub(crate) fn new(parts: Parts, crew: Crew, hull: Hull) -> Self {
        let machine = PeerMachine(PeerBook::new(PeerPolicy::of(Kind::Normal), parts.seed()));
        // One that died is no reason to count anew.
        let steps = parts.board.read().peers.recovery_steps;
        Self { parts, crew, hull, machine, timer: None, version: 0, steps }
    }

    /// A cache that cannot be read is no loss but of time.
    fn restore(&mut self, ctx: &mut Context<Self>) {
        let held = match self.parts.state.peers() {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "the peers on disk are left aside");
                None
            }
        };
        match held.map(|held| cache::decode(&held.cache)) {
            Some(Ok(kept)) => self.feed(Input::Restore(kept), ctx),
            Some(Err(error)) => tracing::warn!(%error, "the peers on disk are left aside"),
            None => {}
        }
    }

    fn endpoint(&self) -> Option<MeshEndpoint> {
        self.hull.borrow().clone()
    }

    fn ask(&self, node: NodeId, stays: bool, ctx: &mut Context<Self>) {
        let endpoint = self.endpoint();
        let asked = async move {
            match &endpoint {
                Some(endpoint) => endpoint.ask_peer(node).await,
                None => Err(AskPeerError::NoAnswer),
            }
        };
        let asked = asked.into_actor(self).map(move |outcome, actor, ctx| {
            actor.feed(heard(node, outcome, actor.parts.clock.now()), ctx);
            if !stays {
                actor.release(node);
            }
        });
        ctx.spawn(asked);
    }

    fn probe_through(&self, relay: NodeId, target: NodeId, ctx: &mut Context<Self>) {
        let Some(endpoint) = self.endpoint() else { return };
        let probe = async move { endpoint.probe_through(relay, target).await };
        let probe = probe.into_actor(self).map(move |outcome, actor, ctx| {
            let input = match outcome {
                Ok(rtt) => {
                    let rtt_us = Some(micros(rtt));
                    Input::Through { relay, target, rtt_us }
                }
                Err(AskPeerError::Full) => Input::Full { node: relay },
                Err(AskPeerError::NoAnswer) => {
                    tracing::debug!(%relay, %target, "a probe through a relay did not arrive");
                    Input::Through { relay, target, rtt_us: None }
                }
            };
            actor.feed(input, ctx);
            actor.release(relay);
        });
        ctx.spawn(probe);
    }

    /// Lets a connection go that no active peer needs.
    fn release(&self, node: NodeId) {
        if let Some(endpoint) = self.endpoint()
            && self.machine.0.active().all(|active| active != node)
        {
            endpoint.release_peer(node);
        }
    }

    /// Whoever gives out snapshots gives out the directory.
    fn refresh(&self) {
        self.crew.fetcher.tell(Doorbell { version: self.version + 1 });
    }

    fn persist(&self, cache: Vec<u8>, ctx: &mut Context<Self>) {
        let mut state = self.parts.state.clone();
        let write = self.parts.offload(move || state.keep_peers(&HeldPeers { cache }));
        let write = write.into_actor(self).map(|outcome, _, _| {
            if !matches!(outcome, Ok(Ok(()))) {
                tracing::warn!("what is known of the peers could not be kept");
            }
        });
        ctx.spawn(write);
    }

    fn recovering(&mut self, step: Option<Step>) {
        match step {
            Some(step) => {
                tracing::warn!(step = step.as_str(), "no peer answers");
                *self.steps.entry(step.as_str().to_owned()).or_default() += 1;
            }
            None => tracing::info!("a peer answers again"),
        }
        self.tell();
    }

    /// How busy the machine is, which others ask the mesh for.
    fn look_at_machine(&self) {
        if let (Some(endpoint), Some(times)) = (self.endpoint(), self.parts.ground.times()) {
            endpoint.know_machine(times);
        }
    }

    /// What the mesh orders relays by, and what the operator sees.
    fn tell(&self) {
        let book = &self.machine.0;
        if let Some(endpoint) = self.endpoint() {
            endpoint.know_peers(book.path_candidates().map(|it| (it.node, it)).collect());
        }
        let status = peers_status(book, self.parts.clock.moment(), &self.steps);
        self.parts.board.update(|report| report.peers = status);
    }
}

fn heard(node: NodeId, outcome: Result<PeerAnswer, AskPeerError>, at: Timestamp) -> Input {
    match outcome {
        Ok(PeerAnswer { rtt, said, packets, certificate_until }) => {
            let rtt_us = micros(rtt);
            Input::Answered { node, rtt_us, said, packets, certificate_until, at }
        }
        Err(AskPeerError::NoAnswer) => Input::Missed { node },
        Err(AskPeerError::Full) => Input::Full { node },
    }
}

/// As which kind of node it keeps peers: as it was told to, or else as its roles say.
fn kind_of(configured: Option<Kind>, roles: &[RoleScope]) -> Kind {
    configured.unwrap_or_else(|| kind_of_roles(roles))
}

fn micros(rtt: std::time::Duration) -> u32 {
    u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)
}

impl Actor for PeerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.restore(ctx);
        ctx.run_interval(TELL, |actor, _| {
            actor.tell();
            actor.look_at_machine();
        });
        // Comes by way of the mesh.
        self.crew.snapshots.tell(TellAgain);
    }
}

impl Shell for PeerActor {
    type Machine = PeerMachine;

    fn clock(&self) -> Clock {
        self.parts.clock
    }

    fn machine(&mut self) -> &mut PeerMachine {
        &mut self.machine
    }

    fn timer(&mut self) -> &mut Option<SpawnHandle> {
        &mut self.timer
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Heartbeat { node } => self.ask(node, true, ctx),
            Effect::Probe { node } => self.ask(node, false, ctx),
            Effect::Release { node } => self.release(node),
            Effect::ProbeThrough { relay, target } => self.probe_through(relay, target, ctx),
            Effect::Refresh => self.refresh(),
            Effect::Discover => {
                // What the present server told led to nobody; another one may have come further.
                self.parts.control.servers.discover(self.parts.clock.moment());
                self.parts.show_servers();
                self.refresh();
            }
            Effect::Recovering(step) => self.recovering(step),
            Effect::Persist(cache) => self.persist(cache, ctx),
        }
    }
}

impl Handler<Apply> for PeerActor {
    type Result = ();

    fn handle(&mut self, Apply(snapshot): Apply, ctx: &mut Self::Context) {
        let view = view_of(&snapshot, false);
        let directory = Directory::of_view(&view);
        self.version = directory.version;
        let kind = kind_of(self.parts.options.peers, &directory.own_roles);
        self.feed(Input::Policy(PeerPolicy::told(kind, &view.mesh)), ctx);
        self.feed(Input::Directory { directory, at: self.parts.clock.now() }, ctx);
        self.tell();
    }
}

impl Handler<Closed> for PeerActor {
    type Result = ();

    fn handle(&mut self, _: Closed, ctx: &mut Self::Context) {
        // Nobody is a peer of a node that was told to leave.
        self.machine = PeerMachine(PeerBook::new(PeerPolicy::of(Kind::Thin), self.parts.seed()));
        self.drain(ctx);
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use rap_proto::NodeRole;

    use super::*;

    #[test]
    fn a_node_that_is_told_how_to_keep_peers_does_so_whatever_its_roles() {
        let relay = [RoleScope { role: NodeRole::RelayNode, organizations: None }];
        assert_eq!(kind_of(None, &relay), Kind::Relay);
        assert_eq!(kind_of(None, &[]), Kind::Normal);
        assert_eq!(kind_of(Some(Kind::Thin), &relay), Kind::Thin);
    }
}
