//! What a subscriber reads from: bounded, and losing the oldest first.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::Stream;

use crate::{BusEvent, SUBSCRIPTION_CAPACITY};

/// Where an implementation of the bus puts what it received for one subscription.
#[derive(Default)]
pub(crate) struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    events: VecDeque<BusEvent>,
    dropped: u64,
    closed: bool,
    reader: Option<Waker>,
}

/// The messages of one subscription, oldest first. The stream ends only when the bus itself
/// does; dropping it unsubscribes.
pub struct Subscription {
    queue: Arc<Queue>,
    /// Ends the implementation's side when dropped.
    _source: Box<dyn Send + Sync>,
}

impl Queue {
    pub(crate) fn push(&self, event: BusEvent) {
        let mut state = self.lock();
        if state.events.len() == SUBSCRIPTION_CAPACITY {
            state.events.pop_front();
            state.dropped += 1;
        }
        state.events.push_back(event);
        wake(state);
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and a queue is whole between any two calls.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl Subscription {
    pub(crate) fn new(queue: Arc<Queue>, source: Box<dyn Send + Sync>) -> Self {
        Self { queue, _source: source }
    }

    /// How many messages were lost because this side did not read them in time.
    pub fn dropped(&self) -> u64 {
        self.queue.lock().dropped
    }
}

impl Stream for Subscription {
    type Item = BusEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<BusEvent>> {
        let mut state = self.queue.lock();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}
