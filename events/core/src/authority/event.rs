use rap_proto::beat::EpochStatement;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::aggregate::events;

events! {
    /// What happened to the cluster's authority.
    AuthorityEvent:
    Stated(AuthorityStated) = "authority.stated" / 1;
}

/// From here on the replicas of this statement sign beats, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityStated {
    pub statement: EpochStatement,
    /// The same under the control key's signature.
    pub signed: ByteBuf,
}
