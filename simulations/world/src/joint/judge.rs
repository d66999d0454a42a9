//! What the joint world judges: who is active at each instant, what each append says, and what must
//! have come right in the end.

use std::time::Duration;

use futures_util::FutureExt as _;
use rap_control_core::state::NodeStanding;
use rap_events::{
    Actor, DomainEvent, Envelope, Log as _, log::MAX_READ_EVENTS,
    vpn_connection::VpnConnectionEvent,
};
use rap_proto::{Authority, Generation, Leased, Moment, NodeId};

use crate::{
    cast::{self, CONNECTION},
    checkers::{Checkers, Standing, Violation},
    control,
    node::SimNode,
};

use super::{
    host::Host,
    world::{Event, World},
};

/// When nothing fails, the connection has one holder, and keeps it.
pub const LIVENESS: &str = "liveness";
/// Whatever is stored in the name of the process managers was given by the one who leads.
pub const ONE_LEADER: &str = "one_leader";
/// Whoever was revoked carries nothing any more when its lease is over.
pub const REVOKED: &str = "revoked";
/// What a replica holds that read the log is what the log says, and nothing that it lost.
pub const FOLLOWS: &str = "follows";

/// What takes a beat: each gives somebody something.
const GRANTS: [&str; 2] = ["vpn_connection.lease_granted", "session.authorized"];

impl World {
    /// What a turn of this replica appended goes into the checkers' books.
    pub(super) fn read_log(&mut self, index: usize) {
        loop {
            let page = self.primary.read(self.read, MAX_READ_EVENTS).now_or_never();
            let page = page.and_then(Result::ok).unwrap_or_default();
            let Some(last) = page.last() else { return };
            self.read = last.position;
            page.iter().for_each(|envelope| self.take_note(index, envelope));
        }
    }

    fn take_note(&mut self, index: usize, envelope: &Envelope) {
        let now = self.stage.now();
        if self.stage.drawn.unsynced {
            self.chain.push(control::chained(self.chain.last(), envelope));
        }
        // To take the lead is what makes one.
        if let Actor::System { process } = &envelope.actor
            && process != "leadership"
            && self.leader() != Some(index)
        {
            let detail = format!("replica {index} gave {process} and did not lead");
            self.stage.checkers.verdict.violated(ONE_LEADER, detail);
        }
        if self.stage.drawn.beats && GRANTS.contains(&envelope.event_type.as_str()) {
            self.stage.checkers.beat.granted(now, &envelope.event_type);
        }
        match DomainEvent::from_envelope(envelope) {
            Ok(DomainEvent::VpnConnection(VpnConnectionEvent::LeaseGranted(granted))) => {
                let generation = Generation::new(granted.generation);
                let leased = Leased { connection: CONNECTION, generation };
                let place = self.places.get(&granted.node).copied().unwrap_or(usize::MAX);
                self.stage.note(format_args!("node {place} is granted {generation}"));
                let Checkers { leased: book, leases, .. } = &mut self.stage.checkers;
                book.granted(granted.node, leased);
                leases.granted(now, 0, place, generation, None);
                self.after_a_grant();
            }
            Ok(DomainEvent::Node(_)) if envelope.event_type == "node.revoked" => {
                let node = NodeId::from_uuid(envelope.stream.id);
                if let Some(place) = self.places.get(&node) {
                    self.revoked.insert(*place, now);
                }
            }
            _ => {}
        }
    }

    /// A replica that read the log in this turn holds nothing but what that says.
    pub(super) fn judge_follower(&mut self, index: usize) {
        let replica = &self.replicas[index];
        if replica.control.is_halted() || !replica.way.tap.is_open() {
            return;
        }
        let Some((position, folded)) = replica.control.folded() else { return };
        let place = usize::try_from(position - 1).unwrap_or(usize::MAX);
        if self.chain.get(place) != Some(&folded) {
            let detail = format!("replica {index} holds {position} events that the log lost");
            self.stage.checkers.verdict.violated(FOLLOWS, detail);
        }
    }

    /// What a node makes of the beats that it heard ends in its time.
    pub(super) fn look(&mut self) {
        let now = self.stage.now();
        for (index, host) in self.hosts.iter().enumerate() {
            if let Some(authority) = host.node.authority().filter(|_| host.process.works()) {
                self.stage.checkers.beat.stands(now, index, authority);
            }
        }
        self.stage.checkers.judge_leases();
        self.stage.within_secs(1, 2, Event::Look);
    }

    pub(super) fn judge_everybody_healthy(&mut self) {
        if !self.stage.drawn.beats {
            return;
        }
        let now = self.stage.now();
        for (index, replica) in self.replicas.iter().enumerate() {
            if replica.control.held(replica.process.time(now)).is_none() {
                let detail = format!("replica {index} holds no beat");
                self.stage.checkers.verdict.violated(LIVENESS, detail);
            }
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let authority = host.node.authority();
            if authority.is_some_and(|authority| authority != Authority::Healthy) {
                let detail = format!("node {index} is {authority:?}");
                self.stage.checkers.verdict.violated(LIVENESS, detail);
            }
        }
    }

    /// Whoever was revoked is renewed no more as soon as the replicas have heard of it.
    pub(super) fn judge_revoked(&mut self) {
        let now = self.stage.now();
        let longest =
            self.stage.drawn.faults.pause_lasts + self.stage.drawn.faults.cut_lasts + SETTLES;
        let holders = self.holders();
        let late = |(node, at): &(&usize, &Moment)| {
            holders.iter().any(|(holder, _)| holder == *node) && now.since(**at) > longest
        };
        if let Some((node, at)) = self.revoked.iter().find(late) {
            let detail = format!("node {node} carries {:?} after it was revoked", now.since(*at));
            self.stage.checkers.verdict.violated(REVOKED, detail);
        }
    }

    /// Who carries: whoever may, and whoever does.
    pub(super) fn judge_activity(&mut self) {
        let (now, mutation) = (self.stage.now(), self.stage.mutation);
        let mut touching = self.holders();
        for (index, host) in self.hosts.iter().enumerate() {
            let passing = host.node.passing(host.process.time(now), CONNECTION, mutation);
            touching.extend(passing.into_iter().map(|generation| (index, generation)));
        }
        touching.sort_unstable();
        touching.dedup();
        self.stage.checkers.leases.touching(0, &touching);
    }

    pub(super) fn judge_holder(&mut self) {
        let holders = self.holders();
        let revoked = &self.revoked;
        let right = matches!(holders[..], [(holder, _)] if !revoked.contains_key(&holder));
        let suspended = self.replicas[0].control.state().is_some_and(|state| {
            let organization = state.vpn_connections().get(CONNECTION).map(|it| it.organization);
            organization.is_none_or(|id| !state.organizations().is_active(id))
        });
        if !right && !suspended {
            let detail =
                format!("the connection is held by {holders:?}, and {:?} may not", revoked.keys());
            self.stage.checkers.verdict.violated(LIVENESS, detail);
        }
    }

    pub(super) fn judge_the_end(&mut self) {
        for index in 0..self.replicas.len() {
            self.replica_turn(index, |control, turn| control.settle(turn));
        }
        let (control, mut outcomes) = (&self.replicas[0].control, Vec::new());
        let events = control.events();
        for replica in &self.replicas {
            let state = replica.control.state();
            outcomes.push(match state {
                Some(state) => self.stage.checkers.replay.check(state, &events),
                None => Err(Violation::new(LIVENESS, "a replica does not run")),
            });
        }
        let Some(state) = control.state() else { return };
        let approved = |node| state.nodes().get(node).is_some_and(|node| node.is_approved());
        let Checkers { enrollment, recorded, convergence, scope, .. } = &self.stage.checkers;
        outcomes.push(enrollment.log(&events));
        outcomes.push(recorded.log(&events));
        outcomes.push(recorded.complete(approved, |command| control.knows(command)));
        for Host { node, .. } in &self.hosts {
            outcomes.push(convergence.check(&standing(state, node)));
            outcomes.push(scope.disk(&node.host, node.disk()));
        }
        for outcome in outcomes {
            self.stage.checkers.judge(outcome);
        }
    }
}

/// How long everybody takes to hear of something, besides the faults of the moment.
const SETTLES: Duration = Duration::from_secs(20);

fn standing(state: &rap_control_core::State, node: &SimNode) -> Standing {
    let found = state.nodes().get(cast::node_id(&node.public_key()));
    Standing {
        host: node.host.name.to_string(),
        applied: node.version(),
        spooled: node.spooled(),
        working: node.is_working(),
        newest: found.filter(|node| node.is_approved()).map(|node| node.version),
        revoked: found.is_some_and(|node| node.standing == NodeStanding::Revoked),
    }
}
