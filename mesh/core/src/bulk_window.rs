//! How much a bulk lane may have in flight: about what the path holds, and a queue of a few
//! milliseconds, so that whatever shares the path does not wait behind a download.
//!
//! A path holds its rate times its shortest round trip. Both are measured: the rate from what was
//! acknowledged in a **round**, the shortest round trip, the **base**, from every acknowledgement.
//! What a round trip takes beyond the base is queue, and the window aims at a queue of
//! [`queue_aim`]:
//!
//! - At first it grows with every acknowledgement, until there is a queue.
//! - Then a round with half of the aimed queue or more sets it to `rate × (base + aim)`, and a
//!   round with less lets it grow: by half of the aim first, by twice as much each further time.
//! - Each [`BASE_EVERY`] it goes down to half of what the path holds, for as long as it takes to see
//!   the base again. It does so earlier when the queue stays far above the aim whatever
//!   is done about it: then the path is another one, or somebody else fills its queue.
//! - What it sees then counts as the base from now on. If that is far longer than before, the aim
//!   doubles, so that a flow that fills the queue leaves it a part. Each look at the base that finds
//!   it again halves the aim.
//!
//! A faster flow aims at a shorter queue. So of two on one path the slower still grows where the
//! faster gives way, and they come to the same rate.

mod base;
mod measure;
mod round;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rap_proto::Moment;

use base::{Base, Drain};
use measure::{Rates, held};
use round::{Measured, Round};

pub use measure::{LEAST_QUEUE, MOST_QUEUE, queue_aim};

/// What a path gets before anything is known of it, in datagrams (RFC 9002, section 7.2).
pub const INITIAL_DATAGRAMS: u64 = 10;
/// The smallest window in datagrams: less, and the other side's delayed acknowledgements (RFC 9000,
/// section 13.2) stop the flow.
pub const LEAST_DATAGRAMS: u64 = 4;
/// The largest window in bytes, which is what a bulk lane's peer takes.
pub const MOST_IN_FLIGHT: u64 = 32 << 20;
/// The base is looked at again when it was not seen for this long.
pub const BASE_EVERY: Duration = Duration::from_secs(10);
/// Of what was sent in a round so many parts may be lost, one in this number, without an answer:
/// radio loses as much without a queue.
pub const LOSS_TOLERATED: u64 = 50;
/// Acknowledgements in a row that have to say that there is a queue before the start ends within a
/// round: one or two say that somebody was late (RFC 9406, section 4.2).
const QUEUED_ACKS: u32 = 8;
/// A queue of so many times the aim is not ours.
const FAR: u32 = 4;
/// After so many rounds in a row with such a queue the base is looked at.
const FAR_ROUNDS: u32 = 4;
/// A base that is longer than before by so many times the aim is somebody's queue: equals among us
/// leave less.
const LONGER: u32 = 2;
/// How often the aim doubles at most for somebody else's queue.
pub const MOST_PRESSED: u32 = 2;

/// What happened to what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Acked(Acked),
    /// So many bytes are taken for lost.
    Lost {
        bytes: u64,
    },
    /// A router says that its queue is long (RFC 3168).
    Marked,
    /// Nothing came back for so long that nothing is known of the path (RFC 9002, section 7.6).
    Stalled,
    /// The path is another one.
    PathChanged,
    /// Datagrams are so large from now on, in bytes.
    Datagram {
        bytes: u64,
    },
}

/// What one acknowledgement was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    pub bytes: u64,
    /// When the newest of it was sent.
    pub sent_at: Moment,
    /// Bytes that were in flight until now, these included.
    pub in_flight: u64,
    /// The sender had nothing more to send.
    pub app_limited: bool,
}

/// The window of one connection on one path.
///
/// INVARIANT: it is never below [`LEAST_DATAGRAMS`] datagrams nor above [`MOST_IN_FLIGHT`].
#[derive(Debug, Clone)]
pub struct BulkWindow {
    /// What was sent earlier says nothing of this path.
    begun_at: Moment,
    datagram: u64,
    window: u64,
    phase: Phase,
    round: Round,
    rates: Rates,
    base: Base,
    /// Acknowledgements in a row, at the start, that say that there is a queue.
    queued_acks: u32,
    /// Rounds in a row with a queue far above the aim.
    far_rounds: u32,
    /// How often the aim is doubled.
    pressed: u32,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Nothing is known but that there is no queue yet.
    Starting,
    /// By how many bytes the window grows after the next round without a queue.
    Steady {
        step: u64,
    },
    Draining(Drain),
}

impl BulkWindow {
    /// For a path of which nothing is known, with datagrams of so many bytes.
    pub fn new(now: Moment, datagram: u64) -> Self {
        let datagram = datagram.clamp(1, MOST_IN_FLIGHT / INITIAL_DATAGRAMS);
        Self {
            begun_at: now,
            datagram,
            window: INITIAL_DATAGRAMS * datagram,
            phase: Phase::Starting,
            round: Round::new(now),
            rates: Rates::default(),
            base: Base::new(now),
            queued_acks: 0,
            far_rounds: 0,
            pressed: 0,
        }
    }

    /// Bytes that may be in flight.
    pub const fn window(&self) -> u64 {
        self.window
    }

    pub fn handle_input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Acked(acked) if acked.bytes == 0 || acked.sent_at < self.begun_at => {}
            Input::Acked(acked) => self.acked(now, acked),
            Input::Lost { bytes } => self.round.lost(bytes),
            Input::Marked => self.round.marked(),
            Input::PathChanged => *self = Self::new(now, self.datagram),
            Input::Stalled => {
                *self = Self::new(now, self.datagram);
                self.set(LEAST_DATAGRAMS * self.datagram);
            }
            Input::Datagram { bytes } => {
                self.datagram = bytes.clamp(1, MOST_IN_FLIGHT / INITIAL_DATAGRAMS);
                self.set(self.window);
            }
        }
    }

    fn acked(&mut self, now: Moment, acked: Acked) {
        let trip = now.since(acked.sent_at);
        self.base.saw(now, trip, self.aim() / 4);
        self.round.acked(now, acked, trip);
        match &mut self.phase {
            Phase::Starting => self.start(acked, trip),
            Phase::Draining(drain) => {
                if let Some(base) = drain.acked(now, acked, trip, self.window) {
                    self.found(now, base);
                }
                return;
            }
            Phase::Steady { .. } => {}
        }
        if let Some(measured) = self.round.end(now) {
            self.rates.add(measured.rate, self.is_paced_by_window(&measured));
            self.decide(now, &measured);
        }
    }

    /// Grows by what was acknowledged, which doubles the window each round trip.
    fn start(&mut self, acked: Acked, trip: Duration) {
        // A lone packet is acknowledged late, and that is no queue.
        let queued = acked.in_flight >= self.window / 2 && trip >= self.base.trip() + self.aim();
        self.queued_acks = if queued { self.queued_acks.saturating_add(1) } else { 0 };
        if self.queued_acks < QUEUED_ACKS && acked.in_flight >= self.window / 2 {
            self.set(self.window.saturating_add(acked.bytes));
        }
    }

    fn decide(&mut self, now: Moment, measured: &Measured) {
        let aim = self.aim();
        let queue = measured.trip.saturating_sub(self.base.trip());
        // The rounds of a sender with little to send say nothing of the path.
        let paced = self.is_paced_by_window(measured);
        let Phase::Steady { step } = self.phase else {
            let found = self.queued_acks >= QUEUED_ACKS || queue >= aim;
            if (found && paced) || measured.is_pushed_back {
                self.settle(now);
            }
            return;
        };
        self.far_rounds = if paced && queue > aim * FAR { self.far_rounds + 1 } else { 0 };
        if measured.is_pushed_back {
            // From here on it grows slowly: there is little room.
            self.phase = Phase::Steady { step: self.datagram };
            self.set(self.window / 8 * 7);
        } else if paced && (self.far_rounds >= FAR_ROUNDS || self.base.is_old(now)) {
            self.drain();
        } else if queue < aim / 2 {
            if measured.in_flight >= self.window / 2 {
                let step = step.min(self.window);
                self.set(self.window + step);
                self.phase = Phase::Steady { step: step * 2 };
            }
        } else {
            if paced {
                let goal = self.goal().max(self.window / 2);
                self.set(goal.min(self.window * 2));
            }
            self.phase = Phase::Steady { step: self.first_step() };
        }
    }

    /// Whether the round's rate is what the path gave, and not what there was to send.
    const fn is_paced_by_window(&self, measured: &Measured) -> bool {
        !measured.is_app_limited && measured.in_flight >= self.window / 2
    }

    fn drain(&mut self) {
        self.far_rounds = 0;
        self.phase = Phase::Draining(Drain::default());
        self.set(held(self.rates.best(), self.base.trip()) / 2);
    }

    /// The shortest round trip of a queue without us.
    fn found(&mut self, now: Moment, trip: Duration) {
        let is_longer = trip > self.base.trip() + queue_aim(self.rates.best()) * LONGER;
        self.pressed = if is_longer {
            (self.pressed + 1).min(MOST_PRESSED)
        } else {
            self.pressed.saturating_sub(1)
        };
        self.base = Base::seen(now, trip);
        self.settle(now);
    }

    fn settle(&mut self, now: Moment) {
        self.phase = Phase::Steady { step: self.first_step() };
        self.round = Round::new(now);
        self.set(self.goal());
    }

    /// What is in flight when the path is full and its queue as long as is aimed at. One datagram
    /// more than that, as one always waits until it fits.
    fn goal(&self) -> u64 {
        held(self.rates.best(), self.base.trip() + self.aim()) + self.datagram
    }

    fn first_step(&self) -> u64 {
        held(self.rates.best(), self.aim() / 2).max(self.datagram)
    }

    /// Before any round ended, the rate is what the window gives.
    fn aim(&self) -> Duration {
        let given = measure::rate(self.window, self.base.trip());
        let rate = if self.rates.is_empty() { given } else { self.rates.best() };
        queue_aim(rate) * 2_u32.pow(self.pressed)
    }

    fn set(&mut self, window: u64) {
        self.window = window.clamp(LEAST_DATAGRAMS * self.datagram, MOST_IN_FLIGHT);
    }
}
