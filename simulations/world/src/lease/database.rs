//! The database: one clock, one table, and failovers.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rap_agent_core::lease::Answer;
use rap_control_core::lease::{Hold, Row, Table};
use rap_proto::{Digest, Generation, LeaseClass, Moment, Timestamp};

use crate::chance::Chance;

use super::{
    admin,
    checkers::Checkers,
    clock::DriftClock,
    log::Log,
    message::{Grant, Op, Reply},
    mutation::Mutation,
};

/// How far back a standby that is not synchronous may be.
const KEPT: Duration = Duration::from_secs(4);
/// Calendar time at the world's first moment.
const START_MS: i64 = 1_800_000_000_000;

#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub row: Row,
    pub node: usize,
    class: LeaseClass,
}

/// Everything that is stored.
#[derive(Debug, Clone, Default)]
struct Rows {
    held: Vec<Option<Held>>,
    log: Log,
}

pub struct Database {
    pub up: bool,
    pub clock: DriftClock,
    pub timeline: u64,
    rows: Rows,
    /// What the rows were before each change of the last while.
    before: VecDeque<(Moment, Rows)>,
    /// Grants that were stored: the world may let a failover follow one.
    pub grants: u64,
    /// The tree heads that were signed, by their roots.
    signed: BTreeMap<Digest, Vec<u8>>,
}

impl Database {
    pub fn new(connections: usize, chance: &mut Chance) -> Self {
        Self {
            up: true,
            clock: DriftClock::draw(chance),
            timeline: 1,
            rows: Rows { held: vec![None; connections], log: Log::founded() },
            before: VecDeque::new(),
            grants: 0,
            signed: BTreeMap::new(),
        }
    }

    pub fn held(&self, connection: usize) -> Option<Held> {
        self.rows.held[connection].filter(|held| matches!(held.row.hold, Hold::Held { .. }))
    }

    /// Another server takes over, with what was stored up to `lost` ago.
    pub fn fail_over(&mut self, now: Moment, lost: Duration) {
        self.timeline += 1;
        while self.before.back().is_some_and(|(at, _)| now.since(*at) < lost) {
            self.rows = self.before.pop_back().expect("there is one").1;
        }
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
                let answer = match (answer, self.rows.held[connection]) {
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
                let rows = self.rows.held.iter().enumerate().filter_map(row).collect();
                let table = Table { timeline: self.timeline, now: at, rows };
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
                let reply = self.rows.log.show(&request, &mut self.signed, checkers);
                Reply::Tree { node, watch, reply }
            }
        }
    }

    fn calendar(&self, now: Moment) -> Timestamp {
        let micros = self.clock.show(now).micros();
        Timestamp::from_unix_millis(START_MS) + Duration::from_micros(micros)
    }

    fn keep(&mut self, now: Moment) {
        while self.before.front().is_some_and(|(at, _)| now.since(*at) > KEPT) {
            self.before.pop_front();
        }
        self.before.push_back((now, self.rows.clone()));
    }

    fn renew(
        &mut self,
        now: Moment,
        at: Timestamp,
        node: usize,
        connection: usize,
        generation: Generation,
    ) -> Answer {
        let Some(held) = self.rows.held[connection] else { return Answer::Over };
        if held.row.generation > generation {
            return Answer::Superseded { by: held.row.generation };
        }
        if held.row.generation != generation || held.node != node || is_over(held.row, at) {
            return Answer::Over;
        }
        self.keep(now);
        let remaining = held.class.ttl();
        let hold = Hold::Held { renewed_at: at, valid_until: at + remaining };
        let row = Row { hold, ..held.row };
        self.rows.held[connection] = Some(Held { row, ..held });
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
        let before = self.rows.held[connection];
        let unmoved = before.map(|held| held.row.revision) == revision;
        let timeline =
            if mutation == Some(Mutation::HoldOffSkipped) { self.timeline } else { timeline };
        let free = before
            .is_none_or(|held| is_over(held.row, at) || mutation == Some(Mutation::OwnClockOnly));
        let rises = before.is_none_or(|held| held.row.generation < generation);
        if !(unmoved && free && rises && timeline == self.timeline) {
            return;
        }
        checkers.granted(now, connection, node, generation, before);
        self.keep(now);
        let hold = Hold::Held { renewed_at: at, valid_until: at + class.ttl() };
        let revision = revision.unwrap_or(0) + 1;
        let row = Row { generation, holder: admin::node_id(node), revision, hold };
        self.rows.held[connection] = Some(Held { row, node, class });
        self.rows.log.record(format_args!("{at} {connection} {generation} granted to {node}"));
        self.grants += 1;
    }

    fn end(&mut self, now: Moment, connection: usize, fits: impl Fn(&Held) -> bool) {
        let Some(held) = self.held(connection).filter(fits) else { return };
        self.keep(now);
        let row = Row { hold: Hold::Ended, revision: held.row.revision + 1, ..held.row };
        self.rows.held[connection] = Some(Held { row, ..held });
        let (generation, revision) = (row.generation, row.revision);
        self.rows.log.record(format_args!("{connection} {generation} {revision} ended"));
    }
}

fn is_over(row: Row, at: Timestamp) -> bool {
    match row.hold {
        Hold::Held { valid_until, .. } => at >= valid_until,
        Hold::Ended => true,
    }
}
