//! The flows of one session on one lane: they wait one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rap_proto::Moment;

use super::{
    ClassId, Direction, FlowId, FlowOf,
    turns::{Entry, Tags},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueueId(pub(super) u64);

/// INVARIANT: a queue without a path has nobody who waits.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) of: FlowOf,
    pub(super) flows: BTreeSet<FlowId>,
    /// `None` when it is not shaped.
    pub(super) path: Option<Arc<Path>>,
    lines: [Line; 2],
}

/// The classes of a queue.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) organization: ClassId,
    /// Where the node has a cap.
    pub(super) node: Option<ClassId>,
    pub(super) rules: Vec<ClassId>,
    /// Those of the rules that have a reserve.
    pub(super) reserves: Vec<ClassId>,
    /// Classes that count others because it is there.
    pub(super) reasons: Vec<ClassId>,
}

impl Path {
    /// Every class that it counts in.
    pub(super) fn classes(&self) -> impl Iterator<Item = ClassId> {
        let outer = self.node.into_iter().chain([self.organization]);
        outer.chain(self.rules.iter().copied())
    }
}

/// Who waits in one direction.
///
/// INVARIANT: it is in the order of the class at `place`, and in no other, exactly while somebody
/// waits; its tags do not change meanwhile.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// In the order in which they asked.
    pub(super) waiting: BTreeMap<u64, Waiting>,
    pub(super) tags: Tags,
    /// The organization, when it is ready; a rule's class when it waits for its cap.
    pub(super) place: Option<ClassId>,
    /// The rule's class that it came from when it was ready last.
    pub(super) called_by: Option<ClassId>,
    /// Whose cap it last waited for.
    pub(super) held_by: Option<ClassId>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) flow: FlowId,
    pub(super) want: usize,
    pub(super) since: Moment,
}

impl Queue {
    pub(super) fn new(of: FlowOf) -> Self {
        Self { of, flows: BTreeSet::new(), path: None, lines: <[Line; 2]>::default() }
    }

    pub(super) fn line(&self, direction: Direction) -> &Line {
        &self.lines[direction.index()]
    }

    pub(super) fn line_mut(&mut self, direction: Direction) -> &mut Line {
        &mut self.lines[direction.index()]
    }

    pub(super) fn entry(&self, queue: QueueId, direction: Direction) -> Entry<'_> {
        Entry {
            queue,
            lane: self.of.lane,
            tags: self.line(direction).tags,
            reserves: self.path.as_ref().map_or(&[][..], |path| &path.reserves[..]),
        }
    }
}

impl Line {
    /// What the first who waits wants.
    pub(super) fn want(&self) -> Option<usize> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting.want)
    }
}

impl Waiting {
    pub(super) fn waited(&self, now: Moment) -> Duration {
        now.since(self.since)
    }
}
