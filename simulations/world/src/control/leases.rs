//! Who is granted which connection: the real grantor, and the renewals of those who hold one.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use rap_control_core::{
    lease::{
        Effect, Grantor, Hold, Input, ReadId, Row, Table,
        commands::{self, Given},
        may_renew,
        wishes::{Wishes, wishes},
    },
    state::NodeStanding,
};
use rap_events::{
    Actor, Aggregate as _, AppendError,
    handler::ExecuteError,
    lease::{DatabaseTime, LeaseRow, MAX_LEASE_ROWS, Renewal, RenewalOutcome},
    vpn_connection::VpnConnection,
};
use rap_proto::{
    Generation, LeaseClass, Moment, NodeId, VpnConnectionId,
    bus::{ControlBody, LeaseReport},
    wire::node_api::{
        LeaseRelease, LeaseRenewal, LeasesReply, LeasesRequest, RenewalAnswer, RenewalVerdict,
    },
};

use super::{Control, MAX_ROUNDS, Terms, at_once};
use crate::{
    cast,
    message::Message,
    mutation::Mutation,
    network::Party,
    turn::{Turn, calendar},
};

/// The grantor with what its effects are made of, as in the server.
pub(super) struct Desk {
    pub(super) grantor: Grantor,
    leading: bool,
    wishes: Wishes,
    stopping: BTreeSet<NodeId>,
    draining: BTreeSet<NodeId>,
    rows: BTreeMap<VpnConnectionId, LeaseRow>,
    at: DatabaseTime,
}

impl Desk {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            grantor: Grantor::new(now, LeaseClass::hold_off),
            leading: false,
            wishes: Wishes::default(),
            stopping: BTreeSet::new(),
            draining: BTreeSet::new(),
            rows: BTreeMap::new(),
            at: DatabaseTime::default(),
        }
    }

    fn lead(&mut self, now: Moment, leading: bool) {
        if mem::replace(&mut self.leading, leading) != leading {
            self.grantor.handle_input(now, Input::Leading(leading));
        }
    }

    fn wish(&mut self, now: Moment, new: Wishes, blind: bool) {
        if new == self.wishes {
            return;
        }
        let old = mem::replace(&mut self.wishes, new);
        if let Some(timeline) = self.wishes.loss_accepted
            && old.loss_accepted != Some(timeline)
        {
            // Whoever is blind for timelines knows of none but the first.
            let timeline = if blind { 1 } else { timeline };
            self.grantor.handle_input(now, Input::LossAccepted { timeline });
        }
        if old.desired != self.wishes.desired {
            self.grantor.handle_input(now, Input::Desired(self.wishes.desired.clone()));
        }
        for (connection, revision) in &self.wishes.revisions {
            if old.revisions.get(connection) != Some(revision) {
                self.grantor.handle_input(now, Input::Changed(*connection));
            }
        }
        self.drain(now);
    }

    fn hear(&mut self, now: Moment, node: NodeId, report: &LeaseReport) {
        let connections = self.wishes.believe(node, report);
        self.grantor.handle_input(now, Input::Reported { node, connections });
        let news = match report.draining {
            true => self.stopping.insert(node),
            false => self.stopping.remove(&node),
        };
        if news {
            self.drain(now);
        }
    }

    fn drain(&mut self, now: Moment) {
        let wanted: BTreeSet<_> = self.wishes.draining.union(&self.stopping).copied().collect();
        let changed: Vec<_> = wanted.symmetric_difference(&self.draining).copied().collect();
        for node in changed {
            let draining = wanted.contains(&node);
            self.grantor.handle_input(now, Input::Draining { node, draining });
        }
        self.draining = wanted;
    }

    /// `timeline` is what the grantor takes for the database's.
    fn read(&mut self, now: Moment, read: ReadId, at: DatabaseTime, timeline: u64) {
        self.at = at;
        let row = |(id, row): (&VpnConnectionId, &LeaseRow)| {
            let revision = self.wishes.revisions.get(id).copied();
            (revision.is_some() || !row.ended).then(|| (*id, shown(row, revision)))
        };
        let rows = self.rows.iter().filter_map(row).collect();
        let table = Table { timeline, now: at.now, rows };
        self.grantor.handle_input(now, Input::Read { read, table });
    }
}

fn shown(row: &LeaseRow, revision: Option<u64>) -> Row {
    let hold = match row.ended {
        true => Hold::Ended,
        false => Hold::Held { renewed_at: row.renewed_at, valid_until: row.valid_until },
    };
    let revision = revision.unwrap_or(0);
    let holder = NodeId::from_uuid(row.holder);
    Row { generation: Generation::new(row.generation), holder, revision, hold }
}

impl Control {
    fn desk(&mut self) -> Option<&mut Desk> {
        self.running.as_mut()?.desk.as_mut()
    }

    /// A node said how it stands.
    pub(super) fn reported(&mut self, turn: &Turn<'_>, node: NodeId, report: &LeaseReport) {
        if let Some(desk) = self.desk() {
            desk.hear(turn.moment, node, report);
        }
    }

    /// Grants, asks and fences what is due.
    pub(super) fn grant(&mut self, turn: &mut Turn<'_>) {
        let leading = self.leads(turn).is_some();
        let Some(running) = &mut self.running else { return };
        let Some(desk) = &mut running.desk else { return };
        desk.lead(turn.moment, leading);
        let blind = turn.planted(Mutation::TimelineIgnored);
        desk.wish(turn.moment, wishes(&running.state), blind);
        desk.grantor.handle_timeout(turn.moment);
        for _ in 0..MAX_ROUNDS {
            let Some(effect) = self.desk().and_then(|desk| desk.grantor.poll_effect()) else {
                return;
            };
            self.perform_grant(turn, effect);
        }
    }

    fn perform_grant(&mut self, turn: &mut Turn<'_>, effect: Effect) {
        match effect {
            Effect::Read { read } => self.read_rows(turn, read),
            // Giving authority has to wait; what takes it away goes on.
            Effect::Grant { connection, .. } if self.frozen(turn) => {
                turn.coverage.count("grantors", "frozen");
                if let Some(desk) = self.desk() {
                    desk.grantor.handle_input(turn.moment, Input::Changed(connection));
                }
            }
            Effect::Grant { connection, node, generation, class, revision, reason, .. } => {
                turn.coverage.count("grantors", format!("grant, for {}", reason.as_str()));
                let Some(desk) = self.desk() else { return };
                let row = desk.rows.get(&connection);
                let follows = Generation::new(row.map_or(0, |row| row.generation)).next();
                let blind = turn.planted(Mutation::TimelineIgnored);
                let generation = if blind { follows } else { generation };
                let to = (node, generation, class);
                let given = commands::grant(connection, to, row, desk.at);
                self.give(turn, connection, given, revision);
            }
            Effect::Fence { connection, revision, reason, .. } => {
                turn.coverage.count("grantors", format!("fence, for {}", reason.as_str()));
                let row = self.desk().and_then(|desk| desk.rows.get(&connection).copied());
                let Some(row) = row else { return };
                let given = commands::fence(connection, &row);
                self.give(turn, connection, given, Some(revision));
            }
            Effect::AskRelease { node, .. } if self.keeps_holder(turn, node) => {}
            Effect::AskRelease { connection, node, generation, reason } => {
                turn.coverage.count("grantors", format!("ask release, for {}", reason.as_str()));
                self.say(turn, node, ControlBody::ReleaseAsked { connection, generation });
            }
            Effect::Offer { connection, node, generation, class } => {
                self.say(turn, node, ControlBody::LeaseOffered { connection, generation, class });
            }
        }
    }

    /// A planted bug: nothing is taken from a holder that was revoked, and it hears nothing of that.
    pub(super) fn keeps_holder(&self, turn: &Turn<'_>, node: NodeId) -> bool {
        let Some(state) = self.state().filter(|_| turn.planted(Mutation::RevokedHolderKept)) else {
            return false;
        };
        let found = state.vpn_connections().get(cast::CONNECTION);
        let holds = found.and_then(|found| found.lease).is_some_and(|lease| lease.node == node);
        let standing = state.nodes().get(node).map(|found| found.standing);
        holds && standing == Some(NodeStanding::Revoked)
    }

    fn read_rows(&mut self, turn: &Turn<'_>, read: ReadId) {
        let category = VpnConnection::CATEGORY;
        let Ok(page) = at_once(self.leases.read_leases(category, None, MAX_LEASE_ROWS)) else {
            return;
        };
        let Some(desk) = self.desk() else { return };
        let rows = page.rows.into_iter();
        desk.rows = rows.map(|(id, row)| (VpnConnectionId::from_uuid(id), row)).collect();
        let timeline = if turn.planted(Mutation::TimelineIgnored) { 1 } else { page.at.timeline };
        desk.read(turn.moment, read, page.at, timeline);
    }

    fn give(
        &mut self,
        turn: &mut Turn<'_>,
        connection: VpnConnectionId,
        given: Given,
        revision: Option<u64>,
    ) {
        if let Some(guards) = self.leads(turn) {
            let process = "leases".to_owned();
            let request = self.own_request(calendar(turn.now), Actor::System { process });
            let Given { commands, change } = given;
            let terms = Terms { revision, change: Some(change), guards };
            let stored = self.store::<VpnConnection>(&request, connection.uuid(), commands, terms);
            match stored {
                Ok(()) => turn.note(format_args!("replica {} moves a lease", self.index)),
                Err(error) => {
                    turn.note(format_args!("replica {}: {error}", self.index));
                    if let ExecuteError::Lease(AppendError::LeaseLost { .. }) = error {
                        turn.coverage.count("replicas", "guard refused");
                        self.led_no_more(turn);
                    }
                }
            }
        }
        if let Some(desk) = self.desk() {
            desk.grantor.handle_input(turn.moment, Input::Changed(connection));
        }
    }

    /// Renews a node's leases, and takes back those that it releases.
    pub(super) fn renew(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        call: u64,
        request: LeasesRequest,
    ) {
        let Some(place) = self.places.get(&node).copied() else { return };
        let reply = self.answer_leases(turn, node, request);
        turn.send(Party::Node(place), Message::Leases { call, reply });
    }

    fn answer_leases(
        &mut self,
        turn: &Turn<'_>,
        node: NodeId,
        request: LeasesRequest,
    ) -> Option<LeasesReply> {
        let permitted: Vec<LeaseRenewal> = if self.keeps_holder(turn, node) {
            request.renewals.clone()
        } else {
            let (state, now) = (self.state()?, calendar(turn.now));
            let holder = state.nodes().get(node).filter(|it| it.is_approved())?;
            let may = |renewal: &&LeaseRenewal| {
                let found = state.vpn_connections().get(renewal.connection);
                let may_be = |found| may_renew(state, holder, (found, renewal.generation), now);
                found.is_none_or(may_be)
            };
            request.renewals.iter().filter(may).copied().collect()
        };
        let of_node = |renewal: &LeaseRenewal| Renewal {
            lease: commands::lease(renewal.connection),
            generation: renewal.generation.number(),
            holder: node.uuid(),
        };
        let renewed = at_once(self.leases.renew(permitted.iter().map(of_node).collect())).ok()?;
        let outcomes = permitted.iter().zip(renewed.outcomes);
        let outcomes: BTreeMap<u64, RenewalVerdict> =
            outcomes.map(|(asked, outcome)| (asked.request, verdict(asked, outcome))).collect();
        let answer = |asked: &LeaseRenewal| RenewalAnswer {
            connection: asked.connection,
            request: asked.request,
            outcome: outcomes.get(&asked.request).copied().unwrap_or(RenewalVerdict::Over),
        };
        let renewals = request.renewals.iter().map(answer).collect();
        for release in &request.releases {
            self.release(turn, node, *release, renewed.now)?;
        }
        Some(LeasesReply { renewals, released: request.releases })
    }

    /// None when it is not known whether it was taken back.
    fn release(
        &mut self,
        turn: &Turn<'_>,
        node: NodeId,
        LeaseRelease { connection, generation }: LeaseRelease,
        now: rap_proto::Timestamp,
    ) -> Option<()> {
        let held = self.load::<VpnConnection>(connection.uuid())?.state.tenure.present;
        let is_its_own = |held: &rap_events::lease::Granted| {
            held.generation == generation.number() && held.holder == node.uuid()
        };
        if held.filter(is_its_own).is_none() {
            return Some(());
        }
        let state = self.state()?;
        let (holder, found) = (state.nodes().get(node)?, state.vpn_connections().get(connection)?);
        let reason = commands::release_reason(state, holder, found, false);
        let Given { commands, change } = commands::release(connection, generation, reason, now);
        let request = self.own_request(calendar(turn.now), Actor::Node(node));
        let terms = Terms { revision: None, change: Some(change), guards: Vec::new() };
        self.store::<VpnConnection>(&request, connection.uuid(), commands, terms).ok()?;
        if let Some(desk) = self.desk() {
            desk.grantor.handle_input(turn.moment, Input::Changed(connection));
        }
        Some(())
    }
}

fn verdict(asked: &LeaseRenewal, outcome: RenewalOutcome) -> RenewalVerdict {
    match outcome {
        RenewalOutcome::Renewed { remaining_ms } => {
            RenewalVerdict::Renewed { generation: asked.generation, remaining_ms }
        }
        RenewalOutcome::Superseded { generation } => {
            RenewalVerdict::Superseded { generation: Generation::new(generation) }
        }
        RenewalOutcome::Ended | RenewalOutcome::Expired | RenewalOutcome::Unknown => {
            RenewalVerdict::Over
        }
    }
}
