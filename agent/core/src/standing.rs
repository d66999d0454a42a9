//! Whether this node is still one of the cluster's, kept on disk: a node that was told to stop
//! stays stopped after a restart, also when nobody can be asked.

use rap_proto::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::Record;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Good,
    Revoked { at: Timestamp, by: RevokedBy },
}

/// Who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedBy {
    /// The deny list of a snapshot that this node verified.
    Snapshot,
    /// The control plane's answer over the pinned connection.
    Control,
}

impl Standing {
    pub const fn revoked_by_control(at: Timestamp) -> Self {
        Self::Revoked { at, by: RevokedBy::Control }
    }

    pub const fn revoked_by_snapshot(at: Timestamp) -> Self {
        Self::Revoked { at, by: RevokedBy::Snapshot }
    }

    pub const fn is_revoked(&self) -> bool {
        matches!(self, Self::Revoked { .. })
    }
}

impl Record for Standing {
    const KIND: u8 = 5;
    const MAX_BYTES: usize = 1024;
}
