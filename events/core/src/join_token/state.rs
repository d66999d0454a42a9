use rap_proto::{Digest, Name, NodeId, Timestamp};

use crate::{Sensitive, node::Offer};

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinToken {
    pub created: Option<Created>,
    pub used_by: Option<NodeId>,
    pub revoked: bool,
    /// How many refused uses were recorded.
    pub refusals: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub secret: Sensitive<Digest>,
    pub offer: Offer,
    pub host_name: Option<Name>,
    pub expires_at: Timestamp,
}

impl JoinToken {
    /// What the host gets, or `None` before the token was created.
    pub fn offer(&self) -> Option<&Offer> {
        self.created.as_ref().map(|created| &created.offer)
    }
}
