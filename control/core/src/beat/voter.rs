use std::sync::Arc;

use rap_events::beat::{Ballot, Proposal};
use rap_proto::{Digest, KeyId, Moment, PublicKey, beat::Beat};

use super::{
    Charter, Pace,
    ballot::{self, Own},
};

/// How many times within one beat's interval the ballot is looked at.
pub(super) const LOOKS_PER_BEAT: u32 = 5;
/// After how many intervals without a proposal a replica proposes that does not lead.
const PATIENCE: u32 = 3;

/// Everything that a replica read, all of it from the primary.
#[derive(Debug, Clone)]
pub struct Reading {
    /// When it asked.
    pub sent: Moment,
    pub ballot: Ballot,
    pub charter: Arc<Charter>,
    /// How far it folded the log, and the last denial that it folded.
    pub position: u64,
    pub deny_version: u64,
    /// Whether it leads, and so proposes first.
    pub leads: bool,
}

/// What the driver learned.
#[derive(Debug, Clone)]
pub enum Input {
    Read(Box<Reading>),
    /// The last proposal was stored, or another was there first.
    Proposed {
        stored: bool,
    },
    /// The last vote was stored, or this replica had voted before.
    Voted {
        stored: bool,
    },
    Signed,
    /// Nobody answered: what was asked for may have been done or not.
    Unanswered,
    /// Something changed that is worth a look: who leads, or which statement is valid.
    Woken,
}

/// What the driver does next. One at a time: each is answered before the next is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Read,
    Propose(Proposal),
    /// Store this key's vote; sign nothing yet.
    Vote {
        key: KeyId,
        sequence: u64,
        payload: Digest,
    },
    /// The vote is stored: sign these bytes with this key and add the signature to it.
    Sign {
        key: KeyId,
        sequence: u64,
        payload: Vec<u8>,
    },
}

/// A beat that a quorum signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub beat: Beat,
    /// As nodes are sent it.
    pub envelope: Vec<u8>,
    pub charter: Arc<Charter>,
    /// From here on it counts no more, by this replica's own clock.
    pub until: Moment,
}

impl Held {
    /// Whether nodes should hear of it before they ask by themselves. `before` is the beat that was
    /// published last, `missed` says that it is over: then nodes may be degraded for want of this
    /// one. The first beat of a replica that just started is no news: it takes up what was there.
    pub fn is_news(&self, before: Option<&Self>, missed: bool) -> bool {
        before.is_some_and(|before| {
            missed
                || before.beat.statement != self.beat.statement
                || before.beat.deny_version != self.beat.deny_version
        })
    }
}

/// One replica's part in the beat.
///
/// INVARIANT: it asks to sign nothing but what its stored vote names.
/// INVARIANT: it never votes for a sequence at or below one that it voted for, also when the
/// table forgot that.
#[derive(Debug)]
pub struct Voter {
    /// The keys that it can sign with: its own, and the control key, which all replicas hold.
    keys: [PublicKey; 2],
    pace: Pace,
    /// The greatest sequence that it voted for since it started.
    voted: u64,
    /// What was proposed and is being voted for.
    wanted: Option<(KeyId, Proposal)>,
    held: Option<Held>,
    effect: Option<Effect>,
    /// When the next look is due; `None` while something is under way.
    next: Option<Moment>,
    /// Woken while something was under way.
    woken: bool,
}

impl Voter {
    pub fn new(own: PublicKey, control: PublicKey, pace: Pace, now: Moment) -> Self {
        Self {
            keys: [own, control],
            pace,
            voted: 0,
            wanted: None,
            held: None,
            effect: None,
            next: Some(now),
            woken: false,
        }
    }

    /// The newest beat, as long as it counts.
    pub fn held(&self, now: Moment) -> Option<&Held> {
        self.held.as_ref().filter(|held| now < held.until)
    }

    pub fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Read(reading) => self.read(now, *reading),
            // Look again at once: what was stored is voted for, signed and counted next.
            Input::Proposed { stored: true } | Input::Signed => self.look(),
            Input::Voted { stored: true } => self.sign(now),
            Input::Proposed { stored: false } | Input::Voted { stored: false } => self.rest(now),
            Input::Unanswered => self.rest(now),
            Input::Woken => {
                self.woken = self.next.is_none();
                self.next = self.next.map(|next| next.min(now));
            }
        }
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        if self.next.is_some_and(|next| now >= next) {
            self.look();
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effect.take()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        self.next
    }

    fn read(&mut self, now: Moment, reading: Reading) {
        self.collect(&reading);
        let own = Own { position: reading.position, deny_version: reading.deny_version };
        let Reading { ballot, charter, leads, .. } = reading;
        if let Some(effect) = self.answer(&charter, own, &ballot) {
            return self.act(effect);
        }
        let sound = own.position <= ballot.head;
        let patience = if leads { self.pace.every } else { self.pace.every * PATIENCE };
        if sound && ballot::is_due(&charter, &ballot, patience) {
            return self.act(Effect::Propose(ballot::next(&charter, own, &ballot, self.pace)));
        }
        self.rest(now);
    }

    /// Holds the proposed beat when a quorum signed it. One that is held was verified: looking at it
    /// again tells how long it counts, and nothing about its signatures.
    fn collect(&mut self, reading: &Reading) {
        let known = self.held.as_ref().filter(|held| {
            held.charter.digest == reading.charter.digest
                && ballot::proposes(&reading.ballot, &held.beat)
        });
        let (beat, envelope) = match known {
            Some(held) => (held.beat.clone(), held.envelope.clone()),
            None => match ballot::agreed(&reading.charter, &reading.ballot) {
                Some((beat, envelope)) => (beat.into_inner(), envelope),
                None => return,
            },
        };
        // The database read its clock after the question was sent, so this ends too early if at
        // all.
        let left = beat.expires_at.since(reading.ballot.now).min(self.pace.valid);
        let until = reading.sent + left;
        let charter = Arc::clone(&reading.charter);
        self.held = Some(Held { beat, envelope, charter, until });
    }

    /// What this replica does about the proposal: vote for it, or sign what it voted for.
    fn answer(&mut self, charter: &Charter, own: Own, ballot: &Ballot) -> Option<Effect> {
        let proposal = ballot.proposal.as_ref()?;
        let key = self.keys.iter().find(|key| charter.statement.lists(key))?.id();
        if !ballot::may_sign(charter, own, ballot, proposal, self.pace) {
            return None;
        }
        let (sequence, payload) = (proposal.sequence, Digest::of(&proposal.payload));
        let vote = ballot.votes.iter().find(|vote| vote.replica == key);
        match vote {
            Some(vote) if vote.sequence > sequence => None,
            Some(vote) if vote.sequence == sequence => {
                self.voted = self.voted.max(sequence);
                let unsigned = vote.payload == payload && vote.signature.is_none();
                unsigned.then(|| Effect::Sign { key, sequence, payload: proposal.payload.clone() })
            }
            // The table forgot what this replica remembers: it votes for nothing twice.
            _ if sequence <= self.voted => None,
            _ => {
                self.voted = sequence;
                self.wanted = Some((key, proposal.clone()));
                Some(Effect::Vote { key, sequence, payload })
            }
        }
    }

    fn sign(&mut self, now: Moment) {
        match self.wanted.take() {
            Some((key, Proposal { sequence, payload })) => {
                self.act(Effect::Sign { key, sequence, payload });
            }
            None => self.rest(now),
        }
    }

    fn look(&mut self) {
        self.act(Effect::Read);
    }

    fn act(&mut self, effect: Effect) {
        self.next = None;
        self.effect = Some(effect);
    }

    fn rest(&mut self, now: Moment) {
        self.wanted = None;
        let woken = std::mem::take(&mut self.woken);
        self.next = Some(if woken { now } else { now + self.pace.every / LOOKS_PER_BEAT });
    }
}
