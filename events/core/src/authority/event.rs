use rap_proto::beat::EpochStatement;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::aggregate::events;

events! {
    /// What happened to the cluster's authority.
    AuthorityEvent:
    Stated(AuthorityStated) = "authority.stated" / 1;
    LossAccepted(LossAccepted) = "authority.loss_accepted" / 1;
}

/// From here on the replicas of this statement sign beats, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityStated {
    pub statement: EpochStatement,
    /// The same under the control key's signature.
    pub signed: ByteBuf,
}

/// What the database lost before it came to this timeline is given up: leases are granted again on
/// what it shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossAccepted {
    pub timeline: u64,
}
