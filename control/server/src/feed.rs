//! What the event streams share: one window of the newest events, and who is woken for what.
//!
//! A stream registers what concerns it: the events of its audience, and the event streams that its
//! authority hangs on (the user, the login or API token, the membership). It is woken for those
//! and for nothing else, once for all that were published together, so that wake-ups grow neither
//! with other organizations' events nor with events times followers.

mod seat;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rap_control_core::{
    access::Words,
    audit::{Audience, EventWindow, Seen, Shown, Taken},
};
use rap_events::StreamId;
use rap_proto::{Digest, OrganizationId, UserId};
use tokio::sync::{Notify, Semaphore};

pub(crate) use seat::Seat;

use crate::{metrics::Gauge, options::StreamLimits};

/// How many streams that are behind the window read the log at the same time.
pub(crate) const MAX_PAGE_READERS: usize = 8;
/// The least time between two wake-ups of one stream, and what each open stream adds to it.
const LEAST_PACE: Duration = Duration::from_millis(5);
const PACE_PER_FOLLOWER: Duration = Duration::from_micros(20);

/// An event, and the stream of the log that it belongs to.
#[derive(Debug)]
pub(crate) struct Fed {
    pub(crate) stream: StreamId,
    pub(crate) shown: Shown<Bytes>,
}

/// What somebody is woken for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    /// Any event.
    Platform,
    Organization(OrganizationId),
    /// The events of one stream.
    Stream(StreamId),
    /// The words of an organization's resources.
    Words(OrganizationId),
}

#[derive(Debug)]
pub(crate) struct Feed {
    limits: StreamLimits,
    shared: Mutex<Shared>,
    wakeups: AtomicU64,
    /// Turns to read pages of the log.
    pub(crate) page_readers: Semaphore,
}

#[derive(Debug)]
struct Shared {
    window: EventWindow<Bytes>,
    followers: BTreeMap<u64, Arc<Notify>>,
    topics: BTreeMap<Topic, BTreeSet<u64>>,
    users: BTreeMap<UserId, usize>,
    /// Of the organizations that somebody listens to.
    words: BTreeMap<OrganizationId, Arc<Words>>,
    /// The number of the next follower.
    next: u64,
    closed: bool,
}

/// How long to gather events before the next wake-up: the more are woken, the less often.
pub(crate) fn pace(followers: usize) -> Duration {
    LEAST_PACE + PACE_PER_FOLLOWER * u32::try_from(followers).unwrap_or(u32::MAX)
}

impl Feed {
    /// Begins behind what was seen, with nobody.
    pub(crate) fn new(seen: Seen, limits: StreamLimits) -> Self {
        let shared = Shared {
            window: EventWindow::new(seen),
            followers: BTreeMap::new(),
            topics: BTreeMap::new(),
            users: BTreeMap::new(),
            words: BTreeMap::new(),
            next: 0,
            closed: false,
        };
        Self {
            limits,
            shared: Mutex::new(shared),
            wakeups: AtomicU64::new(0),
            page_readers: Semaphore::new(MAX_PAGE_READERS),
        }
    }

    pub(crate) fn limits(&self) -> StreamLimits {
        self.limits
    }

    pub(crate) fn followers(&self) -> usize {
        self.lock().followers.len()
    }

    /// Where the next read of the log begins; `None` when everything up to `folded` was published.
    /// Without followers nothing is read: the window begins anew.
    pub(crate) fn next_after(&self, folded: Seen) -> Option<Seen> {
        let mut shared = self.lock();
        let end = shared.window.end();
        if end.position >= folded.position {
            return None;
        }
        if shared.followers.is_empty() {
            shared.window.skip_to(folded);
            return None;
        }
        Some(end)
    }

    /// Takes in the next events of the log and wakes whom they concern, each once.
    pub(crate) fn publish(&self, events: Vec<Fed>) {
        let mut concerned = BTreeSet::new();
        let mut shared = self.lock();
        for Fed { stream, shown } in events {
            let own = shown.organization.map(Topic::Organization);
            for topic in [Topic::Platform, Topic::Stream(stream)].into_iter().chain(own) {
                concerned.extend(shared.topics.get(&topic).into_iter().flatten().copied());
            }
            shared.window.push(shown);
        }
        for number in &concerned {
            if let Some(follower) = shared.followers.get(number) {
                follower.notify_one();
            }
        }
        self.wakeups.fetch_add(concerned.len() as u64, Ordering::Relaxed);
    }

    /// The audience's next events, if the window has them.
    pub(crate) fn take(&self, audience: Audience, after: Seen, most: usize) -> Taken<Bytes> {
        self.lock().window.take(audience, after, most)
    }

    /// The last event that was published: the projections have folded it.
    pub(crate) fn end(&self) -> Seen {
        self.lock().window.end()
    }

    /// What stands at a position, if the window knows.
    pub(crate) fn leaf_at(&self, position: u64) -> Option<Digest> {
        self.lock().window.leaf_at(position)
    }

    /// Ends every stream, and begins no other.
    pub(crate) fn close(&self) {
        let mut shared = self.lock();
        shared.closed = true;
        shared.followers.values().for_each(|follower| follower.notify_one());
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn gauges(&self) -> [Gauge; 4] {
        let shared = self.lock();
        let (events, bytes) = shared.window.size();
        let gauge = |name, help, value| Gauge { name, help, labels: String::new(), value };
        [
            gauge(
                "rap_control_event_subscribers",
                "Open event streams.",
                shared.followers.len() as u64,
            ),
            gauge("rap_control_event_window_events", "Events held for streams.", events as u64),
            gauge("rap_control_event_window_bytes", "Bytes held for streams.", bytes as u64),
            gauge(
                "rap_control_event_wakeups",
                "How often a stream was woken.",
                self.wakeups.load(Ordering::Relaxed),
            ),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no holder of the lock panics")
    }
}
