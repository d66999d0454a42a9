use futures_util::future::BoxFuture;
use rap_proto::Timestamp;
use uuid::Uuid;

use super::LeaseRow;
use crate::log::StreamId;

/// The most renewals of one call.
pub const MAX_RENEWALS: usize = 1_000;
/// The most rows that one read returns, whatever limit was asked for.
pub const MAX_LEASE_ROWS: usize = 1_000;

/// A holder says that it is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    pub lease: StreamId,
    pub generation: u64,
    pub holder: Uuid,
}

/// What became of one renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalOutcome {
    /// Held for this long, counted from the moment at which the request was sent.
    Renewed { remaining_ms: u64 },
    /// Somebody else holds it, under this generation: stop at once.
    Superseded { generation: u64 },
    /// It was given up or fenced: stop at once.
    Ended,
    /// Too late: stop at once, and wait to be granted it again.
    Expired,
    /// This generation was never granted here: stop at once.
    Unknown,
}

/// One outcome for each renewal, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewals {
    pub now: Timestamp,
    pub outcomes: Vec<RenewalOutcome>,
}

/// When rows were looked at, by the database that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatabaseTime {
    pub now: Timestamp,
    /// Rises when another server takes over as the primary. A log in memory has one until it is made to fail over.
    pub timeline: u64,
}

/// Rows of one category, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasePage {
    pub at: DatabaseTime,
    pub rows: Vec<(Uuid, LeaseRow)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseTableError {
    /// Nothing is known of any of them: a holder's own deadline decides.
    #[error("the lease table is unavailable: {0}")]
    Unavailable(String),
    #[error("{actual} renewals in one call are above {MAX_RENEWALS}")]
    TooMany { actual: usize },
}

/// The rows of all leases of one log.
pub trait LeaseTable: Send + Sync + 'static {
    /// Renews each lease that its holder still holds, all in one step. A renewal that fails
    /// changes nothing and disturbs no other.
    fn renew(&self, renewals: Vec<Renewal>) -> BoxFuture<'_, Result<Renewals, LeaseTableError>>;

    /// The rows of `category` behind the id `after`, at most `limit` and at most
    /// [`MAX_LEASE_ROWS`] of them.
    fn read_leases<'a>(
        &'a self,
        category: &'a str,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<LeasePage, LeaseTableError>>;
}
