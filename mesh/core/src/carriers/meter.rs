//! The rate of one direction of one flow, while its lane is what it waits for.

use std::time::Duration;

use rap_proto::Moment;

use crate::{carrier::Carrier, shape::Direction};

/// How long is measured at once. A flow's first window fills buffers and finds its rate, and does not
/// count.
pub const WINDOW: Duration = Duration::from_secs(1);
/// Who receives from a lane does not see whether that or its source keeps it waiting. Fewer bytes than
/// this in a window, or one wait of more than [`LONGEST_WAIT`], is taken for a source that has nothing.
pub const MIN_BYTES: u64 = 64 * 1024;
pub const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Says a rate for each window in which the flow waited for its lane for half of the time or more.
#[derive(Debug, Clone)]
pub struct Meter {
    direction: Direction,
    window: Option<Window>,
    /// What carried the window before.
    carrier: Option<Carrier>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    begun: Moment,
    bytes: u64,
    waited: Duration,
    longest: Duration,
}

impl Meter {
    pub const fn new(direction: Direction) -> Self {
        Self { direction, window: None, carrier: None }
    }

    /// So many bytes passed, for which the flow waited so long. Returns whether a window is over, to
    /// be taken by [`Self::take`].
    pub fn passed(&mut self, now: Moment, bytes: u64, waited: Duration) -> bool {
        let window = self.window.get_or_insert(Window::at(now));
        window.bytes += bytes;
        window.waited += waited;
        window.longest = window.longest.max(waited);
        now.since(window.begun) >= WINDOW
    }

    /// The rate of the window that is over, in bytes a second, when the flow waited for its lane and
    /// was on one carrier.
    pub fn take(&mut self, now: Moment, carrier: Option<Carrier>) -> Option<(Carrier, u64)> {
        let window = self.window.replace(Window::at(now))?;
        let before = std::mem::replace(&mut self.carrier, carrier);
        let carrier = carrier.filter(|_| before == carrier)?;
        window.rate(now, self.direction).map(|rate| (carrier, rate))
    }
}

impl Window {
    const fn at(begun: Moment) -> Self {
        Self { begun, bytes: 0, waited: Duration::ZERO, longest: Duration::ZERO }
    }

    fn rate(&self, now: Moment, direction: Direction) -> Option<u64> {
        let took = now.since(self.begun);
        let is_steady = self.longest <= LONGEST_WAIT && self.bytes >= MIN_BYTES;
        if self.waited * 2 < took || (direction == Direction::Down && !is_steady) {
            return None;
        }
        let micros = took.as_micros().max(1);
        u64::try_from(u128::from(self.bytes) * 1_000_000 / micros).ok()
    }
}
