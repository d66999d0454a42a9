//! A replica of control: the shell of one voter, what it folded, and what it tells nodes.

use std::{sync::Arc, time::Duration};

use rap_control_core::beat::{Charter, Effect, Held, Input, Pace, Reading, Voter};
use rap_events::beat::{Ballot, Vote};
use rap_proto::{
    Digest, Moment, Signer as _,
    beat::{Beat, majority},
    codec,
    signed::{self, Payload as _},
    wire::node_api::BeatReply,
};

use crate::kit::{Chance, keys, process::Process};

use super::{
    coverage,
    message::{Ask, Call, Down, Entry, Op, Out, Reply, Turn},
    mutation::Mutation,
};

/// How long one answer of the primary is waited for.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How often a replica asks for what the log has grown by.
const TAIL_EVERY: Duration = Duration::from_secs(1);
/// More effects in one turn: the machine keeps itself busy.
const MAX_EFFECTS: usize = 100;

/// What comes to a replica. While it stands still, it waits.
#[derive(Debug, Clone)]
pub enum Happening {
    Asked {
        node: usize,
        ask: Ask,
    },
    Reply {
        call: Call,
        reply: Reply,
    },
    Leading(bool),
    /// Fold the log from its beginning.
    Refold,
}

pub struct SimReplica {
    pub process: Process<Happening>,
    pub leading: bool,
    fold: Fold,
    /// There is none before the log was folded.
    voter: Option<Voter>,
    /// What the primary was asked last, and until when its answer counts.
    asked: Option<(u64, Moment, Asked)>,
    calls: u64,
    tail_at: Moment,
    /// The newest beat that it held, which it tells nodes.
    last: Option<Held>,
    /// Whether this run has voted, for a planted bug.
    has_voted: bool,
}

/// What this replica folded of the log.
#[derive(Debug, Clone)]
struct Fold {
    position: u64,
    deny_version: u64,
    charter: Option<Arc<Charter>>,
}

/// What waits for an answer.
enum Asked {
    Ballot { sent: Moment, fold: Fold },
    Other,
}

impl SimReplica {
    pub fn new(index: usize, seed: u64) -> Self {
        Self {
            process: Process::new(index, Chance::new(seed, 200 + index as u64)),
            leading: false,
            fold: Fold::nothing(),
            voter: None,
            asked: None,
            calls: 0,
            tail_at: Moment::default(),
            last: None,
            has_voted: false,
        }
    }

    pub fn boot(&mut self, turn: &mut Turn<'_>) {
        self.process.boot();
        self.has_voted = false;
        turn.checkers.read(self.process.index, 0);
        self.tail(turn);
    }

    pub fn crash(&mut self, turn: &mut Turn<'_>) {
        turn.note(format_args!("replica {} crashes", self.process.index));
        self.process.crash();
        self.leading = false;
        self.fold = Fold::nothing();
        self.voter = None;
        self.asked = None;
        self.last = None;
    }

    pub fn handle(&mut self, turn: &mut Turn<'_>, happening: Happening) {
        if let Some(happening) = self.process.receive(happening) {
            self.take_in(turn, happening);
            self.drain_effects(turn);
        }
    }

    pub fn resume(&mut self, turn: &mut Turn<'_>) {
        self.process.resume();
        for happening in self.process.waiting() {
            self.handle(turn, happening);
        }
    }

    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        if !self.process.works() {
            return;
        }
        let now = self.process.time(turn.now);
        if now >= self.tail_at {
            self.tail(turn);
        }
        let late = self.asked.as_ref().is_some_and(|(_, until, _)| now >= *until);
        if let Some(voter) = &mut self.voter {
            if late {
                self.asked = None;
                voter.handle_input(now, Input::Unanswered);
            }
            voter.handle_timeout(now);
        }
        self.drain_effects(turn);
    }

    pub fn timeout(&self) -> Option<Moment> {
        if !self.process.works() {
            return None;
        }
        let answer = self.asked.as_ref().map(|(_, until, _)| *until);
        let voter = self.voter.as_ref().and_then(Voter::poll_timeout);
        [Some(self.tail_at), answer, voter].into_iter().flatten().min()
    }

    /// The beat that it acts upon at this moment of true time.
    pub fn held(&self, now: Moment) -> Option<&Held> {
        self.voter.as_ref().filter(|_| !self.process.is_paused())?.held(self.process.time(now))
    }

    fn take_in(&mut self, turn: &mut Turn<'_>, happening: Happening) {
        let now = self.process.time(turn.now);
        match happening {
            Happening::Asked { node, ask } => {
                let (incarnation, reply) = (ask.incarnation, self.tell(&ask));
                turn.out.push(Out::Down { node, down: Down::Answer { incarnation, reply } });
            }
            Happening::Reply { call, .. } if call.boot != self.process.boot => {}
            Happening::Reply { reply: Reply::Tail { after, head, entries }, .. } => {
                self.follow(turn, after, head, entries);
            }
            Happening::Reply { call, reply } => {
                if self.asked.as_ref().is_some_and(|(number, ..)| *number == call.number) {
                    let (_, _, asked) = self.asked.take().expect("it was asked");
                    self.answered(turn, asked, reply);
                }
            }
            Happening::Leading(leading) => {
                self.leading = leading;
                if let Some(voter) = &mut self.voter {
                    voter.handle_input(now, Input::Woken);
                }
            }
            Happening::Refold => {
                self.fold = Fold::nothing();
                self.tail(turn);
            }
        }
    }

    /// As the node API answers: the newest beat, also when it is over.
    fn tell(&self, ask: &Ask) -> BeatReply {
        let Some(held) = &self.last else {
            return BeatReply { records_changes: true, ..BeatReply::default() };
        };
        let known = ask.request.statement == Some(held.charter.digest);
        let statement = if known { Vec::new() } else { held.charter.signed.clone() };
        let beat = held.envelope.clone();
        BeatReply { statement, beat, records_changes: true, servers: Vec::new() }
    }

    fn tail(&mut self, turn: &mut Turn<'_>) {
        self.tail_at = self.process.time(turn.now) + TAIL_EVERY;
        let call = Call { boot: self.process.boot, number: 0 };
        turn.out.push(Out::Op { call, op: Op::Tail { after: self.fold.position } });
    }

    fn follow(&mut self, turn: &Turn<'_>, after: u64, head: u64, entries: Vec<(u64, Entry)>) {
        if after != self.fold.position || head < after {
            return;
        }
        for (position, entry) in entries {
            match entry {
                Entry::Other => {}
                Entry::Denial => self.fold.deny_version = position,
                Entry::Stated(charter) => self.fold.charter = Some(charter),
            }
        }
        self.fold.position = head;
        if self.voter.is_none() {
            let own = keys::replica(self.process.index).public_key();
            let (control, now) = (keys::control().public_key(), self.process.time(turn.now));
            self.voter = Some(Voter::new(own, control, Pace::default(), now));
        }
    }

    fn answered(&mut self, turn: &mut Turn<'_>, asked: Asked, reply: Reply) {
        let now = self.process.time(turn.now);
        let input = match (asked, reply) {
            (Asked::Ballot { sent, mut fold }, Reply::Ballot(mut ballot)) => {
                self.distort(turn, &mut fold, &mut ballot);
                self.reading(sent, fold, *ballot)
            }
            (Asked::Other, Reply::Proposed(stored)) => Input::Proposed { stored },
            (Asked::Other, Reply::Voted(stored)) => Input::Voted { stored },
            (Asked::Other, Reply::Signed(true)) => Input::Signed,
            _ => Input::Unanswered,
        };
        if let Some(voter) = &mut self.voter {
            voter.handle_input(now, input);
        }
        self.publish(turn);
    }

    fn reading(&self, sent: Moment, fold: Fold, ballot: Ballot) -> Input {
        let Fold { position, deny_version, charter } = fold;
        // Without one nothing was folded yet.
        let Some(charter) = charter else { return Input::Unanswered };
        let leads = self.leading;
        Input::Read(Box::new(Reading { sent, ballot, charter, position, deny_version, leads }))
    }

    /// What a shell with a planted bug makes of what it read.
    fn distort(&self, turn: &Turn<'_>, fold: &mut Fold, ballot: &mut Ballot) {
        match turn.mutation {
            Some(Mutation::UnreadSigned) => {
                let proposed = ballot.proposal.as_ref();
                let beat = proposed.and_then(|last| decode(&last.payload));
                if let Some(beat) = beat.filter(|beat| beat.snapshot_floor > fold.position) {
                    fold.position = beat.snapshot_floor;
                    fold.deny_version = beat.deny_version;
                    ballot.head = ballot.head.max(fold.position);
                }
            }
            Some(Mutation::SequenceReused) if !self.has_voted => {
                let own = keys::replica(self.process.index).public_key().id();
                ballot.votes.retain(|vote| vote.replica != own);
            }
            Some(Mutation::QuorumOfLess) => add_what_lacks(ballot),
            _ => {}
        }
    }

    /// Tells whoever asks of a newer beat, and rings when there was none for a while.
    fn publish(&mut self, turn: &mut Turn<'_>) {
        let now = self.process.time(turn.now);
        let Some(held) = self.voter.as_ref().and_then(|voter| voter.held(now)) else { return };
        let known = self.last.as_ref().map(|last| (last.beat.sequence, last.until));
        if known == Some((held.beat.sequence, held.until)) {
            return;
        }
        let missed = self.last.as_ref().is_none_or(|last| now >= last.until);
        let newer = known.is_none_or(|(sequence, _)| sequence != held.beat.sequence);
        if newer {
            turn.coverage.count(coverage::REPLICAS, "hold a beat");
            turn.checkers.holds(self.process.index, &held.beat);
            let sequence = held.beat.sequence;
            turn.note(format_args!("replica {} holds beat {sequence}", self.process.index));
            if missed && self.leading {
                turn.out.push(Out::Ring { sequence });
            }
        }
        self.last = Some(held.clone());
    }

    fn drain_effects(&mut self, turn: &mut Turn<'_>) {
        let mut effects = 0;
        while let Some(effect) = self.voter.as_mut().and_then(Voter::poll_effect) {
            effects += 1;
            assert!(effects < MAX_EFFECTS, "replica {} is busy with itself", self.process.index);
            self.perform(turn, effect);
        }
    }

    fn perform(&mut self, turn: &mut Turn<'_>, effect: Effect) {
        let now = self.process.time(turn.now);
        let (op, asked) = match effect {
            Effect::Read => (Op::Read, Asked::Ballot { sent: now, fold: self.fold.clone() }),
            Effect::Propose(proposal) => {
                turn.coverage.count(coverage::REPLICAS, "propose");
                let sequence = proposal.sequence;
                turn.note(format_args!("replica {} proposes beat {sequence}", self.process.index));
                (Op::Propose(proposal), Asked::Other)
            }
            Effect::Vote { key, sequence, payload } => {
                turn.coverage.count(coverage::REPLICAS, "vote");
                self.has_voted = true;
                (Op::Vote { replica: key, sequence, payload }, Asked::Other)
            }
            Effect::Sign { key, sequence, payload } => {
                turn.coverage.count(coverage::REPLICAS, "sign");
                turn.note(format_args!("replica {} signs beat {sequence}", self.process.index));
                // The database may store it whatever becomes of this replica.
                turn.checkers.signed(turn.now, self.process.index, &payload, true);
                let signature = signed::sign::<Beat>(&payload, keys::replica(self.process.index));
                let payload = Digest::of(&payload);
                (Op::Sign { replica: key, sequence, payload, signature }, Asked::Other)
            }
        };
        self.calls += 1;
        self.asked = Some((self.calls, now + ANSWER_DEADLINE, asked));
        let call = Call { boot: self.process.boot, number: self.calls };
        turn.out.push(Out::Op { call, op });
    }
}

impl Fold {
    fn nothing() -> Self {
        Self { position: 0, deny_version: 0, charter: None }
    }
}

/// Where one signature lacks, forges it: whoever then counts the signatures finds a quorum.
fn add_what_lacks(ballot: &mut Ballot) {
    let Some(proposal) = &ballot.proposal else { return };
    let payload = Digest::of(&proposal.payload);
    let signers: Vec<_> = ballot
        .votes
        .iter()
        .filter(|vote| vote.payload == payload && vote.signature.is_some())
        .map(|vote| vote.replica)
        .collect();
    if signers.len() + 1 != majority(keys::REPLICAS) as usize {
        return;
    }
    let all = (0..keys::REPLICAS).map(keys::replica);
    let mut missing = all.filter(|key| !signers.contains(&key.public_key().id()));
    let Some(key) = missing.next_back() else { return };
    let replica = key.public_key().id();
    let signature = Some(signed::sign::<Beat>(&proposal.payload, key));
    ballot.votes.retain(|vote| vote.replica != replica);
    ballot.votes.push(Vote { replica, sequence: proposal.sequence, payload, signature });
}

fn decode(payload: &[u8]) -> Option<Beat> {
    codec::decode(payload, Beat::MAX_BYTES).ok()
}
