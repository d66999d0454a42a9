//! When a lane that sends hears too little.

use std::time::Duration;

use rap_proto::Moment;

use super::{LanePath, Traffic};

/// How often the traffic of a lane that sends is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Nobody is suspected sooner.
pub(super) const SUSPECT_FLOOR: Duration = Duration::from_millis(300);
/// Nobody is suspected before this many round trips.
pub(super) const SUSPECT_RTTS: u32 = 3;
/// A longer round trip than this counts as this.
pub(super) const LONGEST_RTT: Duration = Duration::from_secs(1);
/// A path that was cleared this often by nothing but answered probes counts as failed.
pub(super) const MAX_HOLLOW: u32 = 3;

#[derive(Debug, Clone, Default)]
pub(super) struct Silence {
    sent: u64,
    received: u64,
    rtt: Duration,
    /// Since when something was sent and nothing came back.
    waiting: Option<Moment>,
    pub(super) next_look: Option<Moment>,
    /// How often probes alone spoke for the path since the lane heard something.
    hollow: u32,
}

impl Silence {
    /// Returns whether the lane has heard something.
    fn note(&mut self, now: Moment, traffic: Traffic) -> bool {
        // While this node itself stood still, it could not hear.
        let late = self.next_look.map_or(Duration::ZERO, |planned| now.since(planned));
        if late > LOOK_EVERY {
            self.waiting = self.waiting.map(|since| (since + late).min(now));
        }
        let Traffic { sent, received, rtt } = traffic;
        let (has_sent, has_heard) = (sent > self.sent, received > self.received);
        (self.sent, self.received, self.rtt) = (sent, received, rtt.min(LONGEST_RTT));
        if has_heard {
            self.waiting = None;
            self.hollow = 0;
        } else if has_sent {
            self.waiting.get_or_insert(now);
        }
        let goes_on = has_sent || has_heard || self.waiting.is_some();
        self.next_look = goes_on.then_some(now + LOOK_EVERY);
        has_heard
    }

    pub(super) fn is_suspicious(&self, now: Moment) -> bool {
        let patience = SUSPECT_FLOOR.max(self.rtt * SUSPECT_RTTS);
        self.waiting.is_some_and(|since| now.since(since) >= patience)
    }

    /// Whether nothing was heard since probes spoke for the path.
    pub(super) const fn is_doubtful(&self) -> bool {
        self.hollow > 0
    }

    pub(super) const fn is_hollow(&self) -> bool {
        self.hollow >= MAX_HOLLOW
    }

    /// Of the path in use, once the connection said so.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        (!self.rtt.is_zero()).then_some(self.rtt)
    }

    /// How long an answer along a path that works may take.
    pub(super) fn answer_time(&self, at_least: Duration) -> Duration {
        at_least.max(self.rtt * 2)
    }

    /// A probe was answered along the path in use.
    pub(super) fn clear(&mut self) {
        self.waiting = None;
        self.hollow += 1;
    }

    /// Another path is in use.
    pub(super) fn restart(&mut self, now: Moment) {
        self.waiting = None;
        self.hollow = 0;
        self.next_look = Some(now + LOOK_EVERY);
    }
}

impl LanePath {
    pub(super) fn listen(&mut self, now: Moment, traffic: Traffic) {
        if !self.silence.note(now, traffic) || !self.open.contains_key(&self.current) {
            return;
        }
        self.recovery = None;
        if let Some(trial) = &mut self.trial {
            trial.heard = true;
        }
        self.note_round_trip(now);
    }
}
