//! Whose turn it is among those that wait for the same class.
//!
//! Turns are those of start-time fair queueing: whoever was served stands behind by as many bytes,
//! and whoever comes anew begins where the others are. Small pieces and large ones come to the same
//! share.

use std::collections::{BTreeMap, BTreeSet};

use rap_proto::Lane;

use super::{ClassId, MIN_GRANT, queue::QueueId};

/// One byte in so many passes whatever is before it: a lane beside those before it, and what is in
/// excess beside what is committed.
pub(super) const FLOOR: u64 = 16;
/// The same, for lanes: one byte in so many of an organization is bulk's, as long as bulk waits,
/// and one in so many of what is not bulk is media's.
pub const LANE_FLOOR: i64 = FLOOR as i64;
/// So many bytes ahead, the floor is due for one of the least grants.
const FLOOR_DUE: i64 = MIN_GRANT as i64 * (LANE_FLOOR - 1);

/// RFC 2698's colours, of which the third never passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Within a reserve.
    Committed,
    /// Borrowed from what others leave.
    Excess,
}

/// Bytes that those who go first are ahead of the others' floor; below nothing when these had more.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead(i64);

impl Ahead {
    /// Whether the others are to go first now.
    pub(super) const fn is_floor_due(self) -> bool {
        self.0 >= FLOOR_DUE
    }

    /// Counts at most a grant. What the others have while nothing is before them does not count.
    pub(super) fn count(&mut self, first: bool, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(FLOOR_DUE);
        if first {
            self.0 = self.0.saturating_add(bytes).min(FLOOR_DUE);
        } else if self.0 > 0 {
            self.0 = self.0.saturating_sub(bytes.saturating_mul(LANE_FLOOR - 1));
        }
    }

    /// Counts what the others had while nothing was before them: they wait for no more of their floor
    /// than it leaves, and owe nothing.
    fn count_unhindered(&mut self, bytes: usize) {
        let before = self.0;
        self.count(false, bytes);
        self.0 = self.0.max(before.min(0));
    }
}

/// How far those before each of the lower lanes are ahead of its floor. Bulk's is of all the others
/// together: what media is given is not given by bulk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LanesAhead {
    media: Ahead,
    bulk: Ahead,
}

impl LanesAhead {
    pub(crate) fn count(&mut self, lane: Lane, bytes: usize) {
        if lane != Lane::Bulk {
            self.media.count(lane == Lane::Interactive, bytes);
        }
        self.bulk.count(lane != Lane::Bulk, bytes);
    }

    /// The same for what a lane had while nobody was before it, however much that was.
    pub(crate) fn count_unhindered(&mut self, lane: Lane, bytes: usize) {
        match lane {
            Lane::Interactive => self.count(lane, bytes),
            Lane::Media => {
                self.media.count_unhindered(bytes);
                self.bulk.count(true, bytes);
            }
            Lane::Bulk => self.bulk.count_unhindered(bytes),
        }
    }

    pub(crate) const fn due(self) -> LanesDue {
        LanesDue { media: self.media.is_floor_due(), bulk: self.bulk.is_floor_due() }
    }
}

/// Which lower lanes are to go first now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LanesDue {
    media: bool,
    bulk: bool,
}

impl LanesDue {
    /// The lanes in the order in which they are served.
    pub(crate) const fn order(self) -> [Lane; 3] {
        match (self.media, self.bulk) {
            (false, false) => [Lane::Interactive, Lane::Media, Lane::Bulk],
            (true, false) => [Lane::Media, Lane::Interactive, Lane::Bulk],
            (false, true) => [Lane::Bulk, Lane::Interactive, Lane::Media],
            (true, true) => [Lane::Bulk, Lane::Media, Lane::Interactive],
        }
    }

    pub(crate) const fn is_due(self, lane: Lane) -> bool {
        match lane {
            Lane::Interactive => false,
            Lane::Media => self.media,
            Lane::Bulk => self.bulk,
        }
    }
}

/// How many bytes somebody was served, or the last of all: what turns go by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tags {
    pub(super) committed: u64,
    pub(super) excess: u64,
}

impl Tags {
    pub(super) fn of(&mut self, standing: Standing) -> &mut u64 {
        match standing {
            Standing::Committed => &mut self.committed,
            Standing::Excess => &mut self.excess,
        }
    }

    /// Not more than `most` bytes before the clock: nobody saves turns without end while it is
    /// held up, and none while it wants nothing.
    pub(super) fn at_most_behind(self, clock: Self, most: u64) -> Self {
        Self {
            committed: self.committed.max(clock.committed.saturating_sub(most)),
            excess: self.excess.max(clock.excess.saturating_sub(most)),
        }
    }
}

/// What an order knows of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) queue: QueueId,
    pub(super) lane: Lane,
    pub(super) tags: Tags,
    /// The classes of it that have a reserve.
    pub(super) reserves: &'a [ClassId],
}

/// Those that wait for one class.
///
/// To add and to remove one takes the logarithm of how many there are, for each reserve that it
/// has a part in. To find the first takes one look for each reserve of the organization, at most
/// `MAX_BANDWIDTH_RULES`, however many wait.
#[derive(Debug, Default)]
pub(super) struct Order {
    all: Lanes,
    /// The same queues again, by each class that keeps something for them.
    within: BTreeMap<ClassId, Lanes>,
}

#[derive(Debug, Default)]
struct Lanes {
    interactive: BTreeSet<(u64, QueueId)>,
    media: BTreeSet<(u64, QueueId)>,
    bulk: BTreeSet<(u64, QueueId)>,
}

impl Lanes {
    fn of(&mut self, lane: Lane) -> &mut BTreeSet<(u64, QueueId)> {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Media => &mut self.media,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn first(&self, lane: Lane) -> Option<(u64, QueueId)> {
        match lane {
            Lane::Interactive => self.interactive.first().copied(),
            Lane::Media => self.media.first().copied(),
            Lane::Bulk => self.bulk.first().copied(),
        }
    }

    fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.media.is_empty() && self.bulk.is_empty()
    }
}

impl Order {
    pub(super) fn insert(&mut self, entry: Entry<'_>) {
        let Entry { queue, lane, tags, reserves } = entry;
        self.all.of(lane).insert((tags.excess, queue));
        for class in reserves {
            self.within.entry(*class).or_default().of(lane).insert((tags.committed, queue));
        }
    }

    /// The same entry as it was put in.
    pub(super) fn remove(&mut self, entry: Entry<'_>) {
        let Entry { queue, lane, tags, reserves } = entry;
        self.all.of(lane).remove(&(tags.excess, queue));
        for class in reserves {
            if let Some(lanes) = self.within.get_mut(class) {
                lanes.of(lane).remove(&(tags.committed, queue));
                if lanes.is_empty() {
                    self.within.remove(class);
                }
            }
        }
    }

    /// Who comes first, and as what. `fits` says whether what a queue wants is within the reserve
    /// of a class.
    pub(super) fn first(
        &self,
        floors: Floors,
        fits: impl Fn(ClassId, QueueId) -> bool,
    ) -> Option<(QueueId, Standing)> {
        let committed = |lane| {
            let heads = self.within.iter().filter_map(|(class, lanes)| {
                lanes.first(lane).filter(|(_, queue)| fits(*class, *queue))
            });
            heads.min()
        };
        if !floors.excess
            && let Some((_, queue)) = floors.committed.order().into_iter().find_map(committed)
        {
            return Some((queue, Standing::Committed));
        }
        let excess = floors.in_excess.order().into_iter().find_map(|lane| self.all.first(lane));
        excess.map(|(_, queue)| (queue, Standing::Excess))
    }
}

/// Whose floor is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floors {
    /// Of what is in excess, beside what is committed.
    pub(super) excess: bool,
    /// Of the lower lanes, among either.
    pub(super) committed: LanesDue,
    pub(super) in_excess: LanesDue,
}
