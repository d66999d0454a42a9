//! The primary: one log, one table of votes, one calendar, and failovers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rap_control_core::beat::Charter;
use rap_events::beat::{Ballot, Proposal, Vote};
use rap_proto::{
    KeyId, Moment,
    beat::{Beat, EpochStatement},
    codec,
    signed::Payload as _,
};

use crate::kit::{Chance, keys, primary::Primary};

use super::{
    clock::Calendar,
    message::{Entry, Op, Reply},
    mutation::Mutation,
};

/// How far back a standby that is not synchronous may be.
pub const KEPT: Duration = Duration::from_secs(6);

#[derive(Debug, Clone)]
pub struct Rows {
    log: Vec<Entry>,
    proposal: Option<Proposal>,
    votes: BTreeMap<KeyId, Vote>,
}

pub struct Database {
    pub calendar: Calendar,
    pub primary: Primary<Rows>,
    /// The greatest position that ever was, and the last statement, also when they were lost.
    highest: u64,
    stated: Arc<Charter>,
}

impl Database {
    /// `forgets` says that failovers may lose what was written last.
    pub fn new(forgets: bool, chance: &mut Chance) -> Self {
        let stated = Arc::new(Charter::new(keys::statement(), keys::control()));
        let log = vec![Entry::Stated(Arc::clone(&stated))];
        let highest = log.len() as u64;
        let rows = Rows { log, proposal: None, votes: BTreeMap::new() };
        let behind = if forgets { KEPT } else { Duration::ZERO };
        let calendar = Calendar::draw(chance);
        Self { calendar, primary: Primary::new(rows, behind), highest, stated }
    }

    pub fn append(&mut self, now: Moment, entry: Entry) {
        self.primary.change(now).log.push(entry);
        self.highest = self.highest.max(self.head());
    }

    /// Makes the statement behind the last one valid, of the same epoch or of the next.
    pub fn restate(&mut self, now: Moment, promoted: bool) {
        let last = &self.stated.statement;
        let next = self.stated.followed_by(last.replicas.clone());
        let next = EpochStatement { epoch: last.epoch + u64::from(promoted), ..next };
        self.stated = Arc::new(Charter::new(next, keys::control()));
        self.append(now, Entry::Stated(Arc::clone(&self.stated)));
    }

    /// Another server takes over, with what was stored up to `lost` ago.
    pub fn fail_over(&mut self, now: Moment, lost: Duration, chance: &mut Chance) {
        self.primary.fail_over(now, lost);
        self.calendar = Calendar::draw(chance);
    }

    /// People do again what was lost: the log is as long as it ever was, and behind that stand a
    /// denial and a statement.
    pub fn make_good(&mut self, now: Moment) {
        while self.head() < self.highest {
            self.append(now, Entry::Other);
        }
        self.append(now, Entry::Denial);
        self.restate(now, false);
    }

    /// Somebody with access to the table puts another beat of the same sequence there.
    pub fn put_a_rival(&mut self, now: Moment) -> bool {
        let Some(proposal) = &self.primary.rows.proposal else { return false };
        let Ok(mut beat) = codec::decode::<Beat>(&proposal.payload, Beat::MAX_BYTES) else {
            return false;
        };
        let sequence = proposal.sequence;
        beat.snapshot_floor = beat.snapshot_floor.saturating_sub(1);
        self.primary.change(now).proposal =
            Some(Proposal { sequence, payload: codec::encode(&beat) });
        true
    }

    /// As if this replica's vote had never been stored.
    pub fn forget_vote(&mut self, replica: KeyId) {
        self.primary.rows.votes.remove(&replica);
    }

    pub fn perform(&mut self, now: Moment, op: Op, mutation: Option<Mutation>) -> Reply {
        match op {
            Op::Read => Reply::Ballot(Box::new(Ballot {
                now: self.calendar.show(now),
                head: self.head(),
                proposal: self.primary.rows.proposal.clone(),
                votes: self.primary.rows.votes.values().copied().collect(),
            })),
            Op::Propose(proposal) => Reply::Proposed(self.propose(now, proposal)),
            Op::Vote { replica, sequence, payload } => {
                let vote = Vote { replica, sequence, payload, signature: None };
                Reply::Voted(self.vote(now, vote, mutation))
            }
            Op::Sign { replica, sequence, payload, signature } => {
                let vote = Vote { replica, sequence, payload, signature: Some(signature) };
                Reply::Signed(self.sign(now, vote))
            }
            Op::Tail { after } => {
                let entries =
                    (1..).zip(&self.primary.rows.log).filter(|(position, _)| *position > after);
                let entries = entries.map(|(position, entry)| (position, entry.clone())).collect();
                Reply::Tail { after, head: self.head(), entries }
            }
        }
    }

    fn propose(&mut self, now: Moment, proposal: Proposal) -> bool {
        let held = self.primary.rows.proposal.as_ref();
        let newer = held.is_none_or(|held| held.sequence < proposal.sequence);
        if newer {
            self.primary.change(now).proposal = Some(proposal);
        }
        newer
    }

    fn vote(&mut self, now: Moment, vote: Vote, mutation: Option<Mutation>) -> bool {
        let held = self.primary.rows.votes.get(&vote.replica);
        let again = mutation == Some(Mutation::SequenceReused);
        let newer = held.is_none_or(|held| {
            held.sequence < vote.sequence || (again && held.sequence == vote.sequence)
        });
        if newer {
            self.primary.change(now).votes.insert(vote.replica, vote);
        }
        newer
    }

    fn sign(&mut self, now: Moment, vote: Vote) -> bool {
        let held = self.primary.rows.votes.get(&vote.replica);
        let found =
            held.is_some_and(|held| (held.sequence, held.payload) == (vote.sequence, vote.payload));
        if found {
            self.primary.change(now).votes.insert(vote.replica, vote);
        }
        found
    }

    fn head(&self) -> u64 {
        self.primary.rows.log.len() as u64
    }
}
