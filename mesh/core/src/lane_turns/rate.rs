//! A rate whose tokens are taken before it is known how many there will be.

use std::time::Duration;

use rap_proto::{BitRate, Moment};

use super::SHORT_TURN;
use crate::shape::MIN_BURST;

/// How much is saved while nobody forwards: what flows in this time. More would go to the kernel at
/// once and make a queue there, where nobody orders it.
const BURST: Duration = Duration::from_millis(4);

/// Tokens are bits times microseconds: a rate for a time is a plain product.
const BYTE: i64 = 8 * 1_000_000;
/// How far whoever goes first may go into debt.
const DEBT: i64 = SHORT_TURN as i64 * BYTE;

#[derive(Debug)]
pub(super) struct Rate {
    /// Bits per second, at most [`BitRate::MAX`].
    bits: i64,
    /// Below nothing, it is owed.
    level: i64,
    at: Moment,
}

impl Rate {
    pub(super) fn full(now: Moment, rate: BitRate) -> Self {
        let bits = bits(rate);
        Self { bits, level: depth(bits), at: now }
    }

    pub(super) fn change(&mut self, now: Moment, rate: BitRate) {
        self.flow(now);
        self.bits = bits(rate);
        self.level = self.level.min(depth(self.bits));
    }

    /// Takes what a turn may become, and says how much that was.
    pub(super) fn charge(&mut self, now: Moment, bytes: usize) -> usize {
        self.flow(now);
        self.level = self.level.saturating_sub(tokens(bytes));
        bytes
    }

    /// Of what was taken for a turn, so many bytes passed.
    pub(super) fn settle(&mut self, now: Moment, charged: usize, bytes: usize) {
        self.flow(now);
        let settled = self.level.saturating_add(tokens(charged)).saturating_sub(tokens(bytes));
        self.level = settled.min(depth(self.bits));
    }

    /// When somebody may go, as far as is known now.
    pub(super) fn room_at(&self, goes_first: bool) -> Moment {
        let least = if goes_first { -DEBT } else { 0 };
        let missing = least.saturating_add(1).saturating_sub(self.level).max(0);
        let micros = u64::try_from(missing).unwrap_or(0).div_ceil(self.bits.unsigned_abs().max(1));
        self.at + Duration::from_micros(micros)
    }

    fn flow(&mut self, now: Moment) {
        let elapsed = i64::try_from(now.since(self.at).as_micros()).unwrap_or(i64::MAX);
        let flowed = self.bits.saturating_mul(elapsed);
        self.level = self.level.saturating_add(flowed).min(depth(self.bits));
        self.at = self.at.max(now);
    }
}

fn bits(rate: BitRate) -> i64 {
    // What was sent is not believed blindly.
    let most = BitRate::MAX.bits_per_second();
    i64::try_from(rate.bits_per_second().clamp(1, most)).unwrap_or(1)
}

fn depth(bits: i64) -> i64 {
    let burst = i64::try_from(BURST.as_micros()).unwrap_or(0);
    bits.saturating_mul(burst).max(tokens(MIN_BURST))
}

fn tokens(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(BYTE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    #[test]
    fn what_was_taken_too_much_is_owed_and_whoever_goes_first_may_owe_more() {
        // A megabyte per second.
        let mut rate = Rate::full(at(0), "8mbit".parse().unwrap());
        assert_eq!(rate.room_at(false), at(0));
        assert_eq!(rate.charge(at(0), SHORT_TURN), SHORT_TURN);
        rate.settle(at(0), SHORT_TURN, 14_000);
        assert_eq!(rate.room_at(false), at(10_001), "4,000 were there");
        assert_eq!(rate.room_at(true), at(0));
        rate.charge(at(0), SHORT_TURN);
        assert_eq!(rate.room_at(true), at(10_001));
        rate.settle(at(0), SHORT_TURN, 0);
        assert_eq!(rate.room_at(false), at(10_001), "it passed nothing");
    }

    #[test]
    fn no_more_is_saved_than_a_burst_and_time_that_goes_back_gives_nothing() {
        let mut rate = Rate::full(at(1_000), "8mbit".parse().unwrap());
        rate.charge(at(9_000_000), 5_000);
        assert_eq!(rate.room_at(false), at(9_001_001), "of 4,000");
        rate.charge(at(0), 0);
        assert_eq!(rate.room_at(false), at(9_001_001));
    }

    #[test]
    fn the_extreme_rates_are_counted_without_overflow() {
        for extreme in [BitRate::MIN, BitRate::MAX] {
            let mut rate = Rate::full(at(0), extreme);
            rate.charge(at(0), usize::MAX);
            assert!(rate.room_at(true) > at(0));
            rate.settle(at(u64::MAX), usize::MAX, 0);
            assert_eq!(rate.room_at(false), at(u64::MAX));
            rate.change(at(u64::MAX), BitRate::MIN);
        }
    }
}
