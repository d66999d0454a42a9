//! Which congestion controller a bulk connection on TCP has.
//!
//! The kernel's usual one, Cubic (RFC 9438), sends more until something is lost, so it fills whatever
//! queue its path has, and a keystroke on another connection waits there. On a slow path such a queue
//! is felt: the connection changes to a controller that keeps in flight about what the path holds. On a
//! fast path the usual one costs less of the processor, and keeps the connection.
//!
//! How fast the path is shows while the sender waits for it. A sender that waits for something else,
//! such as its source or a cap of its own, says nothing of the path. A receiver that is slow, or capped
//! further on, looks like a slow path.

use std::time::Duration;

use rap_proto::Moment;

/// Below this rate a path is slow, in bytes a second: 500 Mbit/s.
pub const SLOW_RATE: u64 = 62_500_000;
/// From this rate on it is not slow any more, in bytes a second.
pub const FAST_RATE: u64 = 2 * SLOW_RATE;
/// A rate is that of so long at least: much longer than the sender's socket takes to drain at
/// [`SLOW_RATE`], and far shorter than a download that somebody types beside.
pub const SPAN: Duration = Duration::from_millis(250);
/// A controller stays for so long at least. A new one begins by finding out what the path holds.
pub const DWELL: Duration = Duration::from_secs(10);

/// What says how much of a connection is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// The one that every connection begins with.
    Usual,
    /// One that keeps the queue of its path short.
    ShortQueue,
}

/// Chooses the controller of one connection.
///
/// INVARIANT: between two changes lies [`DWELL`] at least.
#[derive(Debug, Clone)]
pub struct SlowPath {
    controller: Controller,
    changed_at: Option<Moment>,
    span: Option<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    begun: Moment,
    bytes: u64,
    waited: Duration,
}

impl Default for SlowPath {
    fn default() -> Self {
        Self { controller: Controller::Usual, changed_at: None, span: None }
    }
}

impl SlowPath {
    /// The connection took so many bytes, for which the sender waited so long. Returns the controller
    /// that it has from now on, when that is another one.
    pub fn sent(&mut self, now: Moment, bytes: u64, waited: Duration) -> Option<Controller> {
        let begun = Span { begun: now, bytes: 0, waited: Duration::ZERO };
        let span = self.span.get_or_insert(begun);
        span.bytes = span.bytes.saturating_add(bytes);
        span.waited += waited;
        if now.since(span.begun) < SPAN {
            return None;
        }
        let over = self.span.replace(begun)?;
        let dwells = self.changed_at.is_some_and(|at| now.since(at) < DWELL);
        let fits = over.fits(now, self.controller);
        if dwells || fits == self.controller {
            return None;
        }
        self.changed_at = Some(now);
        self.controller = fits;
        Some(fits)
    }
}

impl Span {
    fn fits(&self, now: Moment, controller: Controller) -> Controller {
        let took = now.since(self.begun);
        let micros = took.as_micros().max(1);
        let rate = u128::from(self.bytes) * 1_000_000 / micros;
        if rate >= u128::from(FAST_RATE) {
            Controller::Usual
        } else if rate < u128::from(SLOW_RATE) && self.waited * 2 >= took {
            Controller::ShortQueue
        } else {
            controller
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends at this rate from then on, a piece each 10 ms, for which the sender waits so long. Returns what
    /// was changed, and when, in ms from `from`.
    fn send(
        path: &mut SlowPath,
        from: &mut u64,
        (rate, waited): (u64, Duration),
        for_ms: u64,
    ) -> Vec<(u64, Controller)> {
        let begun = *from;
        *from += for_ms;
        let pieces = (begun..*from).step_by(10);
        let sent = |ms| {
            let changed = path.sent(Moment::from_micros(ms * 1_000), rate / 100, waited)?;
            Some((ms - begun, changed))
        };
        pieces.filter_map(sent).collect()
    }

    const WAITS: Duration = Duration::from_millis(9);

    #[test]
    fn a_sender_that_waits_for_a_slow_path_keeps_its_queue_short() {
        let (mut path, mut now) = (SlowPath::default(), 0);
        let changed = send(&mut path, &mut now, (12_500_000, WAITS), 60_000);
        assert_eq!(changed, [(250, Controller::ShortQueue)]);
    }

    #[test]
    fn a_fast_path_keeps_what_it_has() {
        let (mut path, mut now) = (SlowPath::default(), 0);
        let between = (SLOW_RATE + FAST_RATE) / 2;
        for rate in [between, FAST_RATE, 10 * FAST_RATE] {
            assert_eq!(send(&mut path, &mut now, (rate, WAITS), 60_000), []);
        }
    }

    /// A slow source, or a cap at the sender, is no slow path.
    #[test]
    fn a_sender_that_waits_for_something_else_says_nothing_of_the_path() {
        let (mut path, mut now) = (SlowPath::default(), 0);
        for waited in [Duration::ZERO, Duration::from_millis(4)] {
            assert_eq!(send(&mut path, &mut now, (1_000_000, waited), 60_000), []);
        }
    }

    #[test]
    fn a_path_that_became_fast_has_the_usual_controller_again() {
        let (mut path, mut now) = (SlowPath::default(), 0);
        send(&mut path, &mut now, (12_500_000, WAITS), 20_000);
        let between = (SLOW_RATE + FAST_RATE) / 2;
        assert_eq!(send(&mut path, &mut now, (between, WAITS), 20_000), []);
        let changed = send(&mut path, &mut now, (2 * FAST_RATE, Duration::ZERO), 20_000);
        let controllers: Vec<_> = changed.iter().map(|(_, controller)| *controller).collect();
        assert_eq!(controllers, [Controller::Usual]);
    }

    #[test]
    fn whatever_is_measured_a_controller_stays_for_a_while() {
        let (mut path, mut now, mut changes) = (SlowPath::default(), 0, Vec::new());
        while now < 100_000 {
            for rate in [1_000_000, 2 * FAST_RATE] {
                let begun = now;
                let changed = send(&mut path, &mut now, (rate, WAITS), 500);
                changes.extend(changed.iter().map(|(ms, _)| begun + ms));
            }
        }
        let dwell = DWELL.as_millis();
        assert!(changes.len() > 5, "{changes:?}");
        let apart = changes.windows(2).all(|two| u128::from(two[1] - two[0]) >= dwell);
        assert!(apart, "{changes:?}");
    }

    #[test]
    fn one_wait_of_hours_is_a_slow_path_and_nothing_overflows() {
        let mut path = SlowPath::default();
        assert_eq!(path.sent(Moment::from_micros(0), u64::MAX, Duration::ZERO), None);
        let hours = Duration::from_secs(100_000);
        let later = Moment::from_micros(u64::try_from(hours.as_micros()).unwrap_or(u64::MAX));
        assert_eq!(path.sent(later, u64::MAX, hours), None, "that many bytes are fast");
        let then = later + hours;
        assert_eq!(path.sent(then, 1, hours), Some(Controller::ShortQueue));
    }
}
