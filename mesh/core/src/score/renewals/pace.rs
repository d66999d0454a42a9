//! When a lane looks at other measurements that concern it.

use std::time::Duration;

use rap_proto::Moment;

use crate::peers::spread::Spread;

/// A lane looks at most so often: measurements come one by one, and each would put all of its ways in
/// order.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// It looks within this time from when it may, at a moment of its own: one measurement can concern
/// thousands of lanes, and so can one snapshot, behind which all of them may look again at once.
pub const LOOK_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Pace {
    spread: Spread,
    /// No look before.
    rests_until: Moment,
    due: Option<Moment>,
}

impl Pace {
    /// `seed` is random, and needs not be secret.
    pub const fn new(seed: u64) -> Self {
        Self { spread: Spread::new(seed), rests_until: Moment::from_micros(0), due: None }
    }

    /// There is something to look at.
    pub fn concerned(&mut self, now: Moment) {
        if self.due.is_none() {
            let pause = self.spread.around(LOOK_WITHIN / 2, 100);
            self.due = Some(now.max(self.rests_until) + pause);
        }
    }

    /// When it is to be looked at, if there is something. Who `hurries` spreads nothing.
    pub fn due(&self, hurries: bool) -> Option<Moment> {
        self.due.map(|due| if hurries { self.rests_until } else { due })
    }

    /// Everything was looked at, for whatever reason.
    pub fn looked(&mut self, now: Moment) {
        self.rests_until = now + LOOK_EVERY;
        self.due = None;
    }
}
