//! Until when a lease may be relied on.
//!
//! A renewal is executed at some moment between its request and its answer, and the lease lives
//! on from there. The holder cannot know that moment, so it counts from the earliest that it
//! could have been: when the request left. An answer that was held up on its way, or waited in
//! a socket while this process stood still, then lengthens nothing.

use std::{collections::BTreeMap, time::Duration};

use rap_proto::{
    Generation, Moment,
    lease::{STOP_BUDGET, reliable},
};

use super::RequestId;

/// The most renewals that are waited for at once; the oldest is given up for a newer one.
pub const MAX_IN_FLIGHT: usize = 8;

/// One generation's time at this node.
#[derive(Debug, Default)]
pub struct Term {
    /// When nothing may be forwarded any more and the driver is told to stop.
    deadline: Option<Moment>,
    /// The newest beat's end.
    beat: Option<Moment>,
    sent: BTreeMap<RequestId, (Generation, Moment)>,
    next: u64,
}

impl Term {
    /// Forgets the lease, not the beat; answers to what was asked before count for nothing.
    pub fn clear(&mut self) {
        self.deadline = None;
        self.sent.clear();
    }

    /// Takes note that a renewal leaves at `now`.
    pub fn ask(&mut self, now: Moment, generation: Generation) -> RequestId {
        if self.sent.len() >= MAX_IN_FLIGHT {
            self.sent.pop_first();
        }
        self.next += 1;
        let request = RequestId(self.next);
        self.sent.insert(request, (generation, now));
        request
    }

    /// The generation that an answer is about. Each answer counts once.
    pub fn answered(&mut self, request: RequestId) -> Option<(Generation, Moment)> {
        self.sent.remove(&request)
    }

    /// Moves the deadline to what follows from a request that left at `sent`; never back.
    pub fn extend(&mut self, sent: Moment, remaining: Duration) {
        let lasts = reliable(remaining).saturating_sub(STOP_BUDGET);
        self.deadline = self.deadline.max(Some(sent + lasts));
    }

    pub fn beat(&mut self, until: Moment) {
        self.beat = self.beat.max(Some(until));
    }

    /// The earlier of the lease's end and the beat's; none without both.
    pub fn deadline(&self) -> Option<Moment> {
        Some(self.deadline?.min(self.beat?))
    }

    pub fn lasts(&self, now: Moment) -> bool {
        self.deadline().is_some_and(|deadline| now < deadline)
    }

    /// Whether what the driver still holds back may leave while it stops.
    pub fn may_finish(&self, now: Moment) -> bool {
        self.deadline().is_some_and(|deadline| now < deadline + STOP_BUDGET)
    }
}
