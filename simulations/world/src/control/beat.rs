//! The authority beat of this replica: the real voter over the table beside the log.

use std::sync::Arc;

use rap_control_core::beat::{Charter, Effect, Held, Input, Pace, Reading, Voter};
use rap_events::{
    authority::{Authority, AuthorityCommand},
    beat::{Ballot, BeatTable},
};
use rap_proto::{
    Digest, Moment, NodeId, PublicKey, Signer as _,
    beat::{Beat, EpochStatement, FIRST_AUTHORITY_EPOCH, majority},
    signed,
    wire::node_api::{BeatReply, BeatRequest},
};

use super::{Control, MAX_ROUNDS, at_once};
use crate::{cast, kit::keys, message::Message, network::Party, turn::Turn};

/// The table beside the log, as far as a replica reaches it.
pub trait Ballots: BeatTable {
    /// Whether what it asks arrives, also when no answer comes.
    fn is_reached(&self) -> bool;
}

/// What a crash takes away.
pub(super) struct Keeper {
    voter: Voter,
    /// The newest beat that it held, which it tells nodes.
    last: Option<Held>,
}

impl Keeper {
    pub(super) fn new(index: usize, control: PublicKey, now: Moment) -> Self {
        let own = keys::replica(index).public_key();
        Self { voter: Voter::new(own, control, Pace::default(), now), last: None }
    }

    pub(super) fn timeout(&self) -> Option<Moment> {
        self.voter.poll_timeout()
    }
}

impl Control {
    /// From the first start on, these many replicas make beats.
    pub fn make_beats(&mut self, now: Moment, replicas: usize) {
        let statement = EpochStatement {
            cluster: cast::CLUSTER,
            epoch: FIRST_AUTHORITY_EPOCH,
            revision: 1,
            threshold: majority(replicas),
            replicas: (0..replicas).map(|index| keys::replica(index).public_key()).collect(),
            previous: None,
        };
        let signed = signed::seal(&statement, &[&*self.key]).into();
        let state = AuthorityCommand::State { statement, signed };
        self.run::<Authority>(now, cast::CLUSTER.uuid(), state).expect("a fresh log");
    }

    /// The beat that it acts upon.
    pub fn held(&self, now: Moment) -> Option<&Held> {
        self.running.as_ref()?.keeper.as_ref()?.voter.held(now)
    }

    /// Whether it makes beats and holds none.
    pub(super) fn lacks_a_beat(&self, now: Moment) -> bool {
        let keeper = self.running.as_ref().and_then(|running| running.keeper.as_ref());
        keeper.is_some_and(|keeper| keeper.voter.held(now).is_none())
    }

    /// Looks, votes, signs and proposes, as far as that is due.
    pub(super) fn vote(&mut self, turn: &mut Turn<'_>) {
        if self.is_halted() {
            return;
        }
        for _ in 0..MAX_ROUNDS {
            let Some(keeper) = self.keeper() else { return };
            keeper.voter.handle_timeout(turn.moment);
            let Some(effect) = keeper.voter.poll_effect() else { break };
            let input = self.take_part(turn, effect).unwrap_or(Input::Unanswered);
            if let Some(keeper) = self.keeper() {
                keeper.voter.handle_input(turn.moment, input);
            }
        }
        self.publish(turn);
    }

    /// As the node API answers: the newest beat, also when it is over.
    pub(super) fn tell_beat(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        call: u64,
        request: &BeatRequest,
    ) {
        let Some(place) = self.places.get(&node).copied() else { return };
        let last = self.keeper().and_then(|keeper| keeper.last.as_ref());
        let reply = match last {
            None => BeatReply { records_changes: true, ..BeatReply::default() },
            Some(held) => {
                let known = request.statement == Some(held.charter.digest);
                let statement = if known { Vec::new() } else { held.charter.signed.clone() };
                let beat = held.envelope.clone();
                BeatReply { statement, beat, records_changes: true, servers: Vec::new() }
            }
        };
        turn.send(Party::Node(place), Message::Beat { call, reply });
    }

    fn keeper(&mut self) -> Option<&mut Keeper> {
        self.running.as_mut()?.keeper.as_mut()
    }

    /// None when nobody answers.
    fn take_part(&mut self, turn: &mut Turn<'_>, effect: Effect) -> Option<Input> {
        Some(match effect {
            Effect::Read => {
                let ballot = at_once(self.beats.as_ref()?.read_ballot()).ok()?;
                Input::Read(Box::new(self.reading(turn, ballot)?))
            }
            Effect::Propose(proposal) => {
                let sequence = proposal.sequence;
                turn.note(format_args!("replica {} proposes beat {sequence}", self.index));
                Input::Proposed { stored: at_once(self.beats.as_ref()?.propose(proposal)).ok()? }
            }
            Effect::Vote { key, sequence, payload } => {
                let stored = self.beats.as_ref()?.vote(key, sequence, payload);
                Input::Voted { stored: at_once(stored).ok()? }
            }
            Effect::Sign { key, sequence, payload } => {
                turn.coverage.count("beats", "sign");
                let signature = signed::sign::<Beat>(&payload, keys::replica(self.index));
                let (table, digest) = (self.beats.as_ref()?, Digest::of(&payload));
                let outcome = at_once(table.sign(key, sequence, digest, signature));
                // What arrived is stored also when nobody hears of it.
                let stored = *outcome.as_ref().unwrap_or(&table.is_reached());
                turn.checkers.beat.signed(turn.now, self.index, &payload, stored);
                outcome.ok()?.then_some(Input::Signed)?
            }
        })
    }

    fn reading(&self, turn: &Turn<'_>, ballot: Ballot) -> Option<Reading> {
        let state = self.state()?;
        Some(Reading {
            sent: turn.moment,
            ballot,
            charter: Arc::new(Charter::of(state, cast::CLUSTER, &*self.key)),
            position: state.position(),
            deny_version: state.authority().deny_version,
            leads: self.leads(turn).is_some(),
        })
    }

    /// Tells whoever asks of a newer beat.
    fn publish(&mut self, turn: &mut Turn<'_>) {
        let (index, now) = (self.index, turn.moment);
        let Some(keeper) = self.keeper() else { return };
        let Some(held) = keeper.voter.held(now) else { return };
        if keeper.last.as_ref().is_none_or(|last| last.beat.sequence != held.beat.sequence) {
            turn.coverage.count("beats", "hold");
            turn.checkers.beat.holds(index, &held.beat);
            turn.note(format_args!("replica {index} holds beat {}", held.beat.sequence));
        }
        keeper.last = Some(held.clone());
    }
}
