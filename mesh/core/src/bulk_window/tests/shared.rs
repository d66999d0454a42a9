//! Several flows on a link.

use super::{
    link::{Link, Sender},
    *,
};

/// A loss-based sender (RFC 5681): it fills the queue until something is lost.
struct LossBased {
    window: u64,
    threshold: u64,
    answered_at: Moment,
}

impl LossBased {
    fn new() -> Box<Self> {
        Box::new(Self { window: 10 * DATAGRAM, threshold: u64::MAX, answered_at: at(0) })
    }
}

impl Sender for LossBased {
    fn input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Acked(acked) if self.window < self.threshold => self.window += acked.bytes,
            Input::Acked(acked) => self.window += DATAGRAM * acked.bytes / self.window,
            Input::Lost { .. } if now.since(self.answered_at) > millis(100) => {
                self.answered_at = now;
                self.window = (self.window / 2).max(4 * DATAGRAM);
                self.threshold = self.window;
            }
            _ => {}
        }
    }

    fn window(&self) -> u64 {
        self.window
    }
}

#[test]
fn two_that_begin_together_share() {
    for (rate, trip) in [(2, 50), (20, 5), (20, 100), (100, 20)] {
        let mut link = Link::new(mbit(rate), millis(trip));
        link.add();
        link.add();
        link.run(secs(10));
        let seen = link.run(secs(15));
        assert!(seen.fairness() > 0.95, "{rate} {trip}: {:?}", seen.rates);
        assert!(seen.share(mbit(rate)) > 0.93);
        assert!(seen.mean_wait() < 4 * queue_aim(mbit(rate)) + millis(1));
    }
}

#[test]
fn who_comes_late_gets_as_much() {
    for (rate, trip) in [(2, 50), (20, 5), (20, 100), (100, 20)] {
        let mut link = Link::new(mbit(rate), millis(trip));
        link.add();
        link.run(secs(12));
        link.add();
        link.run(secs(25));
        let seen = link.run(secs(20));
        assert!(seen.fairness() > 0.9, "{rate} {trip}: {:?}", seen.rates);
    }
}

#[test]
fn beside_a_loss_based_flow_it_gives_way_and_never_stops() {
    for buffer in [20, 100] {
        let mut link = Link::new(mbit(20), millis(20));
        link.change(|path| path.buffer = millis(buffer));
        let ours = link.add();
        link.run(secs(5));
        link.add_sender(LossBased::new(), None);
        link.run(secs(10));
        let shares: Vec<f64> =
            (0..6).map(|_| link.run(secs(10)).rates[ours] as f64 / mbit(20) as f64).collect();
        assert!(shares.iter().all(|share| (0.1..0.6).contains(share)), "{shares:?}");
    }
}
