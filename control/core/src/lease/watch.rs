//! What this process saw of the table, on its own clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rap_proto::{Generation, Moment, NodeId, Timestamp, VpnConnectionId};

use super::{FLAP_WINDOW, Hold, MAX_LOSSES, Row, Table};

/// Between the generations of two timelines lies more than any timeline uses up. A failover that
/// lost a grant can then not lead to a second grant with the same number.
const TIMELINE_BITS: u32 = 32;

/// INVARIANT: `since` is no earlier than the last renewal that this process could know of.
#[derive(Debug)]
pub struct Watch {
    timeline: Option<u64>,
    /// The start, or the last change of the timeline: what happened before it may be unknown.
    hold_from: Moment,
    rows: BTreeMap<VpnConnectionId, Seen>,
    /// Which connections the table knows less of than this process did.
    behind: BTreeSet<VpnConnectionId>,
    /// Which connections the table knows less of than a node says. A node is believed for its own
    /// connections and no others: it could lie.
    claimed: BTreeSet<VpnConnectionId>,
    /// The timeline on which that was accepted.
    accepted: Option<u64>,
}

#[derive(Debug, Default)]
struct Seen {
    row: Option<Row>,
    /// Since when the row has been as it is.
    since: Moment,
    highest: Generation,
    /// When which generation was found to be lost, and whose it was.
    losses: VecDeque<(Moment, Generation, NodeId)>,
}

impl Watch {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            timeline: None,
            hold_from: now,
            rows: BTreeMap::new(),
            behind: BTreeSet::new(),
            claimed: BTreeSet::new(),
            accepted: None,
        }
    }

    /// Takes in what was read. `floors` is what the nodes say that they agreed to; connections
    /// that are gone from the table and not `wanted` are forgotten.
    pub(super) fn read(
        &mut self,
        now: Moment,
        table: &Table,
        floors: &BTreeMap<VpnConnectionId, Generation>,
        wanted: impl Fn(&VpnConnectionId) -> bool,
    ) {
        if self.timeline.replace(table.timeline).is_some_and(|before| before != table.timeline) {
            self.hold_from = now;
        }
        // Nothing so high was granted yet, whatever a node says.
        let beyond = Generation::new(table.timeline << TIMELINE_BITS);
        let known = floors.keys().filter(|connection| wanted(connection));
        for connection in table.rows.keys().chain(known) {
            self.rows.entry(*connection).or_default();
        }
        self.rows.retain(|connection, _| table.rows.contains_key(connection) || wanted(connection));
        self.behind.clear();
        self.claimed.clear();
        for (connection, seen) in &mut self.rows {
            let row = table.rows.get(connection).copied();
            if seen.row != row {
                seen.since = now;
                seen.row = row;
            }
            let shown = row.map_or(Generation::NONE, |row| row.generation);
            seen.highest = seen.highest.max(shown);
            let floor = floors.get(connection).copied().filter(|floor| *floor < beyond);
            let floor = floor.unwrap_or_default();
            let knows_less = |highest| self.accepted != self.timeline && shown < highest;
            if knows_less(seen.highest) {
                self.behind.insert(*connection);
            }
            if knows_less(floor) {
                self.claimed.insert(*connection);
            }
        }
    }

    pub fn hold_from(&self) -> Moment {
        self.hold_from
    }

    /// Whoever gave up what was lost looked at this timeline: of a later one it says nothing.
    pub(super) fn accept_loss(&mut self, now: Moment, timeline: u64) {
        self.accepted = Some(timeline);
        if self.timeline == self.accepted {
            self.hold_from = now;
        }
    }

    /// Somebody shall follow a holder that did not hand over. One loss counts once, however often
    /// the grant has to be tried.
    pub(super) fn lost(&mut self, now: Moment, connection: VpnConnectionId, row: &Row) {
        let seen = self.rows.entry(connection).or_default();
        if seen.losses.back().is_some_and(|(_, generation, _)| *generation == row.generation) {
            return;
        }
        if seen.losses.len() >= MAX_LOSSES {
            seen.losses.pop_front();
        }
        seen.losses.push_back((now, row.generation, row.holder));
    }

    /// Since when nothing was renewed or granted that this process could know of.
    pub fn quiet_since(&self, connection: VpnConnectionId) -> Moment {
        let since = self.rows.get(&connection).map_or(self.hold_from, |seen| seen.since);
        since.max(self.hold_from)
    }

    /// Whether the table shows less than was granted of this connection, or, as far as this process
    /// saw, of any: a table that lost one grant may have lost others.
    pub fn went_back(&self, connection: VpnConnectionId) -> bool {
        !self.behind.is_empty() || self.claimed.contains(&connection)
    }

    /// When the connection may change its holder unplanned again.
    pub fn damped_until(&self, connection: VpnConnectionId) -> Option<Moment> {
        let losses = &self.rows.get(&connection)?.losses;
        (losses.len() >= MAX_LOSSES).then(|| losses[0].0 + FLAP_WINDOW)
    }

    /// Whether the node lost this connection unplanned within [`FLAP_WINDOW`].
    pub fn lost_lately(&self, now: Moment, connection: VpnConnectionId, node: NodeId) -> bool {
        let Some(seen) = self.rows.get(&connection) else { return false };
        seen.losses.iter().any(|(at, _, who)| *who == node && now.since(*at) < FLAP_WINDOW)
    }

    /// The next generation: above all that was seen, and above whatever an earlier timeline may
    /// have granted unseen.
    pub fn next_generation(&self, connection: VpnConnectionId, floor: Generation) -> Generation {
        let highest = self.rows.get(&connection).map_or(Generation::NONE, |seen| seen.highest);
        let timeline = self.timeline.unwrap_or(0);
        let base = timeline.saturating_sub(1) << TIMELINE_BITS;
        let granted = floor < Generation::new(timeline << TIMELINE_BITS);
        let floor = if granted { floor } else { Generation::NONE };
        highest.max(floor).max(Generation::new(base)).next()
    }
}

impl Row {
    /// Whether the row says that nobody may be active under it, by the database's clock.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        match self.hold {
            Hold::Held { valid_until, .. } => now >= valid_until,
            Hold::Ended => true,
        }
    }
}
