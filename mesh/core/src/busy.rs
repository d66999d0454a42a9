//! How busy a node is with what it forwards: what it says of itself to whoever asks whether it is
//! there.

use std::time::Duration;

use rap_proto::{BitRate, Moment};

use crate::{bounds::ASKER_BOUND, score::GREATEST};

/// How often what was forwarded is looked at. A sample that comes sooner waits for the next one.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// A sample counts for one part of so many.
const SMOOTHING: u64 = 4;
/// The load is told in steps of this: whoever asks learns how busy a node is, and not what passes it
/// from one second to the next, and a measurement that is nearly the same is the same.
pub const STEP: u16 = 100;

/// What passes a node, and what its machine does, as moving means.
#[derive(Debug, Clone, Copy, Default)]
pub struct Busy {
    seen: Option<(Moment, u64)>,
    bits_per_second: u64,
    times: Option<MachineTimes>,
    /// Of [`GREATEST`], how much of its processors' time the machine used.
    used: u16,
}

/// What the processors of a machine did since it started, in any unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineTimes {
    pub idle: u64,
    /// `idle` included.
    pub all: u64,
}

/// What a node forwards at the most for one asker: `cap` is what the platform lets it pass in all.
pub fn most_for_one(cap: Option<BitRate>) -> BitRate {
    cap.map_or(ASKER_BOUND.rate, |cap| cap.min(ASKER_BOUND.rate))
}

impl Busy {
    /// Takes in how many bytes were forwarded since the start.
    pub fn sample(&mut self, now: Moment, bytes: u64) {
        let Some((at, before)) = self.seen else {
            self.seen = Some((now, bytes));
            return;
        };
        let passed = now.since(at);
        if passed < SAMPLE_EVERY / 2 {
            return;
        }
        self.seen = Some((now, bytes));
        let bits = u128::from(bytes.saturating_sub(before)) * 8 * 1_000_000;
        let rate = u64::try_from(bits / passed.as_micros()).unwrap_or(u64::MAX);
        let mean = u128::from(self.bits_per_second) * u128::from(SMOOTHING - 1) + u128::from(rate);
        self.bits_per_second = u64::try_from(mean / u128::from(SMOOTHING)).unwrap_or(u64::MAX);
    }

    /// Takes in what the machine did. A node that is told nothing of that leaves it out.
    pub fn sample_machine(&mut self, times: MachineTimes) {
        let Some(before) = self.times.replace(times) else { return };
        let all = times.all.saturating_sub(before.all);
        let idle = times.idle.saturating_sub(before.idle);
        if all == 0 {
            return;
        }
        let used = share(u128::from(all.saturating_sub(idle)), u128::from(all));
        let mean = (u64::from(self.used) * (SMOOTHING - 1) + u64::from(used)) / SMOOTHING;
        self.used = u16::try_from(mean).unwrap_or(GREATEST);
    }

    /// Of [`GREATEST`], how much is taken: of the places for flows, of the cap or of the machine,
    /// whichever is most, in steps of [`STEP`].
    pub fn load(&self, (flows, most_flows): (usize, usize), cap: Option<BitRate>) -> u16 {
        let places = share(flows as u128, most_flows as u128);
        let rate = cap.map_or(0, |cap| {
            share(u128::from(self.bits_per_second), u128::from(cap.bits_per_second()))
        });
        let most = places.max(rate).max(self.used);
        most.saturating_add(STEP / 2) / STEP * STEP
    }
}

/// So many of so many, of [`GREATEST`].
fn share(taken: u128, all: u128) -> u16 {
    let of_all = taken.saturating_mul(u128::from(GREATEST)) / all.max(1);
    u16::try_from(of_all).map_or(GREATEST, |share| share.min(GREATEST))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PLACES: (usize, usize) = (0, 100);

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    fn rate(text: &str) -> Option<BitRate> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_load_is_of_places_or_of_bandwidth_whichever_is_more() {
        let mut busy = Busy::default();
        assert_eq!(busy.load((24, 100), None), 200, "in steps");
        assert_eq!(busy.load((26, 100), None), 300);
        assert_eq!(busy.load((200, 100), None), GREATEST);
        for second in 0..60 {
            busy.sample(at(second), second * 500_000);
        }
        assert_eq!(busy.load(PLACES, rate("8mbit")), 500, "4 Mbit/s of 8");
        assert_eq!(busy.load((70, 100), rate("8mbit")), 700);
        assert_eq!(busy.load(PLACES, rate("2mbit")), GREATEST, "it passes more than it may by now");
        assert_eq!(busy.load(PLACES, rate("100gbit")), 0);
        assert_eq!(busy.load(PLACES, None), 0, "of no cap nothing is taken");
    }

    #[test]
    fn what_is_over_is_forgotten_and_samples_that_come_too_soon_wait() {
        let mut busy = Busy::default();
        busy.sample(at(0), 0);
        busy.sample(at(0), 1_000_000);
        assert_eq!(busy.load(PLACES, rate("8mbit")), 0, "of no time there is no rate");
        busy.sample(at(1), 1_000_000);
        assert_eq!(busy.load(PLACES, rate("8mbit")), 300, "a quarter of it counts, 250");
        for second in 2..40 {
            busy.sample(at(second), 1_000_000);
        }
        assert_eq!(busy.load(PLACES, rate("8mbit")), 0);
        // A count that begins anew is no rate.
        busy.sample(at(40), 0);
        busy.sample(at(41), u64::MAX);
        assert_eq!(busy.load(PLACES, rate("8mbit")), GREATEST);
    }

    #[test]
    fn a_machine_that_has_no_time_left_is_busy_and_one_that_started_again_is_not() {
        let mut busy = Busy::default();
        let mut all = 1_000_000;
        let mut sample = |busy: &mut Busy, idle_of_100: u64| {
            all += 100;
            busy.sample_machine(MachineTimes { idle: all / 100 * idle_of_100, all });
            busy.load(PLACES, None)
        };
        assert_eq!(sample(&mut busy, 20), 0, "of one look nothing is known");
        let settled = (0..40).map(|_| sample(&mut busy, 20)).last();
        assert_eq!(settled, Some(800));
        busy.sample_machine(MachineTimes { idle: 0, all: 0 });
        assert_eq!(busy.load(PLACES, None), 800, "what went back says nothing");
        let idle = (1..40).map(|second| {
            busy.sample_machine(MachineTimes { idle: second * 100, all: second * 100 });
            busy.load(PLACES, None)
        });
        assert_eq!(idle.last(), Some(0));
    }

    #[test]
    fn a_cap_counts_where_it_is_less_than_what_one_asker_may_have() {
        assert_eq!(most_for_one(None), ASKER_BOUND.rate);
        assert_eq!(Some(most_for_one(rate("1gbit"))), rate("1gbit"));
        assert_eq!(most_for_one(rate("100gbit")), ASKER_BOUND.rate);
    }
}
