use std::{collections::BTreeMap, time::Duration};

use rap_proto::{
    Generation, Moment, VpnConnectionId,
    wire::node_api::{LeaseRelease, LeaseRenewal, LeasesRequest, MAX_LEASES_PER_CALL},
};

use crate::lease::RequestId;

/// How long after one call the next one follows at the earliest, so that many connections share
/// calls. A renewal that waits counts from when it was asked for: that only shortens it.
pub const CALL_GAP: Duration = Duration::from_millis(150);

/// What waits for the next call to control: one call at a time, and of each connection the newest.
#[derive(Debug, Default)]
pub(super) struct Desk {
    renewals: BTreeMap<VpnConnectionId, LeaseRenewal>,
    releases: BTreeMap<VpnConnectionId, LeaseRelease>,
    calling: bool,
    not_before: Moment,
}

impl Desk {
    pub(super) fn renew(
        &mut self,
        connection: VpnConnectionId,
        generation: Generation,
        request: RequestId,
    ) {
        let renewal = LeaseRenewal { connection, generation, request: request.0 };
        self.renewals.insert(connection, renewal);
    }

    pub(super) fn release(&mut self, connection: VpnConnectionId, generation: Generation) {
        self.releases.insert(connection, LeaseRelease { connection, generation });
    }

    /// The present call is over, one way or the other.
    pub(super) fn answered(&mut self) {
        self.calling = false;
    }

    /// When the next call is due.
    pub(super) fn due(&self) -> Option<Moment> {
        let waits = !self.renewals.is_empty() || !self.releases.is_empty();
        (waits && !self.calling).then_some(self.not_before)
    }

    pub(super) fn next_call(&mut self, now: Moment) -> Option<LeasesRequest> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.calling = true;
        self.not_before = now + CALL_GAP;
        Some(LeasesRequest {
            renewals: take(&mut self.renewals),
            releases: take(&mut self.releases),
        })
    }
}

/// As many as fit into one call.
fn take<T>(waiting: &mut BTreeMap<VpnConnectionId, T>) -> Vec<T> {
    let taken = std::iter::from_fn(|| waiting.pop_first());
    taken.take(MAX_LEASES_PER_CALL).map(|(_, one)| one).collect()
}
