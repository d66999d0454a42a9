use rap_proto::{
    OrganizationId, Timestamp,
    authority::{AuthorityChange, AuthorityStanding},
};

use super::MAX_RECORDED_LAPSES_PER_HOUR;

const HOUR_MS: i64 = 3_600_000;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeReport {
    /// The greatest recorded sequence; 0 for none.
    pub through: u64,
    pub organization: Option<OrganizationId>,
    pub lapses: Lapses,
}

/// What is recorded of the times in which no beat was valid at the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lapses {
    /// The lapse that is not over: what control's word is worth, and the last beat before it.
    open: Option<Lapse>,
    /// Since 1970, in UTC, of the latest hour in which a lapse began.
    hour: i64,
    begun: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Fresh,
    Known,
    /// It begins a lapse beyond [`MAX_RECORDED_LAPSES_PER_HOUR`].
    TooMany,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lapse {
    standing: AuthorityStanding,
    /// Epoch and sequence.
    heard: (u64, u64),
}

impl Lapses {
    /// What a change is to the log. Within a lapse only that it became worse is news: an agent that is started
    /// again tells what it was before.
    pub(super) fn news(&self, change: &AuthorityChange, at: Timestamp) -> News {
        let Some(lapse) = lapse(change) else {
            return if self.open.is_some() { News::Fresh } else { News::Known };
        };
        if let Some(open) = self.open.filter(|open| open.heard == lapse.heard) {
            let is_worse = (open.standing, lapse.standing)
                == (AuthorityStanding::Degraded, AuthorityStanding::Isolated);
            return if is_worse { News::Fresh } else { News::Known };
        }
        match self.and_one(at).begun <= MAX_RECORDED_LAPSES_PER_HOUR {
            true => News::Fresh,
            false => News::TooMany,
        }
    }

    pub(super) fn record(&mut self, change: &AuthorityChange, at: Timestamp) {
        let lapse = lapse(change);
        let continues = |lapse: Lapse| self.open.is_some_and(|open| open.heard == lapse.heard);
        if lapse.is_some_and(|lapse| !continues(lapse)) {
            *self = self.and_one(at);
        }
        self.open = lapse;
    }

    /// A clock that went back does not start an earlier hour anew.
    fn and_one(self, at: Timestamp) -> Self {
        let hour = at.unix_millis().div_euclid(HOUR_MS);
        match hour > self.hour {
            true => Self { hour, begun: 1, ..self },
            false => Self { begun: self.begun.saturating_add(1), ..self },
        }
    }
}

fn lapse(change: &AuthorityChange) -> Option<Lapse> {
    let AuthorityChange { standing, epoch, sequence, .. } = *change;
    (standing != AuthorityStanding::Healthy).then_some(Lapse { standing, heard: (epoch, sequence) })
}
