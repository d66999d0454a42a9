//! One party's turn: what it may look at, and what it leaves behind. A party touches nothing of
//! another's; everything goes through the world.

use std::{fmt::Arguments, time::Duration};

use rap_proto::{Moment, Timestamp};

use crate::{
    checkers::Checkers,
    kit::{Coverage, Trace, Violation, clock::START},
    message::Message,
    mutation::Mutation,
    network::{Carriage, Party},
};

/// Calendar time, as an exact clock shows it.
pub fn calendar(now: Moment) -> Timestamp {
    START + Duration::from_micros(now.micros())
}

/// A message that leaves its sender.
#[derive(Debug)]
pub struct Sent {
    pub to: Party,
    pub message: Message,
    pub carriage: Carriage,
}

pub struct Turn<'a> {
    /// True time, by which calendars run.
    pub now: Moment,
    /// What the party's own clock shows, by which its machines run.
    pub moment: Moment,
    pub mutation: Option<Mutation>,
    pub checkers: &'a mut Checkers,
    pub trace: &'a mut Trace,
    pub coverage: &'a mut Coverage,
    pub sent: Vec<Sent>,
    /// Observations that a wrong control records only then. See [`Mutation`].
    pub recorded_later: Vec<Vec<u8>>,
}

impl Turn<'_> {
    pub fn send(&mut self, to: Party, message: Message) {
        self.sent.push(Sent { to, message, carriage: Carriage::Connection });
    }

    pub fn publish(&mut self, to: Party, message: Message) {
        self.sent.push(Sent { to, message, carriage: Carriage::Bus });
    }

    pub fn note(&mut self, what: Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    pub fn judge(&mut self, outcome: Result<(), Violation>) {
        self.checkers.judge(outcome);
    }

    pub fn planted(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
