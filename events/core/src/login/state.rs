use rap_proto::{Digest, Timestamp, UserId};

use crate::Sensitive;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Login {
    pub opened: Option<Opened>,
    pub closed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub user: UserId,
    pub secret: Sensitive<Digest>,
    pub expires_at: Timestamp,
}
