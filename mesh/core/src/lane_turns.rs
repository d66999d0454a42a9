//! Whose turn it is to forward, among all that one relay carries.
//!
//! Each direction of a flow is a **member**. It asks for a **turn** before it takes anything from its
//! socket, and ends the turn when what it took is the kernel's. Lanes are strict: a lower one has no
//! turn while a higher one has turns or waits for them, but for its floor. That is one byte in
//! [`LANE_FLOOR`](crate::shape::LANE_FLOOR), as the shaper has it, and where nothing passes at all, one
//! short turn in [`LONGEST_WAIT`]: whoever is stuck on a dead link stops nobody for ever. Who has more
//! to take when its turn is over asks for the next one with the same words, and nobody below is let in
//! between the two.
//!
//! With a rate, turns are given as the rate allows them, so what is too much waits here, where it
//! can be ordered. What a turn passes is known when it ends; until then it counts as
//! [`SHORT_TURN`]. Interactive members, and a floor that is due, may go into debt by as much: a key
//! does not wait for what bulk has taken already. Without a rate nothing is counted and a turn is
//! long.
//!
//! Members of one lane have their turns in the order in which they asked, and several of them at once.
//!
//! Inputs: members, their questions and ends, a rate. Effects: turns of those that had to wait. The
//! timer is when the rate allows the next turn, or somebody has waited for too long.

mod rate;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use rap_proto::{BitRate, Lane, Moment};

use crate::{flows::MAX_FLOWS, shape::LanesAhead};
use rate::Rate;

/// The most members: both directions of every flow.
pub const MAX_MEMBERS: usize = 2 * MAX_FLOWS;
/// Bytes of a turn where nobody has to be thought of.
pub const LONG_TURN: usize = 1024 * 1024;
/// Bytes of a turn that is a floor's, and of all where there is a rate.
pub const SHORT_TURN: usize = 64 * 1024;
/// How long a lane waits at most for one short turn, whatever is before it. With a rate, no longer
/// than until somebody's turn that the rate allows.
pub const LONGEST_WAIT: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(u64);

/// There are [`MAX_MEMBERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is the member's turn, for about so many bytes.
    Now(usize),
    /// An [`Effect`] follows.
    Later,
}

/// It is a member's turn that had to wait, for about so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    pub member: MemberId,
    pub bytes: usize,
}

/// INVARIANT: who waits or has a turn is counted in the line of its lane, and nobody else is.
#[derive(Debug, Default)]
pub struct LaneTurns {
    rate: Option<Rate>,
    ahead: LanesAhead,
    lines: [Line; 3],
    members: BTreeMap<MemberId, Member>,
    effects: VecDeque<Effect>,
    waits: u64,
    next_member: u64,
    next_ticket: u64,
}

#[derive(Debug, Default)]
struct Line {
    /// How many have their turns.
    taken: usize,
    /// In the order in which they asked.
    waiting: BTreeSet<(u64, MemberId)>,
    /// When its wait began, or when it had its last turn.
    since: Moment,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    lane: Lane,
    standing: Standing,
}

#[derive(Debug, Clone, Copy)]
enum Standing {
    Rests,
    Waits {
        ticket: u64,
    },
    /// So many bytes were counted before they passed.
    Forwards {
        charged: usize,
        /// Somebody was before it.
        is_floor: bool,
    },
}

impl LaneTurns {
    /// Keeps to this rate from now on, of all that is forwarded in both directions.
    pub fn apply(&mut self, now: Moment, rate: Option<BitRate>) {
        match (&mut self.rate, rate) {
            (Some(rate), Some(newer)) => rate.change(now, newer),
            (rate, newer) => *rate = newer.map(|newer| Rate::full(now, newer)),
        }
        self.serve(now);
    }

    pub fn join(&mut self, lane: Lane) -> Result<MemberId, Full> {
        if self.members.len() >= MAX_MEMBERS {
            return Err(Full);
        }
        let id = MemberId(self.next_member);
        self.next_member += 1;
        self.members.insert(id, Member { lane, standing: Standing::Rests });
        Ok(id)
    }

    pub fn leave(&mut self, now: Moment, id: MemberId) {
        self.end(now, id, 0);
        self.members.remove(&id);
    }

    /// Asks for a turn. A turn that the member has is over, and passed nothing.
    pub fn ask(&mut self, now: Moment, id: MemberId) -> Answer {
        self.again(now, id, 0)
    }

    /// A member's turn is over, in which it passed so many bytes, and it asks for the next one.
    pub fn again(&mut self, now: Moment, id: MemberId, bytes: usize) -> Answer {
        // Nobody below is let in before it asks.
        self.finish(now, id, bytes);
        let Some(lane) = self.members.get(&id).map(|member| member.lane) else {
            return Answer::Now(SHORT_TURN);
        };
        if self.rate.is_none() && !self.is_waiting() && self.is_nobody_before(lane) {
            // As nearly always.
            self.begin(id, 0, false);
            return Answer::Now(LONG_TURN);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.stand(id, Standing::Waits { ticket });
        let line = &mut self.lines[index(lane)];
        if line.waiting.is_empty() {
            line.since = now;
        }
        line.waiting.insert((ticket, id));
        self.serve(now);
        match self.effects.iter().position(|effect| effect.member == id) {
            Some(place) => {
                Answer::Now(self.effects.remove(place).map_or(SHORT_TURN, |effect| effect.bytes))
            }
            None => {
                self.waits += 1;
                Answer::Later
            }
        }
    }

    /// A member's turn is over, in which it passed so many bytes; or it waits for none any more.
    pub fn end(&mut self, now: Moment, id: MemberId, bytes: usize) {
        self.finish(now, id, bytes);
        self.serve(now);
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        self.serve(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        let waiting = Lane::ALL.iter().filter(|lane| !self.line(**lane).waiting.is_empty());
        let turns = waiting.map(|lane| {
            let goes_first = self.goes_first(*lane);
            let room = self.rate.as_ref().map_or_else(Moment::default, |it| it.room_at(goes_first));
            if goes_first || self.is_nobody_before(*lane) {
                room
            } else {
                room.max(self.line(*lane).since + LONGEST_WAIT)
            }
        });
        turns.min()
    }

    /// How often somebody had to wait for a turn.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    fn finish(&mut self, now: Moment, id: MemberId, bytes: usize) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let standing = std::mem::replace(&mut member.standing, Standing::Rests);
        let line = &mut self.lines[index(member.lane)];
        match standing {
            Standing::Rests => {}
            Standing::Waits { ticket } => {
                line.waiting.remove(&(ticket, id));
            }
            Standing::Forwards { charged, is_floor } => {
                line.taken -= 1;
                if is_floor {
                    self.ahead.count(member.lane, bytes);
                } else {
                    self.ahead.count_unhindered(member.lane, bytes);
                }
                // A turn from before there was a rate owes it nothing.
                if charged > 0
                    && let Some(rate) = &mut self.rate
                {
                    rate.settle(now, charged, bytes);
                }
                self.effects.retain(|effect| effect.member != id);
            }
        }
    }

    fn serve(&mut self, now: Moment) {
        while self.is_waiting()
            && let Some((lane, bytes)) = self.next(now)
        {
            let line = &mut self.lines[index(lane)];
            let Some((_, id)) = line.waiting.pop_first() else { return };
            line.since = now;
            let charged = self.rate.as_mut().map_or(0, |rate| rate.charge(now, bytes));
            let is_floor = !self.is_nobody_before(lane);
            self.begin(id, charged, is_floor);
            self.effects.push_back(Effect { member: id, bytes });
        }
    }

    fn begin(&mut self, id: MemberId, charged: usize, is_floor: bool) {
        if let Some(member) = self.stand(id, Standing::Forwards { charged, is_floor }) {
            self.lines[index(member.lane)].taken += 1;
        }
    }

    fn stand(&mut self, id: MemberId, standing: Standing) -> Option<Member> {
        let member = self.members.get_mut(&id)?;
        member.standing = standing;
        Some(*member)
    }

    fn is_waiting(&self) -> bool {
        self.lines.iter().any(|line| !line.waiting.is_empty())
    }

    /// The lane whose first may go now, and for how many bytes.
    fn next(&self, now: Moment) -> Option<(Lane, usize)> {
        let mut order = self.ahead.due().order().into_iter();
        order.find_map(|lane| {
            let line = self.line(lane);
            let goes_first = self.goes_first(lane);
            let room = self.rate.as_ref().is_none_or(|it| it.room_at(goes_first) <= now);
            if line.waiting.is_empty() || !room {
                None
            } else if self.is_nobody_before(lane) {
                Some((lane, if self.rate.is_some() { SHORT_TURN } else { LONG_TURN }))
            } else if goes_first || now >= line.since + LONGEST_WAIT {
                Some((lane, SHORT_TURN))
            } else {
                None
            }
        })
    }

    /// Whether a lane is the highest, or its floor is due and nobody has it yet.
    fn goes_first(&self, lane: Lane) -> bool {
        let floor_is_due = self.ahead.due().is_due(lane) && self.line(lane).taken == 0;
        lane == Lane::Interactive || floor_is_due
    }

    fn is_nobody_before(&self, lane: Lane) -> bool {
        let before = &self.lines[..index(lane)];
        before.iter().all(|line| line.taken == 0 && line.waiting.is_empty())
    }

    fn line(&self, lane: Lane) -> &Line {
        &self.lines[index(lane)]
    }
}

/// The place of a lane, the highest first.
const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Interactive => 0,
        Lane::Media => 1,
        Lane::Bulk => 2,
    }
}
