//! When flows that run follow a lead that changed: rarely, and few at a time.

use std::{collections::VecDeque, time::Duration};

use rap_proto::{Lane, Moment, carriers::CarrierRuling};

use super::Choice;
use crate::carrier::Carrier;

/// How long a carrier has to be better by the margin, without a break, and how long a flow has to have been
/// on the other one, before the flow leaves that.
pub const FOLLOW_AFTER: Duration = Duration::from_secs(10);
/// The most flows of a lane that go over …
pub const MAX_GOING: usize = 2;
/// … within this time, as each waits for its other connection.
pub const GOING_WITHIN: Duration = Duration::from_secs(10);

/// What is remembered for that.
#[derive(Debug, Clone, Default)]
pub(super) struct Follow {
    /// Who is better by the margin, and since when.
    ahead: Option<(Carrier, Moment)>,
    went: VecDeque<Moment>,
    count: u64,
}

impl Follow {
    /// How many flows were told to go.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Whether this carrier is better for long enough, when `ahead` is the better one now.
    fn stays(&mut self, now: Moment, leading: Carrier, is_ahead: bool) -> bool {
        self.ahead.take_if(|(carrier, _)| *carrier != leading || !is_ahead);
        if !is_ahead {
            return false;
        }
        let (_, since) = *self.ahead.get_or_insert((leading, now));
        now.since(since) >= FOLLOW_AFTER
    }

    fn takes_one(&mut self, now: Moment) -> bool {
        self.went.retain(|at| now.since(*at) < GOING_WITHIN);
        let has_room = self.went.len() < MAX_GOING;
        if has_room {
            self.went.push_back(now);
            self.count += 1;
        }
        has_room
    }
}

impl Choice {
    /// Whether a flow that runs on the carrier `on`, and has since then, is to leave it now for the other
    /// one. To be asked now and then for each flow that is measured; a flow for which this was true goes.
    /// What a rule says holds for new flows alone.
    pub fn leaves(
        &mut self,
        now: Moment,
        ruling: CarrierRuling,
        on: Carrier,
        since: Moment,
    ) -> bool {
        if self.lane != Lane::Bulk || ruling != CarrierRuling::Auto {
            return false;
        }
        self.review(now);
        let (leading, is_ahead) = (self.leading, self.is_ahead(now));
        self.follow.stays(now, leading, is_ahead)
            && on != leading
            && now.since(since) >= FOLLOW_AFTER
            && self.follow.takes_one(now)
    }

    /// Whether the leading carrier is better than the other one by the margin.
    fn is_ahead(&self, now: Moment) -> bool {
        let leading = self.of(self.leading).at(now);
        let other = self.of(self.leading.other()).at(now);
        other.per_byte_beside(&leading).is_some_and(|(slow, fast)| is_better(slow, fast))
    }
}

/// Whether what takes so long is worse than what takes so long by the margin.
pub(super) fn is_better(slow: u128, fast: u128) -> bool {
    let (more, less) = (u128::from(super::MARGIN.0), u128::from(super::MARGIN.1));
    slow * less >= fast * more
}
