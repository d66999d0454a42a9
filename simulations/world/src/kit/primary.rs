//! What one primary stores, and failovers to a standby that may be behind.

use std::{collections::VecDeque, time::Duration};

use rap_proto::Moment;

/// The rows `R` of whoever is the primary.
pub struct Primary<R> {
    pub up: bool,
    /// The number that rises with each failover.
    pub timeline: u64,
    pub rows: R,
    /// How far back a standby may be that is not synchronous.
    behind: Duration,
    /// What the rows were before each change of that while.
    before: VecDeque<(Moment, R)>,
}

impl<R: Clone> Primary<R> {
    /// With `behind` at zero no failover loses anything.
    pub fn new(rows: R, behind: Duration) -> Self {
        Self { up: true, timeline: 1, rows, behind, before: VecDeque::new() }
    }

    /// Whether what was sent to the primary of this timeline arrives: a connection to the one
    /// before died with it.
    pub fn hears(&self, timeline: u64) -> bool {
        self.up && timeline == self.timeline
    }

    /// The rows, which are about to change.
    pub fn change(&mut self, now: Moment) -> &mut R {
        if self.behind > Duration::ZERO {
            while self.before.front().is_some_and(|(at, _)| now.since(*at) > self.behind) {
                self.before.pop_front();
            }
            self.before.push_back((now, self.rows.clone()));
        }
        &mut self.rows
    }

    /// Another server takes over, with what was stored up to `lost` ago.
    pub fn fail_over(&mut self, now: Moment, lost: Duration) {
        self.up = false;
        self.timeline += 1;
        while self.before.back().is_some_and(|(at, _)| now.since(*at) < lost) {
            self.rows = self.before.pop_back().expect("there is one").1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_a_failover(behind: Duration) -> Primary<u32> {
        let at = |seconds| Moment::from_micros(seconds * 1_000_000);
        let mut primary = Primary::new(0, behind);
        for second in 1..=10 {
            *primary.change(at(u64::from(second))) = second;
        }
        primary.fail_over(at(11), Duration::from_secs(4));
        primary
    }

    #[test]
    fn a_failover_loses_what_was_stored_last_where_the_standby_may_be_behind() {
        let primary = after_a_failover(Duration::from_secs(6));
        assert_eq!(primary.rows, 7, "of 8, 9 and 10 the standby had not heard");
        assert!(!primary.hears(1) && !primary.hears(2), "it is not up yet");
        assert_eq!(after_a_failover(Duration::ZERO).rows, 10);
    }
}
