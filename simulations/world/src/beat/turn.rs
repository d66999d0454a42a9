//! One party's turn: what it may look at, and what it leaves behind.

use std::fmt::Arguments;

use rap_proto::Moment;

use crate::{chance::Chance, trace::Trace};

use super::{
    checkers::Checkers,
    coverage::Coverage,
    message::{Ask, Call, Down, Op},
    mutation::Mutation,
};

/// What leaves a party.
#[derive(Debug, Clone)]
pub enum Out {
    Ask {
        replica: usize,
        ask: Ask,
    },
    Down {
        node: usize,
        down: Down,
    },
    /// To every node.
    Ring {
        sequence: u64,
    },
    Op {
        call: Call,
        op: Op,
    },
}

pub struct Turn<'a> {
    /// True time, which no party sees.
    pub now: Moment,
    pub mutation: Option<Mutation>,
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
