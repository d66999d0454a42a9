//! The fence: what is asked for under an older generation of a lease is refused.
//!
//! Whoever passes on what a holder does keeps one: an entry and an egress ask it for every access
//! token of a leased connection, before each channel. The holder itself is asked besides, by
//! [`check_held`].
//!
//! ```text
//! admit(leased) ─┬─ Ok(Admitted::Current)        go on
//!                ├─ Ok(Admitted::Raise(mark))    make the mark durable, say raised(mark), go on
//!                └─ Err(LeaseSuperseded)         refuse, and report it
//! ```
//!
//! INVARIANT: after something was let through under a generation, nothing is let through under a
//! lower one, in this run or in a later one. So a mark is durable before its first use: whoever
//! goes on first and writes afterwards forgets the mark in the one crash that matters.

use std::{collections::BTreeMap, time::Duration};

use rap_proto::{Generation, Leased, RefusalCode, VpnConnectionId};

/// The most connections that one fence remembers. One more is refused: forgetting a mark would
/// let an older holder in.
pub const MAX_FENCED: usize = 16_384;

/// What to do with something that may go on.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Under the generation that is known already.
    Current,
    /// Under a newer one: durable first, then [`Fence::raised`].
    Raise(Leased),
}

/// What a node holds of a connection's lease at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub generation: Generation,
    /// How much longer, unless it is renewed.
    pub remaining: Duration,
}

/// Whether a node holds this very lease, and for how much longer. `held` is what it holds of the
/// connection at this moment.
pub fn check_held(leased: Leased, held: Option<Held>) -> Result<Duration, RefusalCode> {
    match held.filter(|held| !held.remaining.is_zero()) {
        Some(held) if held.generation == leased.generation => Ok(held.remaining),
        Some(held) if held.generation > leased.generation => Err(RefusalCode::LeaseSuperseded),
        _ => Err(RefusalCode::LeaseNotHeld),
    }
}

/// The highest generation that was seen of each connection.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    marks: BTreeMap<VpnConnectionId, Mark>,
    refused: u64,
}

/// INVARIANT: `durable <= seen`.
#[derive(Debug, Clone, Copy)]
struct Mark {
    seen: Generation,
    durable: Generation,
}

impl Fence {
    /// `marks` is what the disk says.
    pub fn new(marks: impl IntoIterator<Item = Leased>) -> Self {
        let mark = |leased: Leased| {
            let generation = leased.generation;
            (leased.connection, Mark { seen: generation, durable: generation })
        };
        Self { marks: marks.into_iter().map(mark).collect(), refused: 0 }
    }

    /// Whether something may go on that a path's set-up or an access token says belongs to this
    /// lease. An older generation is refused from the moment that a newer one was seen here.
    pub fn admit(&mut self, leased: Leased) -> Result<Admitted, RefusalCode> {
        let Leased { connection, generation } = leased;
        if generation == Generation::NONE {
            return Err(RefusalCode::Malformed);
        }
        let full = self.marks.len() >= MAX_FENCED;
        match self.marks.get_mut(&connection) {
            Some(mark) if generation < mark.seen => {
                self.refused += 1;
                Err(RefusalCode::LeaseSuperseded)
            }
            Some(mark) => {
                mark.seen = generation;
                let known = generation <= mark.durable;
                Ok(if known { Admitted::Current } else { Admitted::Raise(leased) })
            }
            None if full => Err(RefusalCode::LimitReached),
            None => {
                let mark = Mark { seen: generation, durable: Generation::NONE };
                self.marks.insert(connection, mark);
                Ok(Admitted::Raise(leased))
            }
        }
    }

    /// The mark is durable. Refused when a newer one was seen in the meantime: what waited for
    /// this mark must not go on.
    pub fn raised(&mut self, leased: Leased) -> Result<(), RefusalCode> {
        let Some(mark) = self.marks.get_mut(&leased.connection) else {
            return Err(RefusalCode::LeaseSuperseded);
        };
        mark.durable = mark.durable.max(leased.generation.min(mark.seen));
        if leased.generation < mark.seen {
            self.refused += 1;
            return Err(RefusalCode::LeaseSuperseded);
        }
        Ok(())
    }

    /// The connection was removed for good: its id is never used again.
    pub fn forget(&mut self, connection: VpnConnectionId) {
        self.marks.remove(&connection);
    }

    /// The highest generation that was seen of a connection.
    pub fn highest(&self, connection: VpnConnectionId) -> Option<Generation> {
        self.marks.get(&connection).map(|mark| mark.seen)
    }

    /// How often an older generation was refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests;
