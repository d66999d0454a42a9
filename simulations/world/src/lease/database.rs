//! The database: one clock, one table, and failovers.

use std::{collections::BTreeMap, time::Duration};

use rap_agent_core::lease::Answer;
use rap_control_core::lease::{Hold, Row, Table};
use rap_proto::{Generation, LeaseClass, Moment, Timestamp};

use crate::kit::{
    Chance,
    clock::{DriftClock, START},
    primary::Primary,
};

use super::{
    admin,
    checkers::Checkers,
    log::Log,
    message::{Grant, Op, Reply},
    mutation::Mutation,
};

/// How far back a standby that is not synchronous may be.
const KEPT: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub row: Row,
    pub node: usize,
    class: LeaseClass,
}

/// Everything that is stored.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    held: Vec<Option<Held>>,
    log: Log,
}

pub struct Database {
    pub clock: DriftClock,
    pub primary: Primary<Rows>,
    /// Grants that were stored: the world may let a failover follow one.
    pub grants: u64,
}

impl Database {
    pub fn new(connections: usize, chance: &mut Chance) -> Self {
        let rows = Rows { held: vec![None; connections], log: Log::founded() };
        Self { clock: DriftClock::draw(chance), primary: Primary::new(rows, KEPT), grants: 0 }
    }

    pub fn held(&self, connection: usize) -> Option<Held> {
        self.primary.rows.held[connection].filter(|held| matches!(held.row.hold, Hold::Held { .. }))
    }

    pub fn perform(
        &mut self,
        now: Moment,
        op: Op,
        mutation: Option<Mutation>,
        checkers: &mut Checkers,
    ) -> Reply {
        let at = self.calendar(now);
        match op {
            Op::Renew { node, connection, generation, asked } => {
                let answer = self.renew(now, at, node, connection, generation);
                if matches!(answer, Answer::Granted { .. }) {
                    checkers.renewed(now, connection);
                }
                let planted = mutation == Some(Mutation::RenewAfterFence);
                let answer = match (answer, self.primary.rows.held[connection]) {
                    (Answer::Superseded { .. } | Answer::Over, Some(held)) if planted => {
                        Answer::Granted { remaining: held.class.ttl() }
                    }
                    (answer, _) => answer,
                };
                Reply::Renewed { node, connection, asked, answer }
            }
            Op::Release { node, connection, generation } => {
                self.end(now, connection, |held| {
                    held.row.generation == generation && held.node == node
                });
                Reply::Released { node, connection, generation }
            }
            Op::Read { read, boot } => {
                let row = |(index, held): (usize, &Option<Held>)| {
                    Some((admin::connection_id(index), held.as_ref()?.row))
                };
                let mut rows = BTreeMap::new();
                rows.extend(self.primary.rows.held.iter().enumerate().filter_map(row));
                let table = Table { timeline: self.primary.timeline, now: at, rows };
                Reply::Read { read, boot, table: Box::new(table) }
            }
            Op::Grant(grant) => {
                self.grant(now, at, grant, mutation, checkers);
                Reply::Done { connection: grant.connection }
            }
            Op::Fence { connection, generation, revision } => {
                self.end(now, connection, |held| {
                    held.row.generation == generation
                        && held.row.revision == revision
                        && is_over(held.row, at)
                });
                Reply::Done { connection }
            }
            Op::Tree { node, watch, request } => {
                let reply = self.primary.rows.log.show(&request, checkers);
                Reply::Tree { node, watch, reply }
            }
        }
    }

    fn calendar(&self, now: Moment) -> Timestamp {
        let micros = self.clock.show(now).micros();
        START + Duration::from_micros(micros)
    }

    fn renew(
        &mut self,
        now: Moment,
        at: Timestamp,
        node: usize,
        connection: usize,
        generation: Generation,
    ) -> Answer {
        let Some(held) = self.primary.rows.held[connection] else { return Answer::Over };
        if held.row.generation > generation {
            return Answer::Superseded { by: held.row.generation };
        }
        if held.row.generation != generation || held.node != node || is_over(held.row, at) {
            return Answer::Over;
        }
        let remaining = held.class.ttl();
        let hold = Hold::Held { renewed_at: at, valid_until: at + remaining };
        let row = Row { hold, ..held.row };
        self.primary.change(now).held[connection] = Some(Held { row, ..held });
        Answer::Granted { remaining }
    }

    fn grant(
        &mut self,
        now: Moment,
        at: Timestamp,
        grant: Grant,
        mutation: Option<Mutation>,
        checkers: &mut Checkers,
    ) {
        let Grant { connection, node, generation, class, revision, timeline } = grant;
        let before = self.primary.rows.held[connection];
        let unmoved = before.map(|held| held.row.revision) == revision;
        let timeline = if mutation == Some(Mutation::HoldOffSkipped) {
            self.primary.timeline
        } else {
            timeline
        };
        let free = before
            .is_none_or(|held| is_over(held.row, at) || mutation == Some(Mutation::OwnClockOnly));
        let rises = before.is_none_or(|held| held.row.generation < generation);
        if !(unmoved && free && rises && timeline == self.primary.timeline) {
            return;
        }
        checkers.granted(now, connection, node, generation, before);
        let hold = Hold::Held { renewed_at: at, valid_until: at + class.ttl() };
        let revision = revision.unwrap_or(0) + 1;
        let row = Row { generation, holder: admin::node_id(node), revision, hold };
        let rows = self.primary.change(now);
        rows.held[connection] = Some(Held { row, node, class });
        rows.log.record(format_args!("{at} {connection} {generation} granted to {node}"));
        self.grants += 1;
    }

    fn end(&mut self, now: Moment, connection: usize, fits: impl Fn(&Held) -> bool) {
        let Some(held) = self.held(connection).filter(fits) else { return };
        let row = Row { hold: Hold::Ended, revision: held.row.revision + 1, ..held.row };
        let (generation, revision) = (row.generation, row.revision);
        let rows = self.primary.change(now);
        rows.held[connection] = Some(Held { row, ..held });
        rows.log.record(format_args!("{connection} {generation} {revision} ended"));
    }
}

fn is_over(row: Row, at: Timestamp) -> bool {
    match row.hold {
        Hold::Held { valid_until, .. } => at >= valid_until,
        Hold::Ended => true,
    }
}
