//! When the direct path in use takes much longer than it did: whether a relay is to be measured beside it.
//! Where the platform wants it better than relays, they are measured however long it takes.
//!
//! The connection's estimate only says when to measure: on a lane that is otherwise idle it stays for long
//! where the end of a transfer left it. What is compared are answers to probes along both paths.

use std::time::Duration;

use rap_proto::Moment;

use super::{BETTER_FOR, LanePath};
use crate::paths::is_slower;

#[derive(Debug, Clone, Default)]
pub(super) struct Slowness {
    /// Of the path in use, since it carries the lane.
    shortest: Option<Duration>,
    /// Since when its round trip is slower than that, or is to be compared all the same, without a pause.
    since: Option<Moment>,
    noted: Moment,
    /// For how long that has to be so. Drawn each time: many lanes may see the same path become slow.
    patience: Duration,
}

impl Slowness {
    fn note(
        &mut self,
        now: Moment,
        (round_trip, is_compared): (Duration, bool),
        patience: impl FnOnce() -> Duration,
    ) {
        let shortest = self.shortest.map_or(round_trip, |before| before.min(round_trip));
        self.shortest = Some(shortest);
        // What was so before nothing was heard for a while says nothing of the time between.
        let since = self.since.filter(|_| now.since(self.noted) < BETTER_FOR);
        self.noted = now;
        let is_slow = is_compared || is_slower(round_trip, shortest);
        if is_slow && since.is_none() {
            self.patience = patience();
        }
        self.since = is_slow.then(|| since.unwrap_or(now));
    }

    pub(super) const fn is_noticed(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn is_due(&self, now: Moment) -> bool {
        let is_so = now.since(self.noted) < BETTER_FOR;
        is_so && self.since.is_some_and(|since| since + self.patience <= now)
    }

    /// Another path is in use.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

impl LanePath {
    /// To be told when the lane has heard something.
    pub(super) fn note_round_trip(&mut self, now: Moment) {
        if self.is_relayed() || self.is_on_trial() {
            return;
        }
        if let Some(round_trip) = self.silence.round_trip() {
            let noted = (round_trip, self.wants_better());
            let succession = &mut self.succession;
            self.slowness.note(now, noted, || succession.draw_patience());
        }
    }
}
