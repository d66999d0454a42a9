//! What is seen of one run, by all hosts together.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rap_mesh::{LaneStatus, Path};
use rap_proto::Moment;
use rap_simulations::kit::Trace;

use super::{messages::Talks, now};

#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Seen>>);

#[derive(Default)]
pub(crate) struct Seen {
    /// What happened.
    pub(crate) story: Trace,
    /// Every datagram: when it was sent, from where, to where, and whether it was lost. And when each
    /// number came.
    pub(crate) traffic: Trace,
    /// When something was noted last.
    pub(crate) last: Moment,
    pub(crate) lost: u64,
    /// How often the resource was dialled.
    pub(super) dials: u32,
    /// The numbers that reached the resource, and those that came back.
    pub(super) there: Vec<u64>,
    pub(super) back: Vec<u64>,
    /// The longest time without an answer.
    pub(super) gap: Duration,
    last_back: Option<Moment>,
    /// Whether the client's channel ended.
    pub(super) is_ended: bool,
    /// The entry's lanes, as it showed them last.
    pub(super) lanes: Vec<(Path, u64)>,
    /// The channels of messages.
    pub(super) talks: Talks,
}

impl Record {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Seen> {
        // Of a run that panicked, what was noted is shown.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        self.note_at(now(), what);
    }

    /// The same from outside of any host.
    pub(crate) fn note_at(&self, now: Moment, what: fmt::Arguments<'_>) {
        let mut seen = self.lock();
        seen.last = seen.last.max(now);
        seen.story.note(now, what);
    }

    pub(crate) fn sent(&self, from: SocketAddr, to: SocketAddr, is_lost: bool) {
        let mut seen = self.lock();
        seen.lost += u64::from(is_lost);
        seen.last = now();
        let end = if is_lost { "lost" } else { "on its way" };
        seen.traffic.note(now(), format_args!("{from} {to} {end}"));
    }

    pub(super) fn dialled(&self) {
        self.lock().dials += 1;
        self.note(format_args!("the resource is dialled"));
    }

    pub(crate) fn arrived(&self, number: u64) {
        let mut seen = self.lock();
        seen.there.push(number);
        seen.traffic.note(now(), format_args!("{number} arrived"));
    }

    pub(crate) fn answered(&self, number: u64) {
        let (mut seen, now) = (self.lock(), now());
        if let Some(before) = seen.last_back.replace(now) {
            seen.gap = seen.gap.max(now.since(before));
        }
        seen.back.push(number);
        seen.traffic.note(now, format_args!("{number} came back"));
    }

    pub(super) fn ended(&self, error: &io::Error) {
        self.note(format_args!("the channel ended: {error}"));
        self.lock().is_ended = true;
    }

    pub(super) fn showed(&self, lanes: &[LaneStatus]) {
        let lanes: Vec<_> = lanes.iter().map(|lane| (lane.path, lane.switches)).collect();
        let mut seen = self.lock();
        if seen.lanes != lanes {
            seen.story.note(now(), format_args!("the entry's lanes: {lanes:?}"));
            seen.lanes = lanes;
        }
    }

    /// What happened last.
    pub(crate) fn story(&self) -> String {
        std::mem::take(&mut self.lock().story).into_lines().join("\n")
    }

    /// How the lane reaches its egress.
    pub(super) fn path(&self) -> Option<Path> {
        self.lock().lanes.first().map(|(path, _)| *path)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}
