//! One party's turn: what it may look at, and what it leaves behind.

use std::{fmt::Arguments, time::Duration};

use rap_proto::Moment;

use crate::{chance::Chance, trace::Trace};

use super::{
    checkers::Checkers,
    coverage::Coverage,
    driver,
    faults::FaultMix,
    message::{Down, Op, Up},
    mutation::Mutation,
};

/// What leaves a party.
#[derive(Debug, Clone)]
pub enum Out {
    Up {
        replica: usize,
        up: Up,
    },
    Down {
        node: usize,
        down: Down,
    },
    Op(Op),
    /// The driver will have done something.
    Driver {
        connection: usize,
        incarnation: u32,
        done: driver::Done,
        after: Duration,
    },
}

pub struct Turn<'a> {
    /// True time, which no party sees.
    pub now: Moment,
    pub mutation: Option<Mutation>,
    pub mix: &'a FaultMix,
    pub chance: &'a mut Chance,
    pub checkers: &'a mut Checkers,
    pub coverage: &'a mut Coverage,
    pub trace: &'a mut Trace,
    pub out: Vec<Out>,
}

impl Turn<'_> {
    pub fn note(&mut self, what: Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    pub fn planted(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
