//! How many refusals are reported: enough for the audit, too few for a stranger to flood the log.

use rap_proto::Moment;

/// Refusals of tokens that no signature vouches for: anybody can cause them.
pub const UNVERIFIED: Rate = Rate { burst: 32, per_second: 2 };
/// Refusals of holders of a genuine token.
pub const VERIFIED: Rate = Rate { burst: 256, per_second: 32 };

/// A bucket of `burst` reports that fills up by `per_second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub per_second: u32,
}

/// Decides which refusals are reported. What is not is counted by whoever asks.
#[derive(Debug, Clone)]
pub struct ReportGate {
    unverified: Bucket,
    verified: Bucket,
}

#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    rate: Rate,
    /// Micro-reports: a million of them are one report.
    level: u64,
    filled: Moment,
}

impl Default for ReportGate {
    fn default() -> Self {
        Self { unverified: Bucket::full(UNVERIFIED), verified: Bucket::full(VERIFIED) }
    }
}

impl ReportGate {
    /// Whether a refusal at `now` is reported; `verified` when its claims were signed.
    pub fn admit(&mut self, now: Moment, verified: bool) -> bool {
        let bucket = if verified { &mut self.verified } else { &mut self.unverified };
        bucket.take(now)
    }
}

impl Bucket {
    const REPORT: u64 = 1_000_000;

    pub(crate) fn full(rate: Rate) -> Self {
        Self { rate, level: u64::from(rate.burst) * Self::REPORT, filled: Moment::default() }
    }

    pub(crate) fn take(&mut self, now: Moment) -> bool {
        self.fill(now);
        let enough = self.level >= Self::REPORT;
        if enough {
            self.level -= Self::REPORT;
        }
        enough
    }

    pub(crate) fn is_full(&mut self, now: Moment) -> bool {
        self.fill(now);
        self.level == self.most()
    }

    fn fill(&mut self, now: Moment) {
        let micros = now.micros().saturating_sub(self.filled.micros());
        self.filled = self.filled.max(now);
        let gained = micros.saturating_mul(u64::from(self.rate.per_second));
        self.level = self.level.saturating_add(gained).min(self.most());
    }

    fn most(&self) -> u64 {
        u64::from(self.rate.burst) * Self::REPORT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(gate: &mut ReportGate, second: u64, verified: bool) -> u32 {
        let now = Moment::from_micros(second * 1_000_000);
        (0..1000).map(|_| u32::from(gate.admit(now, verified))).sum()
    }

    #[test]
    fn a_flood_is_reported_up_to_its_burst_and_then_at_its_rate() {
        let mut gate = ReportGate::default();
        assert_eq!(admitted(&mut gate, 0, false), UNVERIFIED.burst);
        assert_eq!(admitted(&mut gate, 1, false), UNVERIFIED.per_second);
        assert_eq!(admitted(&mut gate, 1000, false), UNVERIFIED.burst);
    }

    #[test]
    fn strangers_do_not_use_up_what_is_left_for_holders_of_tokens() {
        let mut gate = ReportGate::default();
        admitted(&mut gate, 0, false);
        assert_eq!(admitted(&mut gate, 0, true), VERIFIED.burst);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let mut gate = ReportGate::default();
        admitted(&mut gate, 10, false);
        assert_eq!(admitted(&mut gate, 5, false), 0);
    }
}
