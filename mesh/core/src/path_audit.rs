//! Which lanes have a direct path, and what of that is reported where the platform has it audited.
//!
//! Each lane counts once for each carrier, however many connections or flows of it are direct: what
//! is reported is the first that becomes so, and the last that is so no more. What is counted is the same
//! whether anybody asks for reports, so that they are right from the moment in which somebody does.
//!
//! INVARIANT: a lane is remembered for as long as something of it is direct, and no longer.

use std::collections::BTreeMap;

use rap_proto::{
    Lane, Moment, NodeId, OrganizationId,
    paths::{PathCarrier, PathChange, PathKind},
};

use crate::{
    carrier::Carrier,
    paths::Candidate,
    reports::{Bucket, Rate},
};

/// How many changes a node reports: lanes that are opened anew, not ones that flap for ever.
pub const CHANGES: Rate = Rate { burst: 128, per_second: 1 };

/// Of what a path is part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub egress: NodeId,
    pub organization: OrganizationId,
    pub lane: Lane,
    pub carrier: Carrier,
}

#[derive(Debug, Clone)]
pub struct PathAudit {
    /// How many connections, or flows, of each are direct.
    direct: BTreeMap<Part, u32>,
    changes: Bucket,
    /// Since the last that was reported.
    left_out: u64,
}

impl Default for PathAudit {
    fn default() -> Self {
        Self { direct: BTreeMap::new(), changes: Bucket::full(CHANGES), left_out: 0 }
    }
}

impl PathAudit {
    /// Something of a lane has another path than before, or none. Returns what is to be reported;
    /// nothing unless that is `audited`.
    pub fn moved(
        &mut self,
        now: Moment,
        part: Part,
        (from, to): (Option<Candidate>, Option<Candidate>),
        audited: bool,
    ) -> Option<PathChange> {
        if !self.count(part, is_direct(from), is_direct(to)) || !audited {
            return None;
        }
        if !self.changes.take(now) {
            self.left_out += 1;
            return None;
        }
        let Part { egress, organization, lane, carrier } = part;
        Some(PathChange {
            egress,
            organization,
            lane,
            carrier: match carrier {
                Carrier::Quic => PathCarrier::Quic,
                Carrier::Tcp => PathCarrier::Tcp,
            },
            from: from.map(kind),
            to: to.map(kind),
            left_out: std::mem::take(&mut self.left_out),
        })
    }

    /// A change that [`Self::moved`] returned is not reported: the next one says so.
    pub fn lost(&mut self, change: PathChange) {
        self.left_out += change.left_out + 1;
    }

    /// Returns whether the lane has a direct path now and had none, or the other way round.
    fn count(&mut self, part: Part, was: bool, is: bool) -> bool {
        match (was, is) {
            (false, true) => {
                let count = self.direct.entry(part).or_default();
                *count += 1;
                *count == 1
            }
            (true, false) => {
                let Some(count) = self.direct.get_mut(&part) else { return false };
                *count -= 1;
                let is_last = *count == 0;
                if is_last {
                    self.direct.remove(&part);
                }
                is_last
            }
            (true, true) | (false, false) => false,
        }
    }
}

fn is_direct(path: Option<Candidate>) -> bool {
    path.is_some_and(|path| !path.is_relayed())
}

const fn kind(path: Candidate) -> PathKind {
    match path {
        Candidate::Direct(_) => PathKind::Direct,
        Candidate::Relay(_) => PathKind::Relayed,
        Candidate::Chain(_) => PathKind::Chained,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PART: Part = Part {
        egress: NodeId::from_u128(1),
        organization: OrganizationId::from_u128(2),
        lane: Lane::Bulk,
        carrier: Carrier::Tcp,
    };

    fn at(second: u64) -> Moment {
        Moment::from_micros(second * 1_000_000)
    }

    fn direct(port: u16) -> Option<Candidate> {
        Some(Candidate::Direct(([192, 0, 2, 1], port).into()))
    }

    fn relay() -> Option<Candidate> {
        Some(Candidate::Relay(NodeId::from_u128(9)))
    }

    #[test]
    fn a_lane_takes_a_direct_path_with_its_first_flow_and_leaves_it_with_its_last() {
        let mut audit = PathAudit::default();
        let kinds = |change: PathChange| (change.from, change.to);
        let mut moved = |part, from, to| audit.moved(at(1), part, (from, to), true).map(kinds);
        assert_eq!(moved(PART, None, relay()), None);
        assert_eq!(
            moved(PART, relay(), direct(1)),
            Some((Some(PathKind::Relayed), Some(PathKind::Direct)))
        );
        assert_eq!(moved(PART, None, direct(1)), None, "it has one");
        assert_eq!(moved(PART, direct(1), direct(2)), None, "it goes on as a direct one");
        let other = Part { carrier: Carrier::Quic, ..PART };
        assert_eq!(moved(other, None, direct(1)), Some((None, Some(PathKind::Direct))));
        assert_eq!(moved(PART, direct(2), relay()), None, "the other flow is direct");
        assert_eq!(moved(PART, direct(1), None), Some((Some(PathKind::Direct), None)));
        assert_eq!(moved(PART, relay(), None), None);
        assert_eq!(audit.direct.keys().copied().collect::<Vec<_>>(), [other]);
    }

    #[test]
    fn what_nobody_asked_for_is_counted_and_not_reported() {
        let mut audit = PathAudit::default();
        assert_eq!(audit.moved(at(1), PART, (None, direct(1)), false), None);
        let left = audit.moved(at(1), PART, (direct(1), relay()), true).unwrap();
        assert_eq!((left.to, left.left_out), (Some(PathKind::Relayed), 0));
    }

    #[test]
    fn so_many_changes_are_reported_and_the_next_says_how_many_were_not() {
        let mut audit = PathAudit::default();
        let mut reported = 0;
        for _ in 0..CHANGES.burst {
            reported += u32::from(audit.moved(at(0), PART, (None, direct(1)), true).is_some());
            reported += u32::from(audit.moved(at(0), PART, (direct(1), None), true).is_some());
        }
        assert_eq!(reported, CHANGES.burst);
        let next = audit.moved(at(1), PART, (None, direct(1)), true).unwrap();
        assert_eq!(next.left_out, u64::from(CHANGES.burst));
        assert_eq!(audit.moved(at(1), PART, (direct(1), None), true), None, "one a second");
        let next = audit.moved(at(2), PART, (None, direct(1)), true).unwrap();
        assert_eq!(next.left_out, 1);
    }
}
