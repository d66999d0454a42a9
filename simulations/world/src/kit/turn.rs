//! One party's turn: what it may look at, and what it leaves behind.

use std::fmt::Arguments;

use rap_proto::Moment;

use super::{Chance, Coverage, Trace, World};

/// A party touches nothing of another's; what leaves it, `O`, goes through the world.
pub struct Turn<'a, W: World, O> {
    /// True time, which no party sees.
    pub now: Moment,
    pub mutation: Option<W::Mutation>,
    pub mix: &'a W::Mix,
    pub chance: &'a mut Chance,
    pub checkers: &'a mut W::Checkers,
    pub coverage: &'a mut Coverage,
    pub trace: &'a mut Trace,
    pub out: Vec<O>,
}

impl<W: World, O> Turn<'_, W, O> {
    pub fn note(&mut self, what: Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    pub fn planted(&self, mutation: W::Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
