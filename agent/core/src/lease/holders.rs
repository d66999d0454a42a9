//! All connections of one node: a holder for each that the snapshot names.
//!
//! Inputs: the snapshot, what control says and answers, what disk and drivers have done. Effects:
//! for the disk, for the drivers, one call at a time to control, reports.
//!
//! INVARIANT: a connection that the snapshot does not name is taken by nobody here, whoever offers
//! it, and one that it names no more is given up.

mod desk;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rap_proto::{
    Generation, LeaseClass, Moment, VpnConnectionId,
    bus::{LeaseReport, MAX_REPORTED_CONNECTIONS, ReportedConnection},
    snapshot::Connection,
    wire::node_api::{LeasesReply, LeasesRequest, RenewalVerdict},
};

use self::desk::Desk;
use super::{
    Answer, Effect as HolderEffect, Input as HolderInput, LeaseHolder, Permit, Phase, Report,
    RequestId,
};
use crate::{Machine, jitter::Jitter};

pub use desk::CALL_GAP;

/// How often a node that may carry a connection says how it stands.
pub const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How soon after a report a change is reported.
pub const REPORT_GAP: Duration = Duration::from_millis(50);
/// The most connections that a node carries or waits for; more in a snapshot are left to others.
pub const MAX_CONNECTIONS: usize = MAX_REPORTED_CONNECTIONS;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A snapshot is acted on; no lease outlives its life, which ends at `until`.
    Told {
        connections: Vec<Connection>,
        draining: bool,
        until: Moment,
    },
    /// No lease outlives control's authority either: when this node will be isolated, as far as the
    /// beat tells; `None` where no beat was ever heard. Nothing is held before this was said.
    Authority {
        until: Option<Moment>,
    },
    /// What the disk says; nothing when that cannot be read: then the connection is not carried.
    Loaded {
        connection: VpnConnectionId,
        floor: Option<Generation>,
    },
    Persisted {
        connection: VpnConnectionId,
        generation: Generation,
    },
    Activated {
        connection: VpnConnectionId,
        generation: Generation,
    },
    Failed {
        connection: VpnConnectionId,
        generation: Generation,
    },
    Deactivated {
        connection: VpnConnectionId,
        generation: Generation,
    },
    Probed {
        connection: VpnConnectionId,
        ready: bool,
    },
    Offered {
        connection: VpnConnectionId,
        generation: Generation,
        class: LeaseClass,
    },
    ReleaseAsked {
        connection: VpnConnectionId,
        generation: Generation,
    },
    /// Control answered the call, or did not.
    Answered(Option<LeasesReply>),
    /// The agent is about to leave: hand over.
    Leave,
    /// Nobody took over in time, or the node is the cluster's no more: stop.
    GiveUp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    LoadFloor {
        connection: VpnConnectionId,
    },
    PersistFloor {
        connection: VpnConnectionId,
        generation: Generation,
    },
    Activate {
        connection: VpnConnectionId,
        generation: Generation,
    },
    Deactivate {
        connection: VpnConnectionId,
        generation: Generation,
    },
    Probe {
        connection: VpnConnectionId,
    },
    /// The next one comes after its answer.
    Call(LeasesRequest),
    Report(LeaseReport),
}

/// What became of renewals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub renewed: u64,
    /// Refused, because the lease was over.
    pub refused: u64,
    /// Refused, because a newer generation was granted.
    pub fenced: u64,
}

pub struct Holders {
    connections: BTreeMap<VpnConnectionId, Held>,
    until: Moment,
    /// See [`Input::Authority`].
    lasts: Lasts,
    draining: bool,
    leaving: bool,
    desk: Desk,
    report_at: Option<Moment>,
    reported_at: Moment,
    counts: Counts,
    jitter: Jitter,
    effects: VecDeque<Effect>,
}

/// How long control's authority lasts.
#[derive(Debug, Clone, Copy)]
enum Lasts {
    NotSaid,
    Unlimited,
    Until(Moment),
}

struct Held {
    told: Connection,
    /// None while its floor is being read, or when it could not be read.
    holder: Option<LeaseHolder>,
    /// The newest snapshot does not name it any more.
    gone: bool,
}

impl Holders {
    pub fn new(now: Moment, seed: u64) -> Self {
        Self {
            connections: BTreeMap::new(),
            until: now,
            lasts: Lasts::NotSaid,
            draining: false,
            leaving: false,
            desk: Desk::default(),
            report_at: None,
            reported_at: now,
            counts: Counts::default(),
            jitter: Jitter::new(seed),
            effects: VecDeque::new(),
        }
    }

    /// What the packet loop of a connection is shown.
    pub fn permit(&self, connection: VpnConnectionId) -> Option<Permit> {
        self.connections.get(&connection)?.holder.as_ref()?.permit()
    }

    /// The permits of all connections that have one, in the order of their ids.
    pub fn permits(&self) -> impl Iterator<Item = (VpnConnectionId, Permit)> {
        self.connections
            .iter()
            .filter_map(|(connection, held)| Some((*connection, held.holder.as_ref()?.permit()?)))
    }

    /// Every connection whose floor is known, in the order of their ids.
    pub fn each(&self) -> impl Iterator<Item = (VpnConnectionId, LeaseClass, Phase, Report)> {
        self.connections.iter().filter_map(|(connection, held)| {
            let holder = held.holder.as_ref()?;
            Some((*connection, held.told.class, holder.phase(), holder.report()))
        })
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether this node carries nothing and has given back what it carried.
    pub fn is_idle(&self) -> bool {
        let idle = |held: &Held| held.holder.as_ref().is_none_or(LeaseHolder::is_idle);
        self.connections.values().all(idle)
    }

    fn told(&mut self, now: Moment, connections: Vec<Connection>) {
        for held in self.connections.values_mut() {
            held.gone = true;
        }
        for told in connections.into_iter().take(MAX_CONNECTIONS) {
            let full = self.connections.len() >= MAX_CONNECTIONS;
            match self.connections.get_mut(&told.id) {
                Some(held) => (held.told, held.gone) = (told, false),
                None if full => {}
                None => {
                    self.connections.insert(told.id, Held { told, holder: None, gone: false });
                    self.effects.push_back(Effect::LoadFloor { connection: told.id });
                }
            }
        }
        self.tell_all(now);
        self.report_soon(now);
    }

    /// Says to one holder what snapshot and beat say.
    fn tell(&mut self, now: Moment, connection: VpnConnectionId) {
        let until = match self.lasts {
            // Without a beat nobody is active.
            Lasts::NotSaid => None,
            Lasts::Unlimited => Some(self.until),
            Lasts::Until(end) => Some(self.until.min(end)),
        };
        let drain = self.draining || self.leaving;
        let Some(held) = self.connections.get_mut(&connection) else { return };
        let Some(machine) = &mut held.holder else { return };
        if let Some(until) = until {
            machine.handle_input(now, HolderInput::Beat { until });
        }
        machine.handle_input(now, HolderInput::Drain(drain));
        if held.gone || !held.told.enabled {
            stop(machine, now);
        } else if let Some(generation) = held.told.granted {
            let class = held.told.class;
            machine.handle_input(now, HolderInput::Offered { generation, class });
        }
    }

    fn tell_all(&mut self, now: Moment) {
        let ids: Vec<_> = self.connections.keys().copied().collect();
        ids.into_iter().for_each(|connection| self.tell(now, connection));
    }

    fn loaded(&mut self, now: Moment, connection: VpnConnectionId, floor: Option<Generation>) {
        let seed = self.jitter.draw();
        let Some(held) = self.connections.get_mut(&connection) else { return };
        let Some(floor) = floor else { return };
        if held.holder.is_none() {
            held.holder = Some(LeaseHolder::new(now, floor, seed));
            self.tell(now, connection);
        }
    }

    fn give(&mut self, now: Moment, connection: VpnConnectionId, input: HolderInput) {
        let held = self.connections.get_mut(&connection);
        if let Some(machine) = held.and_then(|held| held.holder.as_mut()) {
            machine.handle_input(now, input);
        }
    }

    fn offered(
        &mut self,
        now: Moment,
        connection: VpnConnectionId,
        (generation, class): (Generation, LeaseClass),
    ) {
        let known = self.connections.get(&connection).is_some_and(|held| !held.gone);
        if known {
            self.give(now, connection, HolderInput::Offered { generation, class });
        }
    }

    fn answered(&mut self, now: Moment, reply: Option<LeasesReply>) {
        self.desk.answered();
        let LeasesReply { renewals, released } = reply.unwrap_or_default();
        for one in renewals {
            let answer = match one.outcome {
                RenewalVerdict::Renewed { remaining_ms, .. } => {
                    self.counts.renewed += 1;
                    Answer::Granted { remaining: Duration::from_millis(remaining_ms) }
                }
                RenewalVerdict::Superseded { generation } => {
                    self.counts.fenced += 1;
                    Answer::Superseded { by: generation }
                }
                RenewalVerdict::Over => {
                    self.counts.refused += 1;
                    Answer::Over
                }
            };
            let request = RequestId(one.request);
            self.give(now, one.connection, HolderInput::Answered { request, answer });
        }
        for one in released {
            let generation = one.generation;
            self.give(now, one.connection, HolderInput::ReleaseTaken { generation });
        }
    }

    /// Takes the holders' effects in, and forgets connections of which nothing is left.
    fn collect(&mut self, now: Moment) {
        let mut changed = false;
        for (connection, held) in &mut self.connections {
            let connection = *connection;
            while let Some(effect) = held.holder.as_mut().and_then(Machine::poll_effect) {
                let effect = match effect {
                    HolderEffect::PersistFloor { generation } => {
                        Effect::PersistFloor { connection, generation }
                    }
                    HolderEffect::Activate { generation } => {
                        Effect::Activate { connection, generation }
                    }
                    HolderEffect::Deactivate { generation } => {
                        Effect::Deactivate { connection, generation }
                    }
                    HolderEffect::Probe => Effect::Probe { connection },
                    HolderEffect::SendRenewal { request, generation } => {
                        self.desk.renew(connection, generation, request);
                        continue;
                    }
                    HolderEffect::SendRelease { generation } => {
                        self.desk.release(connection, generation);
                        continue;
                    }
                    HolderEffect::Report(_) => {
                        changed = true;
                        continue;
                    }
                };
                self.effects.push_back(effect);
            }
        }
        let before = self.connections.len();
        self.connections.retain(|_, held| {
            !held.gone || held.holder.as_ref().is_some_and(|holder| !holder.is_idle())
        });
        if changed || before != self.connections.len() {
            self.report_soon(now);
        }
        if let Some(request) = self.desk.next_call(now) {
            self.effects.push_back(Effect::Call(request));
        }
    }

    fn report_soon(&mut self, now: Moment) {
        let at = now.max(self.reported_at + REPORT_GAP);
        self.report_at = Some(self.report_at.map_or(at, |due| due.min(at)));
    }

    fn report(&mut self, now: Moment) {
        if self.report_at.is_none_or(|due| now < due) {
            return;
        }
        let reported = |(connection, held): (&VpnConnectionId, &Held)| {
            let report = held.holder.as_ref().filter(|_| !held.gone)?.report();
            let Report { ready, floor, holding, .. } = report;
            Some(ReportedConnection { connection: *connection, ready, floor, holding })
        };
        let connections = self.connections.iter().filter_map(reported).collect();
        let draining = self.draining || self.leaving;
        self.effects.push_back(Effect::Report(LeaseReport { draining, connections }));
        self.reported_at = now;
        // A node without connections has nothing more to say.
        self.report_at = (!self.connections.is_empty()).then_some(now + REPORT_EVERY);
    }
}

/// As if control had asked for whatever is held.
fn stop(machine: &mut LeaseHolder, now: Moment) {
    if let Some(generation) = machine.phase().generation() {
        machine.handle_input(now, HolderInput::ReleaseAsked { generation });
    }
}

impl Machine for Holders {
    type Input = Input;
    type Effect = Effect;

    fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Told { connections, draining, until } => {
                (self.draining, self.until) = (draining, until);
                self.told(now, connections);
            }
            Input::Authority { until } => {
                self.lasts = until.map_or(Lasts::Unlimited, Lasts::Until);
                self.tell_all(now);
            }
            Input::Loaded { connection, floor } => self.loaded(now, connection, floor),
            Input::Persisted { connection, generation } => {
                self.give(now, connection, HolderInput::Persisted { generation });
            }
            Input::Activated { connection, generation } => {
                self.give(now, connection, HolderInput::Activated { generation });
            }
            Input::Failed { connection, generation } => {
                self.give(now, connection, HolderInput::Failed { generation });
            }
            Input::Deactivated { connection, generation } => {
                self.give(now, connection, HolderInput::Deactivated { generation });
            }
            Input::Probed { connection, ready } => {
                self.give(now, connection, HolderInput::Probed { ready });
            }
            Input::Offered { connection, generation, class } => {
                self.offered(now, connection, (generation, class));
            }
            Input::ReleaseAsked { connection, generation } => {
                self.give(now, connection, HolderInput::ReleaseAsked { generation });
            }
            Input::Answered(reply) => self.answered(now, reply),
            Input::Leave => {
                self.leaving = true;
                self.tell_all(now);
                self.report_soon(now);
            }
            Input::GiveUp => {
                let machines = self.connections.values_mut();
                machines.filter_map(|held| held.holder.as_mut()).for_each(|one| stop(one, now));
            }
        }
        self.collect(now);
        self.report(now);
    }

    fn handle_timeout(&mut self, now: Moment) {
        for machine in self.connections.values_mut().filter_map(|held| held.holder.as_mut()) {
            if machine.poll_timeout().is_some_and(|at| at <= now) {
                machine.handle_timeout(now);
            }
        }
        self.collect(now);
        self.report(now);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Moment> {
        let machines = self.connections.values().filter_map(|held| held.holder.as_ref());
        let machines = machines.filter_map(Machine::poll_timeout).min();
        [machines, self.report_at, self.desk.due()].into_iter().flatten().min()
    }
}
