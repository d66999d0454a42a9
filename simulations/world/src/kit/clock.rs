//! A clock that is wrong by a constant rate, and sometimes jumps.

use std::time::Duration;

use rap_proto::{Moment, Timestamp, lease::DRIFT_PPM};

use super::Chance;

/// Calendar time at the world's first moment.
pub const START: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);
const MILLION: i64 = 1_000_000;

#[derive(Debug, Clone)]
pub struct DriftClock {
    offset: i64,
    drift_ppm: i64,
}

impl DriftClock {
    /// Often as wrong as a clock may be at all: that is where the margins are tight.
    pub fn draw(chance: &mut Chance) -> Self {
        let bound = i64::from(DRIFT_PPM);
        let drift_ppm = match chance.below(4) {
            0 => bound,
            1 => -bound,
            _ => i64::try_from(chance.below(2 * u64::from(DRIFT_PPM) + 1)).unwrap_or(0) - bound,
        };
        let mut clock = Self { offset: 0, drift_ppm };
        clock.restart(chance);
        clock
    }

    /// As fast, or as slow, as a clock may be.
    pub fn worst(&mut self, fast: bool) {
        let bound = i64::from(DRIFT_PPM);
        self.drift_ppm = if fast { bound } else { -bound };
    }

    /// The host was started anew: its clock shows something else.
    pub fn restart(&mut self, chance: &mut Chance) {
        let least = Duration::from_secs(1_000);
        let uptime = chance.between(least, 2 * least).as_micros();
        self.offset = i64::try_from(uptime).unwrap_or(0);
    }

    pub fn forward(&mut self, by: Duration) {
        self.offset += i64::try_from(by.as_micros()).unwrap_or(0);
    }

    pub fn back(&mut self, by: Duration) {
        self.offset -= i64::try_from(by.as_micros()).unwrap_or(0);
    }

    /// What it shows at this moment of true time.
    pub fn show(&self, at: Moment) -> Moment {
        let at = i64::try_from(at.micros()).unwrap_or(i64::MAX / 4);
        let shown = self.offset + at + (at * self.drift_ppm).div_euclid(MILLION);
        Moment::from_micros(u64::try_from(shown).unwrap_or(0))
    }

    /// The first moment of true time at which it shows `shown` or more.
    pub fn when(&self, shown: Moment) -> Moment {
        let since = i64::try_from(shown.micros()).unwrap_or(i64::MAX / 4) - self.offset;
        let rate = MILLION + self.drift_ppm;
        // Nearly every time fits; and a division of the wider numbers takes ten times as long.
        let guess = match since.checked_mul(MILLION) {
            Some(scaled) => i128::from(scaled / rate),
            None => i128::from(since) * i128::from(MILLION) / i128::from(rate),
        };
        let mut at = Moment::from_micros(u64::try_from(guess).unwrap_or(0).saturating_sub(1));
        while self.show(at) < shown {
            at = Moment::from_micros(at.micros() + 1);
        }
        at
    }

    /// How long a span of this clock takes in true time.
    pub fn span(&self, span: Duration) -> Duration {
        let micros = i64::try_from(span.as_micros()).unwrap_or(0) * MILLION;
        Duration::from_micros(u64::try_from(micros / (MILLION + self.drift_ppm)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_too_far_for_the_short_division_is_found_as_well() {
        let mut chance = Chance::new(1, 1);
        let clock = DriftClock::draw(&mut chance);
        // Either side of what a million times fits into 63 bits.
        for hours in [2_000, 2_500, 2_600, 20_000] {
            let shown = Moment::from_micros(hours * 3_600 * 1_000_000);
            let at = clock.when(shown);
            assert!(clock.show(at) >= shown, "{hours}");
            assert!(clock.show(Moment::from_micros(at.micros() - 1)) < shown, "{hours}");
        }
    }

    #[test]
    fn a_timer_fires_when_the_clock_shows_its_time_and_not_before() {
        let mut chance = Chance::new(1, 1);
        for _ in 0..1_000 {
            let clock = DriftClock::draw(&mut chance);
            let shown = clock.show(Moment::from_micros(chance.below(400_000_000)));
            let at = clock.when(shown);
            assert!(clock.show(at) >= shown);
            let before = Moment::from_micros(at.micros().saturating_sub(1));
            assert!(clock.show(before) < shown || at.micros() == 0);
        }
    }
}
