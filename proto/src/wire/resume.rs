//! Flows that outlive their connection: of an entry at an egress, and of a client at its entry.
//!
//! Whoever opens a flow may give it a [`Resume`] of generation 0. A peer that can keep it answers
//! `attached`, and the flow's bytes are cut into parts from then on, on either carrier. A peer that
//! does not know of this opens the flow as it always did, and says so.
//!
//! After a loss the opener asks again, on another connection, with the next generation and how far
//! it came. It is checked like an opening. `attached` says how far the other side came, `gone` that
//! nothing is kept under this name; neither opens anything.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a flow: 16 random bytes that nobody else knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FlowId(#[serde(with = "serde_bytes")] [u8; 16]);

impl FlowId {
    pub const fn from_random(random: [u8; 16]) -> Self {
        Self(random)
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowId(…)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    pub flow: FlowId,
    /// 0 opens the flow. A connection of a higher one takes the place of those before.
    pub generation: u32,
    /// So many bytes of the other direction have come; `u64::MAX` for all, and the end.
    pub received: u64,
}

impl Resume {
    /// The generation of the connection that a flow begins on.
    pub const FIRST: u32 = 0;

    pub const fn opening(flow: FlowId) -> Self {
        Self { flow, generation: Self::FIRST, received: 0 }
    }
}
