//! The projections folded anew from the first event, beside the living ones, until the two are
//! exchanged at one position.
//!
//! The driver reads, copies, holds the living state, exchanges and compares; this says what it does
//! next. One effect at a time: each is answered before the next is given.
//!
//! ```text
//! folding ──near──▶ copying ──▶ following ──near──▶ holding ──▶ held ──same position──▶ comparing ──▶ over
//!                                    ▲                            │
//!                                    └──── one read is too little ┘
//! ```
//!
//! - It rests after each read as long as the read took, so that the database and whoever folds are
//!   left to others for half of the time.
//! - What takes long of a large state is copied and compared where nobody waits for it.
//! - The living state is held for one read at most, and between two of its batches.
//! - It is compared after the exchange: which of the two is served does not hang on the outcome, and
//!   a state that is served no more holds up nobody.

mod outcome;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rap_events::Envelope;
use rap_proto::Moment;

pub use outcome::*;

use crate::State;

/// The most events of one read, and the most by which the two are apart when the living one is held.
pub const MAX_BATCH: u64 = 512;
/// How many reads in a row may fail before the rebuild is given up.
pub const MAX_FAILED_READS: u32 = 20;
/// How often the living state is held for nothing before the rebuild is given up: others wait each
/// time.
pub const MAX_VAIN_HOLDS: u32 = 20;
/// How long to wait after a read that failed.
pub const RETRY_DELAY: Duration = Duration::from_millis(500);
/// The longest rest between two reads.
pub const MAX_REST: Duration = Duration::from_millis(100);
/// How long a read may take, and one that the living state is held for.
pub const READ_PATIENCE: Duration = Duration::from_secs(30);
pub const HELD_PATIENCE: Duration = Duration::from_secs(1);
/// Two take turns in being served, and one is compared.
pub const COPIES: usize = 3;

/// What the driver learned.
#[derive(Debug)]
pub enum Input {
    /// The events that were asked for.
    Read {
        events: Vec<Envelope>,
        /// The first position from which on the log's tree commits to something else.
        altered: Option<u64>,
        /// How far the living state is.
        living: u64,
    },
    /// The log did not answer in time, or not at all.
    Unread,
    Copied(Box<[State; COPIES]>),
    /// The living state is held at this position.
    Held {
        living: u64,
    },
    Exchanged,
    /// The projections in which the replaced state was another one, by name.
    Compared {
        differing: Vec<&'static str>,
    },
    /// Nothing is built upon this log any more.
    Refuted,
}

/// What the driver does next.
#[derive(Debug)]
pub enum Effect {
    /// Read at most `limit` events behind `after`.
    Read { after: u64, limit: usize, patience: Duration },
    /// Copy the state where nobody waits for it.
    Copy(Box<State>),
    /// Let nobody fold the living state on.
    Hold,
    /// Let it be folded on.
    LetGo,
    /// Put these two in the place of the living state, and let them be folded on.
    Exchange { published: Box<State>, spare: Box<State> },
    /// Compare the state that was replaced with this one, where nobody waits for it.
    Compare(Box<State>),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The last position that was folded.
    pub position: u64,
    /// How far the living state was when it was looked at last.
    pub living: u64,
    /// Whether the rebuilt state is the living one by now.
    pub exchanged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Folding,
    Copying,
    Following,
    Holding,
    Held,
    Exchanging,
    Comparing,
    Over,
}

/// One rebuild, from the first event to its outcome.
#[derive(Debug)]
pub struct Rebuild {
    stage: Stage,
    /// One while the log is folded, [`COPIES`] of it later.
    states: Vec<State>,
    position: u64,
    living: u64,
    effect: Option<Effect>,
    /// When the next read is due.
    next: Option<Moment>,
    /// When the last one was asked for.
    asked: Moment,
    failed_reads: u32,
    /// How often the living state was let go again.
    vain_holds: u32,
    outcome: Option<Outcome>,
}

impl Rebuild {
    /// Begins, while the living state is at `living`.
    pub fn new(now: Moment, living: u64) -> Self {
        let mut begun = Self {
            stage: Stage::Folding,
            states: vec![State::default()],
            position: 0,
            living,
            effect: None,
            next: None,
            asked: now,
            failed_reads: 0,
            vain_holds: 0,
            outcome: None,
        };
        begun.go_on(now);
        begun
    }

    pub fn progress(&self) -> Progress {
        let exchanged = matches!(self.stage, Stage::Comparing)
            || self.outcome.as_ref().is_some_and(Outcome::is_taken);
        Progress { position: self.position, living: self.living, exchanged }
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    pub fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Read { altered: Some(position), .. } => self.end(Outcome::Altered { position }),
            Input::Read { events, living, .. } => self.read(now, &events, living),
            Input::Unread => self.unread(now),
            Input::Copied(states) => {
                self.states = (*states).into();
                self.stage = Stage::Following;
                self.go_on(now);
            }
            Input::Held { living } => {
                self.living = living;
                self.stage = Stage::Held;
                if self.is_near() { self.meet(now) } else { self.let_go(now) }
            }
            Input::Exchanged => {
                self.stage = Stage::Comparing;
                self.effect = self.states.pop().map(|state| Effect::Compare(Box::new(state)));
            }
            Input::Compared { differing } if differing.is_empty() => {
                self.end(Outcome::Same { position: self.position });
            }
            Input::Compared { differing } => {
                let position = self.position;
                self.end(Outcome::Differed { position, projections: differing });
            }
            Input::Refuted => self.end(Outcome::Refuted),
        }
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = None;
        self.ask(now, READ_PATIENCE);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effect.take()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        self.next
    }

    fn read(&mut self, now: Moment, events: &[Envelope], living: u64) {
        // What the living state has folded must be in the log.
        let Some(last) = events.last() else { return self.unread(now) };
        for state in &mut self.states {
            if let Err(corrupt) = events.iter().try_for_each(|event| state.fold(event)) {
                return self.end(Outcome::Corrupt(corrupt));
            }
        }
        self.failed_reads = 0;
        self.position = last.position;
        if self.stage == Stage::Held {
            return if self.position == self.living { self.exchange() } else { self.let_go(now) };
        }
        self.living = self.living.max(living);
        self.go_on(now);
    }

    fn unread(&mut self, now: Moment) {
        self.failed_reads += 1;
        if self.failed_reads > MAX_FAILED_READS {
            return self.end(Outcome::Unread);
        }
        if self.stage == Stage::Held {
            self.let_go(now);
        }
        self.next = Some(now + RETRY_DELAY);
    }

    /// On to the next read, or to what comes when the living state is near.
    fn go_on(&mut self, now: Moment) {
        match self.stage {
            Stage::Folding if self.is_near() => {
                self.stage = Stage::Copying;
                self.effect = self.states.pop().map(|state| Effect::Copy(Box::new(state)));
            }
            // What was appended while it was copied is little: whoever rested could fall behind.
            Stage::Following if self.is_near() => {
                self.stage = Stage::Holding;
                self.effect = Some(Effect::Hold);
            }
            Stage::Following => self.next = Some(now),
            _ => self.next = Some(now + now.since(self.asked).min(MAX_REST)),
        }
    }

    /// One read brings both to the same position.
    fn is_near(&self) -> bool {
        self.living - self.position <= MAX_BATCH
    }

    fn meet(&mut self, now: Moment) {
        if self.position == self.living { self.exchange() } else { self.ask(now, HELD_PATIENCE) }
    }

    fn ask(&mut self, now: Moment, patience: Duration) {
        self.asked = now;
        // No further than the living state: both have to be at one position in the end.
        let room = (self.living - self.position).min(MAX_BATCH);
        let limit = usize::try_from(room).unwrap_or(usize::MAX);
        self.effect = Some(Effect::Read { after: self.position, limit, patience });
    }

    fn exchange(&mut self) {
        self.stage = Stage::Exchanging;
        if let (Some(published), Some(spare)) = (self.states.pop(), self.states.pop()) {
            let (published, spare) = (Box::new(published), Box::new(spare));
            self.effect = Some(Effect::Exchange { published, spare });
        }
    }

    fn let_go(&mut self, now: Moment) {
        self.vain_holds += 1;
        if self.vain_holds > MAX_VAIN_HOLDS {
            return self.end(Outcome::Unread);
        }
        self.stage = Stage::Following;
        self.effect = Some(Effect::LetGo);
        self.next = Some(now + MAX_REST);
    }

    fn end(&mut self, outcome: Outcome) {
        self.stage = Stage::Over;
        self.states.clear();
        self.next = None;
        self.outcome = Some(outcome);
    }
}
