//! What the connection leads to: it sees which node's packets come, and under which generation.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use rap_proto::{Generation, Moment};

use crate::meshes::{now, record::Record};

#[derive(Clone)]
pub(super) struct Resource(Arc<Mutex<Seen>>);

struct Seen {
    record: Record,
    /// Since the last look.
    came: BTreeSet<(usize, Generation)>,
    last: Option<(usize, Generation)>,
    last_at: Moment,
    packets: u64,
    /// The longest time without a packet, and how often another node's came.
    gap: Duration,
    moves: u32,
}

impl Resource {
    pub(super) fn new(record: Record) -> Self {
        let seen = Seen {
            record,
            came: BTreeSet::new(),
            last: None,
            last_at: Moment::default(),
            packets: 0,
            gap: Duration::ZERO,
            moves: 0,
        };
        Self(Arc::new(Mutex::new(seen)))
    }

    pub(super) fn receive(&self, place: usize, generation: Generation) {
        let mut seen = self.0.lock().unwrap();
        let (now, from) = (now(), (place, generation));
        seen.came.insert(from);
        seen.packets += 1;
        if seen.last.is_some() {
            seen.gap = seen.gap.max(now.since(seen.last_at));
        }
        if seen.last != Some(from) {
            seen.moves += u32::from(seen.last.is_some_and(|(before, _)| before != place));
            seen.record.note(format_args!("the resource hears node {place} under {generation}"));
        }
        (seen.last, seen.last_at) = (Some(from), now);
    }

    /// Whose packets came since the last look.
    pub(super) fn look(&self) -> Vec<(usize, Generation)> {
        mem::take(&mut self.0.lock().unwrap().came).into_iter().collect()
    }

    pub(super) fn moves(&self) -> u32 {
        self.0.lock().unwrap().moves
    }

    pub(super) fn packets(&self) -> u64 {
        self.0.lock().unwrap().packets
    }

    pub(super) fn gap(&self) -> Duration {
        self.0.lock().unwrap().gap
    }
}
