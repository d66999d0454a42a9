//! Connections that this node carries under leases, and the fence of an entry and an egress: the real
//! machines, in the place of the daemon's lease actor.

use std::{collections::BTreeSet, time::Duration};

use rap_agent_core::{
    Machine as _,
    disk::SimDisk,
    lease::{
        Holders, floor,
        holders::{Effect, Input},
        marks::{self, LoadMarksError, MarkBook},
    },
    link,
    snapshot::Snapshot,
};
use rap_mesh_core::fence::{self, Admitted, Fence};
use rap_proto::{
    Generation, Leased, Moment, NodeId, RefusalCode, SessionId, Timestamp, VpnConnectionId,
    bus::NodeBody,
    observation::EndReason,
    wire::node_api::{LeasesReply, LeasesRequest},
};

use super::{Phase, PowerCut, SimNode};
use crate::{message::Message, mutation::Mutation, network::Party, turn::Turn};

/// How long a call is waited for before it is taken for lost.
const CALL_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Leases {
    pub(super) holders: Holders,
    fence: Fence,
    marks: MarkBook,
    /// The last call, and until when its answer counts.
    call: u64,
    waits: Option<Moment>,
}

impl Leases {
    pub(super) fn load(disk: &SimDisk, now: Moment, seed: u64) -> Result<Self, LoadMarksError> {
        let marks = MarkBook::load(disk)?;
        let fence = Fence::new(marks.all());
        let mut holders = Holders::new(now, seed);
        // Of beats nobody here has heard.
        holders.handle_input(now, Input::Authority { until: None });
        Ok(Self { holders, fence, marks, call: seed >> 1, waits: None })
    }

    pub(super) fn told(&mut self, now: Moment, at: Timestamp, snapshot: &Snapshot) {
        let connections = snapshot.connections.connections.clone();
        let until = now + snapshot.manifest.expires_at.since(at);
        let draining = snapshot.assignment.draining;
        self.holders.handle_input(now, Input::Told { connections, draining, until });
    }

    pub(super) fn timeout(&self) -> Option<Moment> {
        [self.holders.poll_timeout(), self.waits].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) {
        if self.waits.is_some_and(|until| until <= now) {
            self.waits = None;
            self.holders.handle_input(now, Input::Answered(None));
        }
        self.holders.handle_timeout(now);
    }

    pub(super) fn answered(&mut self, now: Moment, call: u64, reply: Option<LeasesReply>) {
        if call == self.call && self.waits.take().is_some() {
            self.holders.handle_input(now, Input::Answered(reply));
        }
    }

    /// Whether this node holds this very lease at this moment, as an egress asks.
    fn hold(&self, now: Moment, leased: Leased) -> Result<(), RefusalCode> {
        let held = self.holders.permit(leased.connection).map(|permit| fence::Held {
            generation: permit.generation,
            remaining: permit.until.since(now),
        });
        fence::check_held(leased, held).map(drop)
    }

    /// Whether this egress was shown nothing newer.
    fn newest(&self, leased: Leased) -> bool {
        self.fence.highest(leased.connection).is_none_or(|highest| highest <= leased.generation)
    }
}

impl SimNode {
    /// Under which generation this node is active for a connection, by its own clock.
    pub fn holds(&self, now: Moment, connection: VpnConnectionId) -> Option<Generation> {
        let permit = self.agent()?.leases.holders.permit(connection)?;
        permit.covers(now, permit.generation).then_some(permit.generation)
    }

    /// The generations under which bytes of open flows would pass at this moment.
    pub fn passing(
        &self,
        now: Moment,
        connection: VpnConnectionId,
        mutation: Option<Mutation>,
    ) -> BTreeSet<Generation> {
        let Some(agent) = self.agent() else { return BTreeSet::new() };
        let leased = agent.flows.values().filter_map(|flow| flow.claims.leased);
        let passing = leased.filter(|leased| {
            leased.connection == connection && agent.passes(now, *leased, mutation)
        });
        passing.map(|leased| leased.generation).collect()
    }

    /// Bytes come for every flow of a connection: those whose lease is over end.
    pub fn carry(&mut self, turn: &mut Turn<'_>) {
        let Phase::Working(agent) = &self.phase else { return };
        let flows = agent.flows.values().filter_map(|flow| Some((flow, flow.claims.leased?)));
        let (mut over, mut served) = (Vec::new(), Vec::new());
        for (flow, leased) in flows {
            if agent.passes(turn.moment, leased, turn.mutation) {
                served.push(leased);
            } else {
                over.push((flow.claims.session, flow.caller.node));
            }
        }
        for leased in served {
            turn.checkers.leases.served(0, leased.generation);
        }
        self.end_flows(turn, over);
    }

    fn end_flows(&mut self, turn: &mut Turn<'_>, over: Vec<(SessionId, NodeId)>) {
        for (session, entry) in over {
            turn.coverage.count("leased", "flow cut");
            self.close_flow(turn, session);
            let reason = EndReason::LeaseLost;
            self.tell_node(turn, entry, Message::FlowEnded { session, reason });
        }
    }

    /// Asks the fence. What is newer than anything before is durable when this returns.
    pub(super) fn fence(
        &mut self,
        turn: &mut Turn<'_>,
        leased: Option<Leased>,
    ) -> Result<Result<(), RefusalCode>, PowerCut> {
        let (Phase::Working(agent), Some(leased)) = (&mut self.phase, leased) else {
            return Ok(Ok(()));
        };
        let id = agent.id;
        if turn.planted(Mutation::FenceNotAsked) {
            turn.checkers.leased.let_through(id, leased);
            return Ok(Ok(()));
        }
        let raised = match agent.leases.fence.admit(leased) {
            Ok(Admitted::Current) => Ok(()),
            Ok(Admitted::Raise(mark)) => {
                let kept = &mut agent.leases.marks;
                kept.want(mark).expect("there are few connections");
                if let Some(wanted) = kept.pending(mark) {
                    marks::persist(&mut self.disk, &wanted).map_err(|_| PowerCut)?;
                    kept.kept(wanted);
                }
                agent.leases.fence.raised(mark)
            }
            Err(code) => {
                turn.coverage.count("leased", "older generation refused");
                Err(code)
            }
        };
        if raised.is_ok() {
            turn.checkers.leased.let_through(id, leased);
        }
        Ok(raised)
    }

    /// At an egress, behind the fence: whether it is the holder itself.
    pub(super) fn hold(
        &mut self,
        turn: &mut Turn<'_>,
        leased: Option<Leased>,
    ) -> Result<(), RefusalCode> {
        let (Phase::Working(agent), Some(leased)) = (&self.phase, leased) else { return Ok(()) };
        if turn.planted(Mutation::HolderNotAsked) {
            return Ok(());
        }
        let held = agent.leases.hold(turn.moment, leased);
        turn.coverage.count("leased", if held.is_ok() { "admitted" } else { "not held" });
        held
    }

    pub(super) fn perform_lease(
        &mut self,
        turn: &mut Turn<'_>,
        effect: Effect,
    ) -> Result<(), PowerCut> {
        let at = self.calendar(turn.now);
        let Phase::Working(agent) = &mut self.phase else { return Ok(()) };
        let input = match effect {
            Effect::LoadFloor { connection } => {
                let floor = floor::load(&self.disk, connection).ok();
                Input::Loaded { connection, floor }
            }
            Effect::PersistFloor { connection, generation } => {
                floor::persist(&mut self.disk, connection, generation).map_err(|_| PowerCut)?;
                Input::Persisted { connection, generation }
            }
            Effect::Activate { connection, generation } => {
                turn.note(format_args!("{} carries under {generation}", self.host.name));
                turn.checkers.leased.activated(agent.id, connection, generation);
                Input::Activated { connection, generation }
            }
            Effect::Deactivate { connection, generation } => {
                turn.note(format_args!("{} carries under {generation} no more", self.host.name));
                self.stop_carrying(turn, connection);
                Input::Deactivated { connection, generation }
            }
            Effect::Probe { connection } => Input::Probed { connection, ready: true },
            Effect::Call(request) => {
                self.call(turn, request);
                return Ok(());
            }
            Effect::Report(report) => {
                let body = NodeBody::Leases(report);
                agent.link.handle_input(turn.moment, link::Input::Say { body, at });
                return Ok(());
            }
        };
        if let Phase::Working(agent) = &mut self.phase {
            agent.leases.holders.handle_input(turn.moment, input);
        }
        Ok(())
    }

    fn call(&mut self, turn: &mut Turn<'_>, request: LeasesRequest) {
        let Phase::Working(agent) = &mut self.phase else { return };
        agent.leases.call += 1;
        agent.leases.waits = Some(turn.moment + CALL_LIMIT);
        let (node, call) = (agent.id, agent.leases.call);
        turn.send(Party::Control, Message::AskLeases { node, call, request });
    }

    fn stop_carrying(&mut self, turn: &mut Turn<'_>, connection: VpnConnectionId) {
        let Phase::Working(agent) = &self.phase else { return };
        if turn.planted(Mutation::FlowOutlivesLease) {
            return;
        }
        let of = |flow: &&super::Flow| {
            flow.claims.leased.is_some_and(|leased| leased.connection == connection)
        };
        let over = agent.flows.values().filter(of);
        let over = over.map(|flow| (flow.claims.session, flow.caller.node)).collect();
        self.end_flows(turn, over);
    }
}

impl super::Agent {
    fn passes(&self, now: Moment, leased: Leased, mutation: Option<Mutation>) -> bool {
        match mutation {
            Some(Mutation::FlowOutlivesLease) => true,
            Some(Mutation::HolderNotAsked) => self.leases.newest(leased),
            _ => self.leases.newest(leased) && self.leases.hold(now, leased).is_ok(),
        }
    }
}
