//! Channels that carry messages: what each kind promises, and where messages wait.
//!
//! A [`Policy`] is the promise, as data. A [`Queue`] keeps to it where messages are sent, a
//! [`Window`] and, where messages may be lost, [`Arrivals`] where they come:
//!
//! ```text
//! reliable    push ─▶ Queue ─ poll, within credit ─▶ Window ─▶ reader
//!               └ full: wait  ◀──── poll_grant ─────────┘
//! droppable   push ─▶ Queue ─ poll, when there is credit ─▶ Window, Arrivals ─▶ reader
//!               └ full, stale: dropped, counted                └ late: put aside, counted
//! ```
//!
//! Nobody who fills one channel takes room from another: each has its own queue and its own credit.
//! An [`End`] is all of this for one side of a channel that a byte stream carries as [`Frame`]s.

mod arrivals;
mod credit;
mod end;
mod frame;
mod inbox;
mod policy;
mod queue;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use arrivals::{Arrivals, MAX_KEYS};
pub use credit::{Amount, TooMuch, Window};
pub use end::{Arrived, BATCH_BYTES, Broken, End, NotTaken};
pub use frame::{Decoder, Frame, MAX_HEAD_BYTES, Malformed, VERSION};
pub use policy::{Bound, Delivery, Order, Policy};
pub use queue::{Counters, Queue, Refused};

/// What a message is about, in its maker's numbers: a pointer, a tile, a gauge. A newer message of
/// the same key makes an older one worthless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Of a message that may be replaced by a newer one while it waits.
    pub key: Option<Key>,
    pub bytes: Bytes,
}
