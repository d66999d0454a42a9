//! What the connection leads to: it sees which node's packets come, and under which generation.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex},
};

use rap_proto::Generation;
use rap_simulations::kit::{Verdict, Violation};

use crate::meshes::record::Record;

#[derive(Clone)]
pub(super) struct Resource(Arc<Mutex<Seen>>);

struct Seen {
    record: Record,
    /// Since the last look.
    came: BTreeSet<(usize, Generation)>,
    last: Option<(usize, Generation)>,
    packets: u64,
    /// How often another node's came.
    moves: u32,
    /// What those who speak with it were seen to do.
    verdict: Verdict,
    /// Whether the planted panic happened.
    panicked: bool,
}

impl Resource {
    pub(super) fn new(record: Record) -> Self {
        let seen = Seen {
            record,
            came: BTreeSet::new(),
            last: None,
            packets: 0,
            moves: 0,
            verdict: Verdict::default(),
            panicked: false,
        };
        Self(Arc::new(Mutex::new(seen)))
    }

    pub(super) fn receive(&self, place: usize, generation: Generation) {
        let mut seen = self.0.lock().unwrap();
        let from = (place, generation);
        seen.came.insert(from);
        seen.packets += 1;
        if seen.last != Some(from) {
            seen.moves += u32::from(seen.last.is_some_and(|(before, _)| before != place));
            seen.record.note(format_args!("the resource hears node {place} under {generation}"));
        }
        seen.last = Some(from);
    }

    /// Whose packets came since the last look.
    pub(super) fn look(&self) -> Vec<(usize, Generation)> {
        mem::take(&mut self.0.lock().unwrap().came).into_iter().collect()
    }

    pub(super) fn judge(&self, outcome: Result<(), Violation>) {
        self.0.lock().unwrap().verdict.judge(outcome);
    }

    pub(super) fn violation(&self) -> Option<Violation> {
        self.0.lock().unwrap().verdict.found().cloned()
    }

    pub(super) fn is_first_panic(&self) -> bool {
        !mem::replace(&mut self.0.lock().unwrap().panicked, true)
    }

    pub(super) fn moves(&self) -> u32 {
        self.0.lock().unwrap().moves
    }

    pub(super) fn packets(&self) -> u64 {
        self.0.lock().unwrap().packets
    }
}
