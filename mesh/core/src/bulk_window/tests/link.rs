//! A link of one rate, one delay and one queue, with senders as quinn has them: each keeps less than
//! its window in flight and is paced at 5/4 of its window in a round trip; each second datagram is
//! acknowledged at once, and any other after 25 ms.

use std::collections::BTreeMap;

use super::*;

const ACK_DELAY: Duration = millis(25);
/// Datagrams that a pacer lets pass at once.
const BURST: u64 = 10;
/// Later datagrams that are acknowledged before one is taken for lost (RFC 9002, section 6.1.1).
const REORDERED: u64 = 3;
const LEAST_TIMEOUT: Duration = millis(200);

pub(crate) trait Sender {
    fn input(&mut self, now: Moment, input: Input);
    fn window(&self) -> u64;
}

impl Sender for BulkWindow {
    fn input(&mut self, now: Moment, input: Input) {
        self.handle_input(now, input);
    }

    fn window(&self) -> u64 {
        BulkWindow::window(self)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// Bytes per second.
    pub(crate) rate: u64,
    /// Both ways together.
    pub(crate) trip: Duration,
    /// How long something may wait before the link.
    pub(crate) buffer: Duration,
    pub(crate) is_down: bool,
}

pub(crate) struct Link {
    now: Moment,
    path: Path,
    busy_until: Moment,
    flows: Vec<Flow>,
    events: BTreeMap<(Moment, u64), Event>,
    number: u64,
    /// How long each datagram waited before the link since the last look, in µs.
    waits: Vec<u64>,
}

struct Flow {
    sender: Box<dyn Sender>,
    /// Bytes per second that there are to send; all that fits otherwise.
    supply: Option<u64>,
    began: Moment,
    sent: u64,
    next: u64,
    /// What is in flight: by number, when it was sent.
    out: BTreeMap<u64, Moment>,
    smoothed: Duration,
    tokens: u64,
    filled_at: Moment,
    wakes_at: Option<Moment>,
    /// At the receiver.
    unacked: Vec<u64>,
    delivered: u64,
    acked_at: Moment,
    timeouts: u32,
}

#[derive(Debug)]
enum Event {
    Begins { flow: usize },
    Arrives { flow: usize, number: u64 },
    AckIsDue { flow: usize, number: u64 },
    Acked { flow: usize, numbers: Vec<u64> },
    Wakes { flow: usize },
    Times { flow: usize },
}

/// What a time was like.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Bytes per second of each flow.
    pub(crate) rates: Vec<u64>,
    /// Sorted.
    waits: Vec<u64>,
}

impl Seen {
    /// Of the link, by all flows.
    pub(crate) fn share(&self, rate: u64) -> f64 {
        self.rates.iter().sum::<u64>() as f64 / rate as f64
    }

    pub(crate) fn mean_wait(&self) -> Duration {
        let waits = self.waits.iter().sum::<u64>();
        Duration::from_micros(waits / u64::try_from(self.waits.len()).unwrap().max(1))
    }

    pub(crate) fn wait(&self, percent: usize) -> Duration {
        Duration::from_micros(self.waits[(self.waits.len() - 1) * percent / 100])
    }

    /// Jain's index: 1 when all have the same.
    pub(crate) fn fairness(&self) -> f64 {
        let sum: f64 = self.rates.iter().map(|rate| *rate as f64).sum();
        let squares: f64 = self.rates.iter().map(|rate| (*rate as f64).powi(2)).sum();
        sum * sum / (self.rates.len() as f64 * squares)
    }
}

impl Link {
    pub(crate) fn new(rate: u64, trip: Duration) -> Self {
        Self {
            now: at(0),
            path: Path { rate, trip, buffer: secs(1), is_down: false },
            busy_until: at(0),
            flows: Vec::new(),
            events: BTreeMap::new(),
            number: 0,
            waits: Vec::new(),
        }
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Path)) {
        change(&mut self.path);
    }

    /// A flow of our own that begins now.
    pub(crate) fn add(&mut self) -> usize {
        self.add_sender(Box::new(BulkWindow::new(self.now, DATAGRAM)), None)
    }

    pub(crate) fn add_sender(&mut self, sender: Box<dyn Sender>, supply: Option<u64>) -> usize {
        let flow = self.flows.len();
        self.flows.push(Flow {
            sender,
            supply,
            began: self.now,
            sent: 0,
            next: 0,
            out: BTreeMap::new(),
            smoothed: millis(100),
            tokens: BURST * DATAGRAM,
            filled_at: self.now,
            wakes_at: None,
            unacked: Vec::new(),
            delivered: 0,
            acked_at: self.now,
            timeouts: 0,
        });
        self.later(Duration::ZERO, Event::Begins { flow });
        self.later(secs(1), Event::Times { flow });
        flow
    }

    pub(crate) fn tell(&mut self, flow: usize, input: Input) {
        self.flows[flow].sender.input(self.now, input);
    }

    pub(crate) fn window(&self, flow: usize) -> u64 {
        self.flows[flow].sender.window()
    }

    /// Lets a time pass; returns what was seen in it.
    pub(crate) fn run(&mut self, time: Duration) -> Seen {
        let (begun, end) = (self.now, self.now + time);
        let before: Vec<u64> = self.flows.iter().map(|flow| flow.delivered).collect();
        self.waits.clear();
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((now, _), event) = entry.remove_entry();
            self.now = now;
            self.happens(event);
        }
        self.now = end;
        let rate = |bytes| measure::rate(bytes, end.since(begun));
        let flows = self.flows.iter().zip(before);
        let rates = flows.map(|(flow, before)| rate(flow.delivered - before)).collect();
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        Seen { rates, waits }
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.number += 1;
        self.events.insert((self.now + after, self.number), event);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Begins { flow } => self.send(flow),
            Event::Arrives { flow, number } => {
                let receiver = &mut self.flows[flow];
                receiver.delivered += DATAGRAM;
                receiver.unacked.push(number);
                if receiver.unacked.len() >= 2 {
                    self.acknowledge(flow);
                } else {
                    self.later(ACK_DELAY, Event::AckIsDue { flow, number });
                }
            }
            Event::AckIsDue { flow, number } => {
                if self.flows[flow].unacked.contains(&number) {
                    self.acknowledge(flow);
                }
            }
            Event::Acked { flow, numbers } => {
                self.flows[flow].acked(self.now, &numbers);
                self.send(flow);
            }
            Event::Wakes { flow } => {
                self.flows[flow].wakes_at = None;
                self.send(flow);
            }
            Event::Times { flow } => {
                let again = self.flows[flow].times(self.now);
                self.later(again, Event::Times { flow });
                self.send(flow);
            }
        }
    }

    fn acknowledge(&mut self, flow: usize) {
        let numbers = std::mem::take(&mut self.flows[flow].unacked);
        self.later(self.path.trip / 2, Event::Acked { flow, numbers });
    }

    fn send(&mut self, flow: usize) {
        loop {
            match self.flows[flow].may_send(self.now) {
                Ok(true) => self.transmit(flow),
                Ok(false) => return,
                Err(wait) => {
                    let at = self.now + wait;
                    if self.flows[flow].wakes_at.is_none_or(|wakes| at < wakes) {
                        self.flows[flow].wakes_at = Some(at);
                        self.later(wait, Event::Wakes { flow });
                    }
                    return;
                }
            }
        }
    }

    fn transmit(&mut self, flow: usize) {
        let number = self.flows[flow].transmit(self.now);
        let wait = self.busy_until.since(self.now);
        if self.path.is_down || wait > self.path.buffer {
            return;
        }
        self.waits.push(u64::try_from(wait.as_micros()).unwrap());
        let takes = Duration::from_micros(DATAGRAM * 1_000_000 / self.path.rate);
        self.busy_until = self.busy_until.max(self.now) + takes;
        self.later(wait + takes + self.path.trip / 2, Event::Arrives { flow, number });
    }
}

impl Flow {
    fn in_flight(&self) -> u64 {
        u64::try_from(self.out.len()).unwrap() * DATAGRAM
    }

    /// Or for how long to wait.
    fn may_send(&mut self, now: Moment) -> Result<bool, Duration> {
        if self.in_flight() + DATAGRAM >= self.sender.window() {
            return Ok(false);
        }
        if let Some(supply) = self.supply {
            let made = measure::held(supply, now.since(self.began));
            if self.sent + DATAGRAM > made {
                let missing = self.sent + DATAGRAM - made;
                return Err(Duration::from_micros(missing * 1_000_000 / supply + 1));
            }
        }
        let pace = (measure::rate(self.sender.window(), self.smoothed) / 4 * 5).max(1);
        let filled = measure::held(pace, now.since(self.filled_at));
        if filled > 0 {
            self.tokens = (self.tokens + filled).min(BURST * DATAGRAM);
            self.filled_at = now;
        }
        if self.tokens >= DATAGRAM {
            return Ok(true);
        }
        Err(Duration::from_micros((DATAGRAM - self.tokens) * 1_000_000 / pace + 1))
    }

    fn transmit(&mut self, now: Moment) -> u64 {
        self.next += 1;
        self.tokens = self.tokens.saturating_sub(DATAGRAM);
        self.sent += DATAGRAM;
        self.out.insert(self.next, now);
        self.next
    }

    fn acked(&mut self, now: Moment, numbers: &[u64]) {
        let in_flight = self.in_flight();
        let mut newest = None;
        let mut bytes = 0;
        for number in numbers {
            if let Some(sent_at) = self.out.remove(number) {
                newest = newest.max(Some(sent_at));
                bytes += DATAGRAM;
            }
        }
        let Some(sent_at) = newest else { return };
        self.acked_at = now;
        self.timeouts = 0;
        self.smoothed = (self.smoothed * 7 + now.since(sent_at)) / 8;
        let app_limited = self.supply.is_some() && in_flight + 2 * DATAGRAM < self.sender.window();
        self.sender.input(now, Input::Acked(Acked { bytes, sent_at, in_flight, app_limited }));
        let reordered = numbers.iter().max().unwrap().saturating_sub(REORDERED);
        let kept = self.out.split_off(&(reordered + 1));
        let lost = std::mem::replace(&mut self.out, kept);
        if !lost.is_empty() {
            let bytes = u64::try_from(lost.len()).unwrap() * DATAGRAM;
            self.sender.input(now, Input::Lost { bytes });
        }
    }

    /// Gives everything up when nothing came back for long. Returns when to look again.
    fn times(&mut self, now: Moment) -> Duration {
        let patience = (self.smoothed * 3).max(LEAST_TIMEOUT) * 2_u32.pow(self.timeouts.min(4));
        if !self.out.is_empty() && now.since(self.acked_at) >= patience {
            self.out.clear();
            self.timeouts += 1;
            self.acked_at = now;
            self.sender.input(now, Input::Stalled);
        }
        LEAST_TIMEOUT
    }
}
