//! Who of those that wait is asked first.

use std::collections::BTreeMap;

use rap_proto::{Lane, Moment, OrganizationId, SessionId};

use super::{ClassName, Direction, FlowId, MIN_GRANT, Shaper, class::Class};

/// One byte in so many of an organization is bulk's, as long as bulk waits.
pub const LANE_FLOOR: i64 = 16;

/// A direction of a flow that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) flow: FlowId,
    pub(super) direction: Direction,
    /// Within what the platform keeps for its organization, when the order was made.
    pub(super) granted: bool,
    /// Within a reserve of one of its organization's rules, the same.
    pub(super) committed: bool,
    organization: OrganizationId,
    session: SessionId,
    lane: Lane,
    session_turn: u64,
    ticket: u64,
}

/// What is to be known of an organization whose flows wait.
#[derive(Debug, Clone, Copy)]
struct Standing {
    turn: u64,
    /// Bulk's floor is due.
    bulk_first: bool,
}

impl Shaper {
    /// Everybody who waits, the first first.
    pub(super) fn in_order(&self, now: Moment) -> Vec<Candidate> {
        Direction::ALL.into_iter().flat_map(|direction| self.in_order_of(now, direction)).collect()
    }

    fn in_order_of(&self, now: Moment, direction: Direction) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = self.candidates(now, direction).collect();
        let mut standings = BTreeMap::new();
        for candidate in &candidates {
            let standing = || self.standing(candidate.organization, direction);
            standings.entry(candidate.organization).or_insert_with(standing);
        }
        let urgency = |candidate: &Candidate| {
            let standing = standings.get(&candidate.organization);
            let bulk_first = standing.is_some_and(|standing| standing.bulk_first);
            let later = (candidate.lane == Lane::Bulk) != bulk_first;
            (!candidate.committed, later)
        };
        // The flows of one session one after the other, and the sessions in turns.
        candidates.sort_by_key(|c| (c.organization, urgency(c), c.session, c.ticket));
        let mut ranked = rank(candidates, |c| (c.organization, urgency(c), c.session));
        ranked.sort_by_key(|(rank, c)| {
            (c.organization, urgency(c), *rank, c.session_turn, c.session, c.ticket)
        });
        // The same for the organizations.
        let candidates = ranked.into_iter().map(|(_, candidate)| candidate).collect();
        let mut ranked = rank(candidates, |c| c.organization);
        ranked.sort_by_key(|(rank, c)| {
            let turn = standings.get(&c.organization).map_or(0, |standing| standing.turn);
            (!c.granted, *rank, turn, c.organization)
        });
        ranked.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// Whether a candidate stands where it stood: what was served meanwhile can have used a
    /// reserve up.
    pub(super) fn still_stands(&self, now: Moment, candidate: &Candidate) -> bool {
        let key = (candidate.flow, candidate.direction);
        let Some(waiting) = self.waiting.get(&key) else { return false };
        let (granted, committed) = self.reserves(now, key, waiting.want);
        granted >= candidate.granted && committed >= candidate.committed
    }

    /// Whether what somebody wants is within the organization's reserve, and within a rule's.
    fn reserves(&self, now: Moment, key: (FlowId, Direction), want: usize) -> (bool, bool) {
        let (mut granted, mut committed) = (false, false);
        for id in self.flows.get(&key.0).map_or(&[][..], |flow| &flow.path) {
            match self.classes.get(id) {
                Some((ClassName::Organization(_), class)) => {
                    granted |= class.is_committed(now, key.1, want);
                }
                Some((ClassName::Rule { .. }, class)) => {
                    committed |= class.is_committed(now, key.1, want);
                }
                _ => {}
            }
        }
        (granted, committed)
    }

    fn candidates(&self, now: Moment, way: Direction) -> impl Iterator<Item = Candidate> {
        let waiting = self.waiting.iter().filter(move |((_, direction), _)| *direction == way);
        waiting.filter_map(move |((flow, direction), waiting)| {
            let of = self.flows.get(flow)?;
            let (_, session) = of.path.last().and_then(|id| self.classes.get(id))?;
            let (granted, committed) = self.reserves(now, (*flow, *direction), waiting.want);
            Some(Candidate {
                flow: *flow,
                direction: *direction,
                granted,
                committed,
                organization: of.of.organization,
                session: of.of.session,
                lane: of.of.lane,
                session_turn: session.turn,
                ticket: waiting.ticket,
            })
        })
    }

    fn standing(&self, id: OrganizationId, direction: Direction) -> Standing {
        let id = self.named.get(&ClassName::Organization(id));
        let Some((_, class)) = id.and_then(|id| self.classes.get(id)) else {
            return Standing { turn: 0, bulk_first: false };
        };
        Standing { turn: class.turn, bulk_first: class.ahead[direction.index()] >= FLOOR_DUE }
    }
}

/// So many bytes ahead, the floor is due for one of the least grants.
const FLOOR_DUE: i64 = MIN_GRANT as i64 * (LANE_FLOOR - 1);

impl Class {
    /// Counts what passes of an organization against bulk's floor. What bulk has while nothing is
    /// before it does not count.
    pub(super) fn count_lane(&mut self, lane: Lane, direction: Direction, bytes: usize) {
        let ahead = &mut self.ahead[direction.index()];
        // At most a grant.
        let bytes = bytes as i64;
        match lane {
            Lane::Interactive => *ahead = ahead.saturating_add(bytes).min(FLOOR_DUE),
            Lane::Bulk if *ahead > 0 => *ahead -= bytes * (LANE_FLOOR - 1),
            Lane::Bulk => {}
        }
    }
}

/// Numbers those that have the same key, which stand together.
fn rank<K: PartialEq>(
    candidates: Vec<Candidate>,
    key: impl Fn(&Candidate) -> K,
) -> Vec<(usize, Candidate)> {
    let mut last: Option<(K, usize)> = None;
    let number = |candidate: Candidate| {
        let own = key(&candidate);
        let rank = match &last {
            Some((before, rank)) if *before == own => rank + 1,
            _ => 0,
        };
        last = Some((own, rank));
        (rank, candidate)
    };
    candidates.into_iter().map(number).collect()
}
