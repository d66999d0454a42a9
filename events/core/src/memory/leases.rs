use std::time::Duration;

use futures_util::future::BoxFuture;
use rap_proto::Timestamp;
use uuid::Uuid;

use super::{MemoryLog, State, ready};
use crate::{
    lease::{
        LeasePage, LeaseTable, LeaseTableError, MAX_LEASE_ROWS, MAX_RENEWALS, Renewal,
        RenewalOutcome, Renewals,
    },
    log::StreamId,
};

impl LeaseTable for MemoryLog {
    fn renew(&self, renewals: Vec<Renewal>) -> BoxFuture<'_, Result<Renewals, LeaseTableError>> {
        if renewals.len() > MAX_RENEWALS {
            return ready(Err(LeaseTableError::TooMany { actual: renewals.len() }));
        }
        let mut state = self.state();
        let now = self.now();
        let outcomes = renewals.iter().map(|renewal| state.renew(renewal, now)).collect();
        ready(Ok(Renewals { now, outcomes }))
    }

    fn read_leases<'a>(
        &'a self,
        category: &'a str,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<LeasePage, LeaseTableError>> {
        let state = self.state();
        let behind = |lease: &StreamId| after.is_none_or(|after| lease.id > after);
        let first = StreamId::new(category, Uuid::nil());
        let rows = state.leases.range(first..).take_while(|(lease, _)| lease.category == category);
        let rows = rows.filter(|(lease, _)| behind(lease)).take(limit.min(MAX_LEASE_ROWS));
        let rows = rows.map(|(lease, row)| (lease.id, *row)).collect();
        ready(Ok(LeasePage { at: self.at(&state), rows }))
    }
}

impl State {
    fn renew(&mut self, renewal: &Renewal, now: Timestamp) -> RenewalOutcome {
        let Some(row) = self.leases.get_mut(&renewal.lease) else {
            return RenewalOutcome::Unknown;
        };
        let outcome = row.answer(renewal, now);
        if let RenewalOutcome::Renewed { remaining_ms } = outcome {
            row.renewed_at = now;
            row.valid_until = now + Duration::from_millis(remaining_ms);
        }
        outcome
    }
}
