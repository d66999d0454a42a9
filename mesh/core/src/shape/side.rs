//! Whose turn it is among organizations, in one direction.

use std::{collections::BTreeSet, time::Duration};

use rap_proto::Moment;

use super::{ClassId, Direction, Shaper, class::Listed};

/// One direction of the node.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// By turn. Those of the first are within what is reserved for them.
    committed: BTreeSet<(u64, ClassId)>,
    excess: BTreeSet<(u64, ClassId)>,
    /// When one of the second will be of the first.
    due: BTreeSet<(Moment, ClassId)>,
    /// Where those who come anew begin.
    pub(super) clock: u64,
    pub(super) counts: Counts,
}

/// What was done in one direction; it names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes of flows that are shaped.
    pub bytes: u64,
    /// Questions that were not answered at once, and how long they waited all together.
    pub waits: u64,
    pub waited: Duration,
    /// Queues that were served or moved.
    pub steps: u64,
}

impl Shaper {
    /// The organization that comes first: one whose cap, as far as is known, has what it wants.
    pub(super) fn next_organization(
        &mut self,
        now: Moment,
        direction: Direction,
    ) -> Option<ClassId> {
        // Each is listed as committed then, and so comes up once.
        while let Some(id) = self.due(now, direction) {
            self.list(now, direction, id);
        }
        let side = &self.sides[direction.index()];
        let first = side.committed.first().or_else(|| side.excess.first());
        first.map(|(_, id)| *id)
    }

    fn due(&self, now: Moment, direction: Direction) -> Option<ClassId> {
        let first = self.sides[direction.index()].due.first();
        first.filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// Puts an organization where it stands now by who is first in it; nowhere when nobody is.
    pub(super) fn list(&mut self, now: Moment, direction: Direction, id: ClassId) {
        self.unlist(direction, id);
        self.set_wake(direction, id, None);
        let first = self.first_at(now, direction, id);
        let Some(want) = first.and_then(|(queue, _)| self.want(direction, queue)) else { return };
        let Some(class) = self.classes.get_mut(&id) else { return };
        let commits_at = class.commits_at(now, direction, want);
        let committed = commits_at.is_some_and(|at| at <= now);
        let side = &mut self.sides[direction.index()];
        let among = &mut class.meter_mut(direction).among;
        among.tag = among.tag.max(side.clock);
        let listed = Listed { committed, tag: among.tag, due: commits_at.filter(|_| !committed) };
        among.listed = Some(listed);
        let order = if committed { &mut side.committed } else { &mut side.excess };
        order.insert((listed.tag, id));
        side.due.extend(listed.due.map(|due| (due, id)));
    }

    pub(super) fn unlist(&mut self, direction: Direction, id: ClassId) {
        let Some(class) = self.classes.get_mut(&id) else { return };
        let Some(listed) = class.meter_mut(direction).among.listed.take() else { return };
        let side = &mut self.sides[direction.index()];
        let order = if listed.committed { &mut side.committed } else { &mut side.excess };
        order.remove(&(listed.tag, id));
        if let Some(due) = listed.due {
            side.due.remove(&(due, id));
        }
    }
}
