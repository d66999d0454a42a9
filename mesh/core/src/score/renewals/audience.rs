//! Lanes that listen: each has a number, and misses nothing that comes while it looks.

use std::collections::BTreeSet;

use super::{Changes, Interest, Interests};

/// INVARIANT: lanes that left have no interest.
#[derive(Debug, Clone, Default)]
pub struct Audience {
    interests: Interests,
    /// Of the lanes that ever were the last.
    last_lane: u64,
    /// How often something else was known.
    renewals: u64,
}

/// A lane's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    pub lane: u64,
    /// The renewals that it saw when it last began to look.
    seen: u64,
}

impl Audience {
    /// One more lane. It has to be let go by [`Self::leave`].
    pub const fn listen(&mut self) -> Listening {
        self.last_lane += 1;
        Listening { lane: self.last_lane, seen: self.renewals }
    }

    pub fn leave(&mut self, lane: u64) {
        self.interests.forget(lane);
    }

    /// The lane is about to ask for its ways.
    pub const fn begin_look(&self, listening: &mut Listening) {
        listening.seen = self.renewals;
    }

    /// What the lane rests on, as far as it has seen. Returns whether it has to look again: what came
    /// meanwhile was held against what it rested on before.
    #[must_use]
    pub fn heed(&mut self, listening: &Listening, interest: Interest) -> bool {
        self.interests.heed(listening.lane, interest);
        self.renewals > listening.seen
    }

    /// Something else is known: whoever asks for ways is given others already. Returns the lanes that have to
    /// look.
    pub fn renew(&mut self, changes: &Changes) -> BTreeSet<u64> {
        self.renewals += 1;
        self.interests.concerned(changes)
    }
}
