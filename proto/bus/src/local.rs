//! The bus inside one process, as good or as bad as a simulation wants it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future, future::BoxFuture};

use crate::{Bus, BusError, BusEvent, Subscription, queue::Queue, subject};

/// The most subscriptions of one bus.
const MAX_SUBSCRIPTIONS: usize = 4096;
/// The most messages under way at once; the next ones are lost.
const MAX_DELAYED: usize = 4096;

/// How a bus treats its messages, each copy by the next draw from a generator with this seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    pub seed: u64,
    /// Of 1,000 copies, how many are lost.
    pub lost_permille: u16,
    /// Of 1,000 copies, how many arrive twice.
    pub duplicated_permille: u16,
    /// Each copy is under way for up to this long, so that copies overtake each other.
    pub greatest_delay: Duration,
}

/// A bus for programs that share a process. Clones are handles of the same bus.
#[derive(Clone, Default)]
pub struct LocalBus(Arc<Shared>);

#[derive(Default)]
struct Shared {
    subscriptions: Mutex<Subscriptions>,
    faults: Option<Mutex<FaultSource>>,
    delayed: AtomicUsize,
    disconnected: AtomicBool,
}

#[derive(Default)]
struct Subscriptions {
    next: u64,
    by_number: BTreeMap<u64, (String, Arc<Queue>)>,
}

/// Takes a subscription off its bus.
struct Listing {
    shared: Weak<Shared>,
    number: u64,
}

impl LocalBus {
    /// A bus that delivers everything at once and in order.
    pub fn new() -> Self {
        Self::default()
    }

    /// A bus that loses, repeats and delays. Delays run on tokio's clock.
    pub fn with_faults(faults: Faults) -> Self {
        let source = FaultSource { faults, state: faults.seed };
        Self(Arc::new(Shared { faults: Some(Mutex::new(source)), ..Shared::default() }))
    }

    /// Cuts the bus off, or restores it: like a server that is gone, it refuses to publish, but
    /// subscriptions live on.
    pub fn set_disconnected(&self, disconnected: bool) {
        self.0.disconnected.store(disconnected, Ordering::SeqCst);
    }

    fn send(&self, event: BusEvent) -> Result<(), BusError> {
        subject::check_publish(&event.subject, event.payload.len())?;
        if self.0.disconnected.load(Ordering::SeqCst) {
            return Err(BusError::Disconnected);
        }
        let listeners: Vec<Arc<Queue>> = lock(&self.0.subscriptions)
            .by_number
            .values()
            .filter(|(pattern, _)| subject::matches(pattern, &event.subject))
            .map(|(_, queue)| queue.clone())
            .collect();
        for queue in listeners {
            let delays = match &self.0.faults {
                None => vec![Duration::ZERO],
                Some(source) => lock(source).copies(),
            };
            for delay in delays {
                self.deliver(queue.clone(), event.clone(), delay);
            }
        }
        Ok(())
    }

    fn deliver(&self, queue: Arc<Queue>, event: BusEvent, delay: Duration) {
        if delay.is_zero() {
            return queue.push(event);
        }
        let shared = self.0.clone();
        if shared.delayed.fetch_add(1, Ordering::SeqCst) >= MAX_DELAYED {
            shared.delayed.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            shared.delayed.fetch_sub(1, Ordering::SeqCst);
            queue.push(event);
        });
    }

    fn listen(&self, pattern: String) -> Result<Subscription, BusError> {
        subject::check_pattern(&pattern)?;
        let queue = Arc::new(Queue::default());
        let mut subscriptions = lock(&self.0.subscriptions);
        if subscriptions.by_number.len() == MAX_SUBSCRIPTIONS {
            return Err(BusError::TooManySubscriptions { limit: MAX_SUBSCRIPTIONS });
        }
        let number = subscriptions.next;
        subscriptions.next += 1;
        subscriptions.by_number.insert(number, (pattern, queue.clone()));
        let listing = Listing { shared: Arc::downgrade(&self.0), number };
        Ok(Subscription::new(queue, Box::new(listing)))
    }
}

impl Bus for LocalBus {
    fn publish(&self, subject: String, payload: Bytes) -> BoxFuture<'_, Result<(), BusError>> {
        future::ready(self.send(BusEvent { subject, payload })).boxed()
    }

    fn subscribe(&self, subject: String) -> BoxFuture<'_, Result<Subscription, BusError>> {
        future::ready(self.listen(subject)).boxed()
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            lock(&shared.subscriptions).by_number.remove(&self.number);
        }
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for (_, queue) in self.by_number.values() {
            queue.close();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct FaultSource {
    faults: Faults,
    state: u64,
}

impl FaultSource {
    /// The delay of each copy of the next delivery.
    fn copies(&mut self) -> Vec<Duration> {
        let lost = self.draw(1000) < u64::from(self.faults.lost_permille);
        let duplicated = self.draw(1000) < u64::from(self.faults.duplicated_permille);
        let copies = if lost { 0 } else { 1 + usize::from(duplicated) };
        (0..copies).map(|_| self.delay()).collect()
    }

    fn delay(&mut self) -> Duration {
        let micros = u64::try_from(self.faults.greatest_delay.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.draw(micros + 1))
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): small, and equal on every machine.
    fn draw(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}
