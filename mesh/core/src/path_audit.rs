//! Which lanes have a direct path, and what of that is reported where the platform has it audited.
//!
//! Each lane counts once for each carrier, however many connections or flows of it are direct: what
//! is reported is the first that becomes so, and the last that is so no more. What is counted is the same
//! whether anybody asks for reports, so that they are right from the moment in which somebody does.
//!
//! Each organization has a part of its own: one whose lanes flap takes nothing of another one's.
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

/// How many changes of one organization a node reports: lanes that are opened anew, not ones that flap for
/// ever.
pub const CHANGES: Rate = Rate { burst: 64, per_second: 1 };
/// The most organizations that have a part of their own; the others share one.
pub const MAX_ORGANIZATIONS: usize = 256;

/// Of what a path is part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub egress: NodeId,
    pub organization: OrganizationId,
    pub lane: Lane,
    pub carrier: Carrier,
}

#[derive(Debug, Clone, Default)]
pub struct PathAudit {
    /// How many connections, or flows, of each are direct.
    direct: BTreeMap<Part, u32>,
    organizations: BTreeMap<OrganizationId, Account>,
    others: Account,
}

/// What one organization may have reported.
#[derive(Debug, Clone)]
struct Account {
    changes: Bucket,
    /// Since the last that was reported.
    left_out: u64,
}

impl Default for Account {
    fn default() -> Self {
        Self { changes: Bucket::full(CHANGES), left_out: 0 }
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
        let Part { egress, organization, lane, carrier } = part;
        let account = self.account(now, organization);
        if !account.changes.take(now) {
            account.left_out += 1;
            return None;
        }
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
            left_out: std::mem::take(&mut account.left_out),
        })
    }

    /// A change that [`Self::moved`] returned is not reported: the next one of its organization says so.
    pub fn lost(&mut self, now: Moment, change: PathChange) {
        self.account(now, change.organization).left_out += change.left_out + 1;
    }

    /// Where there are too many, those go that have rested; what they left out is told by the next of the
    /// others.
    fn account(&mut self, now: Moment, organization: OrganizationId) -> &mut Account {
        let Self { organizations, others, .. } = self;
        if !organizations.contains_key(&organization) && organizations.len() >= MAX_ORGANIZATIONS {
            organizations.retain(|_, account| {
                let has_rested = account.changes.is_full(now);
                if has_rested {
                    others.left_out += std::mem::take(&mut account.left_out);
                }
                !has_rested
            });
            if organizations.len() >= MAX_ORGANIZATIONS {
                return others;
            }
        }
        organizations.entry(organization).or_default()
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

    /// Lanes of this organization take a direct path, and leave it, at one moment. Returns what is
    /// reported of that.
    fn flaps(audit: &mut PathAudit, second: u64, number: u128, times: u32) -> Vec<PathChange> {
        let part = Part { organization: OrganizationId::from_u128(number), ..PART };
        let turns = [(None, direct(1)), (direct(1), None)];
        let changes = (0..times).flat_map(|_| turns);
        changes.filter_map(|change| audit.moved(at(second), part, change, true)).collect()
    }

    #[test]
    fn so_many_changes_are_reported_and_the_next_says_how_many_were_not() {
        let mut audit = PathAudit::default();
        let reported = flaps(&mut audit, 0, 2, CHANGES.burst);
        assert_eq!(reported.len(), CHANGES.burst as usize);
        let next = audit.moved(at(1), PART, (None, direct(1)), true).unwrap();
        assert_eq!(next.left_out, u64::from(CHANGES.burst));
        assert_eq!(audit.moved(at(1), PART, (direct(1), None), true), None, "one a second");
        let next = audit.moved(at(2), PART, (None, direct(1)), true).unwrap();
        assert_eq!(next.left_out, 1);
    }

    #[test]
    fn a_noisy_organization_takes_nothing_of_another_ones_part() {
        let mut audit = PathAudit::default();
        flaps(&mut audit, 0, 2, 10 * CHANGES.burst);
        let quiet = flaps(&mut audit, 0, 3, 1);
        assert_eq!(quiet.iter().map(|change| change.left_out).collect::<Vec<_>>(), [0, 0]);
        audit.lost(at(0), quiet[1]);
        let noisy = flaps(&mut audit, 1, 2, 1);
        let left_out = noisy.iter().map(|change| change.left_out).collect::<Vec<_>>();
        assert_eq!(left_out, [u64::from(19 * CHANGES.burst)], "its own alone");
        assert_eq!(flaps(&mut audit, 1, 3, 1)[0].left_out, 1);
    }

    #[test]
    fn beyond_so_many_organizations_the_others_share_a_part_until_one_has_rested() {
        let mut audit = PathAudit::default();
        let many = MAX_ORGANIZATIONS as u128;
        let reported = |audit: &mut PathAudit, second, number| {
            flaps(audit, second, number, CHANGES.burst).len()
        };
        for number in 0..many {
            flaps(&mut audit, 0, number, 1);
        }
        assert_eq!(reported(&mut audit, 0, many), CHANGES.burst as usize);
        assert_eq!(reported(&mut audit, 0, many + 1), 0, "the part of both");
        assert_eq!(audit.organizations.len(), MAX_ORGANIZATIONS);
        // The others have what they began with, and nothing to tell.
        assert_eq!(reported(&mut audit, 2, many + 1), CHANGES.burst as usize);
        assert_eq!(audit.organizations.len(), 1);
        // Who left some out and is quiet keeps no place, and what is missing is told.
        flaps(&mut audit, 3, many + 1, 2 * CHANGES.burst);
        for number in 0..many {
            flaps(&mut audit, 1_000, number, 1);
        }
        assert!(!audit.organizations.contains_key(&OrganizationId::from_u128(many + 1)));
        let next = flaps(&mut audit, 1_000, many + 2, 1).remove(0);
        assert!(next.left_out > 0, "{next:?}");
    }
}
